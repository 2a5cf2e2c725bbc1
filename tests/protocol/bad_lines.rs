//! Lines that are no request: refused with what is wrong, and the connection goes on.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::common::{eventually, interview};
use crate::support::{House, Raw, assert_fault, members, refusing};

const LINE_BYTES_MAX: usize = 16 << 20;

/// Several of the longest lines at once are more than all connections may hold.
fn with_the_longest_line<T>(test: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    test()
}

#[test]
fn a_line_that_is_not_json_is_a_parse_error() {
    let house = refusing();
    for line in [
        "nonsense",
        "{",
        r#"{"jsonrpc":"2.0","id":1,"method":"status""#,
        r#"{"jsonrpc":"2.0","id":1,"method":"status"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"status"} {"jsonrpc":"2.0","id":2,"method":"status"}"#,
        r#"{'jsonrpc':'2.0'}"#,
        r#"{"jsonrpc":"2.0","id":01,"method":"status"}"#,
        r#"{"jsonrpc":"2.0","id":NaN,"method":"status"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"status",}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"stat\us"}"#,
        "GET / HTTP/1.1",
        "\u{feff}{}",
    ] {
        house.refuses_line(line.as_bytes(), &Value::Null, "parse", &["JSON"]);
    }
}

#[test]
fn a_batch_is_refused_as_a_whole() {
    let house = refusing();
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"status"},{"jsonrpc":"2.0","id":2,"method":"status"}]"#;
    for line in [batch, "[]", "  [1]"] {
        house.refuses_line(line.as_bytes(), &Value::Null, "invalid_request", &["batch"]);
    }
}

#[test]
fn json_that_is_no_request_is_an_invalid_request() {
    let house = refusing();
    for line in ["1", "\"status\"", "null", "true", "-0.5"] {
        house.refuses_line(line.as_bytes(), &Value::Null, "invalid_request", &["object"]);
    }
    for (line, id, part) in [
        (r#"{}"#, Value::Null, "jsonrpc"),
        (r#"{"id":7,"method":"status"}"#, json!(7), "jsonrpc"),
        (r#"{"jsonrpc":"1.0","id":7,"method":"status"}"#, json!(7), "jsonrpc"),
        (r#"{"jsonrpc":2.0,"id":"x","method":"status"}"#, json!("x"), "jsonrpc"),
        (r#"{"jsonrpc":"2.0","id":7}"#, json!(7), "method"),
        (r#"{"jsonrpc":"2.0","id":7,"method":7}"#, json!(7), "method"),
        (r#"{"jsonrpc":"2.0","id":7,"method":null}"#, json!(7), "method"),
        (r#"{"jsonrpc":"2.0","method":7}"#, Value::Null, "method"),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"status","id":8}"#,
            Value::Null,
            "id",
        ),
    ] {
        house.refuses_line(line.as_bytes(), &id, "invalid_request", &[part]);
    }
}

#[test]
fn an_unknown_member_of_a_request_is_named() {
    let line = r#"{"jsonrpc":"2.0","id":7,"method":"status","parms":{}}"#;
    refusing().refuses_line(line.as_bytes(), &json!(7), "invalid_request", &["parms"]);
}

#[test]
fn an_id_that_is_no_id_is_refused() {
    let house = refusing();
    for id in ["{}", "[1]", "true", "false"] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"status"}}"#);
        house.refuses_line(line.as_bytes(), &Value::Null, "invalid_request", &["id"]);
    }
    let line = format!(
        r#"{{"jsonrpc":"2.0","id":"{}","method":"status"}}"#,
        "x".repeat(100_000)
    );
    house.refuses_line(line.as_bytes(), &Value::Null, "invalid_request", &["id"]);
}

#[test]
fn an_id_comes_back_as_it_was_sent() {
    let house = refusing();
    let mut raw = Raw::connect(&house);
    for id in [
        "1",
        "-1",
        "0",
        "1.50",
        "1e3",
        "123456789012345678901234567890",
        "\"\"",
        "\"가 \\n b\"",
        "null",
    ] {
        raw.send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"hello\"}}\n").as_bytes());
        let reply = raw.line().unwrap();
        assert!(
            reply.contains(&format!("\"id\":{id},")) || reply.contains(&format!("\"id\":{id}}}")),
            "{reply}"
        );
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(members(&reply), ["id", "jsonrpc", "result"], "{reply}");
    }
}

#[test]
fn empty_lines_and_carriage_returns_are_no_requests() {
    let house = refusing();
    let mut raw = Raw::connect(&house);
    raw.send(b"\n\r\n\n{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"hello\"}\r\n");
    assert!(raw.line().unwrap().contains("\"id\":5"));
    raw.close_writing();
    assert_eq!(raw.line(), None);
}

#[test]
fn a_line_over_16_mib_is_too_large_and_its_connection_is_closed() {
    let house = refusing();
    let mut raw = Raw::connect(&house);
    let mut writer = raw.writer();
    let reply = with_the_longest_line(|| {
        let sending = std::thread::spawn(move || {
            let mebibyte = vec![b'x'; 1 << 20];
            // The daemon may close before it has read everything.
            (0..17).all(|_| writer.write_all(&mebibyte).is_ok())
        });
        let reply = raw.line().unwrap();
        sending.join().unwrap();
        reply
    });
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply["id"], Value::Null);
    let fault = crate::common::result_of(reply).unwrap_err();
    assert_fault(&fault, "too_large", &["line", "16777216"]);
    assert_eq!(fault.0["data"]["limit"], LINE_BYTES_MAX);
    raw.close_writing();
    assert_eq!(raw.line(), None, "the connection is closed");
    house.connect().call("status", json!({})).unwrap();
}

#[test]
fn a_line_of_exactly_16_mib_is_read() {
    let head = r#"{"jsonrpc":"2.0","id":9,"method":"status","params":{"x":[""#;
    let tail = r#""]}}"#;
    let texts = format!(r#"{}",""#, "x".repeat(100_000)).repeat(167);
    let last = "x".repeat(LINE_BYTES_MAX - head.len() - texts.len() - tail.len());
    let line = format!("{head}{texts}{last}{tail}");
    assert_eq!(line.len(), LINE_BYTES_MAX);
    with_the_longest_line(|| refusing().refuses_line(line.as_bytes(), &json!(9), "invalid_params", &["x"]));
}

#[test]
fn a_line_that_is_one_escaped_text_is_told_that_the_text_is_too_large() {
    let head = r#"{"jsonrpc":"2.0","id":9,"method":"interview.submit","params":{"interview":{"position":"\n"#;
    let tail = r#""}}}"#;
    let line = format!("{head}{}{tail}", "x".repeat(LINE_BYTES_MAX - head.len() - tail.len()));
    assert_eq!(line.len(), LINE_BYTES_MAX);
    let parts = ["interview.position", "524288"];
    with_the_longest_line(|| refusing().refuses_line(line.as_bytes(), &json!(9), "too_large", &parts));
}

#[test]
fn bytes_that_are_no_utf8_are_a_parse_error() {
    let house = refusing();
    for bytes in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b"\xf8\x88\x80\x80\x80",
        b"\xea\xb0",
    ] {
        let mut line = br#"{"jsonrpc":"2.0","id":1,"method":"interview.submit","params":{"interview":{"answers":[
            {"stage":"intro","question":"q","answer":""#
            .iter()
            .filter(|byte| **byte != b'\n')
            .copied()
            .collect::<Vec<_>>();
        line.extend_from_slice(bytes);
        line.extend_from_slice(br#""}]}}}"#);
        house.refuses_line(&line, &Value::Null, "parse", &["UTF-8"]);
    }
}

#[test]
fn a_lone_surrogate_is_a_parse_error() {
    let house = refusing();
    let with = |text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"interview.submit","params":{{"interview":{{"answers":[{{"stage":"nowhere","question":"q","answer":"{text}"}}]}}}}}}"#
        )
    };
    for text in [
        r"\ud800",
        r"\udc00",
        r"a\ud800b",
        r"\ud800\u0041",
        r"\ud800\ud800",
        r"\udc00\ud800",
        r"\uD8",
    ] {
        house.refuses_line(with(text).as_bytes(), &Value::Null, "parse", &[]);
    }
    // A pair is one character: what is refused is the stage.
    house.refuses_line(
        with(r"\ud83d\ude00").as_bytes(),
        &json!(1),
        "invalid_params",
        &["nowhere"],
    );
    let method = r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#;
    house.refuses_line(method.as_bytes(), &Value::Null, "parse", &[]);
}

