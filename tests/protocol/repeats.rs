//! Idempotency: the same again gives how it stands now, other content under the same id is a conflict.

use serde_json::{Value, json};

use crate::common::{Client, interview};
use crate::support::{
    FOREVER_MS, House, SILENCE, an_answer, answer, assert_alive, fails, get, of, open, submit, until,
};

fn full(text: &str) -> Value {
    json!({
        "interview_id": "x", "language": "ko", "position": "백엔드 개발자",
        "company": {"name": "한빛소프트", "ideal": ["주도성", "협업"]},
        "candidate": {"name": "김하나", "resume_summary": "3년"},
        "answers": [
            {"answer_id": "a1", "stage": "skill", "question": "왜요?", "answer": text, "follow_up_of": null},
            {"answer_id": "a2", "stage": "skill_followup", "question": "왜요?", "answer": text, "follow_up_of": "a1"},
        ],
    })
}

/// The same interview, spelled otherwise.
fn spelled_otherwise(text: &str) -> Vec<String> {
    let params = |interview: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"interview.submit","params":{{"interview":{interview}}},"id":"again"}}"#)
    };
    let text = json!(text);
    let escaped: String = "왜".encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    vec![
        params(&format!(
            r#"{{"answers":[{{"answer":{text},"question":"왜요?","stage":"skill"}},{{"follow_up_of":"a1","answer":{text},"question":"왜요?","stage":"skill_followup"}}],"candidate":{{"resume_summary":"3년","name":"김하나"}},"company":{{"ideal":["주도성","협업"],"name":"한빛소프트"}},"position":"백엔드 개발자","interview_id":"x"}}"#
        )),
        params(&format!(
            r#" {{ "interview_id" : "x", "language": null, "position": "백엔드 개발자", "company": {{"name": "한빛소프트", "ideal": ["주도성", "협업"]}}, "candidate": {{"name": "김하나", "resume_summary": "3년"}}, "answers": [{{"answer_id": null, "stage": "skill", "question": "{escaped}요?", "answer": {text}, "follow_up_of": null}}, {{"answer_id": "a2", "stage": "skill_followup", "question": "왜요?", "answer": {text}, "follow_up_of": "a1"}}] }} "#
        )),
    ]
}

fn submit_again(client: &mut Client, text: &str, state: &str) {
    let expected = json!({"interview_id": "x", "state": state, "answers": ["a1", "a2"], "created": false});
    assert_eq!(submit(client, &full(text)), expected);
    for line in spelled_otherwise(text) {
        client.send_line(&line);
        let reply = client.line().unwrap();
        assert_eq!(reply["result"], expected, "{reply}");
    }
}

#[test]
fn submitting_the_same_again_gives_the_current_state() {
    let slow = House::simulated(FOREVER_MS);
    let mut client = slow.connect();
    assert_eq!(submit(&mut client, &full("저는 개발자입니다."))["created"], true);
    submit_again(&mut client, "저는 개발자입니다.", "scoring");
    of(&mut client, "interview.cancel", "x");
    submit_again(&mut client, "저는 개발자입니다.", "cancelled");

    let quick = House::simulated(0);
    let mut client = quick.connect();
    submit(&mut client, &full(SILENCE));
    let report = client.wait_for_report("x");
    submit_again(&mut client, SILENCE, "complete");
    assert_eq!(
        of(&mut client, "report.get", "x")["report"],
        report,
        "nothing was done again"
    );
    assert_eq!(client.call("status", json!({})).unwrap()["totals"]["reports"], 1);
}

#[test]
fn many_at_once_with_the_same_content_are_one() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    for number in 0..20 {
        let request =
            json!({"jsonrpc": "2.0", "id": number, "method": "interview.submit", "params": {"interview": full("네")}});
        client.send_line(&request.to_string());
    }
    let replies: Vec<_> = (0..20).map(|_| client.line().unwrap()).collect();
    let created = replies
        .iter()
        .filter(|reply| reply["result"]["created"] == true)
        .count();
    assert_eq!(created, 1, "{replies:?}");
    let list = client.call("interview.list", json!({})).unwrap();
    assert_eq!(list["interviews"].as_array().unwrap().len(), 1);
}

