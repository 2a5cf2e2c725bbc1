//! Requests whose method or parameters are wrong: the reply names the path, the limit and the value.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::common::{World, interview};
use crate::support::{House, assert_alive, fails, refusing, submit};

/// Methods that take an interview's id and nothing else that must be there.
const BY_ID: [&str; 7] = [
    "interview.finish",
    "interview.get",
    "interview.retry",
    "interview.cancel",
    "interview.delete",
    "report.get",
    "report.wait",
];
const ADMINS: [&str; 6] = [
    "pool.resize",
    "config.reload",
    "store.export",
    "drain",
    "resume",
    "shutdown",
];

#[test]
fn an_unknown_method_is_named() {
    let house = refusing();
    for method in [
        "interview.sumbit",
        "metrics",
        "Status",
        "interview",
        "rpc.discover",
        "event",
        " status",
    ] {
        house.refuses(method, json!({}), "unknown_method", &[method]);
    }
    house.refuses("", json!({}), "unknown_method", &["\"\""]);
}

#[test]
fn parameters_must_be_an_object() {
    let house = refusing();
    for params in [
        json!([]),
        json!([{"interview_id": "x"}]),
        json!(1),
        json!("x"),
        json!(null),
        json!(true),
    ] {
        house.refuses("interview.get", params.clone(), "invalid_params", &["params"]);
        house.refuses("status", params, "invalid_params", &["params"]);
    }
}

#[test]
fn an_unknown_parameter_is_refused_with_its_path() {
    let house = refusing();
    for method in ["hello", "status", "config.reload", "drain", "resume"] {
        house.refuses(
            method,
            json!({"interwiev_id": 1}),
            "invalid_params",
            &["params", "interwiev_id"],
        );
    }
    for method in BY_ID {
        let params = json!({"interview_id": "x", "extra": 1});
        house.refuses(method, params, "invalid_params", &["params", "extra"]);
    }
    let whole = json!({"interview": interview("x", &["네"]), "extra": 1});
    house.refuses(
        "interview.submit",
        whole.clone(),
        "invalid_params",
        &["params", "extra"],
    );
    house.refuses("interview.open", whole, "invalid_params", &["params", "extra"]);
    for method in ["interview.list", "events.subscribe", "pool.resize", "shutdown"] {
        house.refuses(method, json!({"extra": 1}), "invalid_params", &["params", "extra"]);
    }
    let params = json!({"subscription": 1, "extra": 1});
    house.refuses("events.unsubscribe", params, "invalid_params", &["params", "extra"]);
}

#[test]
fn an_unknown_field_of_an_interview_is_refused_with_its_path() {
    let house = refusing();
    for (place, path) in [
        ("", "params.interview"),
        ("/answers/0", "params.interview.answers[0]"),
        ("/answers/1", "params.interview.answers[1]"),
        ("/company", "params.interview.company"),
        ("/candidate", "params.interview.candidate"),
    ] {
        let mut interview = interview("x", &["네", "예"]);
        interview["company"] = json!({"name": "한빛소프트"});
        interview["candidate"] = json!({"name": "김하나"});
        interview.pointer_mut(place).unwrap()["answre"] = json!("x");
        for method in ["interview.submit", "interview.open"] {
            let params = json!({"interview": interview});
            house.refuses(method, params, "invalid_params", &[path, "answre"]);
        }
    }
    let answer = json!({"answer_id": "a1", "stage": "intro", "question": "", "answer": "", "score": 100});
    let params = json!({"interview_id": "x", "answer": answer});
    house.refuses(
        "interview.answer",
        params,
        "invalid_params",
        &["params.answer", "score"],
    );
}

#[test]
fn a_missing_field_is_named_with_its_path() {
    let house = refusing();
    for method in BY_ID {
        house.refuses(method, json!({}), "invalid_params", &["params", "interview_id"]);
    }
    house.refuses(
        "interview.submit",
        json!({}),
        "invalid_params",
        &["params", "interview"],
    );
    house.refuses("interview.open", json!({}), "invalid_params", &["params", "interview"]);
    house.refuses(
        "events.unsubscribe",
        json!({}),
        "invalid_params",
        &["params", "subscription"],
    );
    house.refuses(
        "interview.answer",
        json!({"interview_id": "x"}),
        "invalid_params",
        &["params", "answer"],
    );
    for field in ["stage", "question", "answer"] {
        let mut interview = interview("x", &["네", "예"]);
        interview["answers"][1].as_object_mut().unwrap().remove(field);
        let params = json!({"interview": interview});
        house.refuses(
            "interview.submit",
            params,
            "invalid_params",
            &["params.interview.answers[1]", field],
        );
    }
    for field in ["answer_id", "stage", "question", "answer"] {
        let mut answer = json!({"answer_id": "a1", "stage": "intro", "question": "", "answer": ""});
        answer.as_object_mut().unwrap().remove(field);
        let params = json!({"interview_id": "x", "answer": answer});
        house.refuses("interview.answer", params, "invalid_params", &["params.answer", field]);
    }
}

