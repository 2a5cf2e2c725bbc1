//! How the daemon starts: what it prints, what it refuses, whom it leaves in peace, and what it is the same as before after a restart.

mod common;

use std::fs::File;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use common::{Client, World, eventually, interview};

/// What `serve` says with these settings besides, and how it ends.
fn refused(world: &World, sets: &[&str]) -> Output {
    let mut command = world.serve();
    for set in sets {
        command.args(["--set", set]);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Refused as a configuration that is wrong, with all of these words.
fn assert_misconfigured(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        output.stdout.is_empty(),
        "{:?}",
        String::from_utf8_lossy(&output.stdout)
    );
    words
        .iter()
        .for_each(|word| assert!(said.contains(word), "{word} is not in: {said}"));
    assert!(!said.contains("panicked"), "{said}");
}

/// A daemon whose standard output goes to the file `out`.
fn serve_into(world: &World, out: &Path, arguments: &[&str]) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(world.path("log"))
        .unwrap();
    let mut command = world.serve();
    command.args(arguments).stdout(File::create(out).unwrap()).stderr(log);
    command.spawn().unwrap()
}

fn wait_for_line(out: &Path) -> String {
    eventually("a line on standard output", || {
        let text = std::fs::read_to_string(out).unwrap();
        text.ends_with('\n').then_some(text)
    })
}

#[test]
fn standard_output_has_the_ready_line_and_never_anything_else() {
    let world = World::simulated(0);
    let out = world.path("out");
    let begun = Instant::now();
    let mut child = serve_into(&world, &out, &[]);
    let line = wait_for_line(&out);
    eprintln!("start → ready line: {:?}", begun.elapsed());
    let socket = line.strip_prefix("ready socket=").unwrap().strip_suffix('\n').unwrap();
    assert!(world.path(socket).exists(), "{line:?}");
    let mut client = Client::connect(&world.path(socket));
    let ready = eventually("the model is there", || {
        let status = client.call("status", json!({})).unwrap();
        assert_ne!(status["state"], "degraded", "{status}");
        (status["state"] == "ready").then(|| begun.elapsed())
    });
    eprintln!("start → state ready: {ready:?}");
    client.report(interview("iv-1", &["저는 백엔드 개발자입니다."]));
    client.send_line("{ this is no request");
    assert_eq!(client.line().unwrap()["error"]["data"]["kind"], "parse");
    client.call("shutdown", json!({"timeout_s": 5})).unwrap();
    let ended = eventually("it has ended", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0), "{}", world.log());
    assert_eq!(std::fs::read_to_string(&out).unwrap(), line);
}

#[test]
fn a_daemon_goes_on_when_nobody_reads_its_standard_output() {
    let world = World::simulated(0);
    let mut command = world.serve();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take()); // before the line is written
    let socket = world.path("d.sock");
    eventually("it listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
    let mut client = Client::connect(&socket);
    client.report(interview("iv-1", &["저는 백엔드 개발자입니다."]));
    client.call("shutdown", json!({})).unwrap();
    assert_eq!(eventually("it has ended", || child.try_wait().unwrap()).code(), Some(0));
}

#[test]
fn a_key_that_does_not_exist_is_a_wrong_configuration() {
    let world = World::simulated(0);
    assert_misconfigured(&refused(&world, &["pool.slots=3"]), &["pool.slots"]);
    assert_misconfigured(&refused(&world, &["nonsense.key=3"]), &["nonsense.key"]);
    world.configure("[pool]\nactors = 1\nslotz_per_actor = 3\n");
    assert_misconfigured(&refused(&world, &[]), &["slotz_per_actor", "config.toml", "3"]);
}

#[test]
fn a_value_that_cannot_be_is_a_wrong_configuration() {
    let world = World::simulated(0);
    let cases = [
        ("pool.slots_per_actor=0", "pool.slots_per_actor"),
        ("pool.device=toaster", "pool.device"),
        ("interview.answers_max=65", "interview.answers_max"),
        ("scoring.max_attempts=0", "scoring.max_attempts"),
        ("log.level=interviewd=loud", "log"),
    ];
    for (set, key) in cases {
        assert_misconfigured(&refused(&world, &[set]), &[key]);
    }
    let long = format!("socket.path={}", "x".repeat(200));
    assert_misconfigured(&refused(&world, &[&long]), &["socket.path"]);
    world.configure("[pool\n");
    assert_misconfigured(&refused(&world, &[]), &["config.toml"]);
}

