//! How long `status` takes while all slots decode and the model wants every core: operators and dashboards ask it just then.
//!
//! INTERVIEWD_BENCH_MODEL names the folder of a model that keeps the cores busy; without it the demo model is kept busy with many interviews.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Client, Daemon, World, demo_interview};

const SLOTS: usize = 17;
const CALLS: usize = 1_000;
/// Between two calls: a thousand of them in a row would keep a core busy themselves.
const PAUSE: Duration = Duration::from_millis(10);

pub fn measure() {
    let world = match std::env::var("INTERVIEWD_BENCH_MODEL") {
        Ok(folder) => World::with_model(&std::path::absolute(Path::new(&folder)).unwrap()),
        Err(_) => World::demo(),
    };
    let world = world.set(&format!("pool.slots_per_actor={SLOTS}"));
    let daemon = world.start();
    let mut client = daemon.connect();
    patiently("the model is loaded", || {
        let status = client.call("status", json!({})).unwrap();
        assert_ne!(status["state"], "degraded", "{status}");
        status["state"] == "ready"
    });
    let mut work = Work {
        daemon: &daemon,
        submitted: 0,
    };
    work.refill(0);
    patiently("all slots decode", || decoding(&mut client).0 == SLOTS);
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let begun = Instant::now();
        let status = client.call("status", json!({})).unwrap();
        times.push(begun.elapsed());
        rows.push(rows_of(&status));
        work.refill(status["queue"]["answers"].as_u64().unwrap());
        std::thread::sleep(PAUSE);
    }
    report(times, rows);
}

/// A large model is checked for minutes before it takes work, and then reads 17 prompts.
fn patiently(what: &str, mut is: impl FnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(1_200);
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Keeps something waiting for every slot.
struct Work<'a> {
    daemon: &'a Daemon,
    submitted: usize,
}

impl Work<'_> {
    fn refill(&mut self, queued: u64) {
        if queued > SLOTS as u64 {
            return;
        }
        let mut client: Client = self.daemon.connect();
        for _ in 0..4 {
            self.submitted += 1;
            let interview = demo_interview(&format!("busy-{}", self.submitted));
            client
                .call("interview.submit", json!({"interview": interview}))
                .unwrap();
        }
    }
}

fn decoding(client: &mut Client) -> (usize, usize) {
    rows_of(&client.call("status", json!({})).unwrap())
}

/// Slots that decode, and slots that are busy.
fn rows_of(status: &Value) -> (usize, usize) {
    let table = status["pool"]["actors"][0]["slot_table"].as_array();
    let table = table.map(Vec::as_slice).unwrap_or_default();
    (
        table.iter().filter(|slot| slot["phase"] == "decode").count(),
        table.len(),
    )
}

fn report(mut times: Vec<Duration>, mut rows: Vec<(usize, usize)>) {
    times.sort_unstable();
    rows.sort_unstable();
    let ms = |of_thousand: usize| times[(times.len() - 1) * of_thousand / 1000].as_secs_f64() * 1e3;
    println!(
        "  {CALLS} calls: median {:.2} ms, 99 % within {:.2} ms (at most 50), longest {:.2} ms",
        ms(500),
        ms(990),
        ms(1000)
    );
    let (decode, busy) = rows[rows.len() / 2];
    println!("  meanwhile {decode} of {SLOTS} slots decoded and {busy} were busy (median)");
}
