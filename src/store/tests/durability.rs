//! Group commit, failures of the disk, shutting down, and values of every size.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A disk that counts its syncs and fails from one of them on.
struct Disk {
    syncs: Arc<AtomicU64>,
    fails_from: u64,
}

impl Durable for Disk {
    fn sync(&mut self) -> io::Result<()> {
        // Slow enough for others to queue up behind it.
        thread::sleep(std::time::Duration::from_millis(2));
        match self.syncs.fetch_add(1, Ordering::SeqCst) < self.fails_from {
            true => Ok(()),
            false => Err(io::Error::other("the disk is gone")),
        }
    }
}

/// A store on such a disk, and how often it has synced.
fn on_disk(folder: &Path, fails_from: u64) -> (Store, Arc<AtomicU64>) {
    let path = folder.join("store");
    let found = open::open(&path, &Options::default(), at(0)).unwrap();
    let shared = Shared {
        path,
        shelf: RwLock::new(Some(found.shelf)),
        broken: OnceLock::new(),
        counts: Mutex::new(found.counts),
    };
    let syncs = Arc::new(AtomicU64::new(0));
    let disk = Disk {
        syncs: Arc::clone(&syncs),
        fails_from,
    };
    (Store::start(shared, Box::new(disk)).unwrap(), syncs)
}

#[tokio::test]
async fn of_a_thousand_that_open_the_same_interview_one_creates_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, syncs) = on_disk(folder.path(), u64::MAX);
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
    assert_eq!((created, syncs.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn many_share_one_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (store, syncs) = on_disk(folder.path(), u64::MAX);
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.accept(whole(&format!("iv{n}"), &["하나"])).await.unwrap().created })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert!(syncs.load(Ordering::SeqCst) < 50, "{syncs:?}");
    assert_eq!(store.counted(), [0, 200, 0, 0, 0, 0]);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_but_everything_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, syncs) = on_disk(folder.path(), 1);
    store.accept(whole("before", &["하나"])).await.unwrap();
    assert_eq!(store.broken(), None);
    for _ in 0..2 {
        let error = store.accept(whole("during", &["하나"])).await.unwrap_err();
        assert!(matches!(error, StoreError::Broken(_)) && error.to_string().contains("the disk is gone"));
    }
    assert!(store.broken().unwrap().contains("a sync failed"));
    let repeated = store.accept(whole("before", &["하나"])).await;
    assert!(matches!(repeated, Err(StoreError::Broken(_))));
    assert_eq!(syncs.load(Ordering::SeqCst), 2);
    assert_eq!(store.state("before"), InterviewState::Scoring);
    assert_eq!(store.counted(), [0, 1, 0, 0, 0, 0]);
    store.shut_down().await;
}

#[tokio::test]
async fn a_verb_that_panics_breaks_the_store_and_not_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let result = store
        .write(|_| -> Result<(), StoreError> { panic!("a page is gone") })
        .await;
    assert!(matches!(result, Err(StoreError::Broken(text)) if text.contains("a page is gone")));
    assert_eq!(store.unfinished().unwrap(), []);
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
    assert!(first.finish(&id("large"), generation, short.clone()).await.unwrap());
    drop(first);
    let again = store(folder.path());
    assert_eq!(again.viewed("large").record.interview, accepted.record.interview);
    assert_eq!(again.viewed("large").outcomes, vec![Some(scored(&feedback)); 64]);
    assert_eq!(again.report(&id("large")).unwrap(), Some(short));
    let blobs = std::fs::read_dir(folder.path().join("store/blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
}

/// The files as a kill at this moment would leave them.
fn copied(store: &Store) -> tempfile::TempDir {
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