#[test]
fn a_rubric_that_is_missing_or_not_valid_is_a_wrong_configuration() {
    let world = World::simulated(0).set("scoring.rubric=rubric.toml");
    assert_misconfigured(&refused(&world, &[]), &["scoring.rubric", "rubric.toml"]);
    std::fs::write(world.path("rubric.toml"), "this is not TOML").unwrap();
    assert_misconfigured(&refused(&world, &[]), &["scoring.rubric", "rubric.toml"]);
    let default = std::fs::read_to_string(common::repository().join("models/prompts/rubric.toml")).unwrap();
    let unbalanced = default.replacen("weight = 0.15", "weight = 0.16", 1);
    assert_ne!(unbalanced, default);
    std::fs::write(world.path("rubric.toml"), unbalanced).unwrap();
    assert_misconfigured(&refused(&world, &[]), &["scoring.rubric", "weight"]);
    std::fs::write(world.path("rubric.toml"), default).unwrap();
    world.start_ready();
}

#[test]
fn two_daemons_never_share_a_store_or_a_socket() {
    let world = World::simulated(0);
    let daemon = world.start_ready();
    let same_store = refused(&world, &["socket.path=other.sock"]);
    assert_eq!(same_store.status.code(), Some(1), "{}", said(&same_store));
    assert!(said(&same_store).contains("store"), "{}", said(&same_store));
    assert!(same_store.stdout.is_empty() && !world.path("other.sock").exists());
    let same_socket = refused(&world, &["store.path=other-store"]);
    assert_eq!(same_socket.status.code(), Some(1), "{}", said(&same_socket));
    assert!(said(&same_socket).contains("d.sock"), "{}", said(&same_socket));
    for output in [same_store, same_socket] {
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
    }
    // The first does not notice.
    let report = daemon
        .connect()
        .report(interview("iv-1", &["저는 백엔드 개발자입니다."]));
    assert_eq!(report["status"], "complete");
}

