//! What one client may hold, and what happens to those that want more.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time;

use super::{Daemon, Peer, kind, until};

#[tokio::test]
async fn an_endless_line_is_cut_off_and_told_why_without_being_kept() {
    let daemon = Daemon::with(|options| options.line_bytes_max = 1 << 20).await;
    let Peer { read, mut write } = daemon.peer().await;
    let sending = tokio::spawn(async move {
        let chunk = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while sent < 64 && write.write_all(&chunk).await.is_ok() {
            sent += 1;
        }
        (sent, write)
    });
    let (sent, write) = sending.await.unwrap();
    assert_eq!(sent, 64, "what is sent too much is taken and thrown away");
    let mut peer = Peer { read, write };
    let reply = peer.reply().await;
    assert_eq!((kind(&reply), &reply["id"]), ("too_large", &json!(null)));
    assert_eq!(reply["error"]["data"]["limit"], 1 << 20);
    let actual = reply["error"]["data"]["actual"].as_u64().unwrap();
    assert!(
        (1 << 20..4 << 20).contains(&actual),
        "it stopped reading soon: {actual}"
    );
    peer.half_close().await;
    assert_eq!(peer.line().await, None);
    until("the connection is gone", || daemon.connections.count() == 0).await;
}

#[tokio::test]
async fn what_came_before_a_line_that_is_too_long_is_answered() {
    let daemon = Daemon::with(|options| options.line_bytes_max = 100).await;
    let mut peer = daemon.peer().await;
    peer.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\n").await;
    peer.send(format!("{}\n", "x".repeat(101))).await;
    let replies = [peer.reply().await, peer.reply().await];
    assert!(replies.iter().any(|reply| reply["id"] == 1));
    assert!(replies.iter().any(|reply| reply["error"]["data"]["actual"] == 101));
    peer.half_close().await;
    assert_eq!(peer.line().await, None);
}

#[tokio::test]
async fn one_connection_too_many_is_told_that_the_daemon_is_busy() {
    let daemon = Daemon::with(|options| options.connections_max = 2).await;
    let mut peers = [daemon.peer().await, daemon.peer().await];
    for peer in &mut peers {
        peer.ask("hello", json!({})).await;
    }
    let mut third = daemon.peer().await;
    let reply = third.reply().await;
    assert_eq!((kind(&reply), &reply["id"]), ("busy", &json!(null)));
    assert!(reply["error"]["data"]["retry_after_ms"].is_u64());
    assert_eq!(third.line().await, None);
    assert_eq!(daemon.connections.count(), 2);
    let [first, _second] = peers;
    drop(first);
    until("there is room again", || daemon.connections.count() == 1).await;
    assert!(daemon.peer().await.ask("hello", json!({})).await["result"].is_object());
}

#[tokio::test]
async fn where_all_places_are_taken_whoever_has_been_idle_longest_makes_way() {
    let makes_way = Duration::from_millis(200);
    let daemon = Daemon::with(|options| (options.connections_max, options.makes_way) = (3, makes_way)).await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = daemon.peer().await;
        peer.ask("hello", json!({})).await;
        peers.push(peer);
        time::sleep(Duration::from_millis(20)).await;
    }
    time::sleep(makes_way).await;
    peers[0].ask("hello", json!({})).await;
    peers[1].send("{\"a partial line is no sign of life").await;
    let mut newcomer = daemon.peer().await;
    assert!(newcomer.ask("hello", json!({})).await["result"].is_object());
    assert_eq!(
        peers[1].line().await,
        None,
        "it is closed as whoever is idle for too long"
    );
    for staying in [0, 2] {
        assert!(peers[staying].ask("hello", json!({})).await["result"].is_object());
    }
    assert_eq!(daemon.connections.count(), 3);
}

#[tokio::test]
async fn nobody_who_waits_for_something_makes_way() {
    let makes_way = Duration::from_millis(20);
    let daemon = Daemon::with(|options| (options.connections_max, options.makes_way) = (4, makes_way)).await;
    let [mut waiting, mut watching, mut leaving, mut stalling] = [
        daemon.peer().await,
        daemon.peer().await,
        daemon.peer().await,
        daemon.peer().await,
    ];
    let wait = |timeout_ms: u64| json!({"interview_id": "x", "timeout_ms": timeout_ms});
    waiting.request(1, "report.wait", wait(6_000)).await;
    leaving.request(1, "report.wait", wait(6_000)).await;
    leaving.half_close().await;
    watching.ask("events.subscribe", json!({})).await;
    // Its reply is not read yet.
    stalling
        .request(1, "report.get", json!({"interview_id": "3000000"}))
        .await;
    time::sleep(10 * makes_way).await;
    let refusal = daemon.peer().await.reply().await;
    assert_eq!(kind(&refusal), "busy");
    daemon.publish("x", 1);
    assert_eq!(watching.reply().await["method"], "event");
    for peer in [&mut waiting, &mut leaving, &mut stalling] {
        assert!(peer.reply().await["error"].is_null());
    }
}