#[test]
fn a_thousand_at_once_over_many_connections_are_one_and_other_content_is_a_conflict_each_time() {
    const CONNECTIONS: usize = 100;
    let house = House::simulated(FOREVER_MS);
    let submit = |id: usize, text: &str| {
        let params = json!({"interview": full(text)});
        json!({"jsonrpc": "2.0", "id": id, "method": "interview.submit", "params": params}).to_string()
    };
    // Every tenth connection says something else under the same id, and nobody knows who comes first.
    let text = |connection: usize| if connection % 10 == 9 { "아니요" } else { "네" };
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| house.connect()).collect();
    for id in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send_line(&submit(id, text(number)));
        }
    }
    let mut replies = vec![Vec::new(); 2];
    for (number, client) in clients.iter_mut().enumerate() {
        replies[usize::from(number % 10 == 9)].extend((0..10).map(|_| client.line().unwrap()));
    }
    let created = |replies: &[Value]| {
        replies
            .iter()
            .filter(|reply| reply["result"]["created"] == true)
            .count()
    };
    let (first, other): (Vec<_>, Vec<_>) = replies.into_iter().partition(|replies| created(replies) > 0);
    let ([first], [other]) = (&first[..], &other[..]) else {
        panic!("both were created, or none: {first:?} {other:?}")
    };
    assert_eq!(created(first), 1);
    assert!(
        first.iter().all(|reply| reply["result"]["interview_id"] == "x"),
        "{first:?}"
    );
    assert!(
        other.iter().all(|reply| reply["error"]["data"]["kind"] == "conflict"),
        "{other:?}"
    );
    let list = clients[0].call("interview.list", json!({})).unwrap();
    assert_eq!(list["interviews"].as_array().unwrap().len(), 1);
}

#[test]
fn the_same_id_with_other_content_is_a_conflict() {
    let slow = House::simulated(FOREVER_MS);
    let mut client = slow.connect();
    submit(&mut client, &full("저는 개발자입니다."));
    let before = get(&mut client, "x");
    for (pointer, value, named) in [
        ("/language", json!("en"), "language"),
        ("/position", json!("디자이너"), "position"),
        ("/position", Value::Null, "position"),
        ("/company/name", json!("다른 회사"), "company"),
        ("/company/ideal", json!(["협업", "주도성"]), "company"),
        ("/candidate/name", json!("이둘"), "candidate"),
        ("/candidate/resume_summary", Value::Null, "candidate"),
        ("/answers/0/answer", json!("저는 개발자입니다"), "answers"),
        ("/answers/1/question", json!("왜요??"), "answers"),
        ("/answers/0/answer_id", json!("b1"), "answers"),
    ] {
        let mut other = full("저는 개발자입니다.");
        *other.pointer_mut(pointer).unwrap() = value;
        if pointer == "/answers/0/answer_id" {
            other["answers"][1]["follow_up_of"] = json!("b1");
        }
        for method in ["interview.submit", "interview.open"] {
            fails(
                &mut client,
                method,
                json!({"interview": other}),
                "conflict",
                &["x", named],
            );
        }
    }
    let mut fewer = full("저는 개발자입니다.");
    fewer["answers"].as_array_mut().unwrap().pop();
    fails(
        &mut client,
        "interview.submit",
        json!({"interview": fewer}),
        "conflict",
        &["x", "answers"],
    );
    let mut more = full("저는 개발자입니다.");
    more["answers"].as_array_mut().unwrap().push(an_answer("a3", SILENCE));
    fails(
        &mut client,
        "interview.submit",
        json!({"interview": more}),
        "conflict",
        &["x", "answers"],
    );
    let after = get(&mut client, "x");
    assert_eq!(
        (&before["total"], &before["submitted_at"]),
        (&after["total"], &after["submitted_at"])
    );
    assert_alive(&mut client);
}

#[test]
fn opening_the_same_again_compares_what_was_opened() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let opened = json!({"interview_id": "x", "answers": [an_answer("a", SILENCE)]});
    open(&mut client, &opened);
    let again = |state: &str, answers: Value| json!({"interview_id": "x", "state": state, "answers": answers, "created": false});
    assert_eq!(open(&mut client, &opened), again("open", json!(["a"])));
    answer(&mut client, "x", &an_answer("b", SILENCE));
    assert_eq!(open(&mut client, &opened), again("open", json!(["a", "b"])));
    let grown = json!({"interview_id": "x", "answers": [an_answer("a", SILENCE), an_answer("b", SILENCE)]});
    for other in [
        &grown,
        &json!({"interview_id": "x"}),
        &json!({"interview_id": "x", "answers": [an_answer("a", "네")]}),
    ] {
        fails(
            &mut client,
            "interview.open",
            json!({"interview": other}),
            "conflict",
            &["x"],
        );
    }
    of(&mut client, "interview.finish", "x");
    until(&mut client, "x", "reporting");
    assert_eq!(open(&mut client, &opened), again("reporting", json!(["a", "b"])));
    of(&mut client, "interview.cancel", "x");
    assert_eq!(open(&mut client, &opened), again("cancelled", json!(["a", "b"])));
}

