//! What the protocol's tests share: daemons, refusals checked to the letter, and a connection that shows bytes as they are.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};

use crate::common::{Client, Daemon, Fault, PATIENCE, World, eventually};

/// So slow that whatever has begun does not end during a test.
pub const FOREVER_MS: u64 = 100_000;
/// Says nothing: gated without a model.
pub const SILENCE: &str = "...";

/// A daemon with its folder.
pub struct House {
    // The daemon goes first, its folder last.
    pub daemon: Daemon,
    _log: CleanLog,
    pub world: World,
}

/// Whatever a client sends, nothing in the daemon may panic or fail for reasons of its own.
struct CleanLog(PathBuf);

impl Drop for CleanLog {
    fn drop(&mut self) {
        let log = std::fs::read_to_string(&self.0).unwrap_or_default();
        let bad = log
            .lines()
            .find(|line| line.contains("panicked") || line.contains("internal error"));
        if let (Some(line), false) = (bad, std::thread::panicking()) {
            panic!("the daemon's log has {line:?}");
        }
    }
}

impl House {
    pub fn of(world: World) -> Self {
        let world = world.set("model.check_hashes=false");
        let daemon = world.start();
        let _log = CleanLog(world.folder.path().join("log"));
        Self { daemon, _log, world }
    }

    /// Every run of the model takes `step_ms`.
    pub fn simulated(step_ms: u64) -> Self {
        Self::of(World::simulated(step_ms))
    }

    pub fn connect(&self) -> Client {
        self.daemon.connect()
    }
}

/// A daemon to which nothing is ever given that it may accept; lives as long as a test has it.
pub fn refusing() -> Arc<House> {
    static SHARED: Mutex<Weak<House>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(house) = shared.upgrade() {
        return house;
    }
    let house = Arc::new(House::simulated(0));
    *shared = Arc::downgrade(&house);
    house
}

impl House {
    /// The request is refused so; afterwards nothing is stored and the daemon answers.
    pub fn refuses(&self, method: &str, params: Value, kind: &str, parts: &[&str]) -> Fault {
        let mut client = self.connect();
        let fault = match client.call(method, params.clone()) {
            Err(fault) => fault,
            Ok(result) => panic!("{method} {} was not refused: {result}", shortened(&params)),
        };
        assert_fault(&fault, kind, parts);
        has_nothing(&mut client);
        fault
    }

    /// The line is refused so, as an answer to `id`; afterwards nothing is stored and the daemon answers on the same connection.
    pub fn refuses_line(&self, line: &[u8], id: &Value, kind: &str, parts: &[&str]) -> Fault {
        let mut client = self.connect();
        client.send_bytes(line);
        client.send_bytes(b"\n");
        let reply = client.line().expect("a reply");
        assert_eq!(reply["id"], *id, "{reply}");
        let fault = crate::common::result_of(reply).expect_err("it is refused");
        assert_fault(&fault, kind, parts);
        has_nothing(&mut client);
        fault
    }
}

fn has_nothing(client: &mut Client) {
    assert_alive(client);
    let list = client.call("interview.list", json!({})).unwrap();
    assert_eq!(list, json!({"interviews": []}), "nothing is stored");
}

/// The daemon answers `status`.
pub fn assert_alive(client: &mut Client) {
    let status = client.call("status", json!({})).unwrap();
    assert!(status["uptime_s"].is_u64(), "{status}");
}

/// The code that protocol.md gives to a kind.
fn code_of(kind: &str) -> i64 {
    match kind {
        "parse" => -32_700,
        "invalid_request" => -32_600,
        "unknown_method" => -32_601,
        "invalid_params" => -32_602,
        "busy" => -32_001,
        "not_found" => -32_002,
        "conflict" => -32_003,
        "too_large" => -32_004,
        "not_ready" => -32_005,
        "draining" => -32_006,
        "forbidden" => -32_007,
        other => panic!("no test provokes {other}"),
    }
}

