//! The life of an interview: its states, what counts as done, what is allowed when.

use std::time::Instant;

use serde_json::{Value, json};

use crate::common::{World, eventually, interview};
use crate::shapes::{self, assert_shape};
use crate::support::{
    FOREVER_MS, House, SILENCE, an_answer, answer, assert_alive, fails, get, of, open, submit, until,
};

#[test]
fn an_interview_is_open_until_it_is_finished_and_then_scoring() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let opened = open(&mut client, &json!({"interview_id": "x"}));
    assert_eq!(
        opened,
        json!({"interview_id": "x", "state": "open", "answers": [], "created": true})
    );
    let first = answer(&mut client, "x", &an_answer("a", "저는 개발자입니다."));
    assert_eq!(
        first,
        json!({"interview_id": "x", "answer_id": "a", "answers": ["a"], "created": true})
    );
    let second = answer(&mut client, "x", &an_answer("b", "저는 개발자입니다."));
    assert_eq!(
        second,
        json!({"interview_id": "x", "answer_id": "b", "answers": ["a", "b"], "created": true})
    );
    assert_eq!(get(&mut client, "x")["state"], "open");
    let finished = of(&mut client, "interview.finish", "x");
    assert_eq!(
        finished,
        json!({"interview_id": "x", "state": "scoring", "answers": ["a", "b"]})
    );
    let seen = get(&mut client, "x");
    assert_shape(&seen, &shapes::interview_view());
    assert_eq!(
        (&seen["state"], &seen["done"], &seen["total"]),
        (&json!("scoring"), &json!(0), &json!(2))
    );
    assert_eq!(seen.get("finished_at"), None);
    assert_alive(&mut client);
}

#[test]
fn an_answer_of_an_open_interview_is_scored_at_once() {
    let house = House::simulated(0);
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "x"}));
    answer(&mut client, "x", &an_answer("a", "저는 로그를 먼저 읽는 개발자입니다."));
    let seen = eventually("it is scored while more may come", || {
        let seen = get(&mut client, "x");
        (seen["done"] == 1).then_some(seen)
    });
    assert_eq!((&seen["state"], &seen["total"]), (&json!("open"), &json!(1)));
    assert_eq!(seen["answers"][0]["state"], "scored");
    let fault = fails(
        &mut client,
        "report.get",
        json!({"interview_id": "x"}),
        "not_ready",
        &["x"],
    );
    assert_eq!(fault.0["data"], json!({"kind": "not_ready", "done": 1, "total": 1}));
    answer(&mut client, "x", &an_answer("b", SILENCE));
    let finished = Instant::now();
    of(&mut client, "interview.finish", "x");
    let report = client.wait_for_report("x");
    let took_ms = u128::from(report["took_ms"].as_u64().unwrap());
    assert!(
        took_ms <= finished.elapsed().as_millis() + 1,
        "it counts from the finish: {took_ms} ms"
    );
    assert_eq!(
        report["answers"][0]["score"], seen["answers"][0]["score"],
        "it is not scored again"
    );
    assert_eq!(report["answers"][0]["timing"]["attempts"], 1);
}

#[test]
fn a_follow_up_of_an_open_interview_follows_what_was_sent_before() {
    let house = House::simulated(0);
    let mut client = house.connect();
    let follow_up = |id: &str, parent: &str| json!({"answer_id": id, "stage": "skill_followup", "question": "왜요?", "answer": SILENCE, "follow_up_of": parent});
    open(&mut client, &json!({"interview_id": "x"}));
    let early = json!({"interview_id": "x", "answer": follow_up("f", "s")});
    fails(
        &mut client,
        "interview.answer",
        early,
        "invalid_params",
        &["answer.follow_up_of", "s"],
    );
    answer(
        &mut client,
        "x",
        &json!({"answer_id": "s", "stage": "skill", "question": "왜요?", "answer": SILENCE}),
    );
    answer(&mut client, "x", &follow_up("f", "s"));
    answer(&mut client, "x", &follow_up("g", "f"));
    let finished = of(&mut client, "interview.finish", "x");
    assert_eq!(finished["answers"], json!(["s", "f", "g"]));
    assert_eq!(client.wait_for_report("x")["status"], "complete");
}

