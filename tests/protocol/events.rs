//! What subscribers are told: the whole life of an interview, in order and numbered.

use serde_json::{Value, json};

use crate::common::{Client, World, interview};
use crate::support::{FOREVER_MS, House, SILENCE, an_answer, answer, fails, get, members, of, open, submit, until};

fn subscribe(client: &mut Client, params: Value) -> u64 {
    let subscribed = client.call("events.subscribe", params).unwrap();
    assert_eq!(members(&subscribed), ["subscription"]);
    subscribed["subscription"].as_u64().unwrap()
}

/// The next events up to and including one of this kind.
fn until_kind(client: &mut Client, kind: &str) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = client.event();
        events.push(event.clone());
        if event["kind"] == kind {
            return events;
        }
    }
}

#[test]
fn a_whole_life_is_told_in_order() {
    let house = House::simulated(0);
    let (mut watcher, mut client) = (house.connect(), house.connect());
    let subscription = subscribe(&mut watcher, json!({}));
    let report = client.report(interview(
        "x",
        &["저는 개발자입니다.", SILENCE, "로그를 먼저 읽습니다."],
    ));
    of(&mut client, "interview.delete", "x");
    let told = until_kind(&mut watcher, "deleted");
    assert_eq!(told.len(), 7, "{told:?}");
    let event = |seq: usize, done: u64, rest: Value| {
        let mut event =
            json!({"subscription": subscription, "seq": seq, "interview_id": "x", "done": done, "total": 3});
        event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        event
    };
    assert_eq!(told[0], event(1, 0, json!({"kind": "accepted"})));
    let mut scored: Vec<_> = told[1..4]
        .iter()
        .map(|event| event["answer_id"].as_str().unwrap())
        .collect();
    for (index, id) in scored.iter().enumerate() {
        let answers = report["answers"].as_array().unwrap();
        let answer = answers.iter().find(|answer| answer["answer_id"] == *id).unwrap();
        let rest = json!({"kind": "answer_scored", "answer_id": id, "score": answer["score"]});
        assert_eq!(told[1 + index], event(2 + index, 1 + index as u64, rest));
    }
    scored.sort_unstable();
    assert_eq!(scored, ["a1", "a2", "a3"]);
    assert_eq!(told[4], event(5, 3, json!({"kind": "report_started"})));
    let ready = json!({"kind": "report_ready", "status": "complete", "overall": report["overall"]});
    assert_eq!(told[5], event(6, 3, ready));
    assert_eq!(told[6], event(7, 3, json!({"kind": "deleted"})));
}

#[test]
fn what_an_event_tells_can_be_asked_for_at_once() {
    let house = House::simulated(0);
    let (mut watcher, mut client) = (house.connect(), house.connect());
    subscribe(&mut watcher, json!({}));
    submit(&mut client, &interview("x", &["저는 개발자입니다.", SILENCE]));
    loop {
        let event = watcher.event();
        let seen = get(&mut client, "x");
        assert!(seen["done"].as_u64() >= event["done"].as_u64(), "{event} {seen}");
        match event["kind"].as_str().unwrap() {
            "answer_scored" => {
                let answers = seen["answers"].as_array().unwrap();
                let answer = answers
                    .iter()
                    .find(|answer| answer["answer_id"] == event["answer_id"])
                    .unwrap();
                assert_eq!(answer["score"], event["score"]);
            }
            "report_started" => assert_ne!(seen["state"], "scoring"),
            "report_ready" => {
                assert_eq!(seen["state"], "complete");
                assert_eq!(
                    of(&mut client, "report.get", "x")["report"]["overall"],
                    event["overall"]
                );
                break;
            }
            _ => {}
        }
    }
}

#[test]
fn an_event_is_a_notification() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let subscription = subscribe(&mut client, json!({"interview_id": null}));
    open(&mut client, &json!({"interview_id": "x"}));
    of(&mut client, "interview.cancel", "x");
    let event = until_kind(&mut client, "accepted").remove(0);
    let expected =
        json!({"subscription": subscription, "seq": 1, "interview_id": "x", "kind": "accepted", "done": 0, "total": 0});
    assert_eq!(event, expected);
    let mut raw = house.connect();
    raw.call("events.subscribe", json!({})).unwrap();
    open(&mut client, &json!({"interview_id": "y"}));
    let line = raw.line().unwrap();
    assert_eq!(members(&line), ["jsonrpc", "method", "params"], "{line}");
    assert_eq!((&line["jsonrpc"], &line["method"]), (&json!("2.0"), &json!("event")));
}

#[test]
fn an_open_interview_tells_of_its_answers_as_they_end() {
    let house = House::simulated(0);
    let (mut watcher, mut client) = (house.connect(), house.connect());
    subscribe(&mut watcher, json!({}));
    open(&mut client, &json!({"interview_id": "x"}));
    answer(&mut client, "x", &an_answer("a", SILENCE));
    let told = until_kind(&mut watcher, "answer_scored").pop().unwrap();
    assert_eq!(
        (&told["answer_id"], &told["score"]),
        (&json!("a"), &json!(0.0)),
        "a gated answer has 0"
    );
    assert_eq!((&told["done"], &told["total"]), (&json!(1), &json!(1)));
    answer(&mut client, "x", &an_answer("b", "저는 개발자입니다."));
    let told = until_kind(&mut watcher, "answer_scored").pop().unwrap();
    assert_eq!(
        (&told["answer_id"], &told["done"], &told["total"]),
        (&json!("b"), &json!(2), &json!(2))
    );
    of(&mut client, "interview.finish", "x");
    let kinds: Vec<_> = until_kind(&mut watcher, "report_ready")
        .iter()
        .map(|event| event["kind"].clone())
        .collect();
    assert_eq!(kinds, ["report_started", "report_ready"]);
}