/// An error as protocol.md has it, of this kind, whose message names all of `parts`.
pub fn assert_fault(fault: &Fault, kind: &str, parts: &[&str]) {
    let Fault(error) = fault;
    assert_eq!(fault.kind(), kind, "{error}");
    assert_eq!(error["code"], code_of(kind), "{error}");
    assert_eq!(members(error), ["code", "data", "message"], "{error}");
    for part in parts {
        assert!(fault.message().contains(part), "{part:?} is not named: {error}");
    }
    assert!(
        fault.message().chars().count() < 1_000,
        "a message is for people: {error}"
    );
    let data = &error["data"];
    match kind {
        "too_large" => assert!(
            data["actual"].as_u64().unwrap() > data["limit"].as_u64().unwrap(),
            "{error}"
        ),
        "busy" => assert!(data["retry_after_ms"].as_u64().unwrap() > 0, "{error}"),
        "not_ready" => assert!(data["done"].is_u64() && data["total"].is_u64(), "{error}"),
        _ => {}
    }
}

/// The names of an object's members, sorted.
pub fn members(object: &Value) -> Vec<&str> {
    let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The call fails so.
pub fn fails(client: &mut Client, method: &str, params: Value, kind: &str, parts: &[&str]) -> Fault {
    match client.call(method, params.clone()) {
        Err(fault) => {
            assert_fault(&fault, kind, parts);
            fault
        }
        Ok(result) => panic!("{method} {} was not refused: {result}", shortened(&params)),
    }
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

pub fn submit(client: &mut Client, interview: &Value) -> Value {
    client
        .call("interview.submit", json!({"interview": interview}))
        .unwrap()
}

pub fn open(client: &mut Client, interview: &Value) -> Value {
    client.call("interview.open", json!({"interview": interview})).unwrap()
}

/// Calls a method that takes nothing but an interview's id.
pub fn of(client: &mut Client, method: &str, id: &str) -> Value {
    client.call(method, json!({"interview_id": id})).unwrap()
}

pub fn get(client: &mut Client, id: &str) -> Value {
    of(client, "interview.get", id)
}

/// Sends one more answer of an open interview.
pub fn answer(client: &mut Client, id: &str, answer: &Value) -> Value {
    client
        .call("interview.answer", json!({"interview_id": id, "answer": answer}))
        .unwrap()
}

/// An answer of the stage `intro`.
pub fn an_answer(id: &str, text: &str) -> Value {
    json!({"answer_id": id, "stage": "intro", "question": "자기소개를 해 주세요.", "answer": text})
}

/// Waits until the interview is in a state, and gives what `interview.get` says.
pub fn until(client: &mut Client, id: &str, state: &str) -> Value {
    eventually(&format!("{id} is {state}"), || {
        let seen = get(client, id);
        (seen["state"] == state).then_some(seen)
    })
}

/// Waits until `status` is as asked for.
pub fn until_status(client: &mut Client, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
    eventually(what, || {
        let status = client.call("status", json!({})).unwrap();
        holds(&status).then_some(status)
    })
}

/// How many slots of answers are busy.
pub fn slots_busy(status: &Value) -> u64 {
    let actors = status["pool"]["actors"].as_array().unwrap();
    actors.iter().map(|actor| actor["slots_busy"].as_u64().unwrap()).sum()
}

/// A connection without any idea of the protocol.
pub struct Raw(BufReader<UnixStream>);

impl Raw {
    pub fn connect(house: &House) -> Self {
        let stream = UnixStream::connect(&house.daemon.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&self, bytes: &[u8]) {
        self.0.get_ref().write_all(bytes).unwrap();
    }

    /// A second handle that only writes.
    pub fn writer(&self) -> UnixStream {
        self.0.get_ref().try_clone().unwrap()
    }

    /// Nothing more comes from this side.
    pub fn close_writing(&self) {
        self.0.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next line without its line break; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).unwrap() {
            0 => None,
            _ => Some(line.strip_suffix('\n').expect("every line is ended").to_owned()),
        }
    }
}
