//! What a line means, and what a line that means nothing is told.

use serde_json::Value;

use super::super::call::{Call, Count, Format};
use super::super::fault::Kind;
use super::super::params::Asked;
use super::super::service::Role;
use super::super::wire::{self, Request};

fn read(line: impl AsRef<[u8]>) -> Request {
    wire::read(line.as_ref(), Role::Admin)
}

fn call(method: &str, params: &str) -> Call {
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    match read(line).asked {
        Ok(Asked::Call(call)) => call,
        other => panic!("{other:?}"),
    }
}

fn refused(line: impl AsRef<[u8]>) -> (Kind, String) {
    let fault = read(line).asked.expect_err("must be refused");
    (fault.kind, fault.message)
}

fn refused_params(method: &str, params: &str) -> String {
    let (kind, message) = refused(format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#
    ));
    assert_eq!(kind, Kind::InvalidParams, "{message}");
    message
}

#[test]
fn every_method_of_the_contract_is_read() {
    let id = r#"{"interview_id":"x"}"#;
    let interview = r#"{"interview":{"answers":[{"stage":"intro","question":"q","answer":"a"}]}}"#;
    let answer =
        r#"{"interview_id":"x","answer":{"answer_id":"a1","stage":"intro","question":"q","answer":"한\"\n\u00e9"}}"#;
    assert!(matches!(call("hello", "{}"), Call::Hello));
    assert!(matches!(call("status", "{}"), Call::Status));
    assert!(matches!(call("interview.submit", interview), Call::Submit(draft) if draft.answers.len() == 1));
    assert!(matches!(call("interview.open", r#"{"interview":{}}"#), Call::Open(draft) if draft.answers.is_empty()));
    assert!(matches!(call("interview.answer", answer), Call::Answer { answer, .. } if answer.answer == "한\"\né"));
    assert!(matches!(call("interview.finish", id), Call::Finish { interview_id } if interview_id == "x"));
    assert!(matches!(call("interview.get", id), Call::Get { .. }));
    assert!(matches!(call("interview.retry", id), Call::Retry { .. }));
    assert!(matches!(call("interview.cancel", id), Call::Cancel { .. }));
    assert!(matches!(call("interview.delete", id), Call::Delete { .. }));
    assert!(
        matches!(call("interview.list", r#"{"state":"open","limit":1000,"after":"y"}"#), Call::List(list) if list.limit == Some(1_000))
    );
    assert!(matches!(
        call("report.get", id),
        Call::Report {
            format: Format::Json,
            ..
        }
    ));
    let markdown = r#"{"interview_id":"x","format":"markdown"}"#;
    assert!(matches!(
        call("report.get", markdown),
        Call::Report {
            format: Format::Markdown,
            ..
        }
    ));
    assert!(matches!(
        call("report.wait", id),
        Call::WaitForReport { timeout_ms: 60_000, .. }
    ));
    assert!(
        matches!(call("pool.resize", r#"{"slots_per_actor":"auto","actors":2}"#), Call::Resize(to) if to.actors == Some(Count::Number(2)))
    );
    assert!(matches!(call("config.reload", "{}"), Call::ReloadConfig));
    assert!(matches!(call("store.export", "{}"), Call::Export { after: None }));
    assert!(matches!(call("drain", "{}"), Call::Drain));
    assert!(matches!(call("resume", "{}"), Call::Resume));
    assert!(matches!(
        call("shutdown", r#"{"timeout_s":3}"#),
        Call::Shutdown { timeout_s: Some(3) }
    ));
}

#[test]
fn an_id_is_a_string_a_number_or_null_and_comes_back_as_it_was_written() {
    for id in ["1", "-7", "1.50", "\"a\\u0062\"", "null", "\"\""] {
        let request = read(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"status"}}"#));
        assert!(request.asked.is_ok());
        assert_eq!(request.id.unwrap().raw().get(), id);
    }
    for id in ["true", "[1]", "{}", &format!("\"{}\"", "x".repeat(2_000))] {
        let request = read(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"status"}}"#));
        assert_eq!(request.asked.unwrap_err().kind, Kind::InvalidRequest);
        assert_eq!(request.id.unwrap().raw().get(), "null");
    }
    assert!(read(r#"{"jsonrpc":"2.0","method":"status"}"#).id.is_none());
}

#[test]
fn what_is_no_json_rpc_request_is_refused_with_what_is_wrong() {
    let cases = [
        ("[]", "batches"),
        (r#" [{"jsonrpc":"2.0","id":1,"method":"status"}]"#, "batches"),
        ("17", "must be a JSON object"),
        (r#""status""#, "must be a JSON object"),
        (r#"{"id":1,"method":"status"}"#, "`jsonrpc` is missing"),
        (
            r#"{"jsonrpc":"1.0","id":1,"method":"status"}"#,
            "`jsonrpc` must be \"2.0\"",
        ),
        (
            r#"{"jsonrpc":2.0,"id":1,"method":"status"}"#,
            "`jsonrpc` must be \"2.0\"",
        ),
        (r#"{"jsonrpc":"2.0","id":1}"#, "`method` is missing"),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "`method` must be a string"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"status","extra":[1]}"#,
            "unknown member \"extra\"",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"status"}"#,
            "`id` is there twice",
        ),
    ];
    for (line, problem) in cases {
        let (kind, message) = refused(line);
        assert_eq!(kind, Kind::InvalidRequest, "{line}");
        assert!(message.contains(problem), "{line}: {message}");
        assert!(read(line).id.is_some(), "also without an id there is a reply: {line}");
    }
    let known = read(r#"{"jsonrpc":"2.0","id":5,"method":"status","extra":1}"#);
    assert_eq!(known.id.unwrap().raw().get(), "5");
}

#[test]
fn what_is_no_json_is_refused_with_its_place_whatever_it_asks_for() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{}"#,
        "[".repeat(100_000)
    );
    let cases: [(&[u8], &str); 9] = [
        (b"{", "at byte 1"),
        (b"hello", "at byte 1"),
        (br#"{"jsonrpc":"2.0","id":1,"method":"status"} x"#, "at byte 44"),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"nope","params":{"a":"\ud800"}}"#,
            "surrogate",
        ),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"nope","params":{"\ud800":1}}"#,
            "surrogate",
        ),
        (br#""\udc00\ud800""#, "a lone surrogate"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\"}", "not UTF-8: byte 24"),
        (
            b"{\"a\":\"\x00\"}",
            "control character (\\u0000-\\u001F) found while parsing a string",
        ),
        (deep.as_bytes(), "recursion limit exceeded"),
    ];
    for (line, problem) in cases {
        let (kind, message) = refused(line);
        assert_eq!(kind, Kind::Parse, "{message}");
        assert!(message.contains(problem), "{problem}: {message}");
        assert_eq!(read(line).id.unwrap().raw().get(), "null");
    }
    let whole = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refused(whole).0, Kind::Parse);
}

#[test]
fn a_line_of_very_many_values_is_too_large_before_anything_is_made_of_it() {
    let line = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"status","params":{{"a":[{}0]}}}}"#,
        "0,".repeat(10_000)
    );
    let fault = read(line).asked.unwrap_err();
    assert_eq!(
        (fault.kind, &fault.data["limit"]),
        (Kind::TooLarge, &Value::from(10_000))
    );
}

#[test]
fn a_request_says_how_much_memory_it_takes() {
    let with_ideals = |count: usize| {
        let ideals = vec!["\"\""; count].join(",");
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"interview.open","params":{{"interview":{{"company":{{"ideal":[{ideals}]}}}}}}}}"#
        )
    };
    let [few, many] = [1, 9_000].map(with_ideals);
    assert!((few.len()..few.len() + 2_000).contains(&read(&few).bytes));
    // A list of nothing but empty texts becomes many times what was sent.
    assert!(read(&many).bytes > many.len() + 9_000 * size_of::<String>() * 2);
    assert_eq!(read("[").bytes, 0, "what is refused is not kept");
}

#[test]
fn texts_with_escapes_are_what_decoding_takes_memory_for() {
    let cases = [
        (r#"{"a":"plain","b":["also","plain"]}"#, 0),
        (r#"{"a":"x\"y","b":"a longer one"}"#, 3),
        (r#"["\\","one\ntwo"]"#, 7),
        (r#"["never ends \"#, 12),
        ("", 0),
    ];
    for (line, bytes) in cases {
        assert_eq!(wire::decoding_bytes(line.as_bytes()), bytes, "{line}");
    }
}

#[test]
fn a_text_in_the_wrong_place_is_not_repeated() {
    let misplaced = refused_params(
        "interview.submit",
        r#"{"interview":{"answers":"제 \"비밀\", expected 답변"}}"#,
    );
    assert_eq!(
        misplaced,
        "params.interview.answers: invalid type: a text, expected a sequence"
    );
}

#[test]
fn parameters_are_refused_by_their_path() {
    let answers = |third: &str| {
        let fine = r#"{"stage":"intro","question":"q","answer":"a"}"#;
        format!(r#"{{"interview":{{"answers":[{fine},{fine},{third}]}}}}"#)
    };
    let missing = refused_params("interview.submit", &answers(r#"{"question":"q","answer":"a"}"#));
    assert_eq!(missing, "params.interview.answers[2]: missing field `stage`");
    let wrong = refused_params(
        "interview.submit",
        &answers(r#"{"stage":7,"question":"q","answer":"a"}"#),
    );
    assert!(
        wrong.starts_with("params.interview.answers[2].stage: invalid type: integer `7`"),
        "{wrong}"
    );
    let unknown = refused_params("interview.open", r#"{"interview":{"company":{"nmae":"x"}}}"#);
    assert!(
        unknown.starts_with("params.interview.company") && unknown.contains("unknown field `nmae`"),
        "{unknown}"
    );
    let twice = refused_params("interview.get", r#"{"interview_id":"a","interview_id":"b"}"#);
    assert!(twice.contains("duplicate field `interview_id`"), "{twice}");
    assert_eq!(
        refused_params("interview.get", "{}"),
        "params: missing field `interview_id`"
    );
    assert!(refused_params("status", r#"{"a":1}"#).starts_with("params"));
    for params in ["[]", "[1]", "null", "7", "\"x\""] {
        assert!(refused_params("status", params).contains("must be an object"));
    }
    let anonymous = r#"{"interview_id":"x","answer":{"stage":"intro","question":"q","answer":"a"}}"#;
    assert!(refused_params("interview.answer", anonymous).starts_with("params.answer: missing field `answer_id`"));
    let html = refused_params("report.get", r#"{"interview_id":"x","format":"html"}"#);
    assert!(
        html.starts_with("params.format: ") && html.contains("`json` or `markdown`"),
        "{html}"
    );
    assert!(refused_params("events.subscribe", r#"{"interview_id":"a b"}"#).starts_with("params.interview_id: "));
    assert!(refused_params("events.unsubscribe", r#"{"subscription":"x"}"#).starts_with("params.subscription: "));
}

#[test]
fn numbers_have_limits() {
    for limit in ["0", "1001"] {
        let message = refused_params("interview.list", &format!(r#"{{"limit":{limit}}}"#));
        assert_eq!(message, format!("params.limit: is {limit}, it must be from 1 to 1000"));
    }
    assert!(refused_params("interview.list", r#"{"limit":-1}"#).starts_with("params.limit: "));
    assert!(refused_params("interview.list", r#"{"state":"lost"}"#).starts_with("params.state: "));
    let wait = r#"{"interview_id":"x","timeout_ms":86400001}"#;
    assert!(refused_params("report.wait", wait).starts_with("params.timeout_ms: is 86400001"));
    assert!(refused_params("report.wait", r#"{"interview_id":"x","timeout_ms":1.5}"#).starts_with("params.timeout_ms"));
    assert!(refused_params("shutdown", r#"{"timeout_s":86401}"#).starts_with("params.timeout_s: is 86401"));
    assert!(refused_params("pool.resize", r#"{"actors":0}"#).starts_with("params.actors: "));
}

#[test]
fn no_text_or_name_of_the_parameters_is_longer_than_any_that_may_be_there() {
    let [most, more] = [0, 1].map(|more| "x".repeat(wire::TEXT_BYTES_MAX - 1 + more));
    let line =
        |method: &str, params: String| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let answer = |text: &str| {
        let answers = format!(r#"[{{"stage":"intro","question":"q","answer":"\n{text}"}}]"#);
        line(
            "interview.submit",
            format!(r#"{{"interview":{{"answers":{answers}}}}}"#),
        )
    };
    assert!(read(answer(&most)).asked.is_ok(), "what it means is another's business");
    let one_more = format!(r#"{{"interview_id":"x","answer":{{"answer_id":"a","question":"x{more}"}}}}"#);
    for (line, place, field) in [
        (
            answer(&more),
            "params.interview.answers[0].answer: has",
            "answers[0].answer",
        ),
        (
            line("interview.answer", one_more),
            "params.answer.question: has",
            "answer.question",
        ),
        (
            line("status", format!(r#"{{"a":[1,{{"b":"x{more}"}}]}}"#)),
            "params.a[1].b: has",
            "a[1].b",
        ),
    ] {
        let fault = read(line).asked.unwrap_err();
        assert_eq!((fault.kind, &fault.data["path"]), (Kind::TooLarge, &field.into()));
        assert!(fault.message.starts_with(place), "{}", fault.message);
        for part in ["524289 bytes", "more than 524288 bytes", "in characters"] {
            assert!(fault.message.contains(part), "{part}: {}", fault.message);
        }
        let figures = ["limit", "actual"].map(|figure| fault.data[figure].as_u64().unwrap() as usize);
        assert_eq!(figures, [wire::TEXT_BYTES_MAX, wire::TEXT_BYTES_MAX + 1]);
    }
    let name = line("status", format!(r#"{{"{}":1}}"#, "x".repeat(wire::NAME_BYTES_MAX + 1)));
    let fault = read(name).asked.unwrap_err();
    assert_eq!(
        (fault.kind, &fault.data["limit"]),
        (Kind::TooLarge, &wire::NAME_BYTES_MAX.into())
    );
    assert!(
        fault.message.starts_with("params: a name has 1025 bytes") && fault.message.ends_with("more than 1024 bytes"),
        "{}",
        fault.message
    );
    let unknown = line("nope", format!(r#"{{"x{more}":1}}"#));
    assert_eq!(refused(unknown).0, Kind::UnknownMethod);
    let others = line("drain", format!(r#"{{"x{more}":1}}"#));
    assert_eq!(
        wire::read(others.as_bytes(), Role::Client).asked.unwrap_err().kind,
        Kind::Forbidden
    );
    assert_eq!(refused(answer(&more) + "}").0, Kind::Parse);
}

#[test]
fn messages_stay_short_whatever_was_sent() {
    let long = "가".repeat(wire::TEXT_BYTES_MAX / 3);
    let method = refused(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{long}"}}"#));
    assert_eq!(method.0, Kind::UnknownMethod);
    assert!(method.1.chars().count() < 80, "{}", method.1);
    let name = "가".repeat(wire::NAME_BYTES_MAX / 3);
    let field = refused_params("interview.list", &format!(r#"{{"{name}":1}}"#));
    assert!(
        field.chars().count() < 2_000 && field.ends_with("`state`, `limit`, `after`"),
        "{field}"
    );
    let value = refused_params("interview.list", &format!(r#"{{"limit":"{long}"}}"#));
    assert!(value.chars().count() < 2_000, "{value}");
    for method in ["interview.list", "store.export"] {
        let place = refused_params(method, &format!(r#"{{"after":"{long}"}}"#));
        assert!(place.starts_with("params.after: has 524286 bytes"), "{place}");
    }
    let member = refused(format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"status","{long}":"{long}"}}"#
    ));
    assert!(member.1.chars().count() < 200, "{}", member.1);
}

#[test]
fn what_is_for_admins_is_refused_before_its_parameters_are_read() {
    for method in [
        "pool.resize",
        "config.reload",
        "store.export",
        "drain",
        "resume",
        "shutdown",
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":[]}}"#);
        let fault = wire::read(line.as_bytes(), Role::Client).asked.unwrap_err();
        assert_eq!(fault.kind, Kind::Forbidden, "{method}");
        assert!(fault.message.starts_with(method));
    }
    for method in ["metrics", "interview", "Status", ""] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":[]}}"#);
        assert_eq!(refused(line).0, Kind::UnknownMethod, "{method}");
    }
}
