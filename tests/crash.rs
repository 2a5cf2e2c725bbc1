//! The real binary dies, by kill -9 at random moments and by itself at every crash point: whatever was acknowledged is there again, whatever was
//! scored stays scored, and every interview gets one report in each generation.

#[path = "crash/book.rs"]
mod book;
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use book::{Book, Dice, Stage};
use common::{Client, Daemon, World, eventually, interview};
use interviewd::crash_points::CrashPoint;

/// Clients that work at the same time, each on interviews of its own.
const CLIENTS: u64 = 2;
/// How long a daemon lives that does not come to the crash point that it was given, and so much longer after each miss: the machine may be busy. Then
/// it is told to stop, which passes more of them.
const BARREN_LIFE: Duration = Duration::from_secs(2);
/// Lives in a row that may miss a point before nobody reaches it.
const MISSES_MAX: u32 = 10;

/// Points that no client comes to: the tests of backups and of damage go through them.
const OF_BACKUPS: [CrashPoint; 4] = [
    CrashPoint::BackupBegun,
    CrashPoint::BackupSynced,
    CrashPoint::BackupNamed,
    CrashPoint::BackupRemoved,
];
const OF_DAMAGE: [CrashPoint; 2] = [CrashPoint::PartMovedAside, CrashPoint::StoreMovedAside];

/// What the daemons of a world have in common: the clients, and what these saw.
struct Story {
    world: World,
    dice: Dice,
    books: Vec<Book>,
    events: Vec<Value>,
}

