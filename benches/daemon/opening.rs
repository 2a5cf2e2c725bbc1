//! A restart with a full store: how long 10,000 stored reports keep a daemon from accepting connections, after a clean stop and after a kill.
//!
//! The store is made by the library, which takes a minute or two. INTERVIEWD_BENCH_REPORTS changes how many; INTERVIEWD_BENCH_REPORT_BYTES how long
//! each is at least.

use std::path::Path;
use std::time::Instant;

use interviewd::domain::report::Report;
use interviewd::domain::rubric::DEFAULT;
use interviewd::domain::time::Timestamp;
use interviewd::store::{self, Accept, Finished, Store};
use serde_json::json;
use tokio::task::JoinSet;

use crate::common::World;
use crate::setting;
use crate::support::{interview, outcomes, report};

/// Interviews that are stored at the same time, so that they share syncs.
const TOGETHER: usize = 64;

pub fn measure() {
    let reports = setting("INTERVIEWD_BENCH_REPORTS", 10_000);
    let bytes = setting("INTERVIEWD_BENCH_REPORT_BYTES", 40_000);
    let world = World::simulated(0);
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let length = runtime.block_on(fill(&world.path("store"), reports, bytes));
    let size: u64 = std::fs::metadata(world.path("store/db")).unwrap().len();
    println!(
        "  {reports} reports of {length} bytes were stored in {:.0} s; {} MiB on the disk",
        begun.elapsed().as_secs_f64(),
        size >> 20
    );
    for how in ["a clean stop", "a clean stop", "a kill", "a kill"] {
        let begun = Instant::now();
        let daemon = world.start();
        let line = begun.elapsed();
        let mut client = daemon.connect();
        let counts = client.call("status", json!({})).unwrap()["interviews"].clone();
        assert_eq!(counts["complete"], reports, "{counts}");
        let begun = Instant::now();
        match how {
            "a kill" => daemon.kill(),
            _ => {
                daemon.signal("-TERM");
                assert!(daemon.wait().success());
            }
        }
        println!(
            "  line ready after {:>5} ms (at most 2000), stopped by {how} in {:>5} ms",
            line.as_millis(),
            begun.elapsed().as_millis()
        );
    }
    let begun = Instant::now();
    drop(world.start());
    println!("  line ready after {:>5} ms after a kill", begun.elapsed().as_millis());
}

/// Gives the length of a report's JSON.
async fn fill(path: &Path, reports: usize, bytes: usize) -> usize {
    let options = store::Options::default();
    let store = Store::open(path, &options, Timestamp::from_millis(0)).unwrap().store;
    let template = interview("template");
    let outcomes = outcomes(&template);
    let mut full = report(&template, &outcomes);
    lengthen(&mut full, bytes);
    let mut running = JoinSet::new();
    for number in 0..reports {
        if running.len() == TOGETHER {
            running.join_next().await.unwrap().unwrap();
        }
        let (store, outcomes, full) = (store.clone(), outcomes.clone(), full.clone());
        let interview = interview(&format!("iv-{number}"));
        running.spawn(async move {
            let accept = Accept {
                interview: interview.clone(),
                stays_open: false,
                at: Timestamp::from_millis(0),
                rubric_hash: "0".repeat(64),
                rubric_text: DEFAULT.into(),
            };
            let generation = store.accept(accept).await.unwrap().record.generation;
            for (answer, outcome) in interview.answers().iter().zip(outcomes) {
                let recorded = store.record(&interview.id, generation, &answer.id, outcome);
                recorded.await.unwrap();
            }
            let finished = store.finish(&interview.id, generation, full).await;
            assert_eq!(finished.unwrap(), Finished::Stored);
        });
    }
    running.join_all().await;
    store.shut_down().await;
    serde_json::to_string(&full).unwrap().len()
}

/// Repeats the summary until the report is that long.
fn lengthen(report: &mut Report, bytes: usize) {
    let missing = bytes.saturating_sub(serde_json::to_string(report).unwrap().len());
    if let Some(narrative) = &mut report.narrative {
        let sentence = narrative.summary.clone();
        narrative.summary = sentence.repeat(1 + missing.div_ceil(sentence.len()));
    }
}
