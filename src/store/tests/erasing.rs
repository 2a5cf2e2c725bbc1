//! Erasing beside damage: what can be read of an interview goes, and whatever else could be read still can be.

use std::fs;

use super::*;
use crate::store::erasing::erasure;

/// What all answers of an interview say, and no other's.
fn words(n: usize) -> String {
    format!("표식{n:03}을 남겼습니다. ")
}

fn name(n: usize) -> InterviewId {
    id(&format!("iv{n:03}"))
}

/// sled cannot read the pages that have these words, but for those that it remembers.
fn damage(store: &Path, words: &str) {
    let path = store.join("db");
    let mut log = fs::read(&path).unwrap();
    let has_words = |place: &usize| log[*place..].starts_with(words.as_bytes());
    let places: Vec<_> = (0..log.len()).filter(has_words).collect();
    assert!(!places.is_empty());
    for place in places {
        log[place] ^= 1;
    }
    fs::write(&path, &log).unwrap();
}

/// A store of long interviews, in which this one and maybe parts of its neighbours cannot be read.
async fn damaged_at(n: usize, interviews: usize, answers: usize) -> (tempfile::TempDir, Store) {
    const TRIES: usize = 30;
    for _ in 0..TRIES {
        let folder = tempfile::tempdir().unwrap();
        let first = store(folder.path());
        for n in 0..interviews {
            let long = words(n).repeat(250);
            let texts = vec![long.as_str(); answers];
            first.accept(whole(name(n).as_str(), &texts)).await.unwrap();
        }
        first.shut_down().await;
        damage(&folder.path().join("store"), &words(n));
        let Opened { store, notes } = opened(folder.path());
        // What lies in the last segment of the log sled reads when it opens: then there is no store.
        if notes.is_empty() {
            return (folder, store);
        }
    }
    panic!("it is never opened");
}

/// Of each interview: whether it is there and can be read, is not there, or is an error.
fn standings(store: &Store, interviews: usize) -> String {
    let standing = |n| match store.view(&name(n)) {
        Ok(Some(_)) => '+',
        Ok(None) => ' ',
        Err(_) => '-',
    };
    (0..interviews).map(standing).collect()
}

/// Everything that can still be read of what an interview had.
fn rest(store: &Store, sequence: u64) -> Vec<u8> {
    let shelf = read(&store.inner.shared.shelf);
    let shelf = shelf.as_ref().unwrap();
    let (keys, _) = shelf.keys(&keys::interview(sequence));
    keys.iter()
        .flat_map(|key| shelf.get(key).unwrap().unwrap().to_vec())
        .collect()
}

#[tokio::test]
async fn whoever_is_erased_in_or_beside_damage_goes_and_nobody_else_does() {
    const PLACE: usize = 10;
    let orders: [&[usize]; 4] = [
        &[PLACE],
        &[11, 12, 13, 14, PLACE, 9, 8],
        &[9, 8, 7, 6, PLACE, 11, 12, 13],
        &[12, 8, 11, 9, PLACE],
    ];
    for (interviews, answers) in [(20, 6), (40, 4)] {
        for order in orders {
            let (_folder, damaged) = damaged_at(PLACE, interviews, answers).await;
            let mut expected = standings(&damaged, interviews);
            assert_eq!(&expected[PLACE..=PLACE], "-", "{expected}");
            for n in order {
                let sequence = damaged.sequence(&name(*n)).unwrap().unwrap();
                let was = damaged.delete(&name(*n)).await.unwrap();
                assert_eq!(was.is_some(), &expected[*n..=*n] == "+");
                expected.replace_range(*n..=*n, " ");
                assert_eq!(standings(&damaged, interviews), expected, "{order:?}: {n} was erased");
                assert_eq!(rest(&damaged, sequence), b"");
                assert_eq!(damaged.counted(), damaged.recounted());
            }
            assert!(
                damaged
                    .accept(whole(name(PLACE).as_str(), &["둘"]))
                    .await
                    .unwrap()
                    .created
            );
            assert_eq!(damaged.trouble(), None);
        }
    }
}

#[tokio::test]
async fn a_store_in_which_a_damaged_interview_was_erased_opens_as_it_was() {
    let (folder, damaged) = damaged_at(20, 60, 4).await;
    let mut expected = standings(&damaged, 60);
    for n in [21, 20, 19, 22] {
        damaged.delete(&name(n)).await.unwrap();
        expected.replace_range(n..=n, " ");
    }
    damaged.shut_down().await;
    let again = store(folder.path());
    assert_eq!(standings(&again, 60), expected);
}

#[tokio::test]
async fn what_could_not_be_taken_out_without_harm_to_all_else_stays_and_that_is_said() {
    const SEQUENCE: u64 = 7;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let kept = keys::rubric("cafe");
    let around = [keys::head(SEQUENCE), keys::id("iv000"), keys::unfinished(SEQUENCE)];
    let fillers = [1, 2, 3, 4].map(|n| keys::rubric(&n.to_string()));
    let opened = || {
        assert!(disk::wait_until_free(path));
        shelf::Shelf::of(sled::open(path).unwrap())
    };
    let first = opened();
    // With the 17th key sled makes two pages of one: all of the interview's words are on the first.
    for index in 0..9 {
        let key = keys::chunk(&keys::words(SEQUENCE), index);
        first.db.insert(key, words(0).as_bytes()).unwrap();
    }
    for key in around.iter().chain([&kept]).chain(&fillers) {
        first.db.insert(key, "x").unwrap();
    }
    for key in &fillers {
        first.db.remove(key).unwrap();
    }
    drop(first);
    drop(opened()); // it writes a snapshot
    let shelf = opened();
    damage(path, &words(0));
    let erased = erasure(&shelf, &name(0), SEQUENCE);
    assert!(erased.is_err());
    let is_there = |key: &Vec<u8>| shelf.get(key).is_ok_and(|value| value.is_some());
    assert!(around.iter().chain([&kept]).all(is_there));
    // What would have become of it.
    for key in &around {
        let _ = shelf.db.remove(key); // sled may fail here, or at the next thing that it is asked for
    }
    assert!(shelf.get(&kept).is_err());
}
