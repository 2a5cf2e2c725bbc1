//! Hours of ordinary work on the simulated model: so many interviews a second, each report read, and deleted once many newer ones are there. Memory,
//! descriptors and threads must not grow, nor the store beyond a small multiple of what lives in it.
//!
//! INTERVIEWD_BENCH_SOAK_S (60), _SOAK_PER_S (5), _SOAK_ANSWERS (3) and _SOAK_KEPT (500) change it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::process::{Memory, memory, mib};
use crate::common::{self, Client, Daemon, World};
use crate::setting;

/// Lines that are printed in all.
const LINES: u32 = 12;
/// Readings of the beginning that are no measure: caches fill, and tables that were zero are touched page by page.
const WARM_UP_LINES: u32 = 4;

/// What is there of one interview.
struct Kept {
    id: String,
    bytes: usize,
}

pub fn measure() {
    let seconds = setting("INTERVIEWD_BENCH_SOAK_S", 60) as u32;
    let per_second = setting("INTERVIEWD_BENCH_SOAK_PER_S", 5) as u32;
    let (answers, keep) = (
        setting("INTERVIEWD_BENCH_SOAK_ANSWERS", 3),
        setting("INTERVIEWD_BENCH_SOAK_KEPT", 500),
    );
    let world = World::simulated(0);
    let daemon = world.start_ready();
    println!("  {per_second} interviews of {answers} answers a second for {seconds} s, {keep} are kept");
    let (mut client, mut watcher) = (daemon.connect(), daemon.connect());
    watcher.call("events.subscribe", json!({})).unwrap();
    let (mut kept, mut reports) = (VecDeque::new(), 0);
    let mut first = None;
    let (begun, all) = (Instant::now(), seconds * per_second);
    for number in 0..all {
        let due = Duration::from_secs(1) * number / per_second;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let id = format!("soak-{number:07}");
        let mut texts = Vec::new();
        for answer in 0..answers {
            texts.push(format!(
                "{number}번째 지원자의 {answer}번째 이야기: 로그를 모아 원인을 찾고 재발을 막았습니다."
            ));
        }
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let interview = common::interview(&id, &texts);
        let bytes = interview.to_string().len();
        client
            .call("interview.submit", json!({"interview": interview}))
            .unwrap();
        kept.push_back(Kept { id, bytes });
        // Events come while replies are awaited, and nobody needs their content.
        let told = hear(&daemon, &mut watcher, &mut kept);
        reports += told;
        while kept.len() > keep {
            let Kept { id, .. } = kept.pop_front().unwrap();
            client.call("interview.delete", json!({"interview_id": id})).unwrap();
        }
        let lines = (number + 1) * LINES / all;
        if lines > number * LINES / all {
            let reading = print(
                &daemon,
                &mut client,
                &world.path("store"),
                begun,
                number + 1,
                reports,
                &kept,
            );
            if lines == WARM_UP_LINES {
                first = Some(reading);
            } else if let Some(first) = first.filter(|_| lines == LINES) {
                let drift = |of: fn(&Memory) -> u64| 100.0 * (of(&reading) as f64 / of(&first) as f64 - 1.0);
                println!(
                    "  drift since the line no. {WARM_UP_LINES}: resident memory {:+.1} %, heap and stacks {:+.1} % (below 5)",
                    drift(|memory| memory.all),
                    drift(|memory| memory.anonymous)
                );
            }
        }
    }
}

/// Reads every report that is ready. How many these were.
fn hear(daemon: &Daemon, watcher: &mut Client, kept: &mut VecDeque<Kept>) -> u32 {
    // A ping sees to it that all that was told by now has been read.
    watcher.call("hello", json!({})).unwrap();
    let mut told = 0;
    let mut reader = None;
    for event in std::mem::take(&mut watcher.events) {
        if event["kind"] != "report_ready" {
            assert_ne!(event["kind"], "lagged", "{event}");
            continue;
        }
        told += 1;
        let reader = reader.get_or_insert_with(|| daemon.connect());
        let id = event["interview_id"].as_str().unwrap();
        let report = reader.call("report.get", json!({"interview_id": id})).unwrap()["report"].take();
        if let Some(kept) = kept.iter_mut().find(|kept| kept.id == id) {
            // The outcomes are stored beside the report, which repeats them.
            kept.bytes += report.to_string().len() + report["answers"].to_string().len();
        }
    }
    told
}

/// One line of figures. Gives the process's memory.
fn print(
    daemon: &Daemon,
    client: &mut Client,
    store: &Path,
    begun: Instant,
    submitted: u32,
    reports: u32,
    kept: &VecDeque<Kept>,
) -> Memory {
    let status: Value = client.call("status", json!({})).unwrap();
    let memory = memory(daemon.pid());
    let entries = |of: &str| {
        std::fs::read_dir(format!("/proc/{}/{of}", daemon.pid()))
            .unwrap()
            .count()
    };
    let live: usize = kept.iter().map(|kept| kept.bytes).sum();
    let ballast = std::fs::metadata(store.join("ballast")).map_or(0, |file| file.len());
    let size = size_of(store).saturating_sub(ballast);
    println!(
        "  {:>6.0} s: {submitted:>6} submitted, {reports:>6} reports, queue {:>3}; resident {:>6.1} MiB, heap and stacks {:>6.1}; {} descriptors, {} threads; store {:>6.1} MiB = {:.1} x live data, and {:.0} MiB of ballast",
        begun.elapsed().as_secs_f64(),
        status["queue"]["answers"],
        mib(memory.all),
        mib(memory.anonymous),
        entries("fd"),
        entries("task"),
        mib(size / 1024),
        size as f64 / live as f64,
        mib(ballast / 1024),
    );
    memory
}

/// Bytes on the disk of everything that is in the folder.
fn size_of(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        bytes += match entry.file_type().unwrap().is_dir() {
            true => size_of(&entry.path()),
            false => entry.metadata().map_or(0, |metadata| metadata.len()),
        };
    }
    bytes
}