#[test]
fn the_socket_that_a_killed_daemon_left_is_replaced_and_a_file_of_somebody_else_is_not() {
    let world = World::simulated(0);
    world.start().kill();
    assert!(world.path("d.sock").exists(), "kill -9 leaves it");
    let daemon = world.start_ready();
    daemon.connect().call("hello", json!({})).unwrap();
    drop(daemon);
    std::fs::remove_file(world.path("d.sock")).unwrap();
    std::fs::write(world.path("d.sock"), "a letter").unwrap();
    let output = refused(&world, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("d.sock"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(world.path("d.sock")).unwrap(), "a letter");
}

fn read_reports(client: &mut Client, id: &str) -> [Value; 3] {
    let got = |client: &mut Client, method, params| client.call(method, params).unwrap();
    [
        got(client, "report.get", json!({"interview_id": id})),
        got(client, "report.get", json!({"interview_id": id, "format": "markdown"})),
        got(client, "interview.get", json!({"interview_id": id})),
    ]
}

#[test]
fn reports_are_the_same_after_a_restart_even_without_a_model() {
    let world = World::simulated(0);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client.report(interview(
        "iv-1",
        &["저는 백엔드 개발자입니다.", "...", "성능을 30% 개선했습니다."],
    ));
    let before = read_reports(&mut client, "iv-1");
    client.call("shutdown", json!({})).unwrap();
    assert!(daemon.wait().success());
    assert_eq!(read_reports(&mut world.start_ready().connect(), "iv-1"), before);
    let world = world.set("model.path=nowhere");
    assert_eq!(read_reports(&mut world.start().connect(), "iv-1"), before);
}

const MARKER: &str = "비밀표식문장";

fn marked_interview(id: &str) -> Value {
    let text = |what: &str| format!("{what} {MARKER} 저는 장애 대응을 맡아 복구 시간을 40% 줄였습니다.");
    json!({
        "interview_id": id, "position": text("position"), "company": {"name": text("company"), "ideal": [text("ideal")]},
        "candidate": {"name": text("name"), "resume_summary": text("resume")},
        "answers": [
            {"stage": "intro", "question": text("question"), "answer": text("answer")},
            {"stage": "experience", "question": text("question"), "answer": text("answer")},
        ],
    })
}

/// A client's mistakes, with texts that are nobody's business.
fn make_mistakes(client: &mut Client) {
    let mut unknown_field = marked_interview("wrong-1");
    unknown_field["answers"][0][MARKER] = json!(MARKER);
    let mut unknown_stage = marked_interview("wrong-2");
    unknown_stage["answers"][0]["stage"] = json!("intro_followup");
    let mut control = marked_interview("wrong-3");
    control["answers"][0]["answer"] = json!(format!("{MARKER}\u{0}"));
    for interview in [unknown_field, unknown_stage, control] {
        client
            .call("interview.submit", json!({"interview": interview}))
            .unwrap_err();
    }
    client.send_line(&format!("{{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"{MARKER}"));
    assert_eq!(client.line().unwrap()["error"]["data"]["kind"], "parse");
    client.send_line(
        &json!({"jsonrpc": "2.0", "method": "interview.submit", "params": {"interview": MARKER}}).to_string(),
    );
    let mut conflict = marked_interview("iv-1");
    conflict["answers"][0]["answer"] = json!(format!("{MARKER} anders"));
    client
        .call("interview.submit", json!({"interview": conflict}))
        .unwrap_err();
}

#[test]
fn the_log_never_has_what_people_said_however_much_is_logged() {
    for (world, name) in [(World::demo(), "demo"), (World::simulated(0), "simulated")] {
        let world = world.set("log.level=trace");
        let daemon = world.start_ready();
        let mut client = daemon.connect();
        client.report(marked_interview("iv-1"));
        make_mistakes(&mut client);
        client
            .call("report.get", json!({"interview_id": "iv-1", "format": "markdown"}))
            .unwrap();
        client
            .call("interview.delete", json!({"interview_id": "iv-1"}))
            .unwrap();
        client
            .call("interview.submit", json!({"interview": marked_interview("iv-2")}))
            .unwrap();
        client.call("shutdown", json!({"timeout_s": 0})).unwrap();
        assert!(daemon.wait().success());
        drop(world.start_ready()); // recovery logs too
        let log = world.log();
        let leak = log
            .lines()
            .find(|line| line.contains(MARKER) || line.contains("장애 대응"));
        assert_eq!(leak, None, "{name}");
        assert!(log.contains("iv-1"), "ids are logged: {}", log.len());
    }
}

#[test]
fn a_log_in_json_is_an_object_a_line() {
    let world = World::simulated(0).set("log.level=debug");
    let out = world.path("out");
    let mut child = serve_into(&world, &out, &["--log-format", "json"]);
    wait_for_line(&out);
    let mut client = Client::connect(&world.path("d.sock"));
    client.report(interview("iv-1", &["저는 백엔드 개발자입니다."]));
    client.call("shutdown", json!({})).unwrap();
    assert!(eventually("it has ended", || child.try_wait().unwrap()).success());
    let log = world.log();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line.is_object() && line["level"].is_string(), "{line}");
    }
}

#[test]
fn nothing_that_can_be_asked_gives_the_text_of_a_deleted_interview() {
    let world = World::simulated(0);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let report = client.report(marked_interview("iv-1"));
    assert!(report.to_string().contains("iv-1"));
    client
        .call("interview.delete", json!({"interview_id": "iv-1"}))
        .unwrap();
    assert_forgotten(&mut client);
    client.call("shutdown", json!({})).unwrap();
    assert!(daemon.wait().success());
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    assert_forgotten(&mut client);
    let again = client.report(interview("iv-1", &["다른 사람의 답변입니다."]));
    assert!(!again.to_string().contains(MARKER), "the id is free: {again}");
}

fn assert_forgotten(client: &mut Client) {
    for method in [
        "interview.get",
        "report.get",
        "interview.cancel",
        "interview.delete",
        "interview.retry",
        "interview.finish",
    ] {
        let fault = client.call(method, json!({"interview_id": "iv-1"})).unwrap_err();
        assert_eq!(fault.kind(), "not_found", "{method}");
        assert!(!fault.0.to_string().contains(MARKER));
    }
    for method in ["interview.list", "status"] {
        let text = client.call(method, json!({})).unwrap().to_string();
        assert!(!text.contains(MARKER) && !text.contains("iv-1"), "{text}");
    }
}
