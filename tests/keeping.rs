//! Backups, exports and imports over the real binary: what was there is there again, and who asks the doctor hears what is wrong.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Client, World, eventually, interview};

const WORDS: &str = "저는 느린 곳을 재고 고치는 백엔드 개발자입니다.";

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams
        .map(|stream| String::from_utf8_lossy(stream).into_owned())
        .concat()
}

/// The interview `done` has its report as it was, and `open` is open still and ends in one.
fn has_come_back(client: &mut Client, report: &Value) {
    let there = client.call("report.get", json!({"interview_id": "done"})).unwrap();
    assert_eq!(there.to_string(), report.to_string());
    client
        .call("interview.finish", json!({"interview_id": "open"}))
        .unwrap();
    assert_eq!(client.wait_for_report("open")["status"], "complete");
}

/// The result of a verb that must succeed, as JSON.
fn result(world: &World, arguments: &[&str]) -> Value {
    let output = world.run(arguments);
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stop(world: &World, mut client: Client, daemon: common::Daemon) {
    client.call("shutdown", json!({"timeout_s": 5})).unwrap();
    assert!(daemon.wait().success(), "{}", world.log());
}

/// A reported, a held and an open interview in a world whose daemon has stopped. Gives the report.
fn fill(world: &World) -> Value {
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client.report(interview("done", &[WORDS, "...", WORDS]));
    let report = client.call("report.get", json!({"interview_id": "done"})).unwrap();
    let opened = json!({"interview": interview("open", &[WORDS])});
    client.call("interview.open", opened).unwrap();
    stop(world, client, daemon);
    report
}

fn exported(world: &World, name: &str) -> Vec<String> {
    let output = world.run(&["export", name]);
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    let mode = fs::metadata(world.path(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(world.path(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn backups(world: &World) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(world.path("store.backups")) else {
        return Vec::new();
    };
    let files = folder.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "gz"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_exported_is_there_again_in_another_store() {
    let (old, new) = (World::simulated(0), World::simulated(0));
    let report = fill(&old);
    let lines = exported(&old, "all.jsonl");
    assert!(
        lines[0].starts_with(r#"{"export":{"format":"interviewd-export","version":1,"#),
        "{}",
        lines[0]
    );
    let file = old.path("all.jsonl");
    let file = file.to_str().unwrap();
    let expected = json!({"imported": 2, "already_there": 0, "conflicts": [], "dry_run": true});
    assert_eq!(result(&new, &["import", file, "--dry-run", "--json"]), expected);
    assert!(!new.path("store").exists(), "a dry run makes nothing");
    assert_eq!(result(&new, &["import", file, "--json"])["imported"], 2);
    assert_eq!(result(&new, &["import", file, "--json"])["already_there"], 2);
    // But for the moment at which it was written, and the last line's hash of it, the same.
    let again = exported(&new, "again.jsonl");
    assert_eq!(again[1..again.len() - 1], lines[1..lines.len() - 1]);
    let daemon = new.start_ready();
    let mut client = daemon.connect();
    has_come_back(&mut client, &report);
    stop(&new, client, daemon);
    // It has gone on since, which is no conflict; another interview of its id is one.
    assert_eq!(result(&new, &["import", file, "--json"])["already_there"], 2);
    let other = World::simulated(0);
    let daemon = other.start_ready();
    let mut client = daemon.connect();
    client.report(interview("done", &["다른 사람의 말"]));
    stop(&other, client, daemon);
    let output = other.run(&["import", file]);
    assert_eq!(code(&output), Some(1), "{}", said(&output));
    assert!(said(&output).contains("done was not imported"), "{}", said(&output));
    assert!(!said(&output).contains("다른 사람"), "{}", said(&output));
    let lines = exported(&other, "other.jsonl");
    assert!(
        lines.iter().any(|line| line.contains("다른 사람의 말")),
        "what was there stays"
    );
}

#[test]
fn a_running_daemon_serves_an_export_and_lets_nobody_import() {
    let world = World::simulated(0);
    fill(&world);
    let stopped = exported(&world, "stopped.jsonl");
    let daemon = world.start_ready();
    let running = exported(&world, "running.jsonl.plain");
    // The open interview's answer may have been scored in between; the reported one is the same.
    let of = |lines: &[String]| lines.iter().find(|line| line.contains(r#""id":"done""#)).cloned();
    assert!(of(&running).is_some());
    assert_eq!(of(&running), of(&stopped));
    let output = world.run(&["import", "stopped.jsonl"]);
    assert_eq!(code(&output), Some(1));
    assert!(
        said(&output).contains("in use by a daemon; `interviewd shutdown` stops it"),
        "{}",
        said(&output)
    );
    // A pipe gets the lines themselves.
    let output = world.run(&["export"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), running.len());
    daemon.kill();
    let locked = world.path("store/db");
    assert!(locked.exists());
}

#[test]
fn a_file_that_is_not_whole_changes_nothing() {
    let world = World::simulated(0);
    fill(&world);
    exported(&world, "all.jsonl");
    let text = fs::read_to_string(world.path("all.jsonl")).unwrap();
    let cut = text.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(world.path("cut.jsonl"), cut).unwrap();
    fs::write(world.path("bad.jsonl"), text.replacen(WORDS, "바뀐 말", 1)).unwrap();
    let new = World::simulated(0);
    for (name, reason) in [
        ("cut.jsonl", "line 4: the file ends before its last line"),
        ("bad.jsonl", "the file was changed"),
    ] {
        let output = new.run(&["import", world.path(name).to_str().unwrap()]);
        assert_eq!(code(&output), Some(1));
        let said = said(&output);
        assert!(
            said.contains(reason) && said.contains("nothing was imported") && said.contains(name),
            "{said}"
        );
        assert!(!said.contains("바뀐"), "{said}");
    }
    assert!(!new.path("store").exists());
    let output = new.run(&["export", "none.jsonl"]);
    assert_eq!(code(&output), Some(1));
    assert!(said(&output).contains("there is no store at"), "{}", said(&output));
    assert!(!new.path("none.jsonl").exists());
}

#[test]
fn a_pipe_is_refused_before_anything_is_changed() {
    let (old, new) = (World::simulated(0), World::simulated(0));
    fill(&old);
    exported(&old, "all.jsonl");
    let mut command = new.command(&["import", "/dev/stdin"]);
    for set in &new.sets {
        command.args(["--set", set]);
    }
    let mut cat = Command::new("cat")
        .arg(old.path("all.jsonl"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = command.stdin(cat.stdout.take().unwrap()).output().unwrap();
    cat.wait().unwrap();
    assert_eq!(code(&output), Some(1));
    let said = said(&output);
    assert!(
        said.contains("save it as a file first") && said.contains("nothing was imported"),
        "{said}"
    );
    assert!(!new.path("store").exists());
}

#[test]
fn an_export_that_is_interrupted_twice_leaves_nothing() {
    let world = World::simulated(0);
    // A daemon that never answers.
    let mute = UnixListener::bind(world.path("mute.sock")).unwrap();
    let mut command = world.command(&["export", "all.jsonl", "--socket", "mute.sock"]);
    let mut export = command.stderr(Stdio::null()).spawn().unwrap();
    let _connection = mute.accept().unwrap();
    let names = || {
        let entries = fs::read_dir(world.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    eventually("it has begun", || {
        names().iter().any(|name| name.ends_with(".partial")).then_some(())
    });
    let pid = export.id().to_string();
    let ended = eventually("it has ended", || {
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        std::thread::sleep(Duration::from_millis(50));
        export.try_wait().unwrap()
    });
    assert_eq!(ended.code(), Some(130));
    assert_eq!(names(), ["model", "mute.sock"]);
}

/// Overwrites the store's data, as a disk might.
fn ruin(store: &Path) {
    let db = store.join("db");
    let length = usize::try_from(fs::metadata(&db).unwrap().len()).unwrap();
    fs::write(db, vec![0x5a; length]).unwrap();
}

#[test]
fn a_damaged_store_is_replaced_and_the_newest_backup_brings_everything_back() {
    let world = World::simulated(0);
    let report = fill(&world);
    // The next start finds interviews and no backup of them.
    let daemon = world.start_ready();
    eventually("a backup is written", || (!backups(&world).is_empty()).then_some(()));
    daemon.kill();
    let [backup] = &backups(&world)[..] else {
        panic!("one is written: {:?}", backups(&world));
    };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&world.path("store.backups")), mode(backup)), (0o700, 0o600));
    ruin(&world.path("store"));
    let ill = world.run(&["doctor"]);
    assert_eq!(code(&ill), Some(11), "{}", said(&ill));
    assert!(said(&ill).contains("is damaged"), "{}", said(&ill));
    let refused = world.run(&["export", "x.jsonl"]);
    assert!(said(&refused).contains("is damaged"), "{}", said(&refused));
    let daemon = world.start();
    let mut client = daemon.connect();
    let status = eventually("it says that it is degraded", || {
        let status = client.call("status", json!({})).unwrap();
        (status["state"] == "degraded").then_some(status)
    });
    assert!(
        status["reason"].as_str().unwrap().contains("interviewd import"),
        "{status}"
    );
    assert_eq!(
        client
            .call("report.get", json!({"interview_id": "done"}))
            .unwrap_err()
            .kind(),
        "not_found"
    );
    // Life goes on meanwhile.
    client
        .call("interview.submit", json!({"interview": interview("new", &[WORDS])}))
        .unwrap();
    client.wait_for_report("new");
    stop(&world, client, daemon);
    let advised = said(&world.run(&["doctor"]));
    let name = backup.file_name().unwrap().to_str().unwrap();
    assert!(advised.contains("quarantine") && advised.contains(name), "{advised}");
    assert_eq!(
        result(&world, &["import", backup.to_str().unwrap(), "--json"])["imported"],
        2
    );
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    has_come_back(&mut client, &report);
    client.wait_for_report("new");
}

#[test]
fn a_backup_waits_for_its_interval() {
    let world = World::simulated(0);
    fill(&world);
    fs::create_dir(world.path("store.backups")).unwrap();
    let now = jiff::Timestamp::now();
    let name = |hours: i64| {
        let moment = now - jiff::SignedDuration::from_hours(hours);
        format!("interviewd-{}.jsonl.gz", moment.strftime("%Y%m%dT%H%M%SZ"))
    };
    fs::write(world.path("store.backups").join(name(23)), "").unwrap();
    let daemon = world.start_ready();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(backups(&world).len(), 1);
    daemon.kill();
    fs::rename(
        world.path("store.backups").join(name(23)),
        world.path("store.backups").join(name(25)),
    )
    .unwrap();
    let world = world.set("backup.keep=1");
    let _daemon = world.start_ready();
    eventually("the old one is replaced", || {
        let there = backups(&world);
        (there.len() == 1 && !there[0].ends_with(name(25))).then_some(())
    });
}

#[test]
fn the_doctor_says_what_is_wrong_and_changes_nothing() {
    let world = World::demo();
    let well = result(&world, &["doctor", "--json"]);
    assert_eq!((&well["errors"], &well["warnings"]), (&json!(0), &json!(0)), "{well:#}");
    let looked_at: Vec<_> = well["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["check"].clone())
        .collect();
    let expected = [
        "config",
        "store",
        "disk",
        "backups",
        "socket",
        "model",
        "runtime",
        "memory",
        "descriptors",
        "clock",
    ];
    assert_eq!(looked_at, expected);
    assert_eq!(
        fs::read_dir(world.folder.path()).unwrap().count(),
        0,
        "nothing was made"
    );
    let daemon = world.start_ready();
    let running = world.run(&["doctor"]);
    assert_eq!(code(&running), Some(0), "{}", said(&running));
    assert!(
        said(&running).contains("answers at d.sock (socket.path), ready; you are admin"),
        "{}",
        said(&running)
    );
    daemon.kill();
    fs::set_permissions(world.path("store"), fs::Permissions::from_mode(0o755)).unwrap();
    let warned = world.run(&["doctor"]);
    assert_eq!(code(&warned), Some(10), "{}", said(&warned));
    for part in [
        "chmod 700 store",
        "left by a daemon that was killed",
        "0 errors, 2 warnings",
    ] {
        assert!(said(&warned).contains(part), "{part}: {}", said(&warned));
    }
    let world = world.set("model.path=nowhere").set("runtime.library=nowhere.so");
    let ill = world.run(&["doctor"]);
    assert_eq!(code(&ill), Some(11), "{}", said(&ill));
    assert!(
        said(&ill).contains("nowhere: no such model folder; set model.path"),
        "{}",
        said(&ill)
    );
    assert!(said(&ill).contains("nowhere.so"), "{}", said(&ill));
    let wrong = world.set("pool.devise=cpu").run(&["doctor"]);
    assert_eq!(code(&wrong), Some(11), "{}", said(&wrong));
    assert!(said(&wrong).contains("did you mean pool.device?"), "{}", said(&wrong));
}

/// An export of many interviews that are each other's copies, made from a file that has one.
fn multiplied(lines: &[String], copies: usize) -> String {
    let one = lines.iter().find(|line| line.contains(r#""id":"done""#)).unwrap();
    let mut text = format!("{}\n{}\n", lines[0], lines[1]);
    for copy in 0..copies {
        let named = one.replace(r#""id":"done""#, &format!(r#""id":"iv-{copy}""#));
        text += &named.replace(r#""interview_id":"done""#, &format!(r#""interview_id":"iv-{copy}""#));
        text.push('\n');
    }
    let sha256 = interviewd::runtime::sha256_hex(text.as_bytes()).unwrap();
    text + &json!({"end": {"interviews": copies, "rubrics": 1, "sha256": sha256}}).to_string() + "\n"
}

/// How long `status` takes while `is_over` is not, in milliseconds: median, 99th percentile, longest.
fn status_times(client: &mut Client, mut is_over: impl FnMut(usize) -> bool) -> (usize, [f64; 3]) {
    let mut times = Vec::new();
    while !is_over(times.len()) {
        let begun = Instant::now();
        client.call("status", json!({})).unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(5));
    }
    times.sort_by(f64::total_cmp);
    let of_thousand = |share: usize| times[(times.len() - 1) * share / 1_000];
    (times.len(), [500, 990, 1_000].map(of_thousand))
}

/// `cargo test --release --test keeping -- --ignored --nocapture`; INTERVIEWD_KEPT is how many interviews.
#[test]
#[ignore = "measures, for minutes"]
fn many_interviews_are_exported_imported_and_backed_up_while_the_daemon_answers() {
    let kept = std::env::var("INTERVIEWD_KEPT").map_or(10_000, |text| text.parse().unwrap());
    let (small, world) = (World::simulated(0), World::simulated(1).set("pool.slots_per_actor=8"));
    let daemon = small.start_ready();
    daemon.connect().report(common::demo_interview("done"));
    daemon.kill();
    let text = multiplied(&exported(&small, "one.jsonl"), kept);
    println!("{kept} interviews, {:.1} MB of lines", text.len() as f64 / 1e6);
    fs::write(world.path("many.jsonl"), text).unwrap();
    let timed = |what: &str, arguments: &[&str]| {
        let begun = Instant::now();
        let output = world.run(arguments);
        assert_eq!(code(&output), Some(0), "{}", said(&output));
        println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    };
    timed("import", &["import", "many.jsonl"]);
    timed("import again", &["import", "many.jsonl"]);
    timed("export, stopped", &["export", "stopped.jsonl.gz"]);
    let begun = Instant::now();
    let daemon = world.start();
    println!("start: {:.2} s", begun.elapsed().as_secs_f64());
    let (mut client, mut worker) = (daemon.connect(), daemon.connect());
    // Something is being scored all the time.
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    let work = std::thread::spawn(move || {
        let mut reports = 0;
        while !ended.load(Ordering::Relaxed) {
            worker.report(common::demo_interview(&format!("work-{reports}")));
            reports += 1;
        }
        reports
    });
    let begun = Instant::now();
    let (calls, during) = status_times(&mut client, |_| !backups(&world).is_empty());
    println!("backup: there {:.2} s after the start", begun.elapsed().as_secs_f64());
    println!(
        "status during it, {calls} calls: median {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        during[0], during[1], during[2]
    );
    let (_, after) = status_times(&mut client, |calls| calls >= 1_000);
    println!(
        "status without it, 1000 calls: median {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        after[0], after[1], after[2]
    );
    timed("export, running", &["export", "running.jsonl.gz"]);
    end.store(true, Ordering::Relaxed);
    println!("{} interviews were scored meanwhile", work.join().unwrap());
    println!(
        "{}",
        world
            .log()
            .lines()
            .find(|line| line.contains("a backup was written"))
            .unwrap_or_default()
    );
    assert!(during[1] <= 50.0, "status p99 {} ms", during[1]);
}
