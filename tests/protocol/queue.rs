//! Room first: `busy` before anything is stored, never afterwards; and draining.

use serde_json::{Value, json};

use crate::common::{Client, Fault, World, eventually, interview};
use crate::support::{
    FOREVER_MS, House, SILENCE, an_answer, answer, assert_alive, assert_fault, fails, get, of, open, submit, until,
    until_status,
};

const TEXT: &str = "저는 개발자입니다.";

/// A slow daemon with one slot, which `first` has, and room for so many answers more.
fn full_slot(max: usize) -> (House, Client) {
    let world = World::simulated(FOREVER_MS)
        .set("pool.slots_per_actor=1")
        .set(&format!("queue.max_queued_answers={max}"));
    let house = House::of(world);
    let mut client = house.connect();
    submit(&mut client, &interview("first", &[TEXT]));
    eventually("the slot is taken", || {
        (get(&mut client, "first")["answers"][0]["state"] == "running").then_some(())
    });
    (house, client)
}

#[test]
fn a_full_queue_is_busy_before_anything_is_stored() {
    let (_house, mut client) = full_slot(2);
    submit(&mut client, &interview("second", &[TEXT, TEXT]));
    let queue = until_status(&mut client, "both wait", |status| status["queue"]["answers"] == 2)["queue"].clone();
    assert_eq!((&queue["interviews"], &queue["max"]), (&json!(1), &json!(2)));
    for method in ["interview.submit", "interview.open"] {
        let params = json!({"interview": interview("third", &[TEXT])});
        fails(&mut client, method, params, "busy", &["queue.max_queued_answers", "2"]);
        fails(
            &mut client,
            "interview.get",
            json!({"interview_id": "third"}),
            "not_found",
            &["third"],
        );
    }
    let list = client.call("interview.list", json!({})).unwrap();
    assert_eq!(list["interviews"].as_array().unwrap().len(), 2);
    assert_eq!(client.call("status", json!({})).unwrap()["queue"]["answers"], 2);
    assert_alive(&mut client);
}

#[test]
fn what_needs_no_room_is_never_busy() {
    let (_house, mut client) = full_slot(1);
    open(
        &mut client,
        &json!({"interview_id": "open", "answers": [an_answer("a", TEXT)]}),
    );
    let more = json!({"interview_id": "open", "answer": an_answer("b", TEXT)});
    fails(
        &mut client,
        "interview.answer",
        more,
        "busy",
        &["queue.max_queued_answers"],
    );
    assert_eq!(get(&mut client, "open")["total"], 1, "nothing of it was stored");
    assert_eq!(submit(&mut client, &interview("first", &[TEXT]))["created"], false);
    assert_eq!(answer(&mut client, "open", &an_answer("a", TEXT))["created"], false);
    open(&mut client, &json!({"interview_id": "empty"}));
    of(&mut client, "interview.finish", "open");
    let other = json!({"interview": interview("first", &["다른 답"])});
    fails(&mut client, "interview.submit", other, "conflict", &["first"]);
    of(&mut client, "interview.cancel", "open");
    eventually("cancelled work makes room", || {
        client
            .call(
                "interview.answer",
                json!({"interview_id": "empty", "answer": an_answer("a", TEXT)}),
            )
            .ok()
    });
    assert_alive(&mut client);
}

#[test]
fn whatever_was_accepted_is_done_in_the_end() {
    let world = World::simulated(1)
        .set("pool.slots_per_actor=2")
        .set("queue.max_queued_answers=3");
    let house = House::of(world);
    let mut client = house.connect();
    let mut refusals = 0;
    for number in 0..5 {
        let params = json!({"interview": interview(&format!("x{number}"), &[TEXT, SILENCE, TEXT])});
        eventually("it is accepted", || {
            match client.call("interview.submit", params.clone()) {
                Ok(submitted) => {
                    assert_eq!(submitted["created"], true);
                    Some(())
                }
                Err(fault) => {
                    assert_fault(&fault, "busy", &[]);
                    refusals += 1;
                    None
                }
            }
        });
    }
    assert!(refusals > 0, "the queue was never full");
    for number in 0..5 {
        assert_eq!(client.wait_for_report(&format!("x{number}"))["status"], "complete");
    }
    until_status(&mut client, "the queue is empty", |status| {
        status["queue"]["answers"] == 0
    });
}

#[test]
fn what_is_found_again_after_a_restart_ignores_the_limit() {
    let world = World::simulated(FOREVER_MS).set("pool.slots_per_actor=1");
    let House { daemon, world, .. } = House::of(world);
    submit(&mut daemon.connect(), &interview("x", &[TEXT; 4]));
    daemon.kill();
    let house = House::of(world.set("queue.max_queued_answers=2"));
    let mut client = house.connect();
    until_status(&mut client, "one runs, three wait", |status| {
        status["queue"]["answers"] == 3
    });
    assert_eq!(get(&mut client, "x")["total"], 4);
    let params = json!({"interview": interview("y", &[TEXT])});
    fails(
        &mut client,
        "interview.submit",
        params,
        "busy",
        &["queue.max_queued_answers"],
    );
    of(&mut client, "interview.cancel", "x");
    eventually("there is room again", || {
        client
            .call("interview.submit", json!({"interview": interview("y", &[TEXT])}))
            .ok()
    });
}

#[test]
fn while_draining_nothing_new_is_accepted_and_what_is_there_goes_on() {
    let house = House::simulated(1);
    let mut client = house.connect();
    open(
        &mut client,
        &json!({"interview_id": "open", "answers": [an_answer("a", TEXT)]}),
    );
    submit(&mut client, &interview("running", &[TEXT, TEXT]));
    assert_eq!(client.call("drain", json!({})).unwrap()["state"], "draining");
    assert_eq!(
        client.call("drain", json!({})).unwrap()["state"],
        "draining",
        "it may be repeated"
    );
    assert_eq!(client.call("status", json!({})).unwrap()["state"], "draining");
    let refused =
        |client: &mut Client, method: &str, params: Value| -> Fault { fails(client, method, params, "draining", &[]) };
    refused(
        &mut client,
        "interview.submit",
        json!({"interview": interview("new", &[TEXT])}),
    );
    refused(
        &mut client,
        "interview.open",
        json!({"interview": interview("new", &[TEXT])}),
    );
    refused(
        &mut client,
        "interview.answer",
        json!({"interview_id": "open", "answer": an_answer("b", TEXT)}),
    );
    fails(
        &mut client,
        "interview.get",
        json!({"interview_id": "new"}),
        "not_found",
        &["new"],
    );
    assert_eq!(get(&mut client, "open")["total"], 1);
    assert_eq!(of(&mut client, "interview.finish", "open")["answers"], json!(["a"]));
    for id in ["open", "running"] {
        assert_eq!(client.wait_for_report(id)["status"], "complete");
    }
    assert_ne!(client.call("resume", json!({})).unwrap()["state"], "draining");
    assert_eq!(client.call("status", json!({})).unwrap()["state"], "ready");
    assert_eq!(submit(&mut client, &interview("new", &[SILENCE]))["created"], true);
    until(&mut client, "new", "complete");
}
