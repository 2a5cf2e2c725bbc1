//! Opening: locks, versions, damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

/// A closed store with a report, and its folder.
async fn filled(folder: &Path) -> PathBuf {
    let store = store(folder);
    store.complete("complete", narrative()).await;
    store.accept(whole("scoring", &["하나", "둘"])).await.unwrap();
    store.shut_down().await;
    folder.join("store")
}

fn snapshots(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("snap.");
    entries.filter(is_one).collect()
}

fn error(folder: &Path) -> StoreError {
    match Store::open(&folder.join("store"), &Options::default(), at(1_000)) {
        Ok(_) => panic!("it must not open"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn the_folder_is_made_for_nobody_else_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/store");
    let opened = Store::open(&path, &Options::default(), at(1)).unwrap();
    let mode = fs::metadata(opened.store.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_store_that_was_never_begun_is_begun_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fs::create_dir(&path).unwrap();
    for (name, text) in [
        ("unborn", ""),
        ("db", "half a page"),
        ("conf", "half"),
        ("snap.0000", ""),
    ] {
        fs::write(path.join(name), text).unwrap();
    }
    let begun = store(folder.path());
    begun.accept(whole("iv", &["하나"])).await.unwrap();
    begun.shut_down().await;
    assert!(!path.join("unborn").exists());
    assert_eq!(store(folder.path()).counted(), [0, 1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_store_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _store = store(folder.path());
    assert!(matches!(error(folder.path()), StoreError::Locked { .. }));
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let db = sled::open(&path).unwrap();
    let (key, head) = db.scan_prefix(keys::HEADS).next().unwrap().unwrap();
    let newer = String::from_utf8(head.to_vec())
        .unwrap()
        .replace(r#"{"v":2,"#, r#"{"v":9,"#);
    db.insert(&key, newer.as_bytes()).unwrap();
    drop(db);
    assert!(disk::wait_until_free(&path));
    let error = error(folder.path());
    assert!(
        matches!(&error, StoreError::NewerVersion { found: 9, known: 2, .. }),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn an_empty_or_broken_snapshot_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    // sled writes one when it opens what was there before.
    for damage in [
        |_: &mut Vec<u8>| (),
        |bytes: &mut Vec<u8>| bytes.clear(),
        |bytes: &mut Vec<u8>| bytes[0] ^= 1,
    ] {
        let found = snapshots(&path);
        let snapshot = found.first();
        if let Some(snapshot) = snapshot {
            let mut bytes = fs::read(snapshot).unwrap();
            let before = bytes.clone();
            damage(&mut bytes);
            fs::write(snapshot, &bytes).unwrap();
            let opened = opened(folder.path());
            assert_eq!(opened.notes.len(), usize::from(bytes != before));
            assert!(
                opened.notes.iter().all(|note| note.contains("nothing is lost")),
                "{:?}",
                opened.notes
            );
            assert_eq!(opened.store.counted(), [0, 1, 0, 1, 0, 0]);
            assert!(opened.store.report(&id("complete")).unwrap().is_some());
        } else {
            drop(store(folder.path()));
        }
    }
    assert!(!snapshots(&path).is_empty());
}

#[tokio::test]
async fn a_store_beyond_repair_is_moved_away_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    drop(store(folder.path()));
    assert!(!snapshots(&path).is_empty());
    let data = fs::read(path.join("db")).unwrap();
    let broken: Vec<u8> = data.iter().map(|byte| byte ^ 0x55).collect();
    fs::write(path.join("db"), &broken).unwrap();
    let opened = opened(folder.path());
    let away = folder.path().join("store.quarantine-1000");
    assert_eq!(opened.notes.len(), 1, "{:?}", opened.notes);
    assert!(opened.notes[0].contains(&away.display().to_string()) && opened.notes[0].contains("interviewd import"));
    assert_eq!(fs::read(away.join("db")).unwrap(), broken);
    assert_eq!(opened.store.counted(), [0; 6]);
    assert!(opened.store.accept(whole("new", &["하나"])).await.unwrap().created);
}

#[tokio::test]
async fn what_cannot_be_opened_for_other_reasons_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("store"), "a file in the way").unwrap();
    let error = error(folder.path());
    assert!(matches!(&error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("cannot create the folder"), "{error}");
}

/// Changes values of a closed store behind its back.
fn tampered(path: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::open(path).unwrap();
    change(&db);
    drop(db);
    assert!(disk::wait_until_free(path));
}

/// Puts something else in the place of the first value whose key begins so.
fn spoil(db: &sled::Db, prefix: &[u8]) {
    let (key, _) = db.scan_prefix(prefix).next().unwrap().unwrap();
    db.insert(key, "no record").unwrap();
}

#[tokio::test]
async fn an_interview_that_cannot_be_read_is_named_and_keeps_no_other_from_going_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(folder.path());
    for name in ["before", "text", "head", "after"] {
        first.accept(whole(name, &["하나"])).await.unwrap();
    }
    let of = |name: &str| first.viewed(name).record.sequence;
    let (text, head) = (of("text"), of("head"));
    first.shut_down().await;
    let path = folder.path().join("store");
    std::fs::remove_file(path.join("facts")).unwrap();
    tampered(&path, |db| {
        spoil(db, &keys::answers(text));
        spoil(db, &keys::head(head));
    });
    let opened = opened(folder.path());
    assert_eq!(opened.notes, [""; 0], "nothing was moved aside");
    let second = opened.store;
    assert_eq!(second.unreadable(), ["head"]);
    let unfinished = second.unfinished().unwrap();
    let going_on: Vec<_> = unfinished.records.iter().map(|r| r.interview.id.as_str()).collect();
    assert_eq!(going_on, ["before", "after"]);
    let named: Vec<_> = unfinished.unreadable.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(named, ["text", "head"]);
    let error = unfinished.unreadable[0].error.to_string();
    assert!(
        error.contains("an answer of the interview text cannot be understood"),
        "{error}"
    );
    assert_eq!(
        second
            .list(Some(InterviewState::Scoring), 10, None)
            .unwrap()
            .interviews
            .len(),
        3
    );
    // Whoever wants to be rid of them can be.
    for name in ["text", "head"] {
        assert!(second.view(&id(name)).is_err());
        assert!(second.cancel(&id(name)).await.is_err());
        assert_eq!(
            second.unfinished().unwrap().unreadable[0].name,
            name,
            "nothing was half done"
        );
        assert_eq!(second.delete(&id(name)).await.unwrap(), None);
        assert!(second.accept(whole(name, &["둘"])).await.unwrap().created);
    }
    assert_eq!(second.counted(), second.recounted());
}

#[tokio::test]
async fn a_store_that_was_closed_is_held_against_what_it_was_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    tampered(&path, |db| {
        // As if the end of the log had been lost: every index agrees with every other.
        let (key, _) = db.scan_prefix(keys::IDS).nth(1).unwrap().unwrap();
        let number = keys::number(&db.remove(&key).unwrap().unwrap()).unwrap();
        db.remove(keys::head(number)).unwrap();
        db.remove(keys::unfinished(number)).unwrap();
    });
    let opened = opened(folder.path());
    assert!(
        opened.notes[0].contains("when it was closed it held 2 interviews, now it holds 1"),
        "{:?}",
        opened.notes
    );
    assert_eq!(opened.store.counted(), [0; 6]);
}

#[tokio::test]
async fn parts_that_contradict_one_another_are_damage_even_after_a_kill() {
    type Loss = fn(&sled::Db);
    let losses: [(&str, Loss); 4] = [
        ("the id of one of 2 interviews", |db| {
            let (key, _) = db.scan_prefix(keys::IDS).next().unwrap().unwrap();
            drop(db.remove(key).unwrap());
        }),
        ("the head of an interview that has an id", |db| {
            let (key, _) = db.scan_prefix(keys::HEADS).next().unwrap().unwrap();
            drop(db.remove(key).unwrap());
        }),
        ("unfinished interviews with their index", |db| {
            let (key, _) = db.scan_prefix(keys::UNFINISHED).next().unwrap().unwrap();
            drop(db.remove(key).unwrap());
        }),
        ("the newest value of the counter", |db| {
            drop(db.insert(keys::COUNTER, format::encode(&1)).unwrap());
        }),
    ];
    for (words, loss) in losses {
        let folder = tempfile::tempdir().unwrap();
        let path = filled(folder.path()).await;
        std::fs::remove_file(path.join("facts")).unwrap();
        tampered(&path, loss);
        let notes = opened(folder.path()).notes;
        assert!(notes[0].contains(words), "{words}: {notes:?}");
    }
}

#[tokio::test]
async fn a_value_that_lost_a_piece_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let db = sled::open(&path).unwrap();
    let number = keys::number(&db.get(keys::id("complete")).unwrap().unwrap()).unwrap();
    drop(db);
    assert!(disk::wait_until_free(&path));
    let removed = |prefix: Vec<u8>| {
        tampered(&path, |db| {
            let (key, _) = db.scan_prefix(prefix).next().unwrap().unwrap();
            db.remove(key).unwrap();
        });
        opened(folder.path()).store
    };
    let store = removed(keys::report(number));
    let error = store.report(&id("complete")).unwrap_err().to_string();
    assert_eq!(error, "the report of the interview complete is missing from the store");
    store.shut_down().await;
    let generation = number;
    let store = removed(keys::outcomes(number, generation));
    let error = store.view(&id("complete")).unwrap_err().to_string();
    assert_eq!(
        error,
        "the outcome of the answer 1 of the interview complete is missing from the store"
    );
}