#[test]
fn repeating_an_answer_succeeds_in_every_later_state() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "x"}));
    let text = "저는 개발자입니다.";
    let mut spelled = an_answer("a", text);
    answer(&mut client, "x", &spelled);
    spelled["follow_up_of"] = Value::Null;
    answer(&mut client, "x", &an_answer("b", SILENCE));
    let again = json!({"interview_id": "x", "answer_id": "a", "answers": ["a", "b"], "created": false});
    let other = json!({"interview_id": "x", "answer": an_answer("a", "저는 디자이너입니다.")});
    assert_eq!(answer(&mut client, "x", &spelled), again);
    fails(&mut client, "interview.answer", other.clone(), "conflict", &["x", "a"]);
    of(&mut client, "interview.finish", "x");
    assert_eq!(answer(&mut client, "x", &spelled), again);
    fails(&mut client, "interview.answer", other.clone(), "conflict", &["x", "a"]);
    of(&mut client, "interview.cancel", "x");
    assert_eq!(answer(&mut client, "x", &spelled), again);
    fails(&mut client, "interview.answer", other, "conflict", &["x", "a"]);
    assert_eq!(get(&mut client, "x")["total"], 2);

    let quick = House::simulated(0);
    let mut client = quick.connect();
    client.report(interview("done", &[SILENCE]));
    let known = json!({"answer_id": "a1", "stage": "intro", "question": "말씀해 주세요.", "answer": SILENCE});
    assert_eq!(answer(&mut client, "done", &known)["created"], false);
}

#[test]
fn answers_sent_side_by_side_all_arrive_once() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "x"}));
    for number in 0..40 {
        // Each of the twenty twice.
        let id = format!("a-{}", number % 20);
        let params = json!({"interview_id": "x", "answer": an_answer(&id, SILENCE)});
        client.send_line(
            &json!({"jsonrpc": "2.0", "id": number, "method": "interview.answer", "params": params}).to_string(),
        );
    }
    let replies: Vec<_> = (0..40).map(|_| client.line().unwrap()).collect();
    let created = replies
        .iter()
        .filter(|reply| reply["result"]["created"] == true)
        .count();
    assert_eq!(created, 20, "{replies:?}");
    assert_eq!(get(&mut client, "x")["total"], 20);
}

#[test]
fn repeating_finish_succeeds_in_every_later_state() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(
        &mut client,
        &json!({"interview_id": "x", "answers": [an_answer("a", "저는 개발자입니다.")]}),
    );
    open(
        &mut client,
        &json!({"interview_id": "y", "answers": [an_answer("a", SILENCE)]}),
    );
    let finished = |id: &str, state: &str| json!({"interview_id": id, "state": state, "answers": ["a"]});
    for _ in 0..2 {
        assert_eq!(of(&mut client, "interview.finish", "x"), finished("x", "scoring"));
    }
    of(&mut client, "interview.finish", "y");
    until(&mut client, "y", "reporting");
    assert_eq!(of(&mut client, "interview.finish", "y"), finished("y", "reporting"));
    of(&mut client, "interview.cancel", "x");
    assert_eq!(of(&mut client, "interview.finish", "x"), finished("x", "cancelled"));

    let quick = House::simulated(0);
    let mut client = quick.connect();
    let report = client.report(interview("z", &[SILENCE]));
    let expected = json!({"interview_id": "z", "state": "complete", "answers": ["a1"]});
    assert_eq!(of(&mut client, "interview.finish", "z"), expected);
    assert_eq!(of(&mut client, "report.get", "z")["report"], report);
}

#[test]
fn finishing_what_was_cancelled_while_open_is_a_conflict() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(
        &mut client,
        &json!({"interview_id": "x", "answers": [an_answer("a", SILENCE)]}),
    );
    of(&mut client, "interview.cancel", "x");
    fails(
        &mut client,
        "interview.finish",
        json!({"interview_id": "x"}),
        "conflict",
        &["x", "cancelled"],
    );
}