#[test]
fn an_interview_is_reporting_once_every_answer_has_ended() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    submit(&mut client, &interview("x", &[SILENCE, "", "\u{3000}"]));
    let seen = until(&mut client, "x", "reporting");
    assert_shape(&seen, &shapes::interview_view());
    assert_eq!((&seen["done"], &seen["total"]), (&json!(3), &json!(3)));
    for (index, answer) in seen["answers"].as_array().unwrap().iter().enumerate() {
        let id = format!("a{}", index + 1);
        assert_eq!(
            *answer,
            json!({"answer_id": id, "state": "gated", "score": 0.0, "attempts": 0})
        );
    }
    assert_eq!(seen.get("finished_at"), None);
    assert_alive(&mut client);
}

#[test]
fn an_interview_ends_complete() {
    let house = House::simulated(0);
    let mut client = house.connect();
    let submitted = submit(&mut client, &interview("x", &["저는 개발자입니다.", SILENCE]));
    assert_shape(
        &submitted,
        &json!({"interview_id": "=x", "state": "=scoring|=reporting|=complete", "answers": ["=a1|=a2"], "created": "bool"}),
    );
    let seen = until(&mut client, "x", "complete");
    assert_shape(&seen, &shapes::interview_view());
    assert_eq!((&seen["done"], &seen["total"]), (&json!(2), &json!(2)));
    assert!(seen["finished_at"].is_string(), "{seen}");
    let states: Vec<_> = seen["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| &answer["state"])
        .collect();
    assert_eq!(states, ["scored", "gated"]);
    let report = of(&mut client, "report.get", "x");
    assert_eq!(report["status"], "complete");
    assert_eq!(report["report"]["submitted_at"], seen["submitted_at"]);
    assert_eq!(report["report"]["finished_at"], seen["finished_at"]);
    assert_eq!(report["report"]["answers"][0]["score"], seen["answers"][0]["score"]);
}

#[test]
fn states_come_in_their_order() {
    let house = House::simulated(2);
    let mut client = house.connect();
    submit(&mut client, &interview("x", &["저는 개발자입니다.", SILENCE]));
    let mut seen: Vec<String> = Vec::new();
    eventually("it is complete", || {
        let state = get(&mut client, "x")["state"].as_str().unwrap().to_owned();
        if seen.last() != Some(&state) {
            seen.push(state.clone());
        }
        (state == "complete").then_some(())
    });
    let order = ["scoring", "reporting", "complete"];
    let places: Vec<_> = seen
        .iter()
        .map(|state| order.iter().position(|o| o == state).unwrap())
        .collect();
    assert!(places.is_sorted(), "{seen:?}");
    assert_eq!(seen[0], "scoring");
}

#[test]
fn running_and_queued_answers_are_told_apart() {
    let house = House::of(World::simulated(FOREVER_MS).set("pool.slots_per_actor=1"));
    let mut client = house.connect();
    submit(&mut client, &interview("x", &["하나입니다.", "둘입니다.", "셋입니다."]));
    let seen = eventually("one is running", || {
        let seen = get(&mut client, "x");
        (seen["answers"][0]["state"] == "running").then_some(seen)
    });
    assert_eq!(
        seen["answers"],
        json!([
            {"answer_id": "a1", "state": "running", "attempts": 1},
            {"answer_id": "a2", "state": "queued", "attempts": 0},
            {"answer_id": "a3", "state": "queued", "attempts": 0},
        ])
    );
}

#[test]
fn done_counts_the_answers_that_have_ended_and_total_all_known_ones() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let counted = |client: &mut crate::common::Client, done: u64, total: u64| {
        eventually("it is counted", || {
            let seen = get(client, "x");
            (seen["done"] == done && seen["total"] == total).then_some(())
        });
        let list = client.call("interview.list", json!({})).unwrap();
        let listed = &list["interviews"][0];
        assert_eq!((&listed["done"], &listed["total"]), (&json!(done), &json!(total)));
        let state = listed["state"].as_str().unwrap();
        if state != "cancelled" {
            let fault = fails(client, "report.get", json!({"interview_id": "x"}), "not_ready", &["x"]);
            assert_eq!(
                fault.0["data"],
                json!({"kind": "not_ready", "done": done, "total": total})
            );
        }
    };
    open(&mut client, &json!({"interview_id": "x"}));
    counted(&mut client, 0, 0);
    answer(&mut client, "x", &an_answer("gated", SILENCE));
    counted(&mut client, 1, 1);
    answer(&mut client, "x", &an_answer("running", "저는 개발자입니다."));
    counted(&mut client, 1, 2);
    of(&mut client, "interview.finish", "x");
    counted(&mut client, 1, 2);
    of(&mut client, "interview.cancel", "x");
    counted(&mut client, 2, 2);
    let states: Vec<_> = get(&mut client, "x")["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["state"].clone())
        .collect();
    assert_eq!(states, ["gated", "cancelled"]);
}

#[test]
fn an_interview_without_an_id_gets_a_uuid_of_version_7() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let nameless = json!({"answers": [an_answer("a", SILENCE)]});
    let mut ids = Vec::new();
    for _ in 0..3 {
        let submitted = submit(&mut client, &nameless);
        assert_eq!(submitted["created"], true, "without an id nothing is a repetition");
        ids.push(submitted["interview_id"].as_str().unwrap().to_owned());
    }
    ids.push(
        open(&mut client, &json!({"interview_id": null}))["interview_id"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    for id in &ids {
        let pattern: String = id
            .chars()
            .map(|c| if c.is_ascii_hexdigit() { 'x' } else { c })
            .collect();
        assert_eq!(pattern, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_eq!(&id[14..15], "7");
        assert!("89ab".contains(&id[19..20]), "{id}");
        get(&mut client, id);
    }
    assert!(ids.is_sorted(), "they are ordered in time: {ids:?}");
}

#[test]
fn finishing_without_answers_is_refused_and_changes_nothing() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "x"}));
    fails(
        &mut client,
        "interview.finish",
        json!({"interview_id": "x"}),
        "invalid_params",
        &["x", "answers"],
    );
    assert_eq!(get(&mut client, "x")["state"], "open");
    answer(&mut client, "x", &an_answer("a", SILENCE));
    of(&mut client, "interview.finish", "x");
    assert_alive(&mut client);
}

