//! A disk that fills up, and has room again.

use super::*;

const MIB: u64 = 1 << 20;
const RESERVE: Reserve = Reserve {
    ballast_bytes: MIB,
    floor_bytes: 4 * MIB,
};

#[tokio::test]
async fn on_a_disk_that_is_nearly_full_what_is_new_is_refused_and_all_else_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Script::of(folder.path());
    disk.set_free(20 * MIB);
    let store = disk.open(RESERVE);
    store.accept(whole("scoring", &["하나"])).await.unwrap();
    store.accept(open_one("open", &["하나"])).await.unwrap();
    store.complete("complete", no_narrative()).await;
    assert!(disk.has_ballast());
    assert_eq!(store.trouble(), None);
    disk.set_free(4 * MIB);
    for error in [
        store.accept(whole("new", &["하나"])).await.unwrap_err(),
        store
            .add_answer(&id("open"), answer(&["하나", "둘"]), 1)
            .await
            .unwrap_err(),
        store.reopen(&id("complete"), at(50)).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Full(_)), "{error}");
    }
    assert!(!disk.has_ballast(), "its room is for what is under way");
    let trouble = store.trouble().unwrap();
    assert!(
        trouble.contains("4.0 MiB are free") && trouble.contains("more than 5.3 MiB must be"),
        "{trouble}"
    );
    assert!(!store.accept(whole("scoring", &["하나"])).await.unwrap().created);
    store.end("scoring", &[scored("a")]).await;
    store.report_on("scoring", narrative()).await;
    store.cancel(&id("open")).await.unwrap();
    store.delete(&id("complete")).await.unwrap();
    assert_eq!(store.view(&id("new")).unwrap(), None);
    assert_eq!(store.counted(), [0, 0, 0, 1, 0, 1]);
    disk.set_free(5 * MIB);
    store.tend(at(60)).await;
    assert!(!disk.has_ballast() && store.trouble().is_some(), "not yet");
    disk.set_free(6 * MIB);
    assert_eq!(store.tend(at(61)).await, None, "it was open all the time");
    assert!(disk.has_ballast());
    assert_eq!(store.trouble(), None);
    assert!(store.accept(whole("new", &["하나"])).await.unwrap().created);
}

#[tokio::test]
async fn results_for_which_there_is_no_room_at_all_are_kept_until_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Script::of(folder.path());
    let store = disk.open(RESERVE);
    let generation = store
        .accept(whole("iv", &["하나", "둘"]))
        .await
        .unwrap()
        .record
        .generation;
    disk.set_free(MIB);
    let records: Vec<_> = ["a1", "a2"]
        .map(|answer| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .record(&id("iv"), generation, &answer_id(answer), scored("a"))
                    .await
            })
        })
        .into();
    let held = || {
        store
            .trouble()
            .is_some_and(|trouble| trouble.contains("2 results are kept in memory"))
    };
    while !held() {
        store.tend(at(1)).await;
    }
    assert!(matches!(store.cancel(&id("iv")).await, Err(StoreError::Full(_))));
    assert_eq!(store.viewed("iv").done(), 0);
    disk.set_free(20 * MIB);
    store.tend(at(2)).await;
    for record in records {
        assert_eq!(record.await.unwrap().unwrap(), Recorded::Stored);
    }
    assert_eq!((store.state("iv"), store.trouble()), (InterviewState::Reporting, None));
    let report = report_of(&store.viewed("iv"), narrative());
    disk.set_free(0);
    let asked = (store.clone(), report.clone());
    let finished = tokio::spawn(async move { asked.0.finish(&id("iv"), generation, asked.1).await });
    while !store.trouble().is_some_and(|trouble| trouble.contains("1 results")) {
        store.tend(at(3)).await;
    }
    disk.set_free(20 * MIB);
    store.tend(at(4)).await;
    assert_eq!(finished.await.unwrap().unwrap(), Finished::Stored);
    assert_eq!(store.report(&id("iv")).unwrap(), Some(report));
}

#[tokio::test]
async fn results_that_still_wait_at_a_stop_are_written_if_there_is_room_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Script::of(folder.path());
    let store = disk.open(RESERVE);
    let generation = store.accept(whole("iv", &["하나"])).await.unwrap().record.generation;
    disk.set_free(0);
    let asked = store.clone();
    let record = tokio::spawn(async move { asked.record(&id("iv"), generation, &answer_id("a1"), scored("a")).await });
    while !store.trouble().is_some_and(|trouble| trouble.contains("1 results")) {
        store.tend(at(1)).await;
    }
    disk.set_free(20 * MIB);
    store.shut_down().await;
    assert_eq!(record.await.unwrap().unwrap(), Recorded::Stored);
    assert_eq!(super::store(folder.path()).state("iv"), InterviewState::Reporting);
}

#[tokio::test]
async fn an_interview_that_would_reach_below_the_floor_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Script::of(folder.path());
    disk.set_free(6 * MIB);
    let store = disk.open(RESERVE);
    let long = "말".repeat(20_000);
    let error = store
        .accept(whole("large", &vec![long.as_str(); 20]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("KiB are needed"), "{error}");
    assert!(store.accept(whole("small", &["하나"])).await.unwrap().created);
    assert_eq!(store.counted(), [0, 1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn without_a_reserve_there_is_neither_ballast_nor_floor() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Script::of(folder.path());
    let store = disk.open(Reserve::default());
    disk.set_free(MIB);
    assert!(store.accept(whole("iv", &["하나"])).await.unwrap().created);
    store.tend(at(1)).await;
    assert!(!disk.has_ballast());
    assert_eq!(store.trouble(), None);
}