#[test]
fn a_cancelled_interview_tells_so_once() {
    let house = House::simulated(FOREVER_MS);
    let (mut watcher, mut client) = (house.connect(), house.connect());
    submit(&mut client, &interview("x", &[SILENCE, "저는 개발자입니다."]));
    until(&mut client, "x", "scoring");
    let subscription = subscribe(&mut watcher, json!({"interview_id": "x"}));
    for _ in 0..2 {
        of(&mut client, "interview.cancel", "x");
    }
    of(&mut client, "interview.delete", "x");
    let told: Vec<_> = until_kind(&mut watcher, "deleted")
        .into_iter()
        .filter(|event| event["kind"] != "answer_scored")
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for (event, kind) in told.iter().zip(["cancelled", "deleted"]) {
        assert_eq!(
            (&event["kind"], &event["subscription"]),
            (&json!(kind), &json!(subscription))
        );
        assert_eq!((&event["done"], &event["total"]), (&json!(2), &json!(2)), "{event}");
    }
}

#[test]
fn a_subscription_to_one_interview_hears_of_no_other() {
    let house = House::simulated(0);
    let (mut watcher, mut client) = (house.connect(), house.connect());
    open(&mut client, &json!({"interview_id": "x"}));
    subscribe(&mut watcher, json!({"interview_id": "x"}));
    client.report(interview("y", &[SILENCE]));
    answer(&mut client, "x", &an_answer("a", SILENCE));
    of(&mut client, "interview.finish", "x");
    let told = until_kind(&mut watcher, "report_ready");
    assert!(told.iter().all(|event| event["interview_id"] == "x"), "{told:?}");
    let seqs: Vec<_> = told.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

#[test]
fn each_subscription_counts_for_itself() {
    let house = House::simulated(FOREVER_MS);
    let (mut watcher, mut client) = (house.connect(), house.connect());
    open(&mut client, &json!({"interview_id": "x"}));
    let all = subscribe(&mut watcher, json!({}));
    open(&mut client, &json!({"interview_id": "y"}));
    let one = subscribe(&mut watcher, json!({"interview_id": "x"}));
    assert_ne!(all, one);
    of(&mut client, "interview.cancel", "x");
    let mut told: Vec<_> = (0..3)
        .map(|_| watcher.event())
        .map(|event| {
            (
                event["subscription"].as_u64().unwrap(),
                event["seq"].as_u64().unwrap(),
                event["kind"].clone(),
            )
        })
        .collect();
    told.sort_by_key(|(subscription, seq, _)| (*subscription, *seq));
    assert_eq!(
        told,
        [
            (all, 1, json!("accepted")),
            (all, 2, json!("cancelled")),
            (one, 1, json!("cancelled"))
        ]
    );
}

#[test]
fn after_unsubscribing_nothing_more_is_told() {
    let house = House::simulated(FOREVER_MS);
    let (mut watcher, mut client) = (house.connect(), house.connect());
    let subscription = subscribe(&mut watcher, json!({}));
    open(&mut client, &json!({"interview_id": "x"}));
    watcher.event();
    let params = json!({"subscription": subscription});
    fails(
        &mut client,
        "events.unsubscribe",
        params.clone(),
        "not_found",
        &[&subscription.to_string()],
    );
    assert_eq!(watcher.call("events.unsubscribe", params.clone()).unwrap(), json!({}));
    fails(
        &mut watcher,
        "events.unsubscribe",
        params,
        "not_found",
        &[&subscription.to_string()],
    );
    of(&mut client, "interview.cancel", "x");
    watcher.call("status", json!({})).unwrap();
    assert_eq!(watcher.events, Vec::<Value>::new());
}

#[test]
fn an_interview_that_does_not_exist_cannot_be_watched() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    fails(
        &mut client,
        "events.subscribe",
        json!({"interview_id": "x"}),
        "not_found",
        &["x"],
    );
    open(&mut client, &json!({"interview_id": "x"}));
    client.call("hello", json!({})).unwrap();
    assert_eq!(client.events, Vec::<Value>::new());
}

#[test]
fn whoever_reads_too_slowly_is_told_how_many_it_missed() {
    const ROUNDS: u64 = 600;
    let house = House::of(
        World::simulated(FOREVER_MS)
            .set("socket.events_queued_max=4")
            .set("socket.write_timeout_s=3600"),
    );
    let (mut watcher, mut client) = (house.connect(), house.connect());
    subscribe(&mut watcher, json!({}));
    let id = "x".repeat(128);
    for _ in 0..ROUNDS {
        open(&mut client, &json!({"interview_id": id}));
        of(&mut client, "interview.delete", &id);
    }
    open(&mut client, &json!({"interview_id": "last"}));
    let (mut seq, mut told, mut missed) = (0, 0, 0);
    loop {
        let event = watcher.event();
        seq += 1;
        assert_eq!(event["seq"], seq, "{event}");
        if event["kind"] == "lagged" {
            missed += event["missed"].as_u64().unwrap();
            continue;
        }
        told += 1;
        if event["interview_id"] == "last" {
            break;
        }
    }
    assert!(missed > 0, "{told} were told");
    assert_eq!(told + missed, 2 * ROUNDS + 1);
}