#[test]
fn raw_control_characters_in_a_text_are_a_parse_error() {
    let house = refusing();
    for control in ["\0", "\u{1}", "\t", "\u{1f}"] {
        let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sta{control}tus\"}}");
        house.refuses_line(line.as_bytes(), &Value::Null, "parse", &["JSON"]);
    }
}

#[test]
fn deep_nesting_is_a_parse_error() {
    let house = refusing();
    let depth = 100_000;
    let arrays = "[".repeat(depth) + &"]".repeat(depth);
    let objects = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    for deep in [&arrays, &objects, &"[".repeat(depth)] {
        house.refuses_line(deep.as_bytes(), &Value::Null, "parse", &["JSON"]);
        let inside = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"status","params":{{"x":{deep}}}}}"#);
        house.refuses_line(inside.as_bytes(), &Value::Null, "parse", &["JSON"]);
        let inside =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"interview.submit","params":{{"interview":{deep}}}}}"#);
        house.refuses_line(inside.as_bytes(), &Value::Null, "parse", &["JSON"]);
    }
}

#[test]
fn a_notification_is_carried_out_and_gets_no_reply() {
    let house = House::simulated(0);
    let mut client = house.connect();
    let notify =
        |method: &str, params: Value| json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string();
    client.send_line(&notify(
        "interview.submit",
        json!({"interview": interview("told", &["..."])}),
    ));
    client.send_line(&notify("interview.submit", json!({"interview": {"answers": []}})));
    client.send_line(&notify("no.such.method", json!({})));
    client.send_line(&notify("interview.get", json!({"interview_id": "nobody"})));
    client.send_line(&notify("events.unsubscribe", json!({"subscription": 7})));
    // `call` insists that the next line is its own reply.
    client.call("status", json!({})).unwrap();
    eventually("the notification is carried out", || {
        client.call("interview.get", json!({"interview_id": "told"})).ok()
    });
    let list = client.call("interview.list", json!({})).unwrap();
    assert_eq!(list["interviews"].as_array().unwrap().len(), 1);
}
