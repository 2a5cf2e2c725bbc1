//! What operators see and do: hello, status, resize, reload.

use serde_json::{Value, json};

use crate::common::{Client, World, eventually, interview};
use crate::shapes::{self, assert_shape};
use crate::support::{FOREVER_MS, House, SILENCE, assert_alive, fails, slots_busy, submit, until_status};

const LONG: &str = "저는 로그를 모아 원인을 찾고, 다시 재어 보고, 팀과 나누었습니다.";

#[test]
fn hello_says_who_is_there() {
    let house = House::simulated(0);
    let mut client = house.connect();
    until_status(&mut client, "it is ready", |status| status["state"] == "ready");
    let hello = client.call("hello", json!({})).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected =
        json!({"name": "interviewd", "version": version, "protocol": 1, "role": "admin", "model": "interviewd-demo"});
    assert_eq!(hello, expected);
}

#[test]
fn without_a_model_hello_has_none_and_status_says_why() {
    let house = House::of(World::simulated(0).set("model.path=nowhere"));
    let mut client = house.connect();
    let status = until_status(&mut client, "it is degraded", |status| status["state"] == "degraded");
    assert_shape(&status, &shapes::status());
    assert!(status["reason"].as_str().unwrap().contains("nowhere"), "{status}");
    assert_eq!((&status["model"], &status["devices"]), (&Value::Null, &json!([])));
    assert_eq!(client.call("hello", json!({})).unwrap()["model"], Value::Null);
    assert_eq!(submit(&mut client, &interview("held", &[LONG]))["state"], "scoring");
    fails(
        &mut client,
        "pool.resize",
        json!({"slots_per_actor": 2}),
        "conflict",
        &["model"],
    );
}

#[test]
fn status_has_every_field() {
    let world = World::simulated(20)
        .set("pool.slots_per_actor=3")
        .set("queue.max_queued_answers=50");
    let house = House::of(world);
    let mut client = house.connect();
    assert_shape(&client.call("status", json!({})).unwrap(), &shapes::status());
    submit(&mut client, &interview("x", &[LONG; 5]));
    let mut other = house.connect();
    assert_alive(&mut other);
    let status = until_status(&mut client, "three slots are busy", |status| slots_busy(status) == 3);
    assert_shape(&status, &shapes::status());
    assert_eq!(status["state"], "ready");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["model"]["name"], "interviewd-demo");
    assert_eq!(
        (&status["model"]["demo"], &status["devices"][0]["kind"]),
        (&json!(true), &json!("cpu"))
    );
    assert_eq!(
        (&status["pool"]["planned_actors"], &status["connections"]),
        (&json!(1), &json!(2))
    );
    let actor = &status["pool"]["actors"][0];
    assert_eq!(
        (&actor["slots"], &actor["state"], &actor["device"]),
        (&json!(3), &json!("ready"), &json!("cpu"))
    );
    let rows = actor["slot_table"].as_array().unwrap();
    for (slot, row) in rows.iter().enumerate() {
        assert_eq!((&row["slot"], &row["interview_id"]), (&json!(slot), &json!("x")));
        assert!(row["answer_id"].is_string(), "{row}");
    }
    let queue = &status["queue"];
    assert_eq!(
        (&queue["interviews"], &queue["answers"], &queue["max"]),
        (&json!(1), &json!(2), &json!(50))
    );
    let counts = json!({"open": 0, "scoring": 1, "reporting": 0, "complete": 0, "partial": 0, "cancelled": 0});
    assert_eq!(status["interviews"], counts);
    assert!(status["store"]["path"].as_str().unwrap().ends_with("store"), "{status}");
    assert!(status["store"]["free_bytes"].as_u64().unwrap() > 0, "{status}");
}

#[test]
fn status_counts_what_was_done() {
    let house = House::simulated(0);
    let mut client = house.connect();
    client.report(interview("x", &[LONG, SILENCE]));
    client.report(interview("y", &[SILENCE]));
    // A report can be had as soon as it is stored, which is a moment before it is counted.
    until_status(&mut client, "both are counted", |status| {
        status["totals"]["reports"] == 2
    });
    let status = client.call("status", json!({})).unwrap();
    let totals = &status["totals"];
    assert_eq!(
        (
            &totals["answers_scored"],
            &totals["answers_unscored"],
            &totals["reports"]
        ),
        (&json!(3), &json!(0), &json!(2))
    );
    assert!(
        totals["tokens_in"].as_u64().unwrap() > 0 && totals["tokens_out"].as_u64().unwrap() > 0,
        "{totals}"
    );
    assert_eq!(status["interviews"]["complete"], 2);
    assert_eq!(slots_busy(&status), 0);
}

