//! Retrying, cancelling, deleting.

use super::*;

#[tokio::test]
async fn a_retry_keeps_what_is_scored_and_the_old_report_until_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(whole("iv", &["하나", "둘", "셋"])).await.unwrap();
    store.end("iv", &[scored("kept"), unscored(), scored("too")]).await;
    let old = store.report_on("iv", no_narrative()).await;
    let first = store.viewed("iv").record;
    let moved = store.reopen(&id("iv"), at(50)).await.unwrap();
    assert_eq!(moved.state, InterviewState::Scoring);
    let again = moved.record;
    assert!(again.generation > first.generation);
    assert_eq!(again.due_since, Some(at(50)));
    let view = store.viewed("iv");
    assert_eq!(view.outcomes, [Some(scored("kept")), None, Some(scored("too"))]);
    assert_eq!((view.state(), view.done()), (InterviewState::Scoring, 2));
    assert_eq!(store.report(&id("iv")).unwrap(), Some(old));
    assert_eq!(store.going_on(), std::slice::from_ref(&again));
    // What the first generation still sends means nothing any more.
    let stale = store
        .record(&id("iv"), first.generation, &answer_id("a2"), scored("stale"))
        .await;
    assert_eq!(stale.unwrap(), Recorded::Stale);
    store.end("iv", &[unscored(), scored("new"), unscored()]).await;
    let new = store.report_on("iv", narrative()).await;
    assert_eq!(store.state("iv"), InterviewState::Complete);
    assert_eq!(store.report(&id("iv")).unwrap(), Some(new));
    assert_eq!(store.viewed("iv").report.unwrap().generation, again.generation);
}

#[tokio::test]
async fn a_complete_interview_is_retried_only_for_its_narrative() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.complete("iv", no_narrative()).await;
    let moved = store.reopen(&id("iv"), at(50)).await.unwrap();
    assert_eq!(moved.state, InterviewState::Reporting);
    assert_eq!(store.state("iv"), InterviewState::Reporting);
    let error = store.reopen(&id("iv"), at(51)).await.unwrap_err();
    assert!(
        error.to_string().contains("iv is reporting; only a partial one"),
        "{error}"
    );
    store.report_on("iv", narrative()).await;
    let error = store.reopen(&id("iv"), at(52)).await.unwrap_err();
    assert!(
        error.to_string().contains("iv is complete, with its narrative"),
        "{error}"
    );
    assert!(matches!(
        store.reopen(&id("no"), at(1)).await,
        Err(StoreError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_cancelled_interview_counts_as_done_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let generation = store
        .accept(whole("iv", &["하나", "둘"]))
        .await
        .unwrap()
        .record
        .generation;
    store.end("iv", &[scored("a")]).await;
    assert!(store.cancel(&id("iv")).await.unwrap().1);
    assert!(!store.cancel(&id("iv")).await.unwrap().1);
    let view = store.viewed("iv");
    assert_eq!(
        (view.state(), view.done(), view.total()),
        (InterviewState::Cancelled, 2, 2)
    );
    let late = store
        .record(&id("iv"), generation, &answer_id("a2"), scored("late"))
        .await
        .unwrap();
    assert_eq!(late, Recorded::Stale);
    assert!(!store.accept(whole("iv", &["하나", "둘"])).await.unwrap().created);
    assert_eq!(store.going_on(), []);
    let error = store
        .add_answer(&id("iv"), answer(&["1", "2", "3"]), 2)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is cancelled"), "{error}");
}

#[tokio::test]
async fn what_has_its_report_cannot_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.complete("iv", no_narrative()).await;
    assert!(matches!(store.cancel(&id("iv")).await, Err(StoreError::Conflict(_))));
    store.reopen(&id("iv"), at(50)).await.unwrap();
    store.cancel(&id("iv")).await.unwrap();
    assert_eq!(store.report_json(&id("iv")).unwrap(), None);
    assert_eq!(store.viewed("iv").report, None);
}

#[tokio::test]
async fn deleting_leaves_nothing_but_the_rubric() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let before = store.keys();
    store.accept(whole("iv", &["하나"])).await.unwrap();
    store.end("iv", &[unscored()]).await;
    store.report_on("iv", narrative()).await;
    store.reopen(&id("iv"), at(50)).await.unwrap();
    assert_eq!(
        store.delete(&id("iv")).await.unwrap().unwrap().record.interview.id,
        id("iv")
    );
    let left: Vec<_> = store.keys().into_iter().filter(|key| key[0] != b'r').collect();
    assert_eq!(left, before);
    assert!(matches!(store.delete(&id("iv")).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn what_was_damaged_while_it_ran_is_not_counted_any_more_once_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for name in ["spoilt", "other"] {
        store.accept(whole(name, &["하나"])).await.unwrap();
    }
    store.spoil_head(&id("spoilt"));
    assert_eq!(store.delete(&id("spoilt")).await.unwrap(), None);
    assert_eq!(store.counted(), [0, 1, 0, 0, 0, 0]);
    assert_eq!(store.counted(), store.recounted());
}

#[tokio::test]
async fn results_of_an_earlier_life_never_reach_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let first = store.accept(whole("iv", &["하나"])).await.unwrap().record;
    store.end("iv", &[scored("old")]).await;
    let old = report_of(&store.viewed("iv"), narrative());
    store.delete(&id("iv")).await.unwrap();
    drop(store);
    let store = super::store(folder.path());
    let second = store.accept(whole("iv", &["하나"])).await.unwrap().record;
    assert!(second.generation > first.generation && second.sequence > first.sequence);
    let late = store
        .record(&id("iv"), first.generation, &answer_id("a1"), scored("old"))
        .await;
    assert_eq!(late.unwrap(), Recorded::Stale);
    let stale = store.finish(&id("iv"), first.generation, old).await;
    assert_eq!(stale.unwrap(), Finished::Stale);
    assert_eq!(store.viewed("iv").outcomes, [None]);
}

impl Store {
    fn keys(&self) -> Vec<Vec<u8>> {
        let shelf = read(&self.inner.shared.shelf);
        let keys = shelf.as_ref().unwrap().db.iter().keys();
        keys.map(|key| key.unwrap().to_vec()).collect()
    }
}
