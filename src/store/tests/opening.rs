//! Opening: locks, versions, damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

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
async fn what_another_is_about_to_begin_is_not_taken_for_what_a_kill_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fs::create_dir(&path).unwrap();
    // It has made its files, and sled has not locked its own yet.
    let claim = claim::Claim::take(&path).unwrap();
    for name in ["unborn", "db", "conf"] {
        fs::write(path.join(name), "").unwrap();
    }
    assert!(matches!(error(folder.path()), StoreError::Locked { .. }));
    for name in ["unborn", "db", "conf"] {
        assert!(path.join(name).exists(), "{name} is the other's");
    }
    drop(claim);
    store(folder.path());
}

#[tokio::test]
async fn many_first_starts_at_once_make_one_store_and_the_others_hear_that_it_is_in_use() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let opened: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| Store::open(&path, &Options::default(), at(1_000))))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let mut stores: Vec<_> = opened
            .into_iter()
            .filter_map(|opened| match opened {
                Ok(opened) => Some(opened),
                Err(StoreError::Locked { .. }) => None,
                Err(error) => panic!("{error}"),
            })
            .collect();
        let Some(opened) = stores.pop() else {
            panic!("nobody has it")
        };
        assert!(stores.is_empty() && opened.notes.is_empty(), "{:?}", opened.notes);
        opened.store.accept(whole("iv", &["하나"])).await.unwrap();
        opened.store.shut_down().await;
        assert_eq!(store(folder.path()).counted(), [0, 1, 0, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_lock_of_sleds_that_another_program_holds_is_told_as_one() {
    use rustix::fs::{FlockOperation, flock};
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let data = fs::File::open(path.join("db")).unwrap();
    flock(&data, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(matches!(error(folder.path()), StoreError::Locked { .. }));
    // Also if it is locked after the look at it.
    let mut claim = None;
    let opened = open::attempt(&path, &Options::default());
    assert!(matches!(opened, Err(open::Failure::Other(StoreError::Locked { .. }))));
    assert!(
        !is_in_use(&path).unwrap(),
        "a look takes no lock of sled's, nor heeds it"
    );
    drop(data);
    let opened = open::open(&path, &Options::default(), at(1), &mut claim, true);
    assert!(opened.is_ok_and(|found| found.notes.is_empty()) && is_in_use(&path).unwrap());
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
            opened.store.told();
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
    assert!(claim::Claim::take(&path).is_err(), "the new one is claimed");
    assert!(claim::Claim::take(&away).is_ok(), "the old one is free");
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
        assert!(!second.unreadable().contains(&name.to_owned()));
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

/// Has the store opened again, as after a disk that was full; gives what opening had to say.
async fn opened_again(store: &Store) -> Option<Vec<String>> {
    store.find_the_disk_full();
    store.tend(at(2_000)).await
}

#[tokio::test]
async fn a_store_that_others_work_on_is_never_moved_aside_and_the_next_start_does_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = store(folder.path());
    store.complete("iv", narrative()).await;
    let generation = store.viewed("iv").record.generation;
    let db = path.join("db");
    let length = usize::try_from(fs::metadata(&db).unwrap().len()).unwrap();
    fs::write(&db, vec![0x5a; length]).unwrap();
    store.find_the_disk_full();
    let (iv, a1) = (id("iv"), answer_id("a1"));
    let waits = store.record(&iv, generation, &a1, scored("it waits for room"));
    let both = async { tokio::join!(waits, opened_again(&store)) };
    let (waited, notes) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(matches!(waited, Err(StoreError::Broken(_))), "{waited:?}");
    assert_eq!(notes, None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let trouble = store.trouble().unwrap();
    assert!(
        trouble.contains("takes no more writes") && trouble.contains("damaged"),
        "{trouble}"
    );
    let late = store
        .record(&id("iv"), generation, &answer_id("a1"), scored("late"))
        .await;
    assert!(matches!(late, Err(StoreError::Broken(_))), "{late:?}");
    assert!(matches!(store.view(&id("iv")), Err(StoreError::Broken(_))));
    store.shut_down().await;
    let notes = opened(folder.path()).notes;
    assert!(notes[0].contains("quarantine"), "{notes:?}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_put_aside_when_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let store = store(folder.path());
    for snapshot in snapshots(&path) {
        fs::write(snapshot, "").unwrap();
    }
    let notes = opened_again(&store).await.unwrap();
    assert!(notes.iter().any(|note| note.contains("nothing is lost")), "{notes:?}");
    assert_eq!(store.trouble(), None);
    assert_eq!(store.counted(), [0, 1, 0, 1, 0, 0]);
    assert!(store.accept(whole("new", &["하나"])).await.unwrap().created);
}

#[tokio::test]
async fn what_keeps_the_store_from_being_opened_again_may_pass_and_results_wait_for_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = store(folder.path());
    let generation = store.accept(whole("iv", &["하나"])).await.unwrap().record.generation;
    let (settings, away) = (path.join("conf"), folder.path().join("conf"));
    fs::rename(&settings, &away).unwrap();
    fs::create_dir(&settings).unwrap(); // it cannot be read, and that is no damage
    assert_eq!(opened_again(&store).await, None);
    let trouble = store.trouble().unwrap();
    assert!(
        trouble.contains("cannot be opened again, which is tried every second: cannot read"),
        "{trouble}"
    );
    let refused = store.accept(whole("new", &["하나"])).await;
    assert!(matches!(refused, Err(StoreError::Shut(_))), "{refused:?}");
    assert!(matches!(store.view(&id("iv")), Err(StoreError::Shut(_))));
    let asked = store.clone();
    let record = tokio::spawn(async move { asked.record(&id("iv"), generation, &answer_id("a1"), scored("a")).await });
    while !store.trouble().is_some_and(|trouble| trouble.contains("1 results")) {
        assert_eq!(store.tend(at(2_001)).await, None);
    }
    fs::remove_dir(&settings).unwrap();
    fs::rename(&away, &settings).unwrap();
    assert_eq!(store.tend(at(2_002)).await, Some(Vec::new()));
    assert_eq!(record.await.unwrap().unwrap(), Recorded::Stored);
    assert_eq!((store.trouble(), store.state("iv")), (None, InterviewState::Reporting));
}

#[tokio::test]
async fn what_was_in_doubt_is_known_once_the_store_has_been_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(whole("iv", &["하나"])).await.unwrap();
    if let Some(shelf) = &mut *writer::write(&store.inner.shared.shelf) {
        shelf.doubt = Some(shelf::Doubt {
            of: [id("iv")].into(),
            reason: "the disk was full at a flush".into(),
        });
    }
    let error = store.view(&id("iv")).unwrap_err();
    assert!(
        error.to_string().contains("the last change of the interview iv"),
        "{error}"
    );
    assert_eq!(opened_again(&store).await, Some(Vec::new()));
    assert_eq!(store.state("iv"), InterviewState::Scoring);
    assert_eq!(store.list(None, 10, None).unwrap().interviews.len(), 1);
}

#[tokio::test]
async fn a_store_that_has_gone_is_not_begun_anew_under_those_who_work_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = store(folder.path());
    store.accept(whole("iv", &["하나"])).await.unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(opened_again(&store).await, None);
    let trouble = store.trouble().unwrap();
    assert!(trouble.contains("it is not there any more"), "{trouble}");
    assert!(!path.exists());
}

/// A disk on which sled's files cannot be taken over.
struct Unopened(fn() -> StoreError);

impl Durable for Unopened {
    fn open(&mut self) -> Result<(), StoreError> {
        Err(self.0())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

fn error_of(store: &Path, disk: Unopened) -> StoreError {
    let opened = Store::open_on(store.to_owned(), Box::new(disk), &Options::default(), at(1_000));
    opened.err().unwrap()
}

#[tokio::test]
async fn that_a_store_was_moved_aside_is_said_until_somebody_was_told_whatever_fails_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    fs::write(path.join("db"), "no log").unwrap();
    let disk = Unopened(|| failed("open", Path::new("db"), io::ErrorKind::PermissionDenied.into()));
    let error = error_of(&path, disk);
    assert!(error.to_string().contains("cannot open db"), "{error}");
    for _ in 0..2 {
        let again = opened(folder.path());
        assert_eq!(again.notes.len(), 1, "{:?}", again.notes);
        assert!(again.notes[0].contains("store.quarantine-1000"), "{:?}", again.notes);
        again.store.shut_down().await;
    }
    let last = opened(folder.path());
    assert_eq!(last.notes.len(), 1);
    last.store.told();
    last.store.shut_down().await;
    assert_eq!(opened(folder.path()).notes, [""; 0]);
}

#[tokio::test]
async fn that_a_part_was_moved_aside_is_said_until_somebody_was_told_whatever_fails_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    drop(store(folder.path()));
    fs::write(path.join("conf"), "no settings of sled's").unwrap();
    fs::write(&snapshots(&path)[0], "").unwrap();
    let disk = Unopened(|| failed("open", Path::new("db"), io::ErrorKind::PermissionDenied.into()));
    let error = error_of(&path, disk);
    assert!(error.to_string().contains("cannot open db"), "{error}");
    for _ in 0..2 {
        let again = opened(folder.path());
        let [settings, snapshot] = &again.notes[..] else {
            panic!("{:?}", again.notes)
        };
        assert!(settings.contains("bad-conf-1000"), "{settings}");
        assert!(snapshot.contains("bad-snap."), "{snapshot}");
        again.store.shut_down().await;
    }
    opened(folder.path()).store.told();
    assert_eq!(opened(folder.path()).notes, [""; 0]);
}

#[tokio::test]
async fn a_sync_that_fails_for_want_of_room_is_a_failed_sync() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let disk = Unopened(|| failed(disk::SYNC, Path::new("db"), io::ErrorKind::StorageFull.into()));
    let error = error_of(&path, disk);
    assert!(matches!(error, StoreError::Io { doing: disk::SYNC, .. }), "{error}");
}

/// A process may die when sled has opened its files and nobody has taken away yet what was written down of them: that is no damage.
#[tokio::test]
async fn a_death_between_sleds_opening_and_ours_is_no_damage_wherever_the_log_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = |number: u64| folder.path().join(number.to_string()).join("store");
    for session in 0..120_u64 {
        let (path, left) = (store(session), store(session + 1));
        let opened = Store::open(&path, &Options::default(), at(1)).unwrap();
        assert_eq!(opened.notes, Vec::<String>::new(), "after {session} sessions");
        let long = "장애를 줄였습니다. ".repeat(1 + (session as usize * 37) % 300);
        let texts = vec![long.as_str(); 1 + session as usize % 7];
        for number in 0..4 {
            let accepted = opened
                .store
                .accept(whole(&format!("iv{session}-{number}"), &texts))
                .await;
            drop(accepted.unwrap());
            if let Some(before) = session.checked_sub(2) {
                drop(opened.store.delete(&id(&format!("iv{before}-{number}"))).await.unwrap());
            }
        }
        opened.store.shut_down().await;
        // What a kill leaves: sled cuts off what nothing lies in.
        assert!(census::check_log(&path).is_ok());
        let sled = sled::Config::new().path(&path).open().unwrap();
        fs::create_dir_all(left.join("blobs")).unwrap();
        for entry in fs::read_dir(&path).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), left.join(entry.file_name())).unwrap();
            }
        }
        drop(sled);
        fs::remove_dir_all(path).unwrap();
    }
}
