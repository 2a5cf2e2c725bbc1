//! The socket's file, and how the server ends.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::listener::{SocketError, bind};
use super::super::options::Options;
use super::{Daemon, Folder, kind, until};

fn at(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        ..Options::default()
    }
}

#[tokio::test]
async fn the_file_has_its_mode_and_goes_with_the_server() {
    let mut daemon = Daemon::start().await;
    let mode = std::fs::metadata(&daemon.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    let path = daemon.path.clone();
    let folder = std::mem::replace(&mut daemon.folder, Folder::new());
    daemon.stop();
    daemon.stopped().await;
    assert!(!path.exists());
    drop(folder);
}

#[tokio::test]
async fn a_socket_whose_daemon_is_gone_is_replaced() {
    let folder = Folder::new();
    let path = folder.0.join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "nobody cleaned up");
    let bound = bind(&at(&path)).await.unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    assert_eq!((bound.path(), bound.connections().count()), (path.as_path(), 0));
    drop(bound);
    assert!(!path.exists());
    drop(bind(&at(&path)).await.unwrap());
}

#[tokio::test]
async fn a_socket_whose_daemon_lives_is_left_alone() {
    let daemon = Daemon::start().await;
    let error = bind(&at(&daemon.path)).await.unwrap_err();
    assert!(matches!(error, SocketError::AlreadyRunning { .. }), "{error}");
    std::fs::remove_file(format!("{}.lock", daemon.path.display())).unwrap();
    let error = bind(&at(&daemon.path)).await.unwrap_err();
    assert!(
        matches!(error, SocketError::AlreadyRunning { .. }),
        "also without its lock: {error}"
    );
    assert!(daemon.peer().await.ask("hello", json!({})).await["result"].is_object());
}

#[tokio::test]
async fn what_cannot_be_a_socket_is_said_and_left_alone() {
    let folder = Folder::new();
    let file = folder.0.join("notes.txt");
    std::fs::write(&file, "precious").unwrap();
    let error = bind(&at(&file)).await.unwrap_err();
    assert!(matches!(error, SocketError::NotASocket { .. }));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let below = bind(&at(&file.join("s"))).await.unwrap_err().to_string();
    assert!(
        below.contains("cannot create the folder") && below.contains("notes.txt"),
        "{below}"
    );
    let long = folder.0.join("x".repeat(120));
    let error = bind(&at(&long)).await.unwrap_err();
    assert!(error.to_string().contains("choose a shorter socket.path"), "{error}");
    let fits = folder.0.join("x".repeat(107 - folder.0.as_os_str().len() - 1));
    assert!(bind(&at(&fits)).await.is_ok());
}

#[tokio::test]
async fn a_file_that_took_the_sockets_place_is_not_removed() {
    let folder = Folder::new();
    let path = folder.0.join("s");
    let bound = bind(&at(&path)).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another's").unwrap();
    drop(bound);
    assert!(path.exists());
}

#[tokio::test]
async fn stopping_lets_pending_requests_end_and_ends_everything_else() {
    let mut daemon = Daemon::start().await;
    let (mut waiting, mut watching, mut idle) = (daemon.peer().await, daemon.peer().await, daemon.peer().await);
    waiting
        .request(1, "report.wait", json!({"interview_id": "x", "timeout_ms": 200}))
        .await;
    watching.ask("events.subscribe", json!({})).await;
    idle.ask("hello", json!({})).await;
    until("all are here", || daemon.connections.count() == 3).await;
    daemon.stop();
    assert_eq!(idle.line().await, None);
    assert_eq!(watching.line().await, None);
    assert!(tokio::net::UnixStream::connect(&daemon.path).await.is_err());
    assert_eq!(waiting.reply().await["result"]["waited"], 200);
    assert_eq!(waiting.line().await, None);
    daemon.stopped().await;
}

#[tokio::test]
async fn what_is_pending_after_the_grace_is_told_that_the_daemon_stops() {
    let mut daemon = Daemon::with(|options| options.grace = Duration::from_millis(50)).await;
    let mut peer = daemon.peer().await;
    peer.request(1, "report.wait", json!({"interview_id": "x", "timeout_ms": 600_000}))
        .await;
    let mut greedy = daemon.peer().await;
    for id in 0..3 {
        greedy
            .request(id, "report.get", json!({"interview_id": "500000"}))
            .await;
    }
    until("both are here", || daemon.connections.count() == 2).await;
    let start = Instant::now();
    daemon.stop();
    assert_eq!(kind(&peer.reply().await), "draining");
    daemon.stopped().await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "a client that does not read cannot hold it up"
    );
}

#[tokio::test]
async fn dropping_the_server_closes_everything_at_once() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.peer().await;
    peer.request(1, "report.wait", json!({"interview_id": "x", "timeout_ms": 600_000}))
        .await;
    until("it is here", || daemon.connections.count() == 1).await;
    daemon.task.abort();
    assert_eq!(peer.line().await, None);
    until("the socket is gone", || !daemon.path.exists()).await;
    until("nothing is counted", || daemon.connections.count() == 0).await;
}
