//! Group commit, failures of the disk, shutting down, and values of every size.

use super::*;

#[tokio::test]
async fn of_a_thousand_that_open_the_same_interview_one_creates_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Script::of(folder.path());
    let store = disk.open(Reserve::default());
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.accept(whole("iv", &["하나"])).await.unwrap().created })
        })
        .collect();
    let mut created = 0;
    for task in tasks {
        created += usize::from(task.await.unwrap());
    }
    assert_eq!((created, disk.syncs()), (1, 1));
}

#[tokio::test]
async fn of_a_thousand_with_one_id_and_two_contents_one_creates_it_and_the_other_content_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let tasks: Vec<_> = (0..1_000)
        .map(|n| {
            let (store, text) = (store.clone(), ["하나", "둘"][n % 2]);
            tokio::spawn(async move { (text, store.accept(whole("iv", &[text])).await) })
        })
        .collect();
    let (mut created, mut same, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            (text, Ok(accepted)) if accepted.created => created.push(text),
            (text, Ok(_)) => same.push(text),
            (text, Err(StoreError::Conflict(_))) => conflicts.push(text),
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!((created.len(), same.len(), conflicts.len()), (1, 499, 500));
    assert!(same.iter().all(|text| *text == created[0]) && conflicts.iter().all(|text| *text != created[0]));
    assert_eq!(store.viewed("iv").record.interview.answers()[0].text, created[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_lives_of_one_id_overlap_each_keeps_only_its_own_results() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut results = tokio::task::JoinSet::new();
    let mut earlier = Vec::new();
    for life in 0..50 {
        let generation = store
            .accept(whole("iv", &["하나", "둘"]))
            .await
            .unwrap()
            .record
            .generation;
        for answer in ["a1", "a2"] {
            let store = store.clone();
            results.spawn(async move {
                let outcome = scored(&generation.to_string());
                store
                    .record(&id("iv"), generation, &answer_id(answer), outcome)
                    .await
                    .unwrap()
            });
        }
        if life % 3 == 0 {
            tokio::task::yield_now().await;
        }
        let view = store.viewed("iv");
        let own = scored(&view.record.generation.to_string());
        assert!(view.outcomes.iter().flatten().all(|outcome| *outcome == own));
        if life < 49 {
            let was = store.delete(&id("iv")).await.unwrap().unwrap();
            assert!(was.outcomes.iter().flatten().all(|outcome| *outcome == own));
            earlier.push(generation);
        }
    }
    results.join_all().await;
    for generation in earlier {
        let late = store
            .record(&id("iv"), generation, &answer_id("a1"), scored("late"))
            .await;
        assert_eq!(late.unwrap(), Recorded::Stale);
    }
    let view = store.viewed("iv");
    assert_eq!(
        view.outcomes,
        vec![Some(scored(&view.record.generation.to_string())); 2]
    );
}

#[tokio::test]
async fn many_share_one_sync() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Script::of(folder.path());
    let store = disk.open(Reserve::default());
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.accept(whole(&format!("iv{n}"), &["하나"])).await.unwrap().created })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert!(disk.syncs() < 50, "{}", disk.syncs());
    assert_eq!(store.counted(), [0, 200, 0, 0, 0, 0]);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_and_all_is_read_but_what_nobody_knows() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Script::of(folder.path());
    disk.fails_from = 1;
    let store = disk.open(Reserve::default());
    store.accept(whole("before", &["하나"])).await.unwrap();
    assert_eq!(store.trouble(), None);
    let error = store.accept(whole("during", &["하나"])).await.unwrap_err();
    assert!(matches!(error, StoreError::Uncertain { .. }), "{error}");
    let told = error.to_string();
    for words in [
        "it is not known whether what was asked for is stored: a sync failed: the disk is gone",
        "ask for the same again with the same ids",
    ] {
        assert!(told.contains(words), "{told}");
    }
    // This one came too late to be tried at all.
    let error = store.accept(whole("after", &["하나"])).await.unwrap_err();
    assert!(matches!(error, StoreError::Broken(_)) && error.to_string().contains("the disk is gone"));
    assert_eq!(store.view(&id("after")).unwrap(), None);
    for error in [
        store.view(&id("during")).unwrap_err(),
        store.report(&id("during")).unwrap_err(),
        store.report_json(&id("during")).unwrap_err(),
        store.list(None, 10, None).unwrap_err(),
        store.unfinished().unwrap_err(),
        store.export(None).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Uncertain { .. }), "{error}");
    }
    let trouble = store.trouble().unwrap();
    assert!(
        trouble.contains("takes no more writes: a sync failed: the disk is gone"),
        "{trouble}"
    );
    let repeated = store.accept(whole("before", &["하나"])).await;
    assert!(matches!(repeated, Err(StoreError::Broken(_))));
    assert_eq!(disk.syncs(), 2);
    assert_eq!(store.state("before"), InterviewState::Scoring);
    assert_eq!(store.counted(), [0, 1, 0, 0, 0, 0]);
    store.shut_down().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_and_nobody_sees_it_before_a_slow_sync_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Script::of(folder.path());
    let (begun, has_begun) = std::sync::mpsc::channel::<()>();
    let (sync, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    disk.before_sync = Arc::new(move |_| {
        begun.send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
    });
    let store = disk.open(Reserve::default());
    let asked = store.clone();
    let accepted = tokio::spawn(async move { asked.accept(whole("iv", &["하나"])).await });
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
        .await
        .unwrap();
    let looking = store.clone();
    let seen = tokio::task::spawn_blocking(move || looking.view(&id("iv")).unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!accepted.is_finished() && !seen.is_finished());
    sync.send(()).unwrap();
    assert!(accepted.await.unwrap().unwrap().created);
    assert!(seen.await.unwrap().is_some(), "a read waits for the sync");
}