impl Story {
    fn new(pause_ms_max: u64) -> Self {
        let seed = match std::env::var("CRASH_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        };
        eprintln!("CRASH_SEED={seed} repeats this choice of requests and moments");
        let mut dice = Dice(seed);
        let world = World::simulated(0);
        world.fail_on_stars(true);
        let book = |client| Book::new(&format!("c{client}"), dice.next(), pause_ms_max);
        Self {
            books: (0..CLIENTS).map(book).collect(),
            world,
            dice,
            events: Vec::new(),
        }
    }

    /// Everybody works; `ends` sees to it that the daemon does not live for ever. Gives how it ended.
    fn live(&mut self, mut daemon: Daemon, ends: impl FnOnce(&mut Daemon)) -> ExitStatus {
        let listener = listen(&daemon);
        if let Some(mut client) = daemon.try_connect() {
            let mut books = self.books.iter_mut();
            let _ = books.try_for_each(|book| book.check(&mut client));
        }
        std::thread::scope(|scope| {
            for book in &mut self.books {
                let client = daemon.try_connect();
                scope.spawn(move || client.map(|client| book.work(client)));
            }
            ends(&mut daemon);
        });
        let status = daemon.wait();
        self.events.extend(listener.join().unwrap());
        status
    }

    /// One life that is ended from outside, perhaps before its model is loaded.
    fn live_and_be_killed(&mut self, life_ms_max: u64) {
        let lasting = Duration::from_millis(self.dice.below(life_ms_max + 1));
        let daemon = match self.dice.below(3) {
            0 => self.world.start(),
            _ => self.world.start_ready(),
        };
        self.live(daemon, |daemon| {
            std::thread::sleep(lasting);
            daemon.signal("-KILL");
        });
    }

    /// One life that shall end at a crash point. Whether it did; otherwise it was told to stop after a while.
    fn live_until(&mut self, point: CrashPoint, times: u64, barren: Duration) -> bool {
        let mut serve = self.world.serve();
        serve.env("INTERVIEWD_CRASH_AT", format!("{point:?}:{times}"));
        let status = match self.world.launch(&mut serve) {
            Ok(daemon) => self.live(daemon, |daemon| {
                let begun = Instant::now();
                while !daemon.has_ended() && begun.elapsed() < barren {
                    std::thread::sleep(Duration::from_millis(2));
                }
                if let Some(mut client) = daemon.try_connect() {
                    client.try_call("shutdown", json!({"timeout_s": 1}));
                }
            }),
            Err(status) => status,
        };
        match status.signal() {
            Some(9) => true,
            None if status.success() => false,
            _ => panic!("{point:?}: {status}; log:\n{}", self.world.log()),
        }
    }

    /// A last daemon ends what the others have left, and everything is counted.
    fn end(mut self) {
        let before = scored(&self.events);
        let begun = Instant::now();
        let daemon = self.world.start_ready();
        let listener = listen(&daemon);
        let mut client = daemon.connect();
        let due = finish_everything(&daemon, &mut self.books);
        for book in &mut self.books {
            for (id, known) in book.known.iter_mut().filter(|(id, _)| due.contains_key(*id)) {
                // Waiting for the report would not do: that of an earlier generation stays until a retry has ended.
                let now = eventually("the report is stored", || {
                    let now = client.call("interview.get", json!({"interview_id": id})).unwrap();
                    let is_due = ["complete", "partial"].iter().any(|state| now["state"] == *state);
                    is_due.then_some(now)
                });
                known.see(id, &now);
                assert_eq!(now["state"], due[id], "{now}");
                let report = client.call("report.get", json!({"interview_id": id})).unwrap();
                known.check_report(&report["report"]);
            }
        }
        let listed = all_listed(&mut client);
        let reported = listed
            .iter()
            .filter(|(_, state)| ["complete", "partial"].contains(&state.as_str()));
        let reported: BTreeMap<_, _> = reported.map(|(id, state)| (id.clone(), state.clone())).collect();
        assert_eq!(
            reported, due,
            "each interview that was to have a report has one, and no other has"
        );
        let idle = eventually("nothing is left to do", || {
            let status = client.call("status", json!({})).unwrap();
            (status["queue"]["answers"] == 0 && status["interviews"]["scoring"] == 0).then_some(status)
        });
        let counted = |state: &str| due.values().filter(|of| *of == state).count();
        for state in ["complete", "partial"] {
            assert_eq!(idle["interviews"][state], counted(state), "{idle}");
        }
        daemon.kill();
        self.events.extend(listener.join().unwrap());
        assert_once(&self.events, &self.books);
        let after = scored(&self.events);
        eprintln!(
            "{} interviews, {} with a report; answers seen scored: {before} in lives that crashed, {after} in all; the last life took {:?}",
            listed.len(),
            due.len(),
            begun.elapsed()
        );
        assert!(
            !due.is_empty() && before > 0,
            "too little happened: {} reports, {before} answers before crashes",
            due.len()
        );
    }
}

/// What is found wrong is found in a later life: what the lives before have said, and left, is needed to understand it.
impl Drop for Story {
    fn drop(&mut self) {
        const LINES: usize = 200;
        if !std::thread::panicking() {
            return;
        }
        let log = self.world.log();
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        let kept = files(self.world.folder.path(), |_| true);
        eprintln!("the log ends with:\n{}\n{kept:?}", last.join("\n"));
        self.world.folder.disable_cleanup(true);
    }
}

/// Listens to everything until the daemon is gone.
fn listen(daemon: &Daemon) -> std::thread::JoinHandle<Vec<Value>> {
    let client = daemon.try_connect();
    std::thread::spawn(move || {
        let Some(mut client) = client else { return Vec::new() };
        client.try_call("events.subscribe", json!({}));
        let mut events = std::mem::take(&mut client.events);
        while let Some(line) = client.try_line() {
            events.push(line["params"].clone());
        }
        events
    })
}

/// The interviews that must have a report, with their state then, after everything that was left open has been finished.
fn finish_everything(daemon: &Daemon, books: &mut [Book]) -> BTreeMap<String, String> {
    let mut client = daemon.connect();
    let mut due = BTreeMap::new();
    for book in books {
        book.check(&mut client).unwrap();
        book.ask_again(&mut client).unwrap();
        for (id, known) in &mut book.known {
            let method = match (known.stage, known.answers.is_empty()) {
                (Stage::Open, true) => "interview.cancel",
                (Stage::Open, false) => "interview.finish",
                _ => "interview.get",
            };
            let reply = client.call(method, json!({"interview_id": id}));
            match (known.stage, known.answers.is_empty()) {
                (Stage::Open, true) => known.stage = Stage::Cancelled,
                (Stage::Open, false) => known.stage = Stage::Finished,
                _ => {}
            }
            match known.stage {
                Stage::Deleted => assert_eq!(reply.unwrap_err().kind(), "not_found"),
                Stage::Cancelled => assert_eq!(reply.unwrap()["state"], "cancelled"),
                _ => drop((reply.unwrap(), due.insert(id.clone(), known.due_status().to_owned()))),
            }
        }
    }
    due
}

fn scored(events: &[Value]) -> usize {
    events.iter().filter(|event| event["kind"] == "answer_scored").count()
}

/// Every answer was scored at most once in all lives, with the score that it has; of every generation there was one report at most.
fn assert_once(events: &[Value], books: &[Book]) {
    let known: BTreeMap<&str, _> = books
        .iter()
        .flat_map(|book| &book.known)
        .map(|(id, known)| (id.as_str(), known))
        .collect();
    let mut scored = BTreeSet::new();
    let mut counts: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    for event in events {
        let id = event["interview_id"].as_str().unwrap();
        let answer = event["answer_id"].as_str().unwrap_or_default();
        match event["kind"].as_str().unwrap() {
            "answer_scored" => {
                assert!(scored.insert((id, answer)), "scored again: {event}");
                if let Some(score) = known.get(id).and_then(|known| known.score(answer)) {
                    assert_eq!(&event["score"], score, "{event}");
                }
            }
            kind @ ("answer_unscored" | "report_ready") => *counts.entry((kind, id, answer)).or_default() += 1,
            "lagged" => panic!("{event}"),
            _ => {}
        }
    }
    for ((kind, id, answer), count) in counts {
        let generations = known.get(id).map_or(1, |known| known.generations);
        assert!(
            count <= generations,
            "{kind} {id} {answer}: {count} times in {generations} generations"
        );
    }
}

fn all_listed(client: &mut Client) -> BTreeMap<String, String> {
    let mut listed = BTreeMap::new();
    let mut after = Value::Null;
    loop {
        let mut params = json!({"limit": 7});
        if !after.is_null() {
            params["after"] = after;
        }
        let page = client.call("interview.list", params).unwrap();
        for interview in page["interviews"].as_array().unwrap() {
            let text = |name: &str| interview[name].as_str().unwrap().to_owned();
            assert!(
                listed.insert(text("interview_id"), text("state")).is_none(),
                "listed twice: {interview}"
            );
        }
        after = page["next"].clone();
        if after.is_null() {
            return listed;
        }
    }
}

fn survive_kills(kills: u32, life_ms_max: u64) {
    let mut story = Story::new(25);
    for _ in 0..kills {
        story.live_and_be_killed(life_ms_max);
    }
    story.end();
}

/// Dies so often at each point; the first time as soon as it is reached, then at later moments too.
fn survive_crash_points(crashes: u64) {
    let mut story = Story::new(5);
    let mut late = 0;
    let all = CrashPoint::ALL.iter();
    let points: Vec<_> = all
        .filter(|point| !OF_BACKUPS.contains(point) && !OF_DAMAGE.contains(point))
        .collect();
    for crash in 0..crashes {
        for point in &points {
            let mut times = if crash == 0 { 1 } else { 1 + story.dice.below(5) };
            let mut misses = 0;
            while !story.live_until(**point, times, BARREN_LIFE * (1 + misses)) {
                (times, misses, late) = (1, misses + 1, late + 1);
                assert!(misses < MISSES_MAX, "nobody reaches {point:?}");
            }
        }
    }
    eprintln!(
        "{} points, {crashes} crashes at each; {late} lives ended in an orderly way before",
        points.len()
    );
    story.end();
}

#[test]
fn after_a_hundred_kills_nothing_acknowledged_is_lost_nothing_is_scored_twice_and_every_interview_has_one_report() {
    survive_kills(100, 500);
}

#[test]
#[ignore = "takes half an hour"]
fn after_a_thousand_kills_nothing_acknowledged_is_lost_nothing_is_scored_twice_and_every_interview_has_one_report() {
    survive_kills(1_000, 1_000);
}

#[test]
fn a_crash_at_any_point_loses_nothing_and_does_nothing_twice() {
    survive_crash_points(2);
}

#[test]
fn a_crash_while_a_store_is_begun_leaves_one_that_is_begun_anew() {
    for point in [CrashPoint::StoreMade, CrashPoint::StoreBegun] {
        let mut story = Story::new(5);
        assert!(story.live_until(point, 1, BARREN_LIFE), "nobody reaches {point:?}");
        drop(story.world.start_ready()); // a damaged store would be a reason to be degraded
        let quarantines = std::fs::read_dir(story.world.folder.path()).unwrap();
        let names = quarantines.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let aside: Vec<_> = names.filter(|name| name.contains("quarantine")).collect();
        assert!(aside.is_empty(), "{point:?}: {aside:?}");
    }
}

#[test]
#[ignore = "takes half an hour"]
fn twenty_crashes_at_every_point_lose_nothing_and_do_nothing_twice() {
    survive_crash_points(20);
}

/// A daemon of this world dies there.
fn dies_at(world: &World, point: CrashPoint) {
    let mut serve = world.serve();
    serve.env("INTERVIEWD_CRASH_AT", format!("{point:?}:1"));
    let status = match world.launch(&mut serve) {
        Ok(daemon) => daemon.wait(),
        Err(status) => status,
    };
    assert_eq!(
        status.signal(),
        Some(9),
        "nobody reaches {point:?}: {status}; log:\n{}",
        world.log()
    );
}

/// The report of the interview `iv`, in a world whose daemon has stopped.
fn with_a_report(world: &World) -> Value {
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let report = client.report(interview("iv", &["저는 느린 곳을 재고 고칩니다."]));
    client.call("shutdown", json!({"timeout_s": 5})).unwrap();
    assert!(daemon.wait().success(), "{}", world.log());
    report
}

fn files(folder: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| is_meant(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_crash_while_a_backup_is_written_leaves_whole_ones_and_the_next_start_writes_what_is_due() {
    let world = World::simulated(0).set("backup.keep=1");
    with_a_report(&world);
    let folder = world.path("store.backups");
    let whole = || files(&folder, |name| name.ends_with(".jsonl.gz"));
    let partial = || files(&folder, |name| name.ends_with(".partial"));
    let run = |arguments: &[&str]| {
        let output = world.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for point in OF_BACKUPS {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        for hours in [50, 49] {
            let begun = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
            let name = format!("store.backups/interviewd-{}.jsonl.gz", begun.strftime("%Y%m%dT%H%M%SZ"));
            run(&["export", &name]);
        }
        let old = whole();
        dies_at(&world, point);
        let left = whole();
        for backup in &left {
            run(&["import", backup.to_str().unwrap(), "--dry-run"]);
        }
        let is_old_there: Vec<_> = old.iter().map(|backup| left.contains(backup)).collect();
        let is_new_there = left.iter().any(|backup| !old.contains(backup));
        match point {
            CrashPoint::BackupBegun | CrashPoint::BackupSynced => {
                assert_eq!((is_old_there, is_new_there), (vec![true, true], false), "{point:?}");
                assert_eq!(partial().len(), 1, "{point:?}");
                let daemon = world.start();
                eventually("the backup that is due is there", || {
                    (whole().len() == 1 && whole() != old[1..]).then_some(())
                });
                assert_eq!(partial(), Vec::<PathBuf>::new(), "{point:?}");
                daemon.kill();
            }
            CrashPoint::BackupNamed => assert_eq!((is_old_there, is_new_there), (vec![true, true], true)),
            _ => assert_eq!((is_old_there, is_new_there), (vec![false, true], true)),
        }
    }
}

#[test]
fn a_crash_while_damage_is_moved_aside_loses_nothing_that_the_damage_has_not() {
    let world = World::simulated(0);
    let report = with_a_report(&world);
    let store = world.path("store");
    let snapshots = files(&store, |name| name.starts_with("snap."));
    assert_eq!(snapshots.len(), 1);
    fs::write(&snapshots[0], "").unwrap();
    dies_at(&world, CrashPoint::PartMovedAside);
    assert_eq!(files(&store, |name| name.starts_with("bad-snap.")).len(), 1);
    // Nobody was told before the crash; whoever asks is told now.
    let told = |daemon: &Daemon| {
        let mut client = daemon.connect();
        let status = eventually("the model is there", || {
            let status = client.call("status", json!({})).unwrap();
            (!status["model"].is_null()).then_some(status)
        });
        assert_eq!(status["state"], "degraded", "{status}");
        (client, status["reason"].as_str().unwrap().to_owned())
    };
    let daemon = world.start();
    let (mut client, reason) = told(&daemon);
    assert!(
        reason.contains("bad-snap.") && reason.contains("nothing is lost"),
        "{reason}"
    );
    let stored = client.call("report.get", json!({"interview_id": "iv"})).unwrap();
    assert_eq!(stored["report"], report);
    client.call("shutdown", json!({"timeout_s": 5})).unwrap();
    assert!(daemon.wait().success(), "{}", world.log());
    let data = fs::read(store.join("db")).unwrap();
    let ruined = vec![0x5a; data.len()];
    fs::write(store.join("db"), &ruined).unwrap();
    dies_at(&world, CrashPoint::StoreMovedAside);
    let aside = files(world.folder.path(), |name| name.starts_with("store.quarantine-"));
    let [aside] = &aside[..] else { panic!("{aside:?}") };
    assert_eq!(fs::read(aside.join("db")).unwrap(), ruined);
    // Nor was anybody told by a start that nobody asked.
    world.start().kill();
    let daemon = world.start();
    let (mut client, reason) = told(&daemon);
    assert!(
        reason.contains(aside.file_name().unwrap().to_str().unwrap()),
        "{reason}"
    );
    let fault = client.call("report.get", json!({"interview_id": "iv"})).unwrap_err();
    assert_eq!(fault.kind(), "not_found");
    let doctor = world.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        said.contains("a damaged store was moved to") && said.contains(aside.file_name().unwrap().to_str().unwrap()),
        "{said}"
    );
    assert_eq!(
        files(world.folder.path(), |name| name.starts_with("store.quarantine-")).len(),
        1
    );
    daemon.kill();
    drop(world.start_ready()); // now it has been told
}
