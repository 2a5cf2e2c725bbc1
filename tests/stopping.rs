//! How the daemon stops: running answers end and are stored, the rest goes on at the next start, and nobody waits longer than told.

mod common;

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Client, Daemon, World, demo_interview, eventually, interview};

const TEXTS: [&str; 4] = [
    "저는 백엔드 개발자입니다.",
    "이 회사의 제품을 오래 썼습니다.",
    "트랜잭션은 모두 되거나 모두 안 되는 묶음입니다.",
    "장애 대응을 맡아 복구 시간을 40% 줄였습니다.",
];

/// Less than `daemon.drain_s` is by default, and than the interviews here take, on however slow a machine: how long it takes on a quick one is measured
/// elsewhere.
const NOT_SAT_OUT: Duration = Duration::from_secs(25);

/// A daemon that takes its time, with two of four answers running.
fn working(world: &World) -> (Daemon, Client) {
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client
        .call("interview.submit", json!({"interview": interview("iv-1", &TEXTS)}))
        .unwrap();
    eventually("two answers run", || {
        let now = client.call("interview.get", json!({"interview_id": "iv-1"})).unwrap();
        (states(&now) == ["running", "running", "queued", "queued"]).then_some(())
    });
    (daemon, client)
}

fn slow(step_ms: u64) -> World {
    World::simulated(step_ms)
        .set("pool.actors=1")
        .set("pool.slots_per_actor=2")
}

/// From the next start on, the model takes no time.
fn quicken(world: &World) {
    std::fs::write(world.path("model/simulated.json"), r#"{"seed": 7, "step_ms": 0}"#).unwrap();
}

/// What is stored, seen by a daemon that cannot add to it.
fn stored(world: World) -> (World, Value) {
    let model = world
        .sets
        .iter()
        .find(|set| set.starts_with("model.path="))
        .unwrap()
        .clone();
    let world = world.set("model.path=nowhere");
    let daemon = world.start();
    let now = daemon
        .connect()
        .call("interview.get", json!({"interview_id": "iv-1"}))
        .unwrap();
    drop(daemon);
    (world.set(&model), now)
}

fn states(interview: &Value) -> Vec<&str> {
    interview["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| answer["state"].as_str().unwrap())
        .collect()
}

fn until_draining(client: &mut Client) {
    eventually("the daemon is draining", || {
        let status = client.call("status", json!({})).unwrap();
        (status["state"] == "draining").then_some(())
    });
}

/// The exit status, and how long it took from now on.
fn ended(daemon: Daemon) -> (ExitStatus, Duration) {
    let begun = Instant::now();
    (daemon.wait(), begun.elapsed())
}

#[test]
fn a_signal_lets_running_answers_end_and_the_next_start_does_the_rest() {
    for signal in ["-TERM", "-INT"] {
        let world = slow(10);
        let (daemon, mut client) = working(&world);
        daemon.signal(signal);
        until_draining(&mut client);
        let refused = client
            .call("interview.submit", json!({"interview": interview("iv-2", &TEXTS)}))
            .unwrap_err();
        assert_eq!(refused.kind(), "draining");
        let (status, took) = ended(daemon);
        assert_eq!(status.code(), Some(0), "{}", world.log());
        assert!(took < NOT_SAT_OUT, "it does not sit out its drain_s: {took:?}");
        assert!(!world.path("d.sock").exists());
        let (world, now) = stored(world);
        assert_eq!(
            states(&now),
            ["scored", "scored", "queued", "queued"],
            "{signal}: {now}\n{}",
            world.log()
        );

        let daemon = world.start_ready();
        let report = daemon.connect().wait_for_report("iv-1");
        assert_eq!(report["status"], "complete");
        for (before, after) in now["answers"]
            .as_array()
            .unwrap()
            .iter()
            .zip(report["answers"].as_array().unwrap())
        {
            assert!(
                before["score"].is_null() || before["score"] == after["score"],
                "{before} {after}"
            );
        }
    }
}

#[test]
fn without_patience_it_stops_quickly_and_what_ran_is_run_again() {
    let world = slow(200).set("daemon.drain_s=0");
    let (daemon, _client) = working(&world);
    daemon.signal("-TERM");
    let (status, took) = ended(daemon);
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert!(took < NOT_SAT_OUT, "{took:?}");
    let (_, now) = stored(world);
    assert_eq!(states(&now), ["queued"; 4], "{now}");
}

#[test]
fn a_client_that_waits_for_a_report_is_told_that_the_daemon_stops() {
    let world = slow(200).set("daemon.drain_s=0");
    let (daemon, mut client) = working(&world);
    client.send("report.wait", json!({"interview_id": "iv-1"}));
    daemon.connect().call("events.subscribe", json!({})).unwrap();
    daemon.signal("-TERM");
    let told = client.try_line().expect("an answer before the connection is closed");
    assert_eq!(told["error"]["data"]["kind"], "draining", "{told}");
    let (status, took) = ended(daemon);
    assert_eq!(status.code(), Some(0));
    assert!(took < NOT_SAT_OUT, "{took:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (world, interview) in [
        (slow(300), interview("iv-1", &TEXTS)),
        (World::demo(), demo_interview("iv-1")),
    ] {
        let daemon = world.start_ready();
        let mut client = daemon.connect();
        client
            .call("interview.submit", json!({"interview": interview}))
            .unwrap();
        eventually("it works", || {
            let status = client.call("status", json!({})).unwrap();
            (status["pool"]["actors"][0]["slots_busy"] != 0).then_some(())
        });
        daemon.signal("-TERM");
        until_draining(&mut client);
        daemon.signal("-INT");
        let (status, took) = ended(daemon);
        eprintln!("after a second signal: {took:?}");
        assert!(took < NOT_SAT_OUT, "it does not sit out its drain_s: {took:?}");
        assert_eq!(status.code(), Some(1), "{status:?}");
        let report = world
            .set("daemon.drain_s=0")
            .start_ready()
            .connect()
            .call("interview.get", json!({"interview_id": "iv-1"}));
        assert_eq!(report.unwrap()["state"], "scoring");
    }
}

#[test]
fn a_signal_shortens_a_shutdown_that_takes_its_time() {
    let world = slow(200).set("daemon.drain_s=1");
    let (daemon, mut client) = working(&world);
    client.call("shutdown", json!({"timeout_s": 86_400})).unwrap();
    daemon.signal("-TERM");
    let (status, took) = ended(daemon);
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert!(took < NOT_SAT_OUT, "{took:?}");
}

/// Submits and waits until the daemon is gone. The ids that were acknowledged.
fn keep_submitting(mut client: Client, name: &str) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let id = format!("{name}-{number}");
        match client.try_call("interview.submit", json!({"interview": interview(&id, &TEXTS)})) {
            Some(Ok(_)) => acknowledged.push(id),
            Some(Err(fault)) => assert!(matches!(fault.kind(), "draining" | "busy"), "{fault:?}"),
            None => break,
        }
        let waited = client.try_call(
            "report.wait",
            json!({"interview_id": format!("{name}-0"), "timeout_ms": 50}),
        );
        if waited.is_none() {
            break;
        }
    }
    acknowledged
}

