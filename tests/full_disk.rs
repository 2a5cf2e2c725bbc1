//! A disk that is full, with the real binary on a small file system, and one that fails: what is refused, what goes on, and that everything
//! resumes by itself.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Client, World, eventually, interview};

/// Says to this test's own binary that it runs where it may mount.
const INSIDE: &str = "INTERVIEWD_TEST_MAY_MOUNT";
/// Ten times and six times what is promised: a loaded machine, and a trace of all system calls, are not the daemon's doing. What it took is printed.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
const RESUMED_WITHIN: Duration = Duration::from_secs(30);

/// A small file system in a world's folder.
struct SmallDisk {
    path: PathBuf,
}

/// Runs the body where it may mount: in this test run again, in namespaces of its own. What a system does not permit is skipped.
fn where_mounting_is_permitted(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let probe = tempfile::tempdir().unwrap();
    let unshare = |flags: &str| {
        let mut command = Command::new("unshare");
        command.arg(flags);
        command
    };
    let mut refusals = Vec::new();
    for flags in ["-m", "-Urm"] {
        let tried = unshare(flags)
            .args(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(probe.path())
            .output();
        match tried {
            Ok(output) if output.status.success() => {
                let again = unshare(flags)
                    .arg(std::env::current_exe().unwrap())
                    .args(["--exact", test, "--nocapture"])
                    .env(INSIDE, "1")
                    .status();
                assert!(again.unwrap().success(), "{test} failed; its output is above");
                return;
            }
            Ok(output) => refusals.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    eprintln!(
        "{test} is skipped: no small file system can be mounted here ({})",
        refusals.join("; ")
    );
}

impl SmallDisk {
    /// A world whose store lies on a file system of so many MiB.
    fn world(mib: u32, step_ms: u64, ballast_mib: u32, floor_mib: u32) -> (World, Self) {
        let world = World::simulated(step_ms)
            .set("store.path=disk/store")
            .set("backup.every_h=0")
            .set(&format!("store.ballast_mib={ballast_mib}"))
            .set(&format!("store.free_floor_mib={floor_mib}"));
        let path = world.path("disk");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(&path)
            .status();
        assert!(mounted.unwrap().success());
        (world, Self { path })
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.path.join("fill"))
            .unwrap();
        for size in [64 * 1024, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.path.join("fill")).unwrap();
    }

    fn has_ballast(&self) -> bool {
        self.path.join("store/ballast").exists()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn status(client: &mut Client) -> Value {
    client.call("status", json!({})).unwrap()
}

fn reason(client: &mut Client) -> String {
    let status = eventually("the daemon is degraded", || {
        let status = status(client);
        (status["state"] == "degraded").then_some(status)
    });
    status["reason"].as_str().unwrap().to_owned()
}

/// How long it takes from now on.
fn until_ready(client: &mut Client) -> Duration {
    let begun = Instant::now();
    eventually("the daemon is ready", || {
        (status(client)["state"] == "ready").then_some(())
    });
    begun.elapsed()
}

fn submit(client: &mut Client, id: &str, answers: usize) -> Result<Value, common::Fault> {
    let answers: Vec<_> = (0..answers).map(|n| format!("{n} 건의 장애를 줄였습니다.")).collect();
    let texts: Vec<_> = answers.iter().map(String::as_str).collect();
    client.call("interview.submit", json!({"interview": interview(id, &texts)}))
}

/// Refused as it must be; how long that took.
fn refused(client: &mut Client, id: &str) -> Duration {
    let begun = Instant::now();
    let fault = submit(client, id, 1).unwrap_err();
    let took = begun.elapsed();
    assert_eq!(fault.kind(), "storage", "{fault:?}");
    assert!(took < REFUSED_WITHIN, "{took:?}");
    took
}

fn report(client: &mut Client, id: &str) -> Value {
    client.call("report.get", json!({"interview_id": id})).unwrap()["report"].clone()
}

#[test]
fn what_is_new_is_refused_what_is_under_way_is_kept_and_everything_resumes() {
    where_mounting_is_permitted(
        "what_is_new_is_refused_what_is_under_way_is_kept_and_everything_resumes",
        || {
            let (world, disk) = SmallDisk::world(48, 5, 4, 4);
            let daemon = world.start_ready();
            let mut client = daemon.connect();
            let before = client.report(interview("before", &["저는 백엔드 개발자입니다."]));
            assert!(disk.has_ballast());
            submit(&mut client, "under-way", 6).unwrap();
            disk.fill();
            let refusing = refused(&mut client, "new");
            let reason = reason(&mut client);
            assert!(reason.contains("takes no new interviews"), "{reason}");
            assert!(!disk.has_ballast());
            // The ballast's room is for what is under way.
            assert_eq!(client.wait_for_report("under-way")["status"], "complete");
            assert_eq!(report(&mut client, "before"), before);
            disk.empty();
            let resuming = until_ready(&mut client);
            assert!(resuming < RESUMED_WITHIN, "{resuming:?}");
            assert!(disk.has_ballast());
            assert_eq!(submit(&mut client, "new", 1).unwrap()["created"], true);
            assert_eq!(client.wait_for_report("new")["status"], "complete");
            eprintln!("refused within {refusing:?}, ready {resuming:?} after there was room");
        },
    );
}

#[test]
fn results_that_cannot_be_written_are_kept_until_there_is_room() {
    where_mounting_is_permitted("results_that_cannot_be_written_are_kept_until_there_is_room", || {
        let (world, disk) = SmallDisk::world(32, 5, 0, 4);
        let daemon = world.start_ready();
        let mut client = daemon.connect();
        submit(&mut client, "under-way", 6).unwrap();
        disk.fill();
        let reason = eventually("results are kept", || {
            let reason = reason(&mut client);
            reason.contains("results are kept in memory").then_some(reason)
        });
        assert!(reason.contains("store.free_floor_mib"), "{reason}");
        refused(&mut client, "new");
        let now = client
            .call("interview.get", json!({"interview_id": "under-way"}))
            .unwrap();
        assert_eq!(now["state"], "scoring", "{now}");
        disk.empty();
        let resuming = until_ready(&mut client);
        assert!(resuming < RESUMED_WITHIN, "{resuming:?}");
        let report = client.wait_for_report("under-way");
        assert_eq!(report["status"], "complete");
        let attempts: Vec<_> = report["answers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|answer| answer["timing"]["attempts"].clone())
            .collect();
        assert_eq!(attempts, vec![json!(1); 6], "nothing was scored again");
        eprintln!("ready {resuming:?} after there was room");
    });
}

/// Has system calls of a process fail, as a disk would have them, until dropped.
struct Failing(Child);

impl Failing {
    /// `None`, with a line that says why, where processes cannot be traced.
    fn of(pid: u32, call: &str, error: &str) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:error={error}"), "-p", &pid.to_string()]);
        let child = strace.spawn();
        let mut failing = match child {
            Ok(child) => Self(child),
            Err(error) => {
                eprintln!("skipped: strace cannot be run here ({error})");
                return None;
            }
        };
        let attached = eventually("strace is attached, or has given up", || {
            if failing.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            is_traced(pid).then_some(true)
        });
        if !attached {
            eprintln!("skipped: strace may not trace here");
        }
        attached.then_some(failing)
    }
}

fn is_traced(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(|thread| thread.unwrap().path()).all(|thread| {
        let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    })
}

impl Drop for Failing {
    /// strace lets go of what it traces when it is told to end.
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_sled_itself_finds_full_is_got_over_without_a_restart() {
    let world = World::simulated(1);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let before = client.report(interview("before", &["저는 백엔드 개발자입니다."]));
    // What is free is measured in vain: the disk is full all the same.
    let Some(full) = Failing::of(daemon.pid(), "pwrite64", "ENOSPC") else {
        return;
    };
    let fault = submit(&mut client, "first", 2).unwrap_err();
    assert_eq!(fault.kind(), "storage", "{fault:?}");
    assert!(fault.message().contains("it is not known whether"), "{fault:?}");
    assert_eq!(fault.0["data"]["interview_id"], "first");
    let reason = reason(&mut client);
    assert!(reason.contains("waits for room"), "{reason}");
    std::thread::sleep(Duration::from_millis(1_500));
    let refusing = refused(&mut client, "second");
    assert!(
        status(&mut client)["reason"]
            .as_str()
            .unwrap()
            .contains("waits for room")
    );
    drop(full);
    let resuming = until_ready(&mut client);
    assert!(resuming < RESUMED_WITHIN, "{resuming:?}");
    assert_eq!(report(&mut client, "before"), before);
    for id in ["first", "second"] {
        submit(&mut client, id, 2).unwrap();
        assert_eq!(client.wait_for_report(id)["status"], "complete", "{id}");
    }
    eprintln!("refused within {refusing:?}, ready {resuming:?} after there was room");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart_and_nothing_that_was_is_lost() {
    let world = World::simulated(1);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let before = client.report(interview("before", &["저는 백엔드 개발자입니다."]));
    let Some(failing) = Failing::of(daemon.pid(), "fdatasync", "EIO") else {
        return;
    };
    refused(&mut client, "during");
    drop(failing);
    // Whether the disk works again is of no use: nobody knows what it has dropped.
    refused(&mut client, "after");
    let reason = reason(&mut client);
    assert!(reason.contains("takes no more writes: a sync failed"), "{reason}");
    assert_eq!(report(&mut client, "before"), before);
    // Of what may not last nobody is told.
    for (method, params) in [
        ("interview.get", json!({"interview_id": "during"})),
        ("interview.list", json!({})),
    ] {
        let fault = client.call(method, params).unwrap_err();
        assert!(fault.message().contains("it is not known whether"), "{fault:?}");
    }
    daemon.kill();
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    assert_eq!(report(&mut client, "before"), before);
    submit(&mut client, "after", 1).unwrap();
    assert_eq!(client.wait_for_report("after")["status"], "complete");
}

/// Leaves an interview unfinished in a store whose disk is full then.
fn stopped_in_the_midst(world: &World, disk: &SmallDisk) -> Value {
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let before = client.report(interview("before", &["저는 백엔드 개발자입니다."]));
    submit(&mut client, "under-way", 6).unwrap();
    daemon.kill();
    disk.fill();
    before
}

#[test]
fn started_on_a_full_disk_the_ballast_makes_room() {
    where_mounting_is_permitted("started_on_a_full_disk_the_ballast_makes_room", || {
        let (world, disk) = SmallDisk::world(48, 5, 8, 4);
        let before = stopped_in_the_midst(&world, &disk);
        assert!(disk.has_ballast());
        let daemon = world.start();
        let mut client = daemon.connect();
        assert!(!disk.has_ballast());
        let reason = reason(&mut client);
        assert!(reason.contains("takes no new interviews"), "{reason}");
        refused(&mut client, "new");
        assert_eq!(report(&mut client, "before"), before);
        assert_eq!(client.wait_for_report("under-way")["status"], "complete");
        disk.empty();
        let resuming = until_ready(&mut client);
        assert!(resuming < RESUMED_WITHIN, "{resuming:?}");
        submit(&mut client, "new", 1).unwrap();
        eprintln!("ready {resuming:?} after there was room");
    });
}

#[test]
fn started_on_a_full_disk_without_ballast_the_daemon_waits_for_room_and_loses_nothing() {
    where_mounting_is_permitted(
        "started_on_a_full_disk_without_ballast_the_daemon_waits_for_room_and_loses_nothing",
        || {
            let (world, disk) = SmallDisk::world(32, 5, 0, 4);
            let before = stopped_in_the_midst(&world, &disk);
            let daemon = world.start();
            let mut client = daemon.connect();
            let reason = reason(&mut client);
            assert!(reason.contains("waits for room"), "{reason}");
            let refusing = refused(&mut client, "new");
            let fault = client
                .call("report.get", json!({"interview_id": "before"}))
                .unwrap_err();
            assert_eq!(fault.kind(), "storage", "{fault:?}");
            disk.empty();
            let resuming = until_ready(&mut client);
            assert!(resuming < RESUMED_WITHIN, "{resuming:?}");
            assert_eq!(report(&mut client, "before"), before);
            assert_eq!(client.wait_for_report("under-way")["status"], "complete");
            submit(&mut client, "new", 1).unwrap();
            let beside: Vec<_> = fs::read_dir(&disk.path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(beside, ["store"], "nothing was moved away");
            eprintln!("refused within {refusing:?}, ready {resuming:?} after there was room");
        },
    );
}