#[test]
fn a_new_answer_after_finish_is_a_conflict() {
    let house = House::simulated(0);
    let mut client = house.connect();
    open(
        &mut client,
        &json!({"interview_id": "x", "answers": [an_answer("a", SILENCE)]}),
    );
    submit(&mut client, &interview("whole", &[SILENCE]));
    of(&mut client, "interview.finish", "x");
    for id in ["x", "whole"] {
        let late = json!({"interview_id": id, "answer": an_answer("late", "네")});
        fails(&mut client, "interview.answer", late.clone(), "conflict", &[id]);
        until(&mut client, id, "complete");
        fails(&mut client, "interview.answer", late, "conflict", &[id]);
        assert_eq!(get(&mut client, id)["total"], 1);
    }
    assert_alive(&mut client);
}

#[test]
fn an_open_interview_that_nobody_finishes_is_finished_or_cancelled_if_it_is_empty() {
    let house = House::of(World::simulated(0).set("interview.open_ttl_s=1"));
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "empty"}));
    open(
        &mut client,
        &json!({"interview_id": "told", "answers": [an_answer("a", SILENCE)]}),
    );
    assert_eq!(get(&mut client, "told")["state"], "open");
    until(&mut client, "empty", "cancelled");
    assert_eq!(client.wait_for_report("told")["status"], "complete");
}