/// The plan that `pool.resize` gives, as (device, slots) of each actor.
fn resize(client: &mut Client, params: Value) -> Vec<(String, u64)> {
    let plan = client.call("pool.resize", params).unwrap();
    assert_shape(
        &plan,
        &json!({"device": "=cpu", "actors": [{"device": "string", "slots": "count"}], "explanation": "string"}),
    );
    let actors = plan["actors"].as_array().unwrap().iter();
    actors
        .map(|actor| {
            (
                actor["device"].as_str().unwrap().to_owned(),
                actor["slots"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn pool(status: &Value) -> Vec<(String, u64)> {
    let actors = status["pool"]["actors"].as_array().unwrap().iter();
    let of = |actor: &Value| {
        (
            actor["state"].as_str().unwrap().to_owned(),
            actor["slots"].as_u64().unwrap(),
        )
    };
    actors.map(of).collect()
}

fn ready(slots: &[u64]) -> Vec<(String, u64)> {
    slots.iter().map(|slots| ("ready".to_owned(), *slots)).collect()
}

#[test]
fn resizing_loses_no_answer_that_runs() {
    let world = World::simulated(3).set("pool.slots_per_actor=3").set("pool.actors=1");
    let house = House::of(world);
    let mut client = house.connect();
    until_status(&mut client, "it is ready", |status| status["state"] == "ready");
    let cpu = |slots: &[u64]| slots.iter().map(|slots| ("cpu".to_owned(), *slots)).collect::<Vec<_>>();
    let sizes: [(Value, &[u64]); 5] = [
        (json!({"slots_per_actor": 1}), &[1]),
        (json!({"slots_per_actor": 4}), &[4]),
        (json!({"actors": 2, "slots_per_actor": 2}), &[2, 2]),
        (json!({"actors": 1}), &[2]),
        (json!({}), &[2]),
    ];
    for (round, (params, slots)) in sizes.into_iter().enumerate() {
        let id = format!("x{round}");
        submit(&mut client, &interview(&id, &[LONG; 4]));
        until_status(&mut client, "answers run", |status| slots_busy(status) > 0);
        assert_eq!(resize(&mut client, params.clone()), cpu(slots), "{params}");
        let report = client.wait_for_report(&id);
        assert_eq!(report["status"], "complete");
        for answer in report["answers"].as_array().unwrap() {
            assert_eq!(
                answer["timing"]["attempts"], 1,
                "after {params} an answer began anew: {answer}"
            );
        }
        until_status(&mut client, "the pool has its new size", |status| {
            pool(status) == ready(slots)
        });
        assert_eq!(
            client.call("status", json!({})).unwrap()["pool"]["planned_actors"],
            slots.len()
        );
    }
}

#[test]
fn a_size_that_cannot_be_changes_nothing() {
    let world = World::simulated(0)
        .set("pool.slots_per_actor=3")
        .set("pool.memory_budget_mib=400");
    let house = House::of(world);
    let mut client = house.connect();
    until_status(&mut client, "it is ready", |status| status["state"] == "ready");
    for (params, part) in [
        (json!({"slots_per_actor": 4_096}), "4096"),
        (json!({"slots_per_actor": 4_097}), "4097"),
        (json!({"actors": 65}), "65"),
        (json!({"actors": 4_294_967_295u32}), "4294967295"),
        (json!({"actors": 64}), "MiB"),
    ] {
        fails(&mut client, "pool.resize", params, "invalid_params", &[part]);
        let status = client.call("status", json!({})).unwrap();
        assert_eq!(pool(&status), ready(&[3]));
    }
    assert_eq!(client.report(interview("x", &[LONG]))["status"], "complete");
}

/// A daemon whose configuration has this file.
fn with_file(step_ms: u64, text: &str) -> House {
    let world = World::simulated(step_ms);
    std::fs::write(world.folder.path().join("config.toml"), text).unwrap();
    House::of(world)
}

fn write(house: &House, text: &str) {
    std::fs::write(house.world.folder.path().join("config.toml"), text).unwrap();
}

#[test]
fn reloading_says_what_changed_and_what_waits_for_a_restart() {
    let house = with_file(3, "[pool]\nslots_per_actor = 2\n[queue]\nmax_queued_answers = 7\n");
    let mut client = house.connect();
    until_status(&mut client, "it is ready", |status| {
        status["state"] == "ready" && status["queue"]["max"] == 7
    });
    let nothing = json!({"changed": [], "needs_restart": []});
    assert_eq!(client.call("config.reload", json!({})).unwrap(), nothing);
    submit(&mut client, &interview("x", &[LONG; 4]));
    until_status(&mut client, "answers run", |status| slots_busy(status) > 0);
    write(
        &house,
        "[socket]\nidle_s = 500\n[pool]\nslots_per_actor = 3\n[queue]\nmax_queued_answers = 9\n[interview]\nanswer_chars_max = 10\n[log]\nlevel = \"warn\"\n",
    );
    let reloaded = client.call("config.reload", json!({})).unwrap();
    let expected = json!({
        "changed": ["pool.slots_per_actor", "queue.max_queued_answers", "interview.answer_chars_max"],
        "needs_restart": ["socket.idle_s", "log.level"],
    });
    assert_eq!(reloaded, expected);
    assert_eq!(client.call("status", json!({})).unwrap()["queue"]["max"], 9);
    let params = json!({"interview": interview("long", &["12345678901"])});
    fails(
        &mut client,
        "interview.submit",
        params,
        "too_large",
        &["answers[0].answer", "10", "11"],
    );
    let report = client.wait_for_report("x");
    assert!(
        report["answers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|answer| answer["timing"]["attempts"] == 1),
        "{report}"
    );
    until_status(&mut client, "the pool has its new size", |status| {
        pool(status) == ready(&[3])
    });
}

#[test]
fn a_bad_file_changes_nothing() {
    let house = with_file(0, "[queue]\nmax_queued_answers = 7\n");
    let mut client = house.connect();
    for (text, parts) in [
        (
            "[queue]\nmax_queued_answers = 0\n",
            ["config.toml", "queue.max_queued_answers"],
        ),
        (
            "[queue]\nmax_queued_answers = 8\n[pool]\nslots = 2\n",
            ["config.toml", "slots"],
        ),
        (
            "[queue]\nmax_queued_answers = \"many\"\n",
            ["config.toml", "queue.max_queued_answers"],
        ),
        ("[queue\n", ["config.toml", "1"]),
        (
            "[queue]\nmax_queued_answers = 8\n[scoring]\nrubric = \"no-such-rubric.toml\"\n",
            ["no-such-rubric.toml", "scoring.rubric"],
        ),
    ] {
        write(&house, text);
        fails(&mut client, "config.reload", json!({}), "invalid_params", &parts);
        assert_eq!(client.call("status", json!({})).unwrap()["queue"]["max"], 7, "{text}");
    }
    write(&house, "[queue]\nmax_queued_answers = 8\n");
    let reloaded = client.call("config.reload", json!({})).unwrap();
    assert_eq!(
        reloaded,
        json!({"changed": ["queue.max_queued_answers"], "needs_restart": []})
    );
    assert_alive(&mut client);
}

#[test]
fn reloading_recovers_from_a_missing_model() {
    let mut world = World::simulated(0);
    world.sets.retain(|set| !set.starts_with("model.path="));
    std::fs::write(world.folder.path().join("config.toml"), "[model]\npath = \"nowhere\"\n").unwrap();
    let house = House::of(world);
    let mut client = house.connect();
    until_status(&mut client, "it is degraded", |status| status["state"] == "degraded");
    submit(&mut client, &interview("held", &[LONG]));
    fails(
        &mut client,
        "report.wait",
        json!({"interview_id": "held", "timeout_ms": 100}),
        "not_ready",
        &["held"],
    );
    write(&house, "[model]\npath = \"model\"\n");
    let reloaded = client.call("config.reload", json!({})).unwrap();
    assert_eq!(reloaded["changed"], json!(["model.path"]));
    assert_eq!(client.wait_for_report("held")["status"], "complete");
    assert_eq!(client.call("status", json!({})).unwrap()["state"], "ready");
}

#[test]
fn shutting_down_ends_the_process_and_what_is_unfinished_goes_on_at_the_next_start() {
    let House { daemon, world, .. } = House::simulated(FOREVER_MS);
    let mut client = daemon.connect();
    submit(&mut client, &interview("x", &[SILENCE]));
    crate::support::until(&mut client, "x", "reporting");
    assert_eq!(
        client.call("shutdown", json!({"timeout_s": 0})).unwrap()["state"],
        "draining"
    );
    assert!(daemon.wait().success());
    let simulated = json!({"seed": 7, "step_ms": 0}).to_string();
    std::fs::write(world.folder.path().join("model/simulated.json"), simulated).unwrap();
    let house = House::of(world);
    let mut client = house.connect();
    assert_eq!(client.wait_for_report("x")["status"], "complete");
    eventually("it is counted", || {
        let status = client.call("status", json!({})).unwrap();
        (status["interviews"]["complete"] == 1).then_some(())
    });
}
