//! Engines that fail under the real daemon: what is told meanwhile, what it costs, and that it comes to itself again.

mod common;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Client, PATIENCE, World, demo_interview, eventually, interview, judgement, repository};

const TEXTS: [&str; 3] = [
    "저는 백엔드 개발자입니다.",
    "원인을 찾아 고쳤습니다.",
    "성능을 30% 개선했습니다.",
];
/// What no other answer has.
const SKULL: &str = "☠";

/// Has the simulated model go wrong like this from the next start or reload on.
fn plan(world: &World, step_ms: u64, faults: &Value) {
    let simulated = json!({"seed": 7, "step_ms": step_ms, "faults": faults}).to_string();
    std::fs::write(world.path("model/simulated.json"), simulated).unwrap();
}

fn simulated(step_ms: u64, faults: &Value) -> World {
    let world = World::simulated(step_ms)
        .set("pool.actors=1")
        .set("pool.slots_per_actor=4");
    plan(&world, step_ms, faults);
    world
}

/// A token that stands in the prompt of an answer with a skull, and in no other.
fn poison() -> u32 {
    let tokenizer = tokenizers::Tokenizer::from_file(repository().join("models/demo/tokenizer.json")).unwrap();
    let tokens = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    let prompts = ["models/demo/interview.json", "models/prompts/rubric.toml"];
    let others = prompts.map(|name| tokens(&std::fs::read_to_string(repository().join(name)).unwrap()));
    let own = tokens(SKULL).into_iter().find(|token| !others.concat().contains(token));
    own.expect("a token that no other answer has")
}

/// Which answer of the demo's has a skull: one that no other follows up, for that would be judged together with it.
const POISONED: usize = 0;

/// The demo's interview of 17 answers, one of them poisoned.
fn poisoned(id: &str) -> Value {
    let mut interview = demo_interview(id);
    interview["answers"][POISONED]["answer"] = json!(format!("독이 든 답변 {SKULL} 입니다."));
    interview
}

fn submit(client: &mut Client, interview: Value) {
    client
        .call("interview.submit", json!({"interview": interview}))
        .unwrap();
}

fn status(client: &mut Client) -> Value {
    client.call("status", json!({})).unwrap()
}

fn until_state(client: &mut Client, state: &str) -> Value {
    eventually(state, || Some(status(client)).filter(|status| status["state"] == state))
}

/// The one engine, once it is ready and has nothing to do.
fn actor_at_rest(client: &mut Client) -> Value {
    let status = eventually("the engine is at rest", || {
        let status = status(client);
        let idle = status["pool"]["actors"][0]["slots_busy"] == 0 && status["queue"]["answers"] == 0;
        (status["state"] == "ready" && idle).then_some(status)
    });
    assert_eq!(status["pool"]["actors"].as_array().unwrap().len(), 1, "{status}");
    status["pool"]["actors"][0].clone()
}

/// All answers but one are as they are without it, and that one says why it has no score.
fn assert_only_the_poison_is_left_out(world: &World, report: &Value, reason: &str) {
    assert_eq!(report["status"], "partial", "{report}");
    let left_out = &report["answers"][POISONED];
    assert_eq!(
        (&left_out["state"], &left_out["score"]),
        (&json!("unscored"), &Value::Null)
    );
    let why = left_out["reason"].as_str().unwrap();
    assert!(why.contains(reason), "{why}");
    plan(world, 0, &json!([]));
    let sound = world.start_ready().connect().report(poisoned("sound"));
    assert_eq!(sound["status"], "complete");
    let answers = report["answers"].as_array().unwrap().iter();
    for (index, (answer, sound)) in answers.zip(sound["answers"].as_array().unwrap()).enumerate() {
        if index != POISONED {
            assert_eq!(judgement(answer), judgement(sound), "{index}");
        }
    }
}

#[test]
fn an_engine_that_panics_is_told_of_while_it_is_gone_and_comes_back_by_itself() {
    let world = simulated(1, &json!([{"when": {"call": 5}, "what": "panic"}]));
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    submit(&mut client, interview("iv", &TEXTS));
    let degraded = until_state(&mut client, "degraded");
    assert!(degraded["reason"].as_str().unwrap().contains("panicked"), "{degraded}");
    assert_eq!(degraded["pool"]["actors"][0]["state"], "restarting");
    submit(&mut client, interview("held", &TEXTS[..1]));
    for id in ["iv", "held"] {
        assert_eq!(client.wait_for_report(id)["status"], "complete");
    }
    let actor = actor_at_rest(&mut client);
    assert_eq!((&actor["restarts"], &actor["slots"]), (&json!(1), &json!(4)));
    assert!(actor["last_error"].as_str().unwrap().contains("panicked"), "{actor}");
    assert_eq!(status(&mut client)["reason"], Value::Null);
}