#[test]
fn a_field_that_is_there_twice_is_named() {
    let house = refusing();
    let twice =
        br#"{"jsonrpc":"2.0","id":3,"method":"interview.get","params":{"interview_id":"a","interview_id":"b"}}"#;
    house.refuses_line(twice, &json!(3), "invalid_params", &["params", "interview_id"]);
    let line = br#"{"jsonrpc":"2.0","id":3,"method":"interview.submit","params":{"interview":{"answers":[{"stage":"intro","stage":"growth","question":"","answer":""}]}}}"#;
    house.refuses_line(
        line,
        &json!(3),
        "invalid_params",
        &["params.interview.answers[0]", "stage"],
    );
}

#[test]
fn a_parameter_without_parameters_at_all_is_missing_too() {
    let line = br#"{"jsonrpc":"2.0","id":3,"method":"interview.get"}"#;
    refusing().refuses_line(line, &json!(3), "invalid_params", &["interview_id"]);
}

#[test]
fn a_field_of_the_wrong_type_is_named_with_its_path() {
    let house = refusing();
    for (pointer, path, wrong) in [
        ("", "params.interview", json!(7)),
        ("", "params.interview", json!("x")),
        ("", "params.interview", json!(null)),
        ("/interview_id", "params.interview.interview_id", json!(7)),
        ("/language", "params.interview.language", json!(1)),
        ("/position", "params.interview.position", json!(["x"])),
        ("/company", "params.interview.company", json!("x")),
        ("/company/name", "params.interview.company.name", json!({})),
        ("/company/ideal", "params.interview.company.ideal", json!("x")),
        ("/company/ideal/0", "params.interview.company.ideal[0]", json!(3)),
        ("/candidate", "params.interview.candidate", json!(true)),
        (
            "/candidate/resume_summary",
            "params.interview.candidate.resume_summary",
            json!(1.5),
        ),
        ("/answers", "params.interview.answers", json!({})),
        ("/answers", "params.interview.answers", json!(null)),
        ("/answers/0", "params.interview.answers[0]", json!("네")),
        (
            "/answers/0/answer_id",
            "params.interview.answers[0].answer_id",
            json!(1),
        ),
        ("/answers/0/stage", "params.interview.answers[0].stage", json!(null)),
        (
            "/answers/0/question",
            "params.interview.answers[0].question",
            json!(null),
        ),
        ("/answers/1/answer", "params.interview.answers[1].answer", json!(5)),
        (
            "/answers/1/follow_up_of",
            "params.interview.answers[1].follow_up_of",
            json!(0),
        ),
    ] {
        let mut interview = interview("x", &["네", "예"]);
        interview["language"] = json!("ko");
        interview["position"] = json!("백엔드 개발자");
        interview["company"] = json!({"name": "한빛소프트", "ideal": ["주도성"]});
        interview["candidate"] = json!({"name": "김하나", "resume_summary": "…"});
        for answer in interview["answers"].as_array_mut().unwrap() {
            answer["answer_id"] = json!("a");
            answer["follow_up_of"] = Value::Null;
        }
        *interview.pointer_mut(pointer).unwrap() = wrong;
        house.refuses(
            "interview.submit",
            json!({"interview": interview}),
            "invalid_params",
            &[path],
        );
    }
    for method in BY_ID {
        house.refuses(
            method,
            json!({"interview_id": 7}),
            "invalid_params",
            &["params.interview_id"],
        );
    }
    house.refuses(
        "events.subscribe",
        json!({"interview_id": 7}),
        "invalid_params",
        &["params.interview_id"],
    );
    house.refuses(
        "events.unsubscribe",
        json!({"subscription": "x"}),
        "invalid_params",
        &["params.subscription"],
    );
}

#[test]
fn an_id_that_cannot_be_one_is_refused_wherever_it_is_used() {
    let house = refusing();
    let long = "x".repeat(129);
    for id in ["", "a b", " a", "a\n", "가", "a/b", "a\u{0}", &long] {
        for method in BY_ID.into_iter().chain(["events.subscribe"]) {
            house.refuses(method, json!({"interview_id": id}), "invalid_params", &["interview_id"]);
        }
        let answer = json!({"answer_id": "a1", "stage": "intro", "question": "", "answer": ""});
        let params = json!({"interview_id": id, "answer": answer});
        house.refuses("interview.answer", params, "invalid_params", &["interview_id"]);
    }
}