#[tokio::test]
async fn as_many_newcomers_get_in_as_there_are_idle_clients_and_never_are_there_too_many() {
    let makes_way = Duration::from_secs(2);
    let daemon = Daemon::with(|options| (options.connections_max, options.makes_way) = (8, makes_way)).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut peer = daemon.peer().await;
        peer.ask("hello", json!({})).await;
        idle.push(peer);
    }
    time::sleep(makes_way + Duration::from_millis(200)).await;
    let mut waiting = Vec::new();
    for _ in 0..9 {
        let mut peer = daemon.peer().await;
        // Who is refused may be closed before he has said anything.
        let wait = json!({"jsonrpc": "2.0", "id": 1, "method": "report.wait", "params": {"interview_id": "x", "timeout_ms": 8000}});
        let _ = peer.write.write_all(format!("{wait}\n").as_bytes()).await;
        waiting.push(peer);
        assert!(daemon.connections.count() <= 8);
    }
    for mut peer in idle {
        assert_eq!(peer.line().await, None);
    }
    let mut refused = waiting.pop().unwrap();
    assert_eq!(kind(&refused.reply().await), "busy");
    for mut peer in waiting {
        assert_eq!(peer.reply().await["result"]["waited"], 8000);
    }
}

#[tokio::test]
async fn the_door_waits_for_nobody_who_has_gone_already() {
    let daemon = Daemon::with(|options| (options.connections_max, options.makes_way) = (2, Duration::ZERO)).await;
    let path = daemon.path.clone();
    let storm: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
                    // It may be closed at any moment, before and after it has been heard.
                    let _ = stream
                        .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\n")
                        .await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for client in storm {
        client.await.unwrap();
    }
    until("all have gone", || daemon.connections.count() == 0).await;
    assert!(daemon.peer().await.ask("hello", json!({})).await["result"].is_object());
}

#[tokio::test]
async fn too_many_partial_lines_cost_the_connection_that_holds_most() {
    let daemon = Daemon::with(|options| options.buffered_bytes_max = 1 << 20).await;
    let mut small = daemon.peer().await;
    small.ask("hello", json!({})).await;
    small.send(vec![b' '; 100_000]).await;
    let mut large = daemon.peer().await;
    large.send(vec![b' '; 700_000]).await;
    let mut last = daemon.peer().await;
    last.send(vec![b' '; 400_000]).await;
    assert_eq!(large.line().await, None, "it is closed");
    for peer in [&mut small, &mut last] {
        assert!(peer.ask("hello", json!({})).await["result"].is_object());
    }
}

#[tokio::test]
async fn unread_replies_count_as_well() {
    let daemon = Daemon::with(|options| options.buffered_bytes_max = 2 << 20).await;
    let mut greedy = daemon.peer().await;
    let mut other = daemon.peer().await;
    other.ask("hello", json!({})).await;
    for id in 0..8 {
        greedy
            .request(id, "report.get", json!({"interview_id": "500000"}))
            .await;
    }
    until("the greedy one is closed", || daemon.connections.count() == 1).await;
    assert!(other.ask("hello", json!({})).await["result"].is_object());
    let one = other.ask("report.get", json!({"interview_id": "500000"})).await;
    assert_eq!(one["result"].as_str().map(str::len), Some(500_000));
}