#[tokio::test]
async fn a_panic_tells_nobody_the_words_that_were_put_together_at_run_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let result = store
        .write(|_| -> Result<(), StoreError> { panic!("no page for {}", String::from("비밀스러운 답변")) })
        .await;
    let told = [result.unwrap_err().to_string(), store.trouble().unwrap()];
    assert!(told.iter().all(|words| !words.contains("비밀")), "{told:?}");
}

/// What a power loss in the midst of a sync may leave: the data file as it was at the sync before, with some of what was written since.
fn torn(before: &[u8], now: &[u8], dice: &mut u64) -> Vec<u8> {
    let mut torn = before.to_vec();
    torn.resize(now.len(), 0);
    for (page, (to, from)) in torn.chunks_mut(4_096).zip(now.chunks(4_096)).enumerate() {
        *dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(page as u64 + 1);
        if *dice >> 63 == 1 {
            to[..from.len()].copy_from_slice(from);
        }
    }
    torn
}

#[tokio::test]
async fn a_write_that_is_torn_takes_nothing_with_it_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Script::of(folder.path());
    let db = disk.store.join("db");
    // The file as each sync found it: what came before is on the disk, what is new may be torn.
    let states: Arc<std::sync::Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = Arc::clone(&states);
    disk.before_sync = Arc::new(move |_| kept.lock().unwrap().push(std::fs::read(&db).unwrap()));
    let store = disk.open(Reserve::default());
    for n in 0..12 {
        store
            .accept(whole(&format!("iv{n}"), &["하나".repeat(500).as_str()]))
            .await
            .unwrap();
    }
    let states = states.lock().unwrap().clone();
    let mut dice = 7;
    for (n, pair) in states.windows(2).enumerate() {
        let copy = copied(&store);
        std::fs::write(copy.path().join("store/db"), torn(&pair[0], &pair[1], &mut dice)).unwrap();
        let again = super::store(copy.path());
        for (m, is_certain) in (0..=n + 1).map(|m| (m, m <= n)) {
            let name = format!("iv{m}");
            match again.view(&id(&name)).unwrap() {
                Some(view) => assert_eq!(view, store.viewed(&name)),
                None => assert!(!is_certain, "{name} was acknowledged before sync {n}"),
            }
        }
    }
}

