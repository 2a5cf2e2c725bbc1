//! Requests over the socket: who may ask what, in which order answers come, and that the daemon survives what is sent.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{Daemon, kind, refusal, until};

#[tokio::test]
async fn a_fast_request_overtakes_a_slow_one_on_the_same_connection() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    peer.request(1, "report.wait", json!({"interview_id": "x", "timeout_ms": 150}))
        .await;
    peer.request(2, "hello", json!({})).await;
    let first = peer.reply().await;
    assert_eq!((&first["id"], &first["result"]["role"]), (&json!(2), &json!("admin")));
    let second = peer.reply().await;
    assert_eq!(second, json!({"jsonrpc": "2.0", "id": 1, "result": {"waited": 150}}));
}

#[tokio::test]
async fn after_its_end_of_file_a_client_still_gets_what_is_pending() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    peer.request(1, "report.wait", json!({"interview_id": "x", "timeout_ms": 100}))
        .await;
    peer.send(r#"{"jsonrpc":"2.0","id":2,"method":"hello"}"#).await;
    peer.half_close().await;
    assert_eq!(peer.reply().await["id"], 2, "a last line needs no line break");
    assert_eq!(peer.reply().await["id"], 1);
    assert_eq!(peer.line().await, None);
    until("the connection is gone", || daemon.connections.count() == 0).await;
}

#[tokio::test]
async fn notifications_are_carried_out_and_get_no_reply_even_if_the_client_leaves_at_once() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    let notification = |method: &str, params: Value| {
        let notification = json!({"jsonrpc": "2.0", "method": method, "params": params});
        format!("{notification}\n")
    };
    for (method, params) in [("nope", json!({})), ("drain", json!({}))] {
        peer.send(notification(method, params)).await;
    }
    assert_eq!(
        peer.ask("hello", json!({})).await["id"],
        1,
        "nothing came before this reply"
    );
    for _ in 0..100 {
        let params = json!({"interview_id": "x"});
        peer.send(notification("interview.finish", params)).await;
    }
    drop(peer);
    until("all are carried out", || daemon.service.done().len() == 101).await;
    assert!(daemon.service.done().contains(&"Drain".to_owned()));
}

#[tokio::test]
async fn a_question_that_nobody_hears_the_answer_to_is_not_asked_and_keeps_no_connection() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    for (method, params) in [
        ("report.wait", json!({"interview_id": "x", "timeout_ms": 600_000})),
        ("report.wait", json!({"interview_id": "x", "timeout_ms": 0})),
        ("interview.get", json!({"interview_id": "panic"})),
    ] {
        let question = json!({"jsonrpc": "2.0", "method": method, "params": params});
        peer.send(format!("{question}\n")).await;
    }
    peer.ask("hello", json!({})).await;
    drop(peer);
    until("the connection is gone", || daemon.connections.count() == 0).await;
    assert!(daemon.service.done().is_empty());
}

#[tokio::test]
async fn nonsense_gets_an_error_and_the_connection_lives() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    let deep = "[".repeat(100_000);
    let cases: [(&[u8], &str); 7] = [
        (b"nonsense", "parse"),
        (b"\xc3\x28", "parse"),
        (deep.as_bytes(), "parse"),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"hello","params":{"a":"\ud800"}}"#,
            "parse",
        ),
        (b"[{}]", "invalid_request"),
        (br#"{"jsonrpc":"2.0","id":1,"method":"metrics"}"#, "unknown_method"),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"hello","params":{"a":1}}"#,
            "invalid_params",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(peer.refusal(line).await.0, expected);
    }
    peer.send("\n\r\n\n").await;
    peer.send("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"hello\"}\r\n")
        .await;
    assert_eq!(peer.reply().await["id"], "x");
}

#[tokio::test]
async fn a_large_line_is_read_too() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    let answer = json!({"stage": "intro", "question": "q", "answer": "가".repeat(20_000)});
    let interview = json!({"answers": vec![answer; 64]});
    let reply = peer.ask("interview.submit", json!({ "interview": interview })).await;
    assert_eq!(reply["result"]["answers"], 64);
    peer.send(vec![b'x'; 300_000]).await;
    assert_eq!(peer.refusal("").await.0, "parse");
}

