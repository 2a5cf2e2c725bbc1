//! What could not be scored makes a report partial, and is scored again when asked, and nothing else is.

mod common;

use common::{World, interview, judgement};
use serde_json::{Value, json};

fn answer<'a>(report: &'a Value, id: &str) -> &'a Value {
    let mut answers = report["answers"].as_array().unwrap().iter();
    answers.find(|answer| answer["answer_id"] == id).unwrap()
}

#[test]
fn only_what_was_not_scored_is_scored_again() {
    let world = World::simulated(1);
    world.fail_on_stars(true);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client.call("events.subscribe", json!({"interview_id": null})).unwrap();
    let texts = [
        "저는 백엔드 개발자입니다.",
        "별 ★ 하나를 보았습니다.",
        "원인을 찾아 고쳤습니다.",
    ];
    let first = client.report(interview("iv", &texts));

    assert_eq!(
        (&first["status"], &first["coverage"]),
        (&json!("partial"), &json!(0.667))
    );
    let lost = answer(&first, "a2");
    assert_eq!(
        (&lost["state"], &lost["timing"]["attempts"]),
        (&json!("unscored"), &json!(3))
    );
    for field in ["score", "final_score", "criteria", "feedback"] {
        assert_eq!(lost[field], Value::Null, "{field}");
    }
    let reason = lost["reason"].as_str().unwrap();
    assert!(reason.contains("the model failed"), "{reason}");
    assert!(first["narrative"]["summary"].is_string(), "of the two that were scored");
    let kinds: Vec<_> = client
        .events
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "answer_unscored").count(),
        1,
        "{kinds:?}"
    );
    let view = client.call("interview.get", json!({"interview_id": "iv"})).unwrap();
    assert_eq!((&view["state"], &view["done"]), (&json!("partial"), &json!(3)));
    assert_eq!(view["answers"][1]["reason"], lost["reason"]);

    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    world.fail_on_stars(false);
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let retried = client.call("interview.retry", json!({"interview_id": "iv"})).unwrap();
    assert_eq!(retried["answers"], json!(["a1", "a2", "a3"]));
    // The old report stays until the new one replaces it.
    let second = common::eventually("the report is complete", || {
        let report = client.call("report.get", json!({"interview_id": "iv"})).unwrap()["report"].clone();
        (report["status"] == "complete").then_some(report)
    });
    for id in ["a1", "a3"] {
        assert_eq!(
            judgement(answer(&second, id)),
            judgement(answer(&first, id)),
            "{id} stays as it was"
        );
        assert_eq!(
            answer(&second, id)["timing"],
            answer(&first, id)["timing"],
            "{id} was not scored again"
        );
    }
    assert_eq!(answer(&second, "a2")["state"], "scored");
    let again = client
        .call("interview.retry", json!({"interview_id": "iv"}))
        .unwrap_err();
    assert_eq!(again.kind(), "conflict");
}