#[tokio::test]
async fn a_verb_that_panics_breaks_the_store_and_not_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let result = store
        .write(|_| -> Result<(), StoreError> { panic!("a page is gone") })
        .await;
    assert!(matches!(result, Err(StoreError::Uncertain { reason, .. }) if reason.contains("a page is gone")));
    assert_eq!(store.going_on(), []);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_closing() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(folder.path());
    first.accept(open_one("open", &["하나"])).await.unwrap();
    first.complete("complete", narrative()).await;
    let (open, complete) = (first.viewed("open"), first.viewed("complete"));
    let json = first.report_json(&id("complete")).unwrap();
    let clone = first.clone();
    tokio::join!(first.shut_down(), clone.shut_down());
    first.shut_down().await;
    // Other handles do not keep it open.
    let second = store(folder.path());
    assert_eq!((second.viewed("open"), second.viewed("complete")), (open, complete));
    assert_eq!(second.report_json(&id("complete")).unwrap(), json);
    assert!(matches!(clone.view(&id("open")), Err(StoreError::ShutDown)));
    assert!(matches!(clone.cancel(&id("open")).await, Err(StoreError::ShutDown)));
}

#[tokio::test]
async fn what_waits_is_done_before_the_last_handle_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(folder.path());
    for n in 0..20 {
        let asked = first.clone();
        let mut verb = Box::pin(async move { asked.accept(whole(&format!("iv{n}"), &["하나"])).await });
        // Asked once and then forgotten, as by a client that went away.
        let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(verb.as_mut().poll(cx))).await;
    }
    drop(first);
    assert_eq!(store(folder.path()).counted()[1], 20);
}

#[tokio::test]
async fn values_of_every_size_stay_out_of_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(folder.path());
    let longest = "🎉".repeat(20_000);
    let texts: Vec<&str> = (0..64).map(|n| &longest[..4 * (20_000 - 300 * n)]).collect();
    let accepted = first.accept(whole("large", &texts)).await.unwrap();
    let feedback = "말".repeat(30_000);
    first.end("large", &vec![scored(&feedback); 64]).await;
    let long = first.report_on("large", no_narrative()).await;
    first.reopen(&id("large"), at(60)).await.unwrap();
    let mut short = long.clone();
    short.answers.clear();
    let generation = first.viewed("large").record.generation;
    let finished = first.finish(&id("large"), generation, short.clone()).await;
    assert_eq!(finished.unwrap(), Finished::Stored);
    drop(first);
    let again = store(folder.path());
    assert_eq!(again.viewed("large").record.interview, accepted.record.interview);
    assert_eq!(again.viewed("large").outcomes, vec![Some(scored(&feedback)); 64]);
    assert_eq!(again.report(&id("large")).unwrap(), Some(short));
    let blobs = std::fs::read_dir(folder.path().join("store/blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
}

/// The files as a kill at this moment would leave them.
pub(super) fn copied(store: &Store) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let target = copy.path().join("store");
    std::fs::create_dir_all(target.join("blobs")).unwrap();
    for entry in std::fs::read_dir(store.path()).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn whatever_was_answered_is_in_the_files_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(folder.path());
    let same = |name: &str| {
        let copy = copied(&first);
        let second = store(copy.path());
        assert_eq!(second.view(&id(name)).unwrap(), first.view(&id(name)).unwrap());
        assert_eq!(
            second.report_json(&id(name)).unwrap(),
            first.report_json(&id(name)).unwrap()
        );
        assert_eq!(second.counted(), first.counted());
    };
    first.accept(open_one("iv", &["하나"])).await.unwrap();
    same("iv");
    first.add_answer(&id("iv"), answer(&["하나", "둘"]), 1).await.unwrap();
    same("iv");
    first.end("iv", &[unscored(), scored("b")]).await;
    same("iv");
    first.close(&id("iv"), at(20)).await.unwrap();
    same("iv");
    first.report_on("iv", narrative()).await;
    same("iv");
    first.reopen(&id("iv"), at(30)).await.unwrap();
    same("iv");
    first.cancel(&id("iv")).await.unwrap();
    same("iv");
    first.delete(&id("iv")).await.unwrap();
    same("iv");
}

#[test]
fn what_cannot_be_opened_may_be_opened_later_and_is_no_failed_sync() {
    let folder = tempfile::tempdir().unwrap();
    let error = disk::Files::of(folder.path()).open().unwrap_err();
    assert!(matches!(error, StoreError::Io { doing: "open", .. }), "{error}");
}
