//! Connections: side by side, half closed, silent, too many.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{World, interview};
use crate::support::{FOREVER_MS, House, Raw, SILENCE, assert_alive, open, submit, until_status};

fn request(id: u64, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string() + "\n"
}

#[test]
fn a_pending_wait_does_not_hold_up_other_requests() {
    let house = House::simulated(FOREVER_MS);
    let mut client = house.connect();
    submit(&mut client, &interview("x", &["저는 개발자입니다."]));
    let wait = client.send("report.wait", json!({"interview_id": "x"}));
    for _ in 0..3 {
        let status = client.send("status", json!({}));
        let reply = client.line().unwrap();
        assert_eq!(reply["id"], status, "the wait has not been answered");
    }
    client.send("interview.cancel", json!({"interview_id": "x"}));
    let mut ids: Vec<_> = (0..2).map(|_| client.line().unwrap()["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [wait, wait + 4]);
}

#[test]
fn every_request_of_many_gets_its_own_reply() {
    let house = House::simulated(FOREVER_MS);
    let mut raw = Raw::connect(&house);
    let mut all = String::new();
    for id in 0..300 {
        let (method, params) = match id % 3 {
            0 => ("hello", json!({})),
            1 => ("interview.get", json!({"interview_id": format!("nobody-{id}")})),
            _ => ("interview.list", json!({"limit": 1})),
        };
        all += &request(id, method, params);
    }
    let mut writer = raw.writer();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, all.as_bytes()).unwrap());
    let mut replies: Vec<Value> = (0..300)
        .map(|_| serde_json::from_str(&raw.line().unwrap()).unwrap())
        .collect();
    sending.join().unwrap();
    replies.sort_by_key(|reply| reply["id"].as_u64());
    for (id, reply) in replies.iter().enumerate() {
        assert_eq!(reply["id"], id);
        match id % 3 {
            0 => assert_eq!(reply["result"]["protocol"], 1),
            1 => assert!(
                reply["error"]["message"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("nobody-{id}"))
            ),
            _ => assert_eq!(reply["result"], json!({"interviews": []})),
        }
    }
}

#[test]
fn after_the_clients_end_of_file_what_is_pending_is_still_answered() {
    let house = House::simulated(1);
    let mut raw = Raw::connect(&house);
    raw.send(
        request(
            1,
            "interview.submit",
            json!({"interview": interview("x", &["저는 개발자입니다.", SILENCE])}),
        )
        .as_bytes(),
    );
    assert!(raw.line().unwrap().contains("\"created\":true"));
    raw.send(request(2, "report.wait", json!({"interview_id": "x"})).as_bytes());
    // As `nc -N` and `printf` send it: the last line is ended by the end of the file.
    raw.send(
        request(3, "report.wait", json!({"interview_id": "x", "format": "markdown"}))
            .trim_end()
            .as_bytes(),
    );
    raw.close_writing();
    let mut replies: Vec<Value> = (0..2)
        .map(|_| serde_json::from_str(&raw.line().unwrap()).unwrap())
        .collect();
    replies.sort_by_key(|reply| reply["id"].as_u64());
    assert_eq!(replies[0]["result"]["report"]["status"], "complete");
    assert!(replies[1]["result"]["report"].is_string());
    assert_eq!(raw.line(), None, "then the connection is closed");
}

#[test]
fn after_the_clients_end_of_file_a_subscription_is_over() {
    let house = House::simulated(FOREVER_MS);
    let mut raw = Raw::connect(&house);
    raw.send(request(1, "events.subscribe", json!({})).as_bytes());
    assert!(raw.line().unwrap().contains("subscription"));
    raw.close_writing();
    assert_eq!(raw.line(), None);
}

#[test]
fn what_is_accepted_is_done_although_its_client_went_away() {
    let house = House::simulated(0);
    let mut client = house.connect();
    for round in 0..25 {
        let id = format!("x{round}");
        let raw = Raw::connect(&house);
        raw.send(request(1, "interview.submit", json!({"interview": interview(&id, &[SILENCE])})).as_bytes());
        raw.send(request(2, "report.wait", json!({"interview_id": id})).as_bytes());
        // From not at all to long enough: it goes before, while and after its interview is stored.
        std::thread::sleep(Duration::from_micros(400 * round));
    }
    until_status(&mut client, "they are gone", |status| status["connections"] == 1);
    let list = client.call("interview.list", json!({})).unwrap();
    let accepted = list["interviews"].as_array().unwrap();
    assert!(!accepted.is_empty());
    for interview in accepted {
        let id = interview["interview_id"].as_str().unwrap();
        assert_eq!(client.wait_for_report(id)["status"], "complete");
    }
}

#[test]
fn a_silent_connection_is_closed_unless_something_is_pending() {
    let house = House::of(World::simulated(FOREVER_MS).set("socket.idle_s=2"));
    let mut client = house.connect();
    submit(&mut client, &interview("x", &["저는 개발자입니다."]));
    let mut silent = Raw::connect(&house);
    let mut waiting = house.connect();
    let wait = waiting.send("report.wait", json!({"interview_id": "x", "timeout_ms": 5_000}));
    let mut watching = house.connect();
    watching.call("events.subscribe", json!({})).unwrap();
    assert_eq!(silent.line(), None, "closed");
    assert_eq!(waiting.reply(wait).unwrap_err().kind(), "not_ready");
    open(&mut house.connect(), &json!({"interview_id": "y"}));
    assert_eq!(watching.event()["interview_id"], "y");
}

#[test]
fn when_all_hold_too_much_whoever_holds_most_is_closed() {
    let world = World::simulated(FOREVER_MS)
        .set("socket.line_bytes_max=100000")
        .set("socket.buffered_bytes_max=300000");
    let house = House::of(world);
    let mut connections: Vec<_> = (0..4).map(|_| Raw::connect(&house)).collect();
    // In whatever order they are counted: without most of the second's it is not too much, and by then that one holds most.
    for (connection, bytes) in connections.iter().zip([48_000, 99_000, 48_000, 48_000]) {
        connection.send(&vec![b' '; bytes]);
    }
    assert_eq!(connections.remove(1).line(), None, "closed");
    for mut connection in connections {
        connection.send(request(7, "status", json!({})).as_bytes());
        assert!(connection.line().unwrap().contains("\"id\":7"));
    }
}

#[test]
fn one_connection_too_many_is_told_so_and_closed() {
    let house = House::of(World::simulated(FOREVER_MS).set("socket.connections_max=2"));
    let (mut first, mut second) = (house.connect(), house.connect());
    assert_alive(&mut first);
    assert_alive(&mut second);
    let mut third = Raw::connect(&house);
    let reply: Value = serde_json::from_str(&third.line().unwrap()).unwrap();
    assert_eq!(reply["id"], Value::Null);
    let fault = crate::common::result_of(reply).unwrap_err();
    crate::support::assert_fault(&fault, "busy", &["2", "connections"]);
    assert_eq!(third.line(), None);
    drop(second);
    crate::common::eventually("there is room again", || {
        let mut raw = Raw::connect(&house);
        // Who is one too many may be closed before he has said anything.
        std::io::Write::write_all(&mut raw.writer(), request(1, "status", json!({})).as_bytes()).ok()?;
        raw.line().filter(|line| line.contains("result"))
    });
    assert_alive(&mut first);
}

#[test]
fn the_socket_is_for_its_owner_and_group() {
    let house = House::simulated(FOREVER_MS);
    let metadata = std::fs::metadata(&house.daemon.socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
}