#[test]
fn under_load_it_stops_within_its_time_and_everything_acknowledged_is_reported_once() {
    const DRAIN: Duration = Duration::from_secs(3);
    let world = slow(10).set(&format!("daemon.drain_s={}", DRAIN.as_secs()));
    let daemon = world.start_ready();
    let mut waiting = daemon.connect();
    let clients: Vec<_> = (0..4).map(|_| daemon.connect()).collect();
    let (acknowledged, status, took) = std::thread::scope(|scope| {
        let names = ["a", "b", "c", "d"];
        let working: Vec<_> = clients
            .into_iter()
            .zip(names)
            .map(|(client, name)| scope.spawn(move || keep_submitting(client, name)))
            .collect();
        eventually("all of them have submitted something", || {
            let listed = waiting.call("interview.list", json!({})).unwrap();
            (listed["interviews"].as_array().unwrap().len() >= names.len()).then_some(())
        });
        waiting.send("report.wait", json!({"interview_id": "a-0"}));
        daemon.signal("-TERM");
        let (status, took) = ended(daemon);
        let acknowledged: Vec<_> = working.into_iter().flat_map(|one| one.join().unwrap()).collect();
        (acknowledged, status, took)
    });
    assert_eq!(status.code(), Some(0), "{}", world.log());
    eprintln!("under load, with {DRAIN:?} to drain: {took:?}");
    assert!(took < DRAIN + NOT_SAT_OUT, "{took:?}");
    assert!(acknowledged.len() >= 3, "{acknowledged:?}"); // one reply may not have been read before the end

    quicken(&world);
    let world = world.set("pool.slots_per_actor=17");
    let daemon = world.start();
    let (mut client, mut watcher) = (daemon.connect(), daemon.connect());
    watcher.call("events.subscribe", json!({})).unwrap();
    for id in &acknowledged {
        let report = client.wait_for_report(id);
        assert_eq!(report["answers"].as_array().unwrap().len(), TEXTS.len(), "{id}");
    }
    let totals = client.call("status", json!({})).unwrap()["interviews"].clone();
    assert_eq!(totals["complete"], acknowledged.len(), "{totals}");
    watcher.call("hello", json!({})).unwrap();
    let mut told: Vec<_> = watcher
        .events
        .iter()
        .filter(|event| event["kind"] == "report_ready")
        .map(|event| event["interview_id"].to_string())
        .collect();
    let all = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), all, "a report was made twice");
}

