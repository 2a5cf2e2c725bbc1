//! Accepting, adding answers, finishing, recording, reporting.

use super::*;

#[tokio::test]
async fn an_interview_comes_out_as_it_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let new = whole("iv", &["첫 \"답변\"\n", "", "셋🎉"]);
    let accepted = store.accept(new.clone()).await.unwrap();
    assert!(accepted.created);
    assert_eq!(accepted.record.interview, new.interview);
    assert_eq!(accepted.record.due_since, Some(at(10)));
    let view = store.viewed("iv");
    assert_eq!(view.record, accepted.record);
    assert_eq!(
        (view.state(), view.done(), view.total()),
        (InterviewState::Scoring, 0, 3)
    );
    assert_eq!(store.rubric("cafe").unwrap().as_deref(), Some(DEFAULT));
    assert_eq!(store.rubric("caf").unwrap(), None);
    assert_eq!(store.view(&id("other")).unwrap(), None);
}

#[tokio::test]
async fn the_same_interview_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.complete("iv", narrative()).await;
    let again = Accept {
        at: at(77),
        ..whole("iv", &["하나", "둘"])
    };
    let again = store.accept(again).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.record, store.viewed("iv").record);
    assert_eq!(store.state("iv"), InterviewState::Complete);
}

#[tokio::test]
async fn the_same_id_with_other_content_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(whole("iv", &["하나"])).await.unwrap();
    let mut elsewhere = whole("iv", &["하나"]);
    elsewhere.interview.position = None;
    for (other, field) in [
        (whole("iv", &["둘"]), "list of answers"),
        (whole("iv", &["하나", "둘"]), "list of answers"),
        (elsewhere, "position"),
    ] {
        let error = store.accept(other).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Conflict(text) if text.contains(field)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_opening_is_compared_with_what_was_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(open_one("iv", &["하나"])).await.unwrap();
    store.add_answer(&id("iv"), answer(&["하나", "둘"]), 1).await.unwrap();
    assert!(!store.accept(open_one("iv", &["하나"])).await.unwrap().created);
    assert!(matches!(
        store.accept(open_one("iv", &["하나", "둘"])).await,
        Err(StoreError::Conflict(_))
    ));
}

#[tokio::test]
async fn only_an_open_interview_may_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert!(matches!(
        store.accept(whole("iv", &[])).await,
        Err(StoreError::Empty(_))
    ));
    assert!(store.accept(open_one("iv", &[])).await.unwrap().created);
    assert!(matches!(store.close(&id("iv"), at(5)).await, Err(StoreError::Empty(_))));
    assert_eq!(store.state("iv"), InterviewState::Open);
}

#[tokio::test]
async fn answers_come_one_by_one_and_may_be_repeated_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(open_one("iv", &[])).await.unwrap();
    for (count, texts) in [["하나"].as_slice(), &["하나", "둘"]].into_iter().enumerate() {
        let added = store.add_answer(&id("iv"), answer(texts), count).await.unwrap();
        assert!(added.created);
        assert_eq!(added.record.interview, interview("iv", texts));
        assert_eq!(added.record, store.viewed("iv").record);
        // What the caller knew does not matter for a repetition.
        assert!(!store.add_answer(&id("iv"), answer(texts), 9).await.unwrap().created);
    }
    let other = answer(&["하나", "other"]);
    assert!(matches!(
        store.add_answer(&id("iv"), other.clone(), 2).await,
        Err(StoreError::Conflict(_))
    ));
    let closed = store.close(&id("iv"), at(20)).await.unwrap();
    assert_eq!((closed.state, closed.newly), (InterviewState::Scoring, true));
    assert_eq!(closed.record.due_since, Some(at(20)));
    assert!(!store.add_answer(&id("iv"), answer(&["하나"]), 2).await.unwrap().created);
    let late = store
        .add_answer(&id("iv"), answer(&["1", "2", "3"]), 2)
        .await
        .unwrap_err();
    assert_eq!(
        late.to_string(),
        "the interview iv is finished; it takes no more answers"
    );
    assert!(matches!(
        store.add_answer(&id("none"), other, 0).await,
        Err(StoreError::NotFound(_))
    ));
}

