//! Interviews and answers that are not as they must be: refused as a whole, with the field, the limit and the value.

use serde_json::{Value, json};

use crate::common::interview;
use crate::support::{FOREVER_MS, House, an_answer, answer, assert_alive, fails, get, open, refusing, submit};

/// Submitting and opening such an interview is refused so, and nothing of it is kept.
fn refused(interview: &Value, kind: &str, parts: &[&str]) {
    let house = refusing();
    for method in ["interview.submit", "interview.open"] {
        house.refuses(method, json!({"interview": interview}), kind, parts);
    }
}

fn with(pointer: &str, value: Value) -> Value {
    let mut interview = interview("x", &["네", "예", "아니요"]);
    interview["position"] = json!("개발자");
    interview["company"] = json!({"name": "한빛소프트", "ideal": ["주도성", "협업"]});
    interview["candidate"] = json!({"name": "김하나", "resume_summary": "…"});
    let (place, field) = pointer.rsplit_once('/').unwrap();
    interview.pointer_mut(place).unwrap()[field] = value;
    interview
}

/// Answers of these ids, stages and parents.
fn chain(answers: &[(&str, &str, Option<&str>)]) -> Value {
    let answers: Vec<_> = answers
        .iter()
        .map(|(id, stage, parent)| {
            json!({"answer_id": id, "stage": stage, "question": "왜요?", "answer": "네", "follow_up_of": parent})
        })
        .collect();
    json!({"interview_id": "x", "answers": answers})
}

fn many(answers: usize) -> Value {
    interview("x", &vec!["..."; answers])
}

#[test]
fn an_interview_without_answers_is_refused() {
    let house = refusing();
    for interview in [json!({"answers": []}), json!({}), json!({"interview_id": "x"})] {
        house.refuses(
            "interview.submit",
            json!({"interview": interview}),
            "invalid_params",
            &["answers", "empty"],
        );
    }
}

#[test]
fn an_interview_has_at_most_64_answers() {
    let house = refusing();
    for method in ["interview.submit", "interview.open"] {
        for answers in [65, 66, 1_000] {
            let params = json!({"interview": many(answers)});
            let fault = house.refuses(method, params, "too_large", &["answers", "64", &answers.to_string()]);
            assert_eq!(
                fault.0["data"],
                json!({"kind": "too_large", "limit": 64, "actual": answers, "path": "answers"})
            );
        }
    }
}

#[test]
fn an_open_interview_takes_no_65th_answer() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(&mut client, &many(63));
    answer(&mut client, "x", &an_answer("last", "..."));
    let params = json!({"interview_id": "x", "answer": an_answer("more", "...")});
    let fault = fails(
        &mut client,
        "interview.answer",
        params,
        "too_large",
        &["answers", "64", "65"],
    );
    assert_eq!(
        (&fault.0["data"]["limit"], &fault.0["data"]["actual"]),
        (&json!(64), &json!(65))
    );
    assert_eq!(get(&mut client, "x")["total"], 64);
    assert_eq!(
        answer(&mut client, "x", &an_answer("last", "..."))["created"],
        false,
        "a repeated one needs no room"
    );
    assert_alive(&mut client);
}

#[test]
fn an_unknown_stage_is_named_with_the_known_ones() {
    for stage in [
        "hobby",
        "",
        "Intro",
        "intro_followup",
        "motivation_followup",
        "skill_followup_followup",
        "_followup",
    ] {
        let parts = ["answers[1].stage", stage, "intro", "skill_followup", "final_statement"];
        refused(&with("/answers/1/stage", json!(stage)), "invalid_params", &parts);
    }
    let long = "x".repeat(100_000);
    refused(
        &with("/answers/1/stage", json!(long)),
        "invalid_params",
        &["answers[1].stage"],
    );
}

#[test]
fn a_follow_up_needs_a_parent() {
    let place = "answers[1].follow_up_of";
    let nobody = chain(&[("a1", "skill", None), ("a2", "skill_followup", None)]);
    refused(&nobody, "invalid_params", &[place, "skill_followup"]);
    let stranger = chain(&[("a1", "skill", None), ("a2", "skill_followup", Some("a7"))]);
    refused(&stranger, "invalid_params", &[place, "a7"]);
    let empty = chain(&[("a1", "skill", None), ("a2", "skill_followup", Some(""))]);
    refused(&empty, "invalid_params", &[place]);
    let no_id = chain(&[("a1", "skill", None), ("a2", "skill_followup", Some("a 1"))]);
    refused(&no_id, "invalid_params", &[place]);
}

