//! What the daemon writes, a line each: results, faults and events.

use serde::Serialize;
use serde_json::value::RawValue;

use super::buffer;
use super::fault::{Fault, Kind};
use super::notification::EventNotification;
use super::wire::Id;

const VERSION: &str = "2.0";
/// More than a line has around its id and its result.
const FRAME_BYTES: usize = 64;
/// What most faults and events fit into.
const SHORT_BYTES: usize = 256;

/// The method of the notifications that a subscription brings.
pub const EVENT_METHOD: &str = "event";

#[derive(Serialize)]
struct ResultLine<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    result: &'a RawValue,
}

#[derive(Serialize)]
struct FaultLine<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: i32,
    message: &'a str,
    data: ErrorData<'a>,
}

#[derive(Serialize)]
struct ErrorData<'a> {
    kind: Kind,
    #[serde(flatten)]
    data: &'a serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct EventLine<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a EventNotification,
}

pub fn result(id: &Id, result: &RawValue) -> Vec<u8> {
    let bytes = FRAME_BYTES + id.raw().get().len() + result.get().len();
    let object = ResultLine {
        jsonrpc: VERSION,
        id: id.raw(),
        result,
    };
    line(&object, bytes)
}

pub fn fault(id: &Id, fault: &Fault) -> Vec<u8> {
    let object = FaultLine {
        jsonrpc: VERSION,
        id: id.raw(),
        error: ErrorObject {
            code: fault.kind.code(),
            message: &fault.message,
            data: ErrorData {
                kind: fault.kind,
                data: &fault.data,
            },
        },
    };
    line(&object, SHORT_BYTES)
}

pub fn event(notification: &EventNotification) -> Vec<u8> {
    let object = EventLine {
        jsonrpc: VERSION,
        method: EVENT_METHOD,
        params: notification,
    };
    line(&object, SHORT_BYTES)
}

/// `bytes`: how long it will be, roughly.
fn line(object: &impl Serialize, bytes: usize) -> Vec<u8> {
    let mut line = buffer::with_room(bytes);
    serde_json::to_writer(&mut line, object).expect("texts, numbers and JSON that is already there become JSON");
    // JSON that came ready-made may be laid out in lines; within its strings there is no bare line break.
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_its_code_its_kind_and_its_data() {
        let fault_line = fault(&Id::null(), &Fault::too_large("answers: has 65", 64, 65));
        let value: serde_json::Value = serde_json::from_slice(&fault_line).unwrap();
        let data = serde_json::json!({"kind": "too_large", "limit": 64, "actual": 65});
        let error = serde_json::json!({"code": -32_004, "message": "answers: has 65", "data": data});
        assert_eq!(value, serde_json::json!({"jsonrpc": "2.0", "id": null, "error": error}));
    }

    #[test]
    fn a_result_that_is_laid_out_in_lines_becomes_one_line() {
        let pretty = RawValue::from_string("{\n  \"a\":\r\n \"x\\ny\"\n}".to_owned()).unwrap();
        let line = String::from_utf8(result(&Id::null(), &pretty)).unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["result"]["a"], "x\ny");
    }
}
