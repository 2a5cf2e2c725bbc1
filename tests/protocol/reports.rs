//! Getting a report and waiting for one: before it is there, when it comes, in each format.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::arithmetic;
use crate::common::{eventually, interview};
use crate::shapes::{self, assert_shape};
use crate::support::{FOREVER_MS, House, SILENCE, assert_alive, fails, get, of, open, submit};

#[test]
fn a_report_that_is_not_there_is_not_ready() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    submit(
        &mut client,
        &interview("x", &["저는 개발자입니다.", SILENCE, "네, 그렇습니다."]),
    );
    eventually("the silent one has ended", || {
        (get(&mut client, "x")["done"] == 1).then_some(())
    });
    for format in ["json", "markdown"] {
        let params = json!({"interview_id": "x", "format": format});
        let fault = fails(&mut client, "report.get", params, "not_ready", &["x", "1", "3"]);
        assert_eq!(fault.0["data"], json!({"kind": "not_ready", "done": 1, "total": 3}));
    }
    assert_alive(&mut client);
}

#[test]
fn a_wait_ends_as_not_ready_after_its_time() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "open"}));
    submit(&mut client, &interview("scoring", &["답변입니다.", SILENCE]));
    eventually("the silent one has ended", || {
        (get(&mut client, "scoring")["done"] == 1).then_some(())
    });
    for (id, done, total) in [("open", 0, 0), ("scoring", 1, 2)] {
        for timeout_ms in [0, 1, 300] {
            let begun = Instant::now();
            let params = json!({"interview_id": id, "timeout_ms": timeout_ms});
            let fault = fails(&mut client, "report.wait", params, "not_ready", &[id]);
            assert!(begun.elapsed() >= Duration::from_millis(timeout_ms));
            assert_eq!(
                fault.0["data"],
                json!({"kind": "not_ready", "done": done, "total": total})
            );
        }
    }
    assert_alive(&mut client);
}

#[test]
fn a_wait_ends_when_the_report_is_there() {
    let house = House::simulated(1);
    let mut client = house.connect();
    open(
        &mut client,
        &json!({"interview_id": "x", "answers": [crate::support::an_answer("a", "저는 개발자입니다.")]}),
    );
    let mut waiting: Vec<_> = (0..3).map(|_| house.connect()).collect();
    let ids: Vec<_> = waiting
        .iter_mut()
        .map(|w| w.send("report.wait", json!({"interview_id": "x"})))
        .collect();
    of(&mut client, "interview.finish", "x");
    for (waiting, id) in waiting.iter_mut().zip(ids) {
        let waited = waiting.reply(id).unwrap();
        assert_eq!(
            waited,
            of(&mut client, "report.get", "x"),
            "a wait gives what a get gives"
        );
    }
    let begun = Instant::now();
    of(&mut client, "report.wait", "x");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "what is there is not waited for"
    );
}

#[test]
fn a_report_has_every_field_and_its_numbers_follow_from_its_levels() {
    let house = House::simulated(0);
    let mut client = house.connect();
    let answers = json!([
        {"answer_id": "s", "stage": "skill", "question": "왜요?", "answer": "인덱스는 찾는 길을 줄입니다."},
        {"answer_id": "f", "stage": "skill_followup", "question": "단점은?", "answer": "쓰기가 느려집니다.", "follow_up_of": "s"},
        {"answer_id": "g", "stage": "skill_followup", "question": "그래서?", "answer": "...", "follow_up_of": "f"},
        {"answer_id": "e", "stage": "experience", "question": "경험은?", "answer": "응답 시간을 1.2초에서 0.4초로 줄였습니다."},
        {"answer_id": "h", "stage": "experience_followup", "question": "어떻게?", "answer": "로그를 모아 재었습니다.", "follow_up_of": "e"},
        {"answer_id": "m", "stage": "motivation", "question": "왜 우리인가요?", "answer": "하루 4만 건의 주문을 다루고 싶습니다."},
    ]);
    let interview = json!({"interview_id": "x", "answers": answers});
    let report = client.report(interview.clone());
    assert_shape(&report, &shapes::report());
    arithmetic::check(&report, &interview);
    let reply = of(&mut client, "report.get", "x");
    assert_shape(
        &reply,
        &json!({"interview_id": "=x", "status": "=complete", "report": shapes::report()}),
    );
    assert_eq!(reply["report"], report);
}

#[test]
fn an_interview_of_nothing_but_silence_has_a_report_too() {
    let house = House::simulated(0);
    let mut client = house.connect();
    let interview = interview("x", &["", " ", "...", "\n", "?", "!"]);
    let report = client.report(interview.clone());
    assert_shape(&report, &shapes::report());
    arithmetic::check(&report, &interview);
    assert_eq!(
        (&report["overall"], &report["band"], &report["pass_likelihood"]),
        (&json!(0.0), &json!("poor"), &json!("Low"))
    );
    assert_eq!(report["coverage"], 1.0);
}

#[test]
fn a_report_can_be_had_as_markdown() {
    let house = House::simulated(0);
    let mut client = house.connect();
    let report = client.report(interview("iv-md", &["저는 개발자입니다.", SILENCE]));
    for method in ["report.get", "report.wait"] {
        let reply = client
            .call(method, json!({"interview_id": "iv-md", "format": "markdown"}))
            .unwrap();
        assert_shape(
            &reply,
            &json!({"interview_id": "=iv-md", "status": "=complete", "report": "string"}),
        );
        let text = reply["report"].as_str().unwrap();
        let overall = format!("{:.2}", report["overall"].as_f64().unwrap());
        for part in ["iv-md", "완료", &overall, "a1", "a2", "논리적 구조", "interviewd-demo"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
    let json = client
        .call("report.get", json!({"interview_id": "iv-md", "format": "json"}))
        .unwrap();
    assert_eq!(json["report"], report);
}