#[test]
fn a_step_that_hangs_is_ended_and_one_that_heeds_nobody_costs_the_engine_and_nothing_else() {
    for (what, restarts) in [("hang", 0), ("stuck", 1)] {
        let world = simulated(0, &json!([{"when": {"call": 5}, "what": what}])).set("runtime.step_timeout_s=5");
        let daemon = world.start_ready();
        let mut client = daemon.connect();
        let begun = Instant::now();
        let report = client.report(interview("iv", &TEXTS));
        eprintln!(
            "{what}: a report with a deadline of 5 s a step took {:?}",
            begun.elapsed()
        );
        assert!(begun.elapsed() > Duration::from_secs(5));
        assert_eq!(report["status"], "complete");
        let actor = actor_at_rest(&mut client);
        assert_eq!(
            (&actor["restarts"], &actor["slots"]),
            (&json!(restarts), &json!(4)),
            "{what}"
        );
        let log = world.log();
        assert!(log.contains("runtime.step_timeout_s"), "{log}");
        assert_eq!(log.contains("its thread is given up"), what == "stuck");
    }
}

#[test]
fn an_answer_that_kills_the_engine_whenever_it_runs_is_left_out_of_seventeen() {
    let world = simulated(0, &json!([{"when": {"token": poison()}, "what": "panic"}]));
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let begun = Instant::now();
    let report = client.report(poisoned("iv"));
    eprintln!("17 answers of which one kills the engine: {:?}", begun.elapsed());
    let actor = actor_at_rest(&mut client);
    assert_eq!(actor["restarts"], 4, "once in company, three times alone: {actor}");
    assert!(actor["last_error"].as_str().unwrap().contains("panicked"));
    drop(daemon);
    assert_only_the_poison_is_left_out(&world, &report, "it stopped the engine 3 times with nothing beside it");
}

#[test]
fn an_answer_that_takes_the_process_down_whenever_it_runs_is_left_out_of_seventeen() {
    let world = simulated(0, &json!([{"when": {"token": poison()}, "what": "abort"}]));
    let daemon = world.start();
    submit(&mut daemon.connect(), poisoned("iv"));
    let mut deaths = 0;
    let mut daemon = Some(daemon);
    let report = loop {
        let running = daemon.take().unwrap_or_else(|| world.start());
        let mut client = running.connect();
        let asked = json!({"interview_id": "iv", "timeout_ms": PATIENCE.as_millis() as u64});
        match client.try_call("report.wait", asked) {
            Some(reply) => break reply.unwrap()["report"].clone(),
            None => deaths += 1,
        }
        assert!(running.wait().code().is_none(), "it ended by a signal");
        assert!(deaths < 10, "{}", world.log());
    };
    assert_eq!(deaths, 5, "twice in company, three times alone");
    assert_only_the_poison_is_left_out(&world, &report, "the process died 3 times while only this ran");
}

#[test]
fn an_engine_that_fails_whatever_it_runs_costs_no_answer_its_attempts() {
    let world = simulated(0, &json!([{"when": {"from": 1}, "what": "failed"}])).unset("model.path");
    world.configure("model.path = \"model\"");
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    submit(&mut client, demo_interview("iv"));
    let degraded = eventually("it was built anew twice", || {
        let status = status(&mut client);
        let again = status["pool"]["actors"][0]["restarts"].as_u64() >= Some(2);
        (again && status["state"] == "degraded").then_some(status)
    });
    let reason = degraded["reason"].as_str().unwrap();
    assert!(
        reason.contains("fails whatever it runs") && reason.contains("scripted"),
        "{reason}"
    );
    plan(&world, 0, &json!([]));
    world.configure("model.path = \"model\"\nmodel.check_hashes = false");
    client.call("config.reload", json!({})).unwrap();
    assert_eq!(client.wait_for_report("iv")["status"], "complete");
    actor_at_rest(&mut client);
}

#[test]
fn an_answer_that_takes_too_long_is_tried_again_and_then_left_out() {
    let world = simulated(120, &json!([]))
        .set("runtime.step_timeout_s=2")
        .set("scoring.answer_timeout_s=3")
        .set("scoring.max_attempts=2");
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let report = client.report(interview("iv", &TEXTS[..1]));
    let answer = &report["answers"][0];
    assert_eq!(
        (&report["status"], &answer["timing"]["attempts"]),
        (&json!("partial"), &json!(2))
    );
    let reason = answer["reason"].as_str().unwrap();
    assert!(
        reason.contains("not done in 3 s (scoring.answer_timeout_s)"),
        "{reason}"
    );
    assert_eq!(actor_at_rest(&mut client)["restarts"], 0);
}
