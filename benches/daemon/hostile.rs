//! Attack by attack: how long `status` takes for a client that behaves, and by how much the daemon grows.
//!
//! INTERVIEWD_BENCH_SECONDS is how long each attack goes on, INTERVIEWD_BENCH_ATTACK a part of the name of the only one.

#[allow(dead_code, reason = "the tests take fewer of them")]
#[path = "../../tests/hostile/attacks.rs"]
mod attacks;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::process::{Peak, computed, memory, mib};
use crate::common::{Client, Daemon, World, demo_interview, eventually};
use crate::setting;
use attacks::{ATTACKS, Attack, GROWTH_MIB_MAX, KNOWN, Target};

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(5);

pub fn measure() {
    let length = Duration::from_secs(setting("INTERVIEWD_BENCH_SECONDS", 10) as u64);
    let only = std::env::var("INTERVIEWD_BENCH_ATTACK").unwrap_or_default();
    let world = World::simulated(0);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client.report(demo_interview(KNOWN));
    println!(
        "  each for {length:?}, one after the other; status in ms (99 % within 50); MiB of heap and stacks grown since the start (at most {GROWTH_MIB_MAX}):"
    );
    let before = memory(daemon.pid()).anonymous;
    for attack in ATTACKS.iter().filter(|attack| attack.name.contains(&only)) {
        let (peak, begun, spent) = (Peak::of(daemon.pid()), Instant::now(), computed(daemon.pid()));
        let mut times = attacked(&daemon, &mut client, attack, length);
        let busy = (computed(daemon.pid()) - spent).as_secs_f64() / begun.elapsed().as_secs_f64();
        until_alone(&mut client);
        times.sort_unstable();
        let ms = |of_thousand: usize| times[(times.len() - 1) * of_thousand / 1_000].as_secs_f64() * 1e3;
        let grown = |to: u64| mib(to.saturating_sub(before));
        println!(
            "  {:<26} {:>5} calls: median {:>6.2}, 99 % {:>6.2}, longest {:>6.2}; grown by {:>5.1}, {:>5.1} after; {busy:.2} cores",
            attack.name,
            times.len(),
            ms(500),
            ms(990),
            ms(1_000),
            grown(peak.anonymous()),
            grown(memory(daemon.pid()).anonymous),
        );
    }
    client.report(demo_interview("after"));
    println!("  and after all of it an interview is scored as before");
}

fn attacked(daemon: &Daemon, client: &mut Client, attack: &Attack, length: Duration) -> Vec<Duration> {
    let enough = AtomicBool::new(false);
    let target = Target {
        socket: &daemon.socket,
        enough: &enough,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| attack.run(&target));
        let (begun, mut times) = (Instant::now(), Vec::new());
        // At least one call, however short the attack is.
        while times.is_empty() || begun.elapsed() < length {
            let asked = Instant::now();
            client.call("status", json!({})).unwrap();
            times.push(asked.elapsed());
            std::thread::sleep(PAUSE);
        }
        enough.store(true, Ordering::Relaxed);
        times
    })
}

fn until_alone(client: &mut Client) {
    eventually("the attackers are gone", || {
        let status = client.call("status", json!({})).unwrap();
        (status["connections"] == 1).then_some(())
    });
}
