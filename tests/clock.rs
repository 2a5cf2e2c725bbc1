//! A clock on the wall that is set while the daemon runs: nothing that takes time takes it from there.
//!
//! Needs a C compiler: the daemon is started with a library that shifts the time of day by what a file says, and leaves the monotonic clock alone.

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Client, Daemon, World, eventually, interview};

const HOUR_S: i64 = 3_600;
const TEN_YEARS_S: i64 = 3_652 * 86_400;
const TTL: Duration = Duration::from_secs(3);
/// Whatever takes longer here has believed the wall clock.
const LONG_MS: u64 = 600_000;

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none, *shift = &none;

__attribute__((constructor)) static void find(void) {
    int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
    void *seen = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (seen != MAP_FAILED) shift = seen;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += *shift;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *there) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (there) *there = now.tv_sec;
    return now.tv_sec;
}
"#;

/// A world whose daemon's wall clock can be set.
struct Shifted {
    world: World,
    library: PathBuf,
}

impl Shifted {
    /// `None`: there is no C compiler.
    fn new() -> Option<Self> {
        let world = World::simulated(5)
            .set("model.check_hashes=false")
            .set("pool.actors=1")
            .set("pool.slots_per_actor=1")
            .set(&format!("interview.open_ttl_s={}", TTL.as_secs()));
        let (source, library) = (world.path("clock.c"), world.path("clock.so"));
        std::fs::write(&source, SHIM).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("there is no C compiler to make another clock with");
            return None;
        }
        let shifted = Self { world, library };
        shifted.set(0);
        Some(shifted)
    }

    fn file(&self) -> PathBuf {
        self.world.path("shift")
    }

    /// Puts the clock so many seconds off the real one.
    fn set(&self, shift_s: i64) {
        // In place: the daemon has the file in its memory.
        let file = std::fs::File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(self.file());
        std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), &shift_s.to_ne_bytes(), 0).unwrap();
    }

    fn start(&self) -> Daemon {
        let mut command = self.world.serve();
        command.env("LD_PRELOAD", &self.library).env("CLOCK_SHIFT", self.file());
        let daemon = self.world.start_by(command);
        let mut client = daemon.connect();
        eventually("the daemon is ready", || {
            let status = client.call("status", json!({})).unwrap();
            (status["state"] == "ready").then_some(())
        });
        daemon
    }
}

fn year(moment: &Value) -> i64 {
    moment.as_str().unwrap()[..4].parse().unwrap()
}

fn assert_plausible(report: &Value) {
    assert!(report["took_ms"].as_u64().unwrap() < LONG_MS, "{report}");
    for answer in report["answers"].as_array().unwrap() {
        for time in ["queued_ms", "prefill_ms", "decode_ms"] {
            assert!(answer["timing"][time].as_u64().unwrap() < LONG_MS, "{answer}");
        }
    }
}

/// An open interview lives as long as it may, and not a moment shorter, whatever the wall says.
fn assert_open_for_its_time(client: &mut Client, id: &str, opened: Instant) {
    eventually("the interview is finished, for nobody does", || {
        let seen = client.call("interview.get", json!({"interview_id": id})).unwrap();
        (seen["state"] != "open").then_some(())
    });
    assert!(opened.elapsed() >= TTL, "after {:?}", opened.elapsed());
}

fn assert_unmoved_by(jump_s: i64) {
    let Some(shifted) = Shifted::new() else { return };
    let daemon = shifted.start();
    let mut client = daemon.connect();
    let mut watcher = daemon.connect();
    watcher.call("events.subscribe", json!({})).unwrap();
    let submit = |client: &mut Client, id: &str| {
        let interview = interview(id, &["저는 개발자입니다.", "로그를 먼저 읽습니다."]);
        client
            .call("interview.submit", json!({ "interview": interview }))
            .unwrap();
    };
    let opened = Instant::now();
    client
        .call("interview.open", json!({"interview": interview("open", &["..."])}))
        .unwrap();
    submit(&mut client, "before");
    shifted.set(jump_s);
    submit(&mut client, "after");
    let begun = Instant::now();
    let wait = client.call("report.wait", json!({"interview_id": "after", "timeout_ms": 50}));
    assert!(wait.is_ok() || begun.elapsed() >= Duration::from_millis(50));
    let status = client.call("status", json!({})).unwrap();
    assert!(status["uptime_s"].as_u64().unwrap() < LONG_MS / 1_000, "{status}");
    assert!(
        status["queue"]["oldest_wait_s"].as_u64().unwrap() < LONG_MS / 1_000,
        "{status}"
    );

    let (before, after) = (client.wait_for_report("before"), client.wait_for_report("after"));
    [&before, &after].into_iter().for_each(assert_plausible);
    // It was another time of day, and the order is the one of submission all the same.
    let years = year(&after["finished_at"]) - year(&before["submitted_at"]);
    assert_eq!(
        years.signum(),
        if jump_s.abs() == TEN_YEARS_S {
            jump_s.signum()
        } else {
            years.signum()
        }
    );
    let ready = std::iter::from_fn(|| Some(watcher.event()))
        .filter(|event| event["kind"] == "report_ready" && event["interview_id"] != "open");
    let ready: Vec<_> = ready.map(|event| event["interview_id"].clone()).take(2).collect();
    assert_eq!(ready, ["before", "after"]);
    assert_open_for_its_time(&mut client, "open", opened);
    assert_plausible(&client.wait_for_report("open"));
    let list = client.call("interview.list", json!({})).unwrap();
    let ids: Vec<_> = list["interviews"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["interview_id"])
        .collect();
    assert_eq!(ids, ["open", "before", "after"]);

    // The next start finds a clock that is off by as much, and goes on.
    submit(&mut client, "killed");
    daemon.kill();
    shifted.set(0);
    let daemon = shifted.start();
    assert_eq!(daemon.connect().wait_for_report("killed")["status"], "complete");
}

#[test]
fn an_hour_forward() {
    assert_unmoved_by(HOUR_S);
}

#[test]
fn an_hour_back() {
    assert_unmoved_by(-HOUR_S);
}

#[test]
fn ten_years_forward() {
    assert_unmoved_by(TEN_YEARS_S);
}

#[test]
fn ten_years_back() {
    assert_unmoved_by(-TEN_YEARS_S);
}