#[test]
fn a_follow_up_is_not_its_own_parent() {
    let own = chain(&[("a1", "skill", None), ("a2", "skill_followup", Some("a2"))]);
    refused(&own, "invalid_params", &["answers[1].follow_up_of", "a2"]);
}

#[test]
fn a_follow_up_comes_after_its_parent() {
    let early = chain(&[
        ("a1", "skill", None),
        ("a2", "skill_followup", Some("a3")),
        ("a3", "skill", None),
    ]);
    refused(&early, "invalid_params", &["answers[1].follow_up_of", "a3"]);
}

#[test]
fn a_follow_up_has_the_base_stage_of_its_parent() {
    let place = "answers[1].follow_up_of";
    let other = chain(&[("a1", "experience", None), ("a2", "skill_followup", Some("a1"))]);
    refused(&other, "invalid_params", &[place, "a1", "experience", "skill"]);
    let of_another = chain(&[
        ("a1", "growth", None),
        ("a2", "growth_followup", Some("a1")),
        ("a3", "skill_followup", Some("a2")),
    ]);
    refused(
        &of_another,
        "invalid_params",
        &["answers[2].follow_up_of", "a2", "growth_followup"],
    );
}

#[test]
fn only_a_follow_up_has_a_parent() {
    for stage in ["skill", "motivation", "final_statement"] {
        let parent = chain(&[("a1", stage, None), ("a2", stage, Some("a1"))]);
        refused(&parent, "invalid_params", &["answers[1].follow_up_of", stage]);
    }
}

#[test]
fn two_answers_with_one_id_are_refused() {
    let twice = chain(&[("x", "intro", None), ("y", "skill", None), ("x", "growth", None)]);
    refused(&twice, "invalid_params", &["answers[2].answer_id", "x"]);
}

#[test]
fn a_left_out_id_that_another_answer_has_is_a_collision() {
    let mut collision = chain(&[("a2", "intro", None), ("?", "skill", None)]);
    collision["answers"][1].as_object_mut().unwrap().remove("answer_id");
    refused(&collision, "invalid_params", &["answers[1].answer_id", "a2"]);
    let mut later = chain(&[("?", "intro", None), ("a1", "skill", None)]);
    later["answers"][0]["answer_id"] = Value::Null;
    refused(&later, "invalid_params", &["answers[1].answer_id", "a1"]);
}

#[test]
fn a_text_over_its_limit_is_too_large() {
    for (pointer, path, limit) in [
        ("/answers/1/question", "answers[1].question", 4_000),
        ("/answers/2/answer", "answers[2].answer", 20_000),
        ("/candidate/resume_summary", "candidate.resume_summary", 4_000),
        ("/candidate/name", "candidate.name", 4_000),
        ("/position", "position", 4_000),
        ("/company/name", "company.name", 4_000),
    ] {
        let text = "가".repeat(limit + 1);
        let parts = [path, &limit.to_string(), &(limit + 1).to_string()];
        refused(&with(pointer, json!(text)), "too_large", &parts);
    }
    let ideal = with("/company/ideal", json!(["x", "가".repeat(4_001)]));
    refused(&ideal, "too_large", &["company.ideal[1]", "4000", "4001"]);
}

#[test]
fn a_text_at_its_limit_is_accepted_in_code_points() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let mut full = with("/answers/1/question", json!("😀".repeat(4_000)));
    full["answers"][2]["answer"] = json!("😀".repeat(20_000));
    full["candidate"]["resume_summary"] = json!("가".repeat(4_000));
    full["answers"][0]["answer_id"] = json!("A-z0.9_:".repeat(16));
    full["interview_id"] = json!("x".repeat(128));
    assert_eq!(submit(&mut client, &full)["created"], true);
    let mut most = many(64);
    most["interview_id"] = json!("most");
    assert_eq!(submit(&mut client, &most)["answers"].as_array().unwrap().len(), 64);
    assert_alive(&mut client);
}

