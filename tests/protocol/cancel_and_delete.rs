//! Ending an interview before its time, and erasing it: what stays, what goes, and that nothing comes back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::arithmetic;
use crate::common::{Client, eventually, interview, judgement};
use crate::support::{
    FOREVER_MS, House, SILENCE, an_answer, answer, assert_alive, fails, get, of, open, slots_busy, submit, until,
    until_status,
};

#[test]
fn open_scoring_and_reporting_interviews_can_be_cancelled_again_and_again() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "empty"}));
    open(
        &mut client,
        &json!({"interview_id": "open", "answers": [an_answer("a", "저는 개발자입니다.")]}),
    );
    submit(&mut client, &interview("scoring", &["저는 개발자입니다.", SILENCE]));
    submit(&mut client, &interview("reporting", &[SILENCE]));
    until(&mut client, "reporting", "reporting");
    // The last one first: it is complete as soon as there is a model.
    for id in ["reporting", "scoring", "open", "empty"] {
        for _ in 0..3 {
            let cancelled = of(&mut client, "interview.cancel", id);
            assert_eq!(cancelled, json!({"interview_id": id, "state": "cancelled"}));
        }
        let seen = get(&mut client, id);
        assert_eq!((&seen["state"], &seen["done"]), (&json!("cancelled"), &seen["total"]));
        for answer in seen["answers"].as_array().unwrap() {
            assert!(answer["state"] == "cancelled" || answer["state"] == "gated", "{answer}");
        }
    }
    let status = until_status(&mut client, "its work has stopped", |status| {
        slots_busy(status) == 0 && status["queue"]["answers"] == 0
    });
    assert_eq!(status["interviews"]["cancelled"], 4);
}

#[test]
fn a_complete_interview_cannot_be_cancelled() {
    let house = House::simulated(0);
    let mut client = house.connect();
    let report = client.report(interview("x", &[SILENCE]));
    fails(
        &mut client,
        "interview.cancel",
        json!({"interview_id": "x"}),
        "conflict",
        &["x", "complete"],
    );
    assert_eq!(of(&mut client, "report.get", "x")["report"], report);
    assert_alive(&mut client);
}

#[test]
fn a_cancelled_interview_has_no_report_and_its_id_stays_taken() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let waiting = {
        submit(&mut client, &interview("x", &["저는 개발자입니다."]));
        let mut other = house.connect();
        let id = other.send("report.wait", json!({"interview_id": "x"}));
        (other, id)
    };
    of(&mut client, "interview.cancel", "x");
    let (mut other, id) = waiting;
    assert_eq!(other.reply(id).unwrap_err().kind(), "conflict", "a wait ends with it");
    for method in ["report.get", "report.wait"] {
        fails(
            &mut client,
            method,
            json!({"interview_id": "x"}),
            "conflict",
            &["x", "cancelled"],
        );
    }
    let late = json!({"interview_id": "x", "answer": an_answer("late", "네")});
    fails(&mut client, "interview.answer", late, "conflict", &["x", "cancelled"]);
    fails(
        &mut client,
        "interview.submit",
        json!({"interview": interview("x", &["다른 답"])}),
        "conflict",
        &["x"],
    );
    assert_eq!(
        submit(&mut client, &interview("x", &["저는 개발자입니다."]))["state"],
        "cancelled"
    );
}

#[test]
fn what_was_cancelled_makes_room_for_others() {
    let house = House::simulated(3);
    let mut client = house.connect();
    let long = "저는 로그를 모아 원인을 찾고 다시 재어 보았습니다. ".repeat(20);
    submit(&mut client, &interview("x", &[long.as_str(); 12]));
    submit(&mut client, &interview("y", &["네, 맞습니다."]));
    of(&mut client, "interview.cancel", "x");
    assert_eq!(client.wait_for_report("y")["status"], "complete");
    let seen = get(&mut client, "x");
    assert_eq!(seen["state"], "cancelled");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(get(&mut client, "x"), seen, "nothing of it goes on");
}

#[test]
fn a_deleted_interview_is_gone_whatever_its_state_was() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(
        &mut client,
        &json!({"interview_id": "open", "answers": [an_answer("a", "저는 개발자입니다.")]}),
    );
    submit(&mut client, &interview("scoring", &["저는 개발자입니다."]));
    submit(&mut client, &interview("reporting", &[SILENCE]));
    until(&mut client, "reporting", "reporting");
    submit(&mut client, &interview("cancelled", &[SILENCE]));
    of(&mut client, "interview.cancel", "cancelled");
    for id in ["open", "scoring", "reporting", "cancelled"] {
        assert_eq!(of(&mut client, "interview.delete", id), json!({"deleted": true}));
        is_gone(&mut client, id);
    }
    assert_eq!(
        client.call("interview.list", json!({})).unwrap(),
        json!({"interviews": []})
    );
    let status = until_status(&mut client, "its work has stopped", |status| {
        slots_busy(status) == 0 && status["queue"]["answers"] == 0
    });
    let none = json!({"open": 0, "scoring": 0, "reporting": 0, "complete": 0, "partial": 0, "cancelled": 0});
    assert_eq!(status["interviews"], none);

    let quick = House::simulated(0);
    let mut client = quick.connect();
    client.report(interview("complete", &[SILENCE]));
    assert_eq!(
        of(&mut client, "interview.delete", "complete"),
        json!({"deleted": true})
    );
    is_gone(&mut client, "complete");
}

