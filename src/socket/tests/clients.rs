//! The blocking client against a server.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::client::{Client, ClientError};
use super::super::fault::Kind;
use super::super::notification::Told;
use super::{Daemon, Folder};

/// Runs a blocking client beside the server.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn a_call_gives_a_typed_result_or_the_fault() {
    let daemon = Daemon::start().await;
    let path = daemon.path.clone();
    blocking(move || {
        let mut client = Client::connect(&path).unwrap();
        let hello: Value = client.call("hello", &()).unwrap();
        assert_eq!(hello["role"], "admin");
        let missing = client.call::<_, Value>("interview.get", &json!({"interview_id": "x"}));
        let Err(ClientError::Fault(fault)) = missing else {
            panic!("{missing:?}")
        };
        assert_eq!((fault.kind, fault.message.as_str()), (Kind::NotFound, "no interview x"));
        assert!(fault.data.is_empty());
        let other: Result<u32, _> = client.call("hello", &());
        assert!(matches!(other, Err(ClientError::Protocol(_))));
        let large: String = client.call("report.get", &json!({"interview_id": "3000000"})).unwrap();
        assert_eq!(large.len(), 3_000_000);
    })
    .await;
}

#[tokio::test]
async fn events_that_come_between_a_call_and_its_reply_are_kept() {
    let daemon = Daemon::start().await;
    let path = daemon.path.clone();
    let hub = std::sync::Arc::clone(&daemon.hub);
    blocking(move || {
        let mut client = Client::connect(&path).unwrap();
        let reply: Value = client.call("events.subscribe", &json!({})).unwrap();
        for done in 0..20 {
            hub.publish(&super::event("x", done));
        }
        let _: Value = client
            .call("report.wait", &json!({"interview_id": "x", "timeout_ms": 30}))
            .unwrap();
        for done in 0..20 {
            let event = client.next_event(Some(Duration::from_secs(5))).unwrap().unwrap();
            assert_eq!(event.subscription, reply["subscription"]);
            assert_eq!(event.seq, done + 1);
            assert_eq!(event.told, Told::Event(super::event("x", done as usize)));
        }
        assert!(client.next_event(Some(Duration::ZERO)).unwrap().is_none());
        assert!(client.next_event(Some(Duration::from_millis(10))).unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_call_may_time_out_and_its_late_reply_confuses_nobody() {
    let daemon = Daemon::start().await;
    let path = daemon.path.clone();
    blocking(move || {
        let mut client = Client::connect(&path).unwrap();
        client.set_timeout(Some(Duration::from_millis(30)));
        let slow = client.call::<_, Value>("report.wait", &json!({"interview_id": "x", "timeout_ms": 5_000}));
        assert!(matches!(slow, Err(ClientError::TimedOut(_))), "{slow:?}");
        client.set_timeout(Some(Duration::from_secs(60)));
        let next: Value = client
            .call("report.wait", &json!({"interview_id": "x", "timeout_ms": 200}))
            .unwrap();
        assert_eq!(next["waited"], 200);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_says_why() {
    let folder = Folder::new();
    let nowhere = Client::connect(&folder.0.join("s")).unwrap_err().to_string();
    assert!(nowhere.contains("is the daemon running?"), "{nowhere}");
    let stale = folder.0.join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let refused = Client::connect(&stale).unwrap_err().to_string();
    assert!(refused.contains("nobody listens there"), "{refused}");
}

#[tokio::test]
async fn a_daemon_that_is_full_or_goes_is_told_apart() {
    let mut daemon = Daemon::with(|options| options.connections_max = 1).await;
    let path = daemon.path.clone();
    let mut first = blocking(move || {
        let mut first = Client::connect(&path).unwrap();
        let _: Value = first.call("hello", &()).unwrap();
        let mut second = Client::connect(&path).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let refused = second.call::<_, Value>("hello", &());
        let Err(ClientError::Fault(fault)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(fault.kind, Kind::Busy);
        first
    })
    .await;
    daemon.stop();
    daemon.stopped().await;
    blocking(move || {
        let closed = first.call::<_, Value>("hello", &());
        assert!(matches!(closed, Err(ClientError::Closed)), "{closed:?}");
    })
    .await;
}
