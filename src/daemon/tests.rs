//! Requests as they come from the socket, with a disk that a test decides about: one that fails, one that is damaged, one that holds many interviews.

mod doubts;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::building::{build, ordinary};
use super::{Daemon, Settings};
use crate::config::{Config, Source};
use crate::domain::ids::InterviewId;
use crate::domain::interview::{AnswerDraft, Draft};
use crate::domain::state::InterviewState;
use crate::domain::time::Timestamp;
use crate::socket::call::{Call, Format, ListParams, ResizeParams};
use crate::socket::fault::{Fault, Kind};
use crate::socket::listener::Connections;
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
    ask(daemon, submission(id)).await
}

fn submission(id: &str) -> Call {
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
    Call::Submit(draft)
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

fn store(folder: &Path) -> Store {
    let opened = Store::open(&folder.join("store"), &Options::default(), Timestamp::from_millis(0)).unwrap();
    opened.store
}

async fn until_queued(daemon: &Arc<Daemon>, answers: usize) {
    for _ in 0..12_000 {
        let status = ask(daemon, Call::Status).await.unwrap();
        if status["queue"]["answers"] == answers {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never do {answers} answers wait");
}

#[actix::test]
async fn deleting_what_cannot_be_read_any_more_stops_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), store(folder.path())).await;
    for id in ["spoilt", "other"] {
        submit(&daemon, id).await.unwrap();
    }
    until_queued(&daemon, 2).await;
    daemon.store.spoil_head(&InterviewId::parse("spoilt").unwrap());
    let interview_id = || "spoilt".to_owned();
    let get = Call::Get {
        interview_id: interview_id(),
    };
    assert_eq!(ask(&daemon, get).await.unwrap_err().kind, Kind::Storage);
    let delete = Call::Delete {
        interview_id: interview_id(),
    };
    assert_eq!(ask(&daemon, delete).await.unwrap()["deleted"], true);
    until_queued(&daemon, 1).await;
}

#[actix::test]
async fn no_new_plan_waits_for_a_search_that_does_not_end() {
    tokio::time::pause();
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), store(folder.path())).await;
    let resize = || daemon.call(Role::Admin, Call::Resize(ResizeParams::default()));
    let refused = async || resize().await.unwrap_err().message;
    let searching = daemon.loading.lock().await;
    // It is not late yet, and becomes so while this waits.
    assert!(refused().await.contains("it takes too long"));
    daemon.condition_mut().problem = Some("the disk does not answer".to_owned());
    let before = tokio::time::Instant::now();
    assert!(
        refused()
            .await
            .contains("while a model is looked for: the disk does not answer")
    );
    assert_eq!(before.elapsed(), Duration::ZERO, "it is known already");
    drop(searching);
    assert!(refused().await.contains("there is no model to plan for"));
}

async fn list(daemon: &Arc<Daemon>, limit: usize, after: &Value) -> (Vec<String>, Value) {
    let params = ListParams {
        state: Some(InterviewState::Cancelled),
        limit: Some(limit),
        after: after.as_str().map(str::to_owned),
    };
    let listed = ask(daemon, Call::List(params)).await.unwrap();
    let ids = listed["interviews"].as_array().unwrap().iter();
    let ids = ids.map(|listed| listed["interview_id"].as_str().unwrap().to_owned());
    (ids.collect(), listed.get("next").cloned().unwrap_or_default())
}

#[actix::test]
async fn what_is_rare_is_listed_whole_and_others_get_their_turn_while_it_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), store(folder.path())).await;
    let submits: Vec<_> = (0..700)
        .map(|n| {
            let daemon = Arc::clone(&daemon);
            actix::spawn(async move { submit(&daemon, &format!("iv{n}")).await.unwrap() })
        })
        .collect();
    for submitted in submits {
        submitted.await.unwrap();
    }
    for id in ["iv0", "iv650"] {
        let interview_id = id.to_owned();
        ask(&daemon, Call::Cancel { interview_id }).await.unwrap();
    }
    let both = (vec!["iv0".to_owned(), "iv650".to_owned()], Value::Null);
    for limit in [2, 3, 1_000] {
        assert_eq!(list(&daemon, limit, &Value::Null).await, both, "{limit}");
    }
    let (first, next) = list(&daemon, 1, &Value::Null).await;
    assert_eq!(first, ["iv0"]);
    let last = (vec!["iv650".to_owned()], Value::Null);
    assert_eq!(list(&daemon, 1, &next).await, last, "there is no more of them");

    let mut listing = pin!(daemon.call(Role::Client, Call::List(ListParams::default())));
    let mut turns = 1;
    while listing
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
    {
        turns += 1;
    }
    assert!(turns > 1, "a hundred at once keep others waiting");
    let mut rare = pin!(list(&daemon, 1, &next));
    let mut turns = 1;
    while rare.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        turns += 1;
    }
    assert!(turns > 3, "{turns} turns for 700 interviews");
    let status = ask(&daemon, Call::Status).await.unwrap();
    assert_eq!(status["interviews"]["cancelled"], json!(2));
}