fn is_gone(client: &mut Client, id: &str) {
    for method in [
        "interview.delete",
        "interview.get",
        "interview.finish",
        "interview.cancel",
        "interview.retry",
        "report.get",
        "report.wait",
        "events.subscribe",
    ] {
        fails(client, method, json!({"interview_id": id}), "not_found", &[id]);
    }
    let late = json!({"interview_id": id, "answer": an_answer("late", "네")});
    fails(client, "interview.answer", late, "not_found", &[id]);
}

#[test]
fn waits_for_a_deleted_interview_end_with_not_found() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    submit(&mut client, &interview("x", &["저는 개발자입니다."]));
    let mut waiting: Vec<_> = (0..5)
        .map(|_| {
            let mut client = house.connect();
            let id = client.send("report.wait", json!({"interview_id": "x"}));
            // The reply to a later request shows that the wait has begun.
            let later = client.send("hello", json!({}));
            assert!(client.reply(later).is_ok());
            (client, id)
        })
        .collect();
    // Deleted and there again at once: who waited for the first life does not wait for the second one.
    let delete = client.send("interview.delete", json!({"interview_id": "x"}));
    client.reply(delete).unwrap();
    submit(&mut client, &interview("x", &["저는 디자이너입니다."]));
    for (client, id) in &mut waiting {
        assert_eq!(client.reply(*id).unwrap_err().kind(), "not_found");
    }
    assert_alive(&mut client);
}

#[test]
fn a_wait_for_an_earlier_life_does_not_go_on_with_the_next_one() {
    let house = House::simulated(FOREVER_MS);
    let (mut client, mut waiting) = (house.connect(), house.connect());
    let mut lives = 0;
    for round in 0..60 {
        let life = |round: usize| interview("x", &[&format!("저는 {round}번째입니다.")]);
        submit(&mut client, &life(round));
        let wait = waiting.send("report.wait", json!({"interview_id": "x", "timeout_ms": 2_000}));
        let later = waiting.send("hello", json!({}));
        assert!(waiting.reply(later).is_ok());
        // In one go, so that the next life may begin before anybody has looked.
        let request = |id: &str, method: &str, params: Value| {
            json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
        };
        let delete = request("delete", "interview.delete", json!({"interview_id": "x"}));
        let next = request("next", "interview.submit", json!({"interview": life(round + 1)}));
        client.send_line(&format!("{delete}\n{next}"));
        let replies = [client.line().unwrap(), client.line().unwrap()];
        lives += usize::from(replies.iter().any(|reply| reply["result"]["created"] == true));
        assert_eq!(waiting.reply(wait).unwrap_err().kind(), "not_found", "{replies:?}");
        let _ = client.call("interview.delete", json!({"interview_id": "x"}));
    }
    assert!(lives > 0, "no next life began at once");
}

#[test]
fn a_deleted_id_is_free_again() {
    let house = House::simulated(0);
    let mut client = house.connect();
    for round in 0..3 {
        let text = ".".repeat(round + 1);
        let report = client.report(interview("x", &[&text]));
        assert_eq!(report["answers"].as_array().unwrap().len(), 1);
        of(&mut client, "interview.delete", "x");
    }
    let again = submit(&mut client, &interview("x", &[SILENCE, SILENCE]));
    assert_eq!(
        (&again["created"], &again["answers"]),
        (&json!(true), &json!(["a1", "a2"]))
    );
}

#[test]
fn results_of_an_earlier_life_never_reach_a_later_one() {
    let house = House::simulated(1);
    let mut client = house.connect();
    let later = |id: &str| {
        interview(
            id,
            &["I read the logs first and found the lock.", "Then I measured it again."],
        )
    };
    let undisturbed = client.report(later("undisturbed"));
    let earlier = |round: usize| {
        let text = format!("저는 {round}번째로 로그를 모아 원인을 찾았습니다. ").repeat(8);
        interview("x", &[&text, &text, &text])
    };
    for round in 0..6_usize {
        submit(&mut client, &earlier(round));
        if round % 3 == 1 {
            eventually("the first life runs", || {
                let seen = get(&mut client, "x");
                (seen["answers"][0]["state"] == "running").then_some(())
            });
        }
        std::thread::sleep(Duration::from_millis(40 * round as u64));
        of(&mut client, "interview.delete", "x");
        let report = client.report(later("x"));
        arithmetic::check(&report, &later("x"));
        let told = |report: &Value| {
            report["answers"]
                .as_array()
                .unwrap()
                .iter()
                .map(judgement)
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&report), told(&undisturbed), "round {round}");
        assert_eq!(report["narrative"], undisturbed["narrative"], "round {round}");
        of(&mut client, "interview.delete", "x");
    }
}

#[test]
fn answers_of_an_earlier_life_are_not_repetitions() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(
        &mut client,
        &json!({"interview_id": "x", "answers": [an_answer("a", SILENCE)]}),
    );
    of(&mut client, "interview.delete", "x");
    open(&mut client, &json!({"interview_id": "x"}));
    assert_eq!(get(&mut client, "x")["total"], 0);
    assert_eq!(
        answer(&mut client, "x", &an_answer("a", "다른 답입니다."))["created"],
        true
    );
}