#[test]
fn stopping_while_onnx_runtime_computes_is_clean() {
    let world = World::demo().set("daemon.drain_s=0");
    for round in 0..4 {
        let daemon = world.start_ready();
        let mut client = daemon.connect();
        client
            .call(
                "interview.submit",
                json!({"interview": demo_interview(&format!("iv-{round}"))}),
            )
            .unwrap();
        eventually("it works", || {
            let status = client.call("status", json!({})).unwrap();
            (status["pool"]["actors"][0]["slots_busy"] != 0).then_some(())
        });
        daemon.signal("-TERM");
        let (status, took) = ended(daemon);
        assert_eq!(status.code(), Some(0), "{status:?}\n{}", world.log());
        assert!(took < NOT_SAT_OUT, "{took:?}");
    }
    let daemon = world.start_ready();
    for round in 0..4 {
        assert_eq!(
            daemon.connect().wait_for_report(&format!("iv-{round}"))["status"],
            "complete"
        );
    }
}

#[test]
fn shutdown_over_the_socket_drains_and_ends() {
    let world = slow(10);
    let (daemon, mut client) = working(&world);
    let reply = client.call("shutdown", json!({"timeout_s": 30})).unwrap();
    assert_eq!(reply, json!({"state": "draining"}));
    let refused = client
        .call("interview.submit", json!({"interview": interview("iv-2", &TEXTS)}))
        .unwrap_err();
    assert_eq!(refused.kind(), "draining");
    let (status, _) = ended(daemon);
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert!(!world.path("d.sock").exists());
    let (_, now) = stored(world);
    assert_eq!(states(&now), ["scored", "scored", "queued", "queued"], "{now}");
}

#[test]
fn a_narrative_that_was_running_is_written_or_begun_again() {
    let world = slow(10);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client
        .call("interview.submit", json!({"interview": interview("iv-1", &TEXTS[..2])}))
        .unwrap();
    eventually("the narrative is being written", || {
        let now = client.call("interview.get", json!({"interview_id": "iv-1"})).unwrap();
        (now["state"] == "reporting").then_some(())
    });
    client.call("shutdown", json!({"timeout_s": 30})).unwrap();
    assert!(ended(daemon).0.success());
    let (world, _) = stored(world);
    let report = world.start_ready().connect().wait_for_report("iv-1");
    assert!(report["narrative"].is_object(), "{report}");
}

#[test]
fn draining_by_an_operator_goes_on_with_what_was_accepted_and_can_be_taken_back() {
    let world = slow(2);
    let (daemon, mut client) = working(&world);
    client
        .call("interview.open", json!({"interview": interview("open", &TEXTS[..1])}))
        .unwrap();
    assert_eq!(client.call("drain", json!({})).unwrap()["state"], "draining");
    for (method, params) in [
        ("interview.submit", json!({"interview": interview("iv-2", &TEXTS)})),
        ("interview.open", json!({"interview": interview("iv-2", &TEXTS)})),
        (
            "interview.answer",
            json!({"interview_id": "open", "answer": {"answer_id": "z", "stage": "intro", "question": "?", "answer": "!"}}),
        ),
    ] {
        assert_eq!(client.call(method, params).unwrap_err().kind(), "draining", "{method}");
    }
    client
        .call("interview.finish", json!({"interview_id": "open"}))
        .unwrap();
    assert_eq!(client.wait_for_report("iv-1")["status"], "complete");
    assert_eq!(client.wait_for_report("open")["status"], "complete");
    assert_eq!(client.call("resume", json!({})).unwrap()["state"], "ready");
    assert_eq!(client.report(interview("iv-2", &TEXTS))["status"], "complete");
    drop(daemon);
}
