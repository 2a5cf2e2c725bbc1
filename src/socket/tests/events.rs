//! Subscriptions over the socket.

use std::time::Duration;

use serde_json::json;

use super::{Daemon, kind, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_gets_the_reply_first_and_then_every_event_in_order() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    let hub = std::sync::Arc::clone(&daemon.hub);
    let publishing = std::thread::spawn(move || {
        for done in 0..500 {
            hub.publish(&super::event("x", done));
        }
    });
    let reply = peer.ask("events.subscribe", json!({"interview_id": "x"})).await;
    let subscription = reply["result"]["subscription"].clone();
    publishing.join().unwrap();
    daemon.publish("y", 1);
    daemon.publish("x", 1_000);
    let mut seq = 0;
    loop {
        let event = peer.reply().await;
        let params = &event["params"];
        seq += 1;
        assert_eq!((&event["method"], &event["id"]), (&json!("event"), &json!(null)));
        assert_eq!((&params["subscription"], &params["seq"]), (&subscription, &json!(seq)));
        assert_eq!(
            (&params["interview_id"], &params["kind"]),
            (&json!("x"), &json!("accepted"))
        );
        if params["done"] == 1_000 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_follows_the_reply_to_unsubscribe() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    let reply = peer.ask("events.subscribe", json!({})).await;
    let subscription = &reply["result"]["subscription"];
    for done in 0..300 {
        daemon.publish("x", done);
    }
    peer.request(2, "events.unsubscribe", json!({ "subscription": subscription }))
        .await;
    let mut events = 0;
    while peer.reply().await["id"] != 2 {
        events += 1;
    }
    assert!(events <= 300);
    until("it is gone", || daemon.hub.subscriptions() == 0).await;
    daemon.publish("x", 1);
    let again = peer
        .ask("events.unsubscribe", json!({ "subscription": subscription }))
        .await;
    assert_eq!(kind(&again), "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_interview_cannot_be_watched_nor_another_connections_subscription_ended() {
    let daemon = Daemon::start().await;
    let (mut one, mut other) = (daemon.peer().await, daemon.peer().await);
    let unknown = one.ask("events.subscribe", json!({"interview_id": "unknown"})).await;
    assert_eq!(kind(&unknown), "not_found");
    assert_eq!(daemon.hub.subscriptions(), 0);
    let reply = one.ask("events.subscribe", json!({})).await;
    let subscription = &reply["result"]["subscription"];
    let refused = other
        .ask("events.unsubscribe", json!({ "subscription": subscription }))
        .await;
    assert_eq!(kind(&refused), "not_found");
    drop(one);
    until("subscriptions end with their connection", || {
        daemon.hub.subscriptions() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_per_connection_are_limited() {
    let daemon = Daemon::with(|options| options.subscriptions_max = 2).await;
    let mut peer = daemon.peer().await;
    for _ in 0..2 {
        assert!(peer.ask("events.subscribe", json!({})).await["result"].is_object());
    }
    assert_eq!(kind(&peer.ask("events.subscribe", json!({})).await), "too_large");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_end_with_the_clients_end_of_file_but_their_reply_still_comes() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    peer.request(1, "events.subscribe", json!({})).await;
    peer.half_close().await;
    assert_eq!(peer.reply().await["id"], 1);
    assert_eq!(peer.line().await, None);
    assert_eq!(daemon.hub.subscriptions(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_reads_late_is_told_how_many_it_missed() {
    let daemon = Daemon::with(|options| options.events_queued_max = 16).await;
    let mut peer = daemon.peer().await;
    peer.ask("events.subscribe", json!({})).await;
    let published = 20_000;
    for done in 0..published {
        daemon.publish(&"x".repeat(128), done);
        if done % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (mut got, mut missed, mut seq) = (0, 0, 0);
    while got + missed < published as u64 {
        let event = peer.reply().await;
        seq += 1;
        assert_eq!(event["params"]["seq"], seq);
        match event["params"]["kind"].as_str().unwrap() {
            "lagged" => missed += event["params"]["missed"].as_u64().unwrap(),
            _ => got += 1,
        }
    }
    assert!(missed > 0 && got >= 16, "{got} came, {missed} were missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_never_reads_holds_little_and_is_closed() {
    let timeout = Duration::from_millis(200);
    let daemon = Daemon::with(|options| options.write_timeout = timeout).await;
    let mut peer = daemon.peer().await;
    peer.ask("events.subscribe", json!({})).await;
    let closed = async {
        let mut done = 0;
        while daemon.connections.count() > 0 {
            daemon.publish(&"x".repeat(128), done);
            done += 1;
            if done % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    tokio::time::timeout(super::PATIENCE, closed)
        .await
        .expect("it is closed");
    until("its subscription is gone", || daemon.hub.subscriptions() == 0).await;
}
