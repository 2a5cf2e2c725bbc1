//! What a client is told when the disk fails: requests as they come from the socket, with a disk that a test decides about.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::run::{build, ordinary};
use super::{Daemon, Settings};
use crate::config::{Config, Source};
use crate::domain::event::Event;
use crate::domain::ids::InterviewId;
use crate::domain::interview::{AnswerDraft, Draft};
use crate::domain::time::Timestamp;
use crate::socket::call::{Call, Format};
use crate::socket::fault::{Fault, Kind};
use crate::socket::listener::Connections;
use crate::socket::notification::Told;
use crate::socket::service::{Role, Service};
use crate::store::{Options, Store};

/// A daemon without a model, as far as requests see it.
pub(super) async fn daemon(folder: &Path, store: Store) -> Arc<Daemon> {
    let source = Source {
        config: None,
        environment: Vec::new(),
        directory: folder.to_owned(),
        system_file: folder.join("none.toml"),
        sets: Vec::new(),
    };
    let settings = Settings::new(Config::default()).unwrap();
    let surroundings = ordinary(Connections::default());
    build(settings, source, store, surroundings, watch::channel(None).0)
}

async fn ask(daemon: &Arc<Daemon>, call: Call) -> Result<Value, Fault> {
    let reply = daemon.call(Role::Client, call).await?;
    Ok(serde_json::from_str(reply.get()).unwrap())
}

pub(super) async fn submit(daemon: &Arc<Daemon>, id: &str) -> Result<Value, Fault> {
    let answer = AnswerDraft {
        stage: "intro".into(),
        question: "말씀해 주세요.".into(),
        answer: "저는 개발자입니다.".into(),
        ..AnswerDraft::default()
    };
    let draft = Draft {
        interview_id: Some(id.into()),
        answers: vec![answer],
        ..Draft::default()
    };
    ask(daemon, Call::Submit(draft)).await
}

#[actix::test]
async fn after_a_failed_sync_nothing_is_acknowledged_reads_go_on_and_status_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), Store::whose_syncs_fail_after(folder.path(), 1)).await;
    assert_eq!(submit(&daemon, "before").await.unwrap()["created"], true);
    for id in ["during", "after"] {
        let fault = submit(&daemon, id).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Storage, "{}", fault.message);
        // The one whose sync failed may be stored all the same, the other was not even tried.
        let is_unknown = fault.message.contains("it is not known whether");
        let named = fault.data.get("interview_id").is_some_and(|named| named == id);
        assert_eq!(
            (is_unknown, named),
            (id == "during", id == "during"),
            "{}",
            fault.message
        );
        assert!(
            fault.message.contains("a sync failed: the disk is gone"),
            "{}",
            fault.message
        );
    }
    let got = ask(
        &daemon,
        Call::Get {
            interview_id: "before".into(),
        },
    );
    assert_eq!(got.await.unwrap()["state"], "scoring");
    let none = ask(
        &daemon,
        Call::Report {
            interview_id: "before".into(),
            format: Format::Json,
        },
    );
    assert_eq!(none.await.unwrap_err().kind, Kind::NotReady);
    let status = ask(&daemon, Call::Status).await.unwrap();
    assert_eq!(status["state"], "degraded");
    let reason = status["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("the store takes no more writes: a sync failed"),
        "{reason}"
    );
}

#[actix::test]
async fn what_was_ended_while_nobody_heard_so_ends_once_the_store_has_been_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(
        &folder.path().join("store"),
        &Options::default(),
        Timestamp::from_millis(0),
    )
    .unwrap();
    let daemon = daemon(folder.path(), opened.store).await;
    for id in ["goes-on", "deleted", "cancelled"] {
        submit(&daemon, id).await.unwrap();
    }
    let mut events = daemon.hub.subscribe(None, 16);
    // As by a round that failed: it is stored, and the daemon was told that nobody knows.
    let id = |text: &str| InterviewId::parse(text).unwrap();
    daemon.store.delete(&id("deleted")).await.unwrap();
    daemon.store.cancel(&id("cancelled")).await.unwrap();
    daemon.store.find_the_disk_full();
    let keeper = Arc::clone(&daemon);
    actix::spawn(async move { keeper.tend_store().await });
    let patience = Duration::from_secs(60);
    let ended = tokio::time::timeout(patience, async {
        while daemon.lives.all().len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.unwrap();
    assert_eq!(daemon.lives.all()[0].interview_id, id("goes-on"));
    let told = std::iter::from_fn(|| events.try_next()).map(|notification| match notification.told {
        Told::Event(Event { interview_id, kind, .. }) => format!("{interview_id} {kind:?}").to_lowercase(),
        told => panic!("{told:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), ["deleted deleted", "cancelled cancelled"]);
}
