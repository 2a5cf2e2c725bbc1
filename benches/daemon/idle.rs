//! What a daemon costs that waits for work with the demo model loaded: it stands beside other programs all night.

use std::time::{Duration, Instant};

use crate::common::World;
use crate::common::process::{computed, memory, mib};

const SETTLING: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(10);

pub fn measure() {
    let world = World::demo();
    let daemon = world.start_ready();
    std::thread::sleep(SETTLING);
    let (begun, before) = (Instant::now(), computed(daemon.pid()));
    std::thread::sleep(WATCHED);
    let computed = computed(daemon.pid()) - before;
    let share = 100.0 * computed.as_secs_f64() / begun.elapsed().as_secs_f64();
    let memory = memory(daemon.pid());
    println!("  computing {share:.2} % of one core (below 1)");
    println!(
        "  resident {:.1} MiB (at most 250), of it heap and stacks {:.1} MiB",
        mib(memory.all),
        mib(memory.anonymous)
    );
}