#[tokio::test]
async fn a_panic_becomes_an_error_with_an_id_and_the_connection_lives() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    let mut ids = Vec::new();
    for (method, interview) in [
        ("interview.get", "panic"),
        ("interview.get", "bug"),
        ("events.subscribe", "panic"),
    ] {
        let reply = peer.ask(method, json!({ "interview_id": interview })).await;
        assert_eq!((kind(&reply), &reply["error"]["code"]), ("internal", &json!(-32_603)));
        let id = reply["error"]["data"]["id"].as_str().unwrap().to_owned();
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(&id) && !message.contains("secret") && !message.contains("told to"),
            "{message}"
        );
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has its own");
    assert_eq!(daemon.hub.subscriptions(), 0);
    assert!(peer.ask("hello", json!({})).await["result"].is_object());
}

#[tokio::test]
async fn roles_come_from_the_peers_user() {
    let nobody = Daemon::with(|options| options.own_uid_is_admin = false).await;
    let mut peer = nobody.peer().await;
    assert_eq!(peer.ask("hello", json!({})).await["result"]["role"], "client");
    for method in [
        "pool.resize",
        "config.reload",
        "store.export",
        "drain",
        "resume",
        "shutdown",
    ] {
        assert_eq!(kind(&peer.ask(method, json!({})).await), "forbidden");
    }
    assert_eq!(nobody.service.done(), [""; 0]);
    let (stream, _other) = tokio::net::UnixStream::pair().unwrap();
    let own_uid = stream.peer_cred().unwrap().uid();
    let listed = Daemon::with(|options| {
        options.own_uid_is_admin = false;
        options.admin_uids = vec![own_uid];
    })
    .await;
    let mut peer = listed.peer().await;
    assert!(peer.ask("shutdown", json!({})).await["result"].is_object());
}

#[tokio::test]
async fn a_request_whose_client_has_gone_is_given_up() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    peer.request(1, "report.wait", json!({"interview_id": "x", "timeout_ms": 600_000}))
        .await;
    peer.ask("hello", json!({})).await;
    drop(peer);
    until("the connection is gone", || daemon.connections.count() == 0).await;
    assert_eq!(daemon.service.done(), [""; 0]);
}

#[tokio::test]
async fn a_change_whose_client_has_gone_is_carried_out_and_keeps_its_turn_meanwhile() {
    async fn retries(daemon: &Daemon, number: u64) -> super::Peer {
        let mut peer = daemon.peer().await;
        for id in 0..number {
            peer.request(id, "interview.retry", json!({"interview_id": "x"})).await;
        }
        peer
    }
    let daemon = Daemon::start().await;
    let are = |what: &str, number| daemon.service.done().iter().filter(|done| *done == what).count() == number;
    let leaving = retries(&daemon, 20).await;
    until("eight are under way", || are("begun", 8)).await;
    drop(leaving);
    until("the connection is gone", || daemon.connections.count() == 0).await;
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(retries(&daemon, 8).await);
    }
    until("all but the last eight have begun", || are("begun", 64)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(are("begun", 64), "64 at a time, with those whose client has gone");
    daemon
        .service
        .lets_end
        .store(true, std::sync::atomic::Ordering::Relaxed);
    until("all have ended", || are("ended", 72)).await;
}

#[tokio::test]
async fn nothing_more_is_read_while_too_many_requests_are_pending() {
    let daemon = Daemon::with(|options| options.requests_in_flight_max = 2).await;
    let mut peer = daemon.peer().await;
    for id in 1..=2 {
        peer.request(id, "report.wait", json!({"interview_id": "x", "timeout_ms": 100}))
            .await;
    }
    peer.request(3, "hello", json!({})).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(peer.reply().await["id"].as_u64().unwrap());
    }
    assert_ne!(ids[0], 3, "it waited for one of the others: {ids:?}");
    for _ in 0..2 {
        peer.request(4, "report.wait", json!({"interview_id": "x", "timeout_ms": 600_000}))
            .await;
    }
    peer.request(5, "hello", json!({})).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    drop(peer);
    until("a client that goes meanwhile is noticed", || {
        daemon.connections.count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_one_line_of_json_rpc() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    peer.send("x\n").await;
    peer.half_close().await;
    let mut text = String::new();
    peer.read.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the line is not JSON"#));
    assert_eq!((text.find('\n'), text.len()), (Some(text.len() - 1), text.len()));
    assert_eq!(refusal(&serde_json::from_str(&text).unwrap()).0, "parse");
}
