//! A start with a store that is full of reports: from the start of the process to the line `ready` and to the state `ready`, after an orderly stop and
//! after kill -9. INTERVIEWD_BENCH_STORED changes how many there are.

use std::sync::Arc;
use std::time::Instant;

use interviewd::domain::rubric::DEFAULT;
use interviewd::domain::time::Timestamp;
use interviewd::store::{self, Accept, Store};
use serde_json::json;
use tokio::task::JoinSet;

use crate::common::{Daemon, World, eventually};
use crate::{setting, support};

const ROUNDS: usize = 5;
/// Interviews that are on their way into the store at the same time, so that they share its syncs.
const AT_ONCE: usize = 100;

pub fn measure() {
    let reports = setting("INTERVIEWD_BENCH_STORED", 10_000);
    let world = World::demo();
    fill(&world, reports);
    println!("  {reports} reports of {} answers stored", support::ANSWERS);
    for stop in ["-TERM", "-KILL"] {
        for _ in 0..ROUNDS {
            let daemon = once(&world, reports, stop);
            daemon.signal(stop);
            let _ = daemon.wait();
        }
    }
}

fn once(world: &World, reports: usize, stop: &str) -> Daemon {
    let begun = Instant::now();
    let daemon = world.start();
    let line = begun.elapsed().as_millis();
    let mut client = daemon.connect();
    let status = eventually("the daemon is ready", || {
        let status = client.call("status", json!({})).unwrap();
        (status["state"] == "ready").then_some(status)
    });
    let state = begun.elapsed().as_millis();
    assert_eq!(status["interviews"]["complete"], reports, "{status}");
    let mib = status["store"]["size_bytes"].as_u64().unwrap() >> 20;
    println!(
        "  line ready after {line:>5} ms   state ready after {state:>5} ms   (at most 2000), store of {mib} MiB; stopped by {stop}"
    );
    daemon
}

fn fill(world: &World, reports: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let now = Timestamp::from_millis(0);
    let store = Store::open(&world.path("store"), &store::Options::default(), now)
        .unwrap()
        .store;
    runtime.block_on(async {
        let mut going = JoinSet::new();
        for number in 0..reports {
            if going.len() == AT_ONCE {
                going.join_next().await.unwrap().unwrap();
            }
            going.spawn(put(store.clone(), number));
        }
        going.join_all().await;
        store.shut_down().await;
    });
}

async fn put(store: Store, number: usize) {
    let interview = support::interview(&format!("stored-{number}"));
    let outcomes = support::outcomes(&interview);
    let report = support::report(&interview, &outcomes);
    let accept = Accept {
        interview: interview.clone(),
        stays_open: false,
        at: Timestamp::from_millis(0),
        rubric_hash: "0".repeat(64),
        rubric_text: Arc::from(DEFAULT),
    };
    let generation = store.accept(accept).await.unwrap().record.generation;
    for (answer, outcome) in interview.answers().iter().zip(outcomes) {
        store
            .record(&interview.id, generation, &answer.id, outcome)
            .await
            .unwrap();
    }
    assert!(store.finish(&interview.id, generation, report).await.unwrap());
}