#[test]
fn control_characters_are_refused_in_every_text() {
    for (pointer, path) in [
        ("/answers/0/answer", "answers[0].answer"),
        ("/answers/2/question", "answers[2].question"),
        ("/position", "position"),
        ("/company/name", "company.name"),
        ("/candidate/name", "candidate.name"),
        ("/candidate/resume_summary", "candidate.resume_summary"),
    ] {
        refused(&with(pointer, json!("a\u{0}b")), "invalid_params", &[path, "U+0000"]);
    }
    refused(
        &with("/company/ideal", json!(["x", "\u{1b}"])),
        "invalid_params",
        &["company.ideal[1]", "U+001B"],
    );
    for control in [
        '\u{0}', '\u{1}', '\u{7}', '\u{8}', '\u{b}', '\u{c}', '\u{1b}', '\u{1f}', '\u{7f}', '\u{85}', '\u{9f}',
    ] {
        let code = format!("U+{:04X}", u32::from(control));
        let text = format!("네{control}네");
        refused(
            &with("/answers/0/answer", json!(text)),
            "invalid_params",
            &["answers[0].answer", &code],
        );
    }
}

#[test]
fn line_breaks_and_tabs_are_no_control_characters_here() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    let mut interview = with("/answers/0/answer", json!("한 줄\r\n두 줄\n\t세 줄"));
    interview["answers"][0]["question"] = json!("\n왜\t요?\r");
    interview["candidate"]["resume_summary"] = json!("\r\n\t");
    assert_eq!(submit(&mut client, &interview)["created"], true);
    assert_alive(&mut client);
}

#[test]
fn an_id_that_cannot_be_one_is_refused() {
    for id in ["", "a b", " ", "가", "a/b", "a\tb", &"x".repeat(129)] {
        refused(&with("/interview_id", json!(id)), "invalid_params", &["interview_id"]);
        refused(
            &with("/answers/1/answer_id", json!(id)),
            "invalid_params",
            &["answers[1].answer_id"],
        );
    }
    refused(
        &with("/interview_id", json!("x".repeat(129))),
        "invalid_params",
        &["128", "129"],
    );
}

#[test]
fn a_language_is_korean_or_english() {
    for language in ["fr", "KO", "", "korean", "ko "] {
        refused(
            &with("/language", json!(language)),
            "invalid_params",
            &["language", "ko", "en"],
        );
    }
}

#[test]
fn a_bad_answer_leaves_an_open_interview_as_it_was() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    open(&mut client, &json!({"interview_id": "x"}));
    answer(
        &mut client,
        "x",
        &json!({"answer_id": "s", "stage": "skill", "question": "왜요?", "answer": "네"}),
    );
    let bad = |field: &str, value: Value| {
        let mut answer = an_answer("n", "네");
        answer[field] = value;
        answer
    };
    let follow_up = |parent: Value| {
        let mut answer = bad("stage", json!("experience_followup"));
        answer["follow_up_of"] = parent;
        answer
    };
    for (answer, kind, parts) in [
        (
            bad("stage", json!("hobby")),
            "invalid_params",
            ["answer.stage", "hobby"],
        ),
        (
            bad("answer_id", json!("a b")),
            "invalid_params",
            ["answer.answer_id", "' '"],
        ),
        (
            bad("follow_up_of", json!("s")),
            "invalid_params",
            ["answer.follow_up_of", "intro"],
        ),
        (
            follow_up(Value::Null),
            "invalid_params",
            ["answer.follow_up_of", "experience_followup"],
        ),
        (
            follow_up(json!("later")),
            "invalid_params",
            ["answer.follow_up_of", "later"],
        ),
        (follow_up(json!("n")), "invalid_params", ["answer.follow_up_of", "n"]),
        (
            follow_up(json!("s")),
            "invalid_params",
            ["answer.follow_up_of", "skill"],
        ),
        (
            bad("answer", json!("x".repeat(20_001))),
            "too_large",
            ["answer.answer", "20001"],
        ),
        (
            bad("question", json!("x".repeat(4_001))),
            "too_large",
            ["answer.question", "4001"],
        ),
        (
            bad("answer", json!("\u{0}")),
            "invalid_params",
            ["answer.answer", "U+0000"],
        ),
        (bad("answer_id", json!("s")), "conflict", ["s", "content"]),
    ] {
        let params = json!({"interview_id": "x", "answer": answer});
        fails(&mut client, "interview.answer", params, kind, &parts);
        let seen = get(&mut client, "x");
        assert_eq!((&seen["total"], &seen["state"]), (&json!(1), &json!("open")));
        assert_alive(&mut client);
    }
}