#[tokio::test]
async fn an_answer_that_was_checked_against_others_is_sent_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(open_one("iv", &["하나"])).await.unwrap();
    let error = store.add_answer(&id("iv"), answer(&["1", "2"]), 0).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Changed {
                expected: 0,
                found: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(store.viewed("iv").total(), 1);
}

#[tokio::test]
async fn finishing_may_be_repeated_in_any_later_state_but_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(open_one("iv", &["하나"])).await.unwrap();
    store.end("iv", &[scored("a")]).await;
    assert_eq!(
        (store.state("iv"), store.viewed("iv").done()),
        (InterviewState::Open, 1)
    );
    let closed = store.close(&id("iv"), at(20)).await.unwrap();
    assert_eq!((closed.state, closed.newly), (InterviewState::Reporting, true));
    assert_eq!(store.state("iv"), InterviewState::Reporting);
    store.report_on("iv", narrative()).await;
    let again = store.close(&id("iv"), at(30)).await.unwrap();
    assert_eq!((again.record.due_since, again.newly), (Some(at(20)), false));
    assert_eq!(again.state, InterviewState::Complete);
    store.accept(whole("other", &["하나"])).await.unwrap();
    store.cancel(&id("other")).await.unwrap();
    assert!(matches!(
        store.close(&id("other"), at(9)).await,
        Err(StoreError::Conflict(_))
    ));
}

#[tokio::test]
async fn the_first_outcome_of_an_answer_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let record = store.accept(whole("iv", &["하나", "둘"])).await.unwrap().record;
    let keep = async |answer: &str, generation, outcome| {
        store
            .record(&id("iv"), generation, &answer_id(answer), outcome)
            .await
            .unwrap()
    };
    assert_eq!(keep("a2", record.generation, scored("first")).await, Recorded::Stored);
    let second = keep("a2", record.generation, unscored()).await;
    assert_eq!(second, Recorded::AlreadyThere(Box::new(scored("first"))));
    assert_eq!(keep("a3", record.generation, unscored()).await, Recorded::Stale);
    assert_eq!(keep("a1", record.generation + 1, unscored()).await, Recorded::Stale);
    let view = store.viewed("iv");
    assert_eq!(view.outcomes, [None, Some(scored("first"))]);
    assert_eq!((view.state(), view.done()), (InterviewState::Scoring, 1));
    assert_eq!(keep("a1", record.generation, scored("last")).await, Recorded::Stored);
    assert_eq!(store.state("iv"), InterviewState::Reporting);
}

#[tokio::test]
async fn a_report_is_taken_once_and_only_when_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(whole("iv", &["하나", "둘"])).await.unwrap();
    store.end("iv", &[scored("a")]).await;
    let mut view = store.viewed("iv");
    view.outcomes[1] = Some(unscored());
    let early = report_of(&view, narrative());
    let generation = view.record.generation;
    let error = store.finish(&id("iv"), generation, early.clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("is scoring; its report is not due"),
        "{error}"
    );
    store.end("iv", &[scored("a"), unscored()]).await;
    let other = store.finish(&id("iv"), generation + 1, early.clone()).await;
    assert_eq!(other.unwrap(), Finished::Stale);
    let report = store.report_on("iv", narrative()).await;
    let second = store.finish(&id("iv"), generation, early).await;
    assert_eq!(second.unwrap(), Finished::AlreadyThere);
    assert_eq!(store.state("iv"), InterviewState::Partial);
    assert_eq!(store.report(&id("iv")).unwrap(), Some(report.clone()));
    assert_eq!(
        store.report_json(&id("iv")).unwrap(),
        Some(serde_json::to_string(&report).unwrap())
    );
    let head = store.viewed("iv").report.unwrap();
    assert_eq!(
        (head.overall, head.has_narrative, head.finished_at),
        (report.overall, true, at(99))
    );
    assert_eq!(store.going_on(), []);
}