#[test]
fn retry_is_a_conflict_where_there_is_nothing_to_retry() {
    let slow = House::simulated(FOREVER_MS);
    let mut client = slow.connect();
    open(&mut client, &json!({"interview_id": "open"}));
    submit(&mut client, &interview("scoring", &["저는 개발자입니다."]));
    submit(&mut client, &interview("reporting", &[SILENCE]));
    until(&mut client, "reporting", "reporting");
    submit(&mut client, &interview("cancelled", &[SILENCE]));
    of(&mut client, "interview.cancel", "cancelled");
    for id in ["open", "scoring", "reporting", "cancelled"] {
        fails(
            &mut client,
            "interview.retry",
            json!({"interview_id": id}),
            "conflict",
            &[id],
        );
        assert_eq!(get(&mut client, id)["state"], id);
    }
    assert_alive(&mut client);

    let quick = House::simulated(0);
    let mut client = quick.connect();
    let report = client.report(interview("complete", &["저는 개발자입니다."]));
    assert!(report["narrative"].is_object(), "{report}");
    fails(
        &mut client,
        "interview.retry",
        json!({"interview_id": "complete"}),
        "conflict",
        &["complete", "narrative"],
    );
    assert_eq!(of(&mut client, "report.get", "complete")["report"], report);
}

#[test]
fn interviews_are_listed_oldest_first_and_page_by_page() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let ids: Vec<String> = (0..7).map(|number| format!("iv-{}", 9 - number)).collect();
    for (index, id) in ids.iter().enumerate() {
        match index % 3 {
            0 => open(&mut client, &json!({"interview_id": id})),
            _ => submit(&mut client, &interview(id, &["저는 개발자입니다."])),
        };
    }
    of(&mut client, "interview.cancel", &ids[4]);
    let list = |client: &mut crate::common::Client, params: Value| {
        let list = client.call("interview.list", params).unwrap();
        assert_shape(&list, &shapes::list());
        let listed: Vec<_> = list["interviews"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["interview_id"].as_str().unwrap().to_owned())
            .collect();
        (listed, list.get("next").cloned())
    };
    assert_eq!(list(&mut client, json!({})), (ids.clone(), None));
    assert_eq!(
        list(&mut client, json!({"limit": 7})),
        (ids.clone(), None),
        "a full page may be the last one"
    );
    for limit in [1, 2, 3, 6] {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let mut params = json!({"limit": limit});
            if let Some(after) = after {
                params["after"] = after;
            }
            let (listed, next) = list(&mut client, params);
            assert!(listed.len() <= limit, "{listed:?}");
            all.extend(listed);
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(all, ids);
    }
    let by_state = |indices: &[usize]| indices.iter().map(|index| ids[*index].clone()).collect::<Vec<_>>();
    assert_eq!(
        list(&mut client, json!({"state": "open"})),
        (by_state(&[0, 3, 6]), None)
    );
    assert_eq!(
        list(&mut client, json!({"state": "scoring"})),
        (by_state(&[1, 2, 5]), None)
    );
    assert_eq!(list(&mut client, json!({"state": "cancelled"})), (by_state(&[4]), None));
    assert_eq!(list(&mut client, json!({"state": "complete"})), (Vec::new(), None));
    let (first, next) = list(&mut client, json!({"state": "open", "limit": 2}));
    assert_eq!(first, by_state(&[0, 3]));
    let rest = json!({"state": "open", "limit": 2, "after": next.unwrap()});
    assert_eq!(list(&mut client, rest), (by_state(&[6]), None));
}

#[test]
fn a_page_is_found_again_although_its_place_was_deleted() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    for id in ["a", "b", "c"] {
        open(&mut client, &json!({"interview_id": id}));
    }
    let first = client.call("interview.list", json!({"limit": 1})).unwrap();
    of(&mut client, "interview.delete", "a");
    let rest = client.call("interview.list", json!({"after": first["next"]})).unwrap();
    let ids: Vec<_> = rest["interviews"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["interview_id"])
        .collect();
    assert_eq!(ids, ["b", "c"]);
}