#[tokio::test]
async fn a_client_that_never_reads_its_replies_is_closed() {
    let daemon = Daemon::with(|options| options.write_timeout = Duration::from_millis(100)).await;
    let mut peer = daemon.peer().await;
    for id in 0..3 {
        peer.request(id, "report.get", json!({"interview_id": "500000"})).await;
    }
    until("it is taken", || daemon.connections.count() == 1).await;
    until("it is closed", || daemon.connections.count() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_none_that_waits_for_something() {
    let idle = Duration::from_secs(1);
    let daemon = Daemon::with(|options| options.idle = idle).await;
    let start = Instant::now();
    let (mut waiting, mut watching) = (daemon.peer().await, daemon.peer().await);
    waiting
        .request(1, "report.wait", json!({"interview_id": "x", "timeout_ms": 3_000}))
        .await;
    watching.ask("events.subscribe", json!({})).await;
    let mut silent = daemon.peer().await;
    silent.send("{\"a partial line is no sign of life").await;
    assert_eq!(silent.line().await, None);
    assert!(start.elapsed() >= idle);
    assert!(waiting.reply().await["result"].is_object());
    let answered = Instant::now();
    daemon.publish("x", 1);
    assert_eq!(watching.reply().await["method"], "event");
    assert_eq!(waiting.line().await, None, "its time begins with the reply");
    assert!(answered.elapsed() >= idle / 2, "{:?}", answered.elapsed());
    assert!(
        start.elapsed() >= idle * 3 && daemon.connections.count() == 1,
        "the subscriber stays"
    );
}

async fn with_room_for_three_lines() -> Daemon {
    Daemon::with(|options| {
        options.buffered_bytes_max = 3 << 20;
        options.line_bytes_max = 1 << 20;
    })
    .await
}

#[tokio::test]
async fn interviews_that_come_faster_than_they_are_taken_wait_their_turn() {
    let daemon = with_room_for_three_lines().await;
    let mut peer = daemon.peer().await;
    let answer = json!({"stage": "intro", "question": "q", "answer": "x".repeat(100_000)});
    for id in 0..8 {
        let interview = json!({"answers": vec![&answer; 3]});
        peer.request(id, "interview.submit", json!({ "interview": interview }))
            .await;
    }
    for _ in 0..8 {
        assert_eq!(peer.reply().await["result"]["answers"], 3);
    }
}

#[tokio::test]
async fn the_longest_line_goes_through_where_three_of_them_fit() {
    let daemon = with_room_for_three_lines().await;
    let mut peer = daemon.peer().await;
    let text = |bytes: usize| json!({"stage": "intro", "question": "", "answer": "\n".to_owned() + &"x".repeat(bytes)});
    let request = |last: usize| {
        let answers: Vec<_> = [50_000; 20].into_iter().chain([last]).map(text).collect();
        json!({"jsonrpc": "2.0", "id": 1, "method": "interview.submit", "params": {"interview": {"answers": answers}}})
            .to_string()
    };
    let line = request((1 << 20) - request(0).len());
    assert_eq!(line.len(), 1 << 20);
    for _ in 0..3 {
        peer.send(format!("{line}\n")).await;
    }
    for _ in 0..3 {
        assert_eq!(peer.reply().await["result"]["answers"], 21);
    }
}

#[tokio::test]
async fn a_text_as_long_as_a_line_is_refused_and_not_its_connection_closed() {
    let daemon = with_room_for_three_lines().await;
    let mut peer = daemon.peer().await;
    for (head, tail, id, refusal) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"interview.open","params":{"interview":{"position":"\n"#,
            r#""}}}"#,
            json!(1),
            "too_large",
        ),
        (
            r#"{"jsonrpc":"2.0","id":2,"method":"status","params":{"\n"#,
            r#"":1}}"#,
            json!(2),
            "too_large",
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"\n"#,
            r#""}"#,
            json!(3),
            "unknown_method",
        ),
        (
            r#"{"jsonrpc":"2.0","id":4,"method":"status","\n"#,
            r#"":1}"#,
            json!(4),
            "invalid_request",
        ),
    ] {
        let text = "x".repeat((1 << 20) - head.len() - tail.len());
        peer.send(format!("{head}{text}{tail}\n")).await;
        let reply = peer.reply().await;
        assert_eq!((kind(&reply), &reply["id"]), (refusal, &id));
    }
}

#[tokio::test]
async fn however_many_ask_for_the_longest_list_nobody_is_closed_for_it() {
    let daemon = Daemon::start().await;
    let mut peers = Vec::new();
    for _ in 0..100 {
        let mut peer = daemon.peer().await;
        peer.request(1, "interview.list", json!({"limit": 1_000})).await;
        peers.push(peer);
    }
    // Of an interview in a list the most that it may take counts: those of a hundred lists would be too much.
    until("as many are begun as may be", || daemon.service.done().len() >= 8).await;
    let mut other = daemon.peer().await;
    assert!(other.ask("hello", json!({})).await["result"].is_object());
    other.request(2, "interview.list", json!({"limit": 100})).await;
    until("one of ordinary length waits for none of them", || {
        daemon.service.done().len() >= 9
    })
    .await;
    daemon.service.lets_end.store(true, Ordering::Relaxed);
    for mut peer in peers {
        assert!(peer.reply().await["result"].is_object());
    }
}

#[tokio::test]
async fn requests_in_work_count_as_well() {
    let daemon = Daemon::with(|options| options.buffered_bytes_max = 2 << 20).await;
    let mut greedy = daemon.peer().await;
    let mut other = daemon.peer().await;
    other.ask("hello", json!({})).await;
    let params = json!({"interview_id": "x".repeat(120_000), "timeout_ms": 600_000});
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "report.wait", "params": params}).to_string() + "\n";
    for _ in 0..20 {
        // It may be closed before it has sent all of them.
        let _ = greedy.write.write_all(line.as_bytes()).await;
    }
    until("the greedy one is closed", || daemon.connections.count() == 1).await;
    assert!(other.ask("hello", json!({})).await["result"].is_object());
}
