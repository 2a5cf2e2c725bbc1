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
        .replace(r#"{"v":1,"#, r#"{"v":9,"#);
    db.insert(&key, newer.as_bytes()).unwrap();
    drop(db);
    assert!(disk::wait_until_free(&path));
    let error = error(folder.path());
    assert!(
        matches!(&error, StoreError::NewerVersion { found: 9, known: 1, .. }),
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
    assert!(opened.notes[0].contains(&away.display().to_string()));
    assert_eq!(fs::read(away.join("db")).unwrap(), broken);
    assert_eq!(opened.store.counted(), [0; 6]);
    assert!(opened.store.accept(whole("new", &["하나"])).await.unwrap().created);
}

#[tokio::test]
async fn no_damage_makes_it_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    drop(store(folder.path()));
    let files: Vec<PathBuf> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let files: Vec<_> = files.into_iter().filter(|path| path.is_file()).collect();
    for (round, file) in files.iter().cycle().take(30).enumerate() {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir_all(copy.path().join("store/blobs")).unwrap();
        for file in &files {
            fs::copy(file, copy.path().join("store").join(file.file_name().unwrap())).unwrap();
        }
        let victim = copy.path().join("store").join(file.file_name().unwrap());
        let mut bytes = fs::read(&victim).unwrap();
        let used = bytes.len().min(20_000);
        let place = (round * 7_919 + 13) % used;
        match round % 4 {
            0 => bytes.truncate(place),
            _ => bytes[place] ^= 1 << (round % 8),
        }
        fs::write(&victim, &bytes).unwrap();
        let Ok(opened) = Store::open(&copy.path().join("store"), &Options::default(), at(5)) else {
            continue;
        };
        // Whatever is still there is read or refused, and new things can be stored.
        for name in ["complete", "scoring"] {
            let _ = (opened.store.view(&id(name)), opened.store.report(&id(name)));
        }
        let _ = opened.store.list(None, 10, None);
        let _ = opened.store.accept(whole("new", &["하나"])).await;
    }
}

#[tokio::test]
async fn what_cannot_be_opened_for_other_reasons_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("store"), "a file in the way").unwrap();
    let error = error(folder.path());
    assert!(matches!(&error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("cannot create the folder"), "{error}");
}