#[test]
fn what_does_not_exist_is_not_found() {
    let house = refusing();
    for method in BY_ID.into_iter().chain(["events.subscribe"]) {
        house.refuses(method, json!({"interview_id": "nobody"}), "not_found", &["nobody"]);
    }
    let answer = json!({"answer_id": "a1", "stage": "intro", "question": "", "answer": ""});
    let params = json!({"interview_id": "nobody", "answer": answer});
    house.refuses("interview.answer", params, "not_found", &["nobody"]);
    house.refuses(
        "events.unsubscribe",
        json!({"subscription": 4_711}),
        "not_found",
        &["4711"],
    );
}

#[test]
fn a_list_has_1_to_1000_interviews_of_a_known_state_after_a_known_place() {
    let house = refusing();
    for limit in [0, 1_001, u64::MAX] {
        let fault = house.refuses(
            "interview.list",
            json!({"limit": limit}),
            "invalid_params",
            &["params.limit", &limit.to_string(), "1000"],
        );
        assert_eq!(
            (&fault.0["data"]["limit"], &fault.0["data"]["actual"]),
            (&json!(1_000), &json!(limit))
        );
    }
    for limit in [json!(-1), json!(1.5), json!("10")] {
        house.refuses(
            "interview.list",
            json!({"limit": limit}),
            "invalid_params",
            &["params.limit"],
        );
    }
    for state in [json!("done"), json!("Complete"), json!(""), json!(1)] {
        house.refuses(
            "interview.list",
            json!({"state": state}),
            "invalid_params",
            &["params.state"],
        );
    }
    for after in ["x", "", "s", "szz", "s-1", "s+1", "sffffffffffffffffffff", "가", "0"] {
        house.refuses("interview.list", json!({"after": after}), "invalid_params", &[after]);
    }
    house.refuses(
        "interview.list",
        json!({"after": 1}),
        "invalid_params",
        &["params.after"],
    );
    let mut client = house.connect();
    for limit in [1, 1_000] {
        client.call("interview.list", json!({"limit": limit})).unwrap();
    }
    for state in ["open", "scoring", "reporting", "complete", "partial", "cancelled"] {
        client.call("interview.list", json!({"state": state})).unwrap();
    }
}

#[test]
fn a_wait_has_a_length_that_can_be() {
    let house = refusing();
    for timeout in [
        json!(-1),
        json!(1.5),
        json!("1"),
        json!(1e30),
        json!(86_400_001),
        json!(u64::MAX),
    ] {
        let params = json!({"interview_id": "x", "timeout_ms": timeout});
        house.refuses("report.wait", params, "invalid_params", &["params.timeout_ms"]);
    }
}

#[test]
fn a_report_has_one_of_the_known_formats() {
    let house = refusing();
    for format in [json!("html"), json!("pdf"), json!("JSON"), json!(""), json!(7)] {
        for method in ["report.get", "report.wait"] {
            let params = json!({"interview_id": "x", "format": format});
            house.refuses(method, params, "invalid_params", &["params.format"]);
        }
    }
}

#[test]
fn a_pool_has_at_least_one_actor_and_slot() {
    let house = refusing();
    for wrong in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("many"),
        json!("2"),
        json!(4_294_967_296u64),
        json!(true),
    ] {
        for field in ["slots_per_actor", "actors"] {
            let path = format!("params.{field}");
            house.refuses("pool.resize", json!({field: wrong}), "invalid_params", &[&path]);
        }
    }
}

#[test]
fn a_shutdown_has_a_length_that_can_be() {
    let house = refusing();
    for timeout in [json!(-1), json!(0.5), json!("1"), json!(86_401), json!(u64::MAX)] {
        let params = json!({"timeout_s": timeout});
        house.refuses("shutdown", params, "invalid_params", &["params.timeout_s"]);
    }
}

#[test]
fn an_admins_method_is_forbidden_to_a_client() {
    let house = House::of(World::simulated(0).set("socket.own_uid_is_admin=false"));
    let mut client = house.connect();
    assert_eq!(client.call("hello", json!({})).unwrap()["role"], "client");
    for method in ADMINS {
        fails(&mut client, method, json!({}), "forbidden", &[method]);
        // Whoever may not call it is not told how to either.
        fails(&mut client, method, json!({"extra": 1}), "forbidden", &[method]);
        let status = client.call("status", json!({})).unwrap();
        assert_ne!(status["state"], "draining");
    }
    assert_eq!(submit(&mut client, &interview("x", &["..."]))["created"], true);
    client.wait_for_report("x");
    client.call("interview.delete", json!({"interview_id": "x"})).unwrap();
}

#[test]
fn a_user_of_admin_uids_is_an_admin() {
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let world = World::simulated(0)
        .set("socket.own_uid_is_admin=false")
        .set(&format!("socket.admin_uids=[{uid}]"));
    let house = House::of(world);
    let mut client = house.connect();
    assert_eq!(client.call("hello", json!({})).unwrap()["role"], "admin");
    client.call("drain", json!({})).unwrap();
    assert_eq!(client.call("status", json!({})).unwrap()["state"], "draining");
    assert_alive(&mut client);
}
