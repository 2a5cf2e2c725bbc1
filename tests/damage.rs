//! A store that is damaged, with the real binary: what cannot be read is named, all else goes on, and nothing is thrown away.

mod common;

use std::fs;

use serde_json::{Value, json};

use common::{Client, World, eventually, interview};

/// A world in whose store these interviews wait for a model.
fn with_waiting(ids: &[&str]) -> World {
    let world = World::simulated(0);
    fs::rename(world.path("model"), world.path("elsewhere")).unwrap();
    let daemon = world.start();
    let mut client = daemon.connect();
    for id in ids {
        let interview = interview(id, &["저는 백엔드 개발자입니다.", "30% 개선했습니다."]);
        client
            .call("interview.submit", json!({"interview": interview}))
            .unwrap();
    }
    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    fs::rename(world.path("elsewhere"), world.path("model")).unwrap();
    world
}

fn status_once_up(client: &mut Client) -> Value {
    eventually("the model is there", || {
        let status = client.call("status", json!({})).unwrap();
        (!status["model"].is_null()).then_some(status)
    })
}

/// Exchanges the first answer of an interview for something that no version wrote.
fn spoil(world: &World, id: &str) {
    spoil_first(world, id, |sequence| [b"d".as_slice(), sequence, b"a"].concat());
}

/// The same with its head, without which nothing of it can be read.
fn spoil_head(world: &World, id: &str) {
    // It is held against what was written down at the stop, if that is there: the whole store would be moved aside.
    fs::remove_file(world.path("store/facts")).unwrap();
    spoil_first(world, id, |sequence| [b"h".as_slice(), sequence].concat());
}

fn spoil_first(world: &World, id: &str, prefix: fn(&[u8]) -> Vec<u8>) {
    let db = sled::open(world.path("store")).unwrap();
    let sequence = db.get([b"i", id.as_bytes()].concat()).unwrap().unwrap();
    let (key, _) = db.scan_prefix(prefix(&sequence)).next().unwrap().unwrap();
    db.insert(key, "no record").unwrap();
    db.flush().unwrap();
}

/// Why a daemon that has come up is degraded.
fn reason_of_degraded(client: &mut Client) -> String {
    let status = status_once_up(client);
    assert_eq!(status["state"], "degraded", "{status}");
    status["reason"].as_str().unwrap().to_owned()
}

/// And the id is free again.
fn all_is_well_once_it_is_deleted(client: &mut Client, id: &str) {
    client.call("interview.delete", json!({"interview_id": id})).unwrap();
    let status = client.call("status", json!({})).unwrap();
    assert_eq!((&status["state"], &status["reason"]), (&json!("ready"), &Value::Null));
    assert_eq!(client.report(interview(id, &["하나"]))["status"], "complete");
}

#[test]
fn an_interview_that_cannot_be_read_is_named_and_the_others_get_their_reports() {
    let world = with_waiting(&["before", "spoilt", "after"]);
    spoil(&world, "spoilt");
    let daemon = world.start();
    let mut client = daemon.connect();
    for id in ["before", "after"] {
        assert_eq!(client.wait_for_report(id)["status"], "complete", "{id}");
    }
    let reason = reason_of_degraded(&mut client);
    assert!(
        reason.starts_with("1 unfinished interviews cannot be read and do not go on: spoilt"),
        "{reason}"
    );
    let log = world.log();
    assert!(
        log.contains("an answer of the interview spoilt cannot be understood"),
        "{log}"
    );
    let fault = client
        .call("interview.get", json!({"interview_id": "spoilt"}))
        .unwrap_err();
    assert_eq!(fault.kind(), "storage", "{fault:?}");
    assert!(fault.message().contains("the interview spoilt"), "{fault:?}");
    all_is_well_once_it_is_deleted(&mut client, "spoilt");
}

#[test]
fn an_interview_of_which_nothing_can_be_read_is_named_until_it_is_deleted() {
    let world = with_waiting(&["before", "spoilt"]);
    spoil_head(&world, "spoilt");
    let daemon = world.start();
    let mut client = daemon.connect();
    assert_eq!(client.wait_for_report("before")["status"], "complete");
    let reason = reason_of_degraded(&mut client);
    assert!(
        reason.starts_with("1 interviews in the store cannot be read: spoilt; the others can; 1 unfinished"),
        "{reason}"
    );
    all_is_well_once_it_is_deleted(&mut client, "spoilt");
}

#[test]
fn a_store_beyond_repair_is_kept_beside_an_empty_one_and_status_says_where() {
    let world = with_waiting(&["iv"]);
    let data = fs::read(world.path("store/db")).unwrap();
    fs::write(world.path("store/db"), &data[..data.len() / 2]).unwrap();
    let daemon = world.start();
    let mut client = daemon.connect();
    let reason = reason_of_degraded(&mut client);
    let entries = fs::read_dir(world.folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let away: Vec<_> = names.filter(|name| name.starts_with("store.quarantine-")).collect();
    let [away] = &away[..] else {
        panic!("{away:?}: {reason}")
    };
    assert!(
        reason.contains(away) && reason.contains("interviewd import"),
        "{reason}"
    );
    assert_eq!(
        fs::metadata(world.path(away).join("db")).unwrap().len(),
        data.len() as u64 / 2
    );
    assert_eq!(client.report(interview("iv", &["하나"]))["status"], "complete");
}
