//! Stores as each version of the program wrote them: whatever comes later must read them.
//!
//! A fixture has one line for each key of the store, `{"key":hex,"text":…}`, or with `hex` in place of `text` where a value is no text.

use serde::{Deserialize, Serialize};

use super::*;

const VERSION_1: &str = include_str!("version_1.jsonl");
const VERSION_2: &str = include_str!("version_2.jsonl");

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The folder of a closed store that holds the fixture.
fn restored(folder: &Path, fixture: &str) -> PathBuf {
    let path = folder.join("store");
    let db = sled::open(&path).unwrap();
    for line in fixture.lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let value = line.text.map_or_else(|| unhex(&line.hex.unwrap()), String::into_bytes);
        db.insert(unhex(&line.key), value).unwrap();
    }
    drop(db);
    assert!(disk::wait_until_free(&path));
    path
}

fn counter(path: &Path) -> Option<u32> {
    let db = sled::open(path).unwrap();
    let version = db.get(keys::COUNTER).unwrap().as_deref().and_then(format::version);
    drop(db);
    assert!(disk::wait_until_free(path));
    version
}

/// Everything that a fixture says is there and can be worked with.
async fn assert_readable(fixture: &str, version: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = restored(folder.path(), fixture);
    assert_eq!(counter(&path), Some(version));
    let store = store(folder.path());
    let states: Vec<_> = store
        .list(None, 10, None)
        .unwrap()
        .interviews
        .into_iter()
        .map(|line| (line.id.to_string(), line.state.as_str()))
        .collect();
    let expected = [
        ("complete", "complete"),
        ("open", "open"),
        ("cancelled", "cancelled"),
        ("scoring", "scoring"),
    ];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)));
    let report = store.report(&id("complete")).unwrap().unwrap();
    assert_eq!((report.answers.len(), report.coverage.to_string().as_str()), (2, "1"));
    assert_eq!(store.viewed("complete").done(), 2);
    assert_eq!(
        store.viewed("open").record.interview.answers()[0].text,
        "저는 개발자입니다."
    );
    assert_eq!(
        store
            .rubric(&store.viewed("scoring").record.rubric_hash)
            .unwrap()
            .as_deref(),
        Some(DEFAULT)
    );
    assert_eq!(store.going_on().len(), 2);
    store.end("scoring", &[scored("a"), scored("b")]).await;
    store.report_on("scoring", narrative()).await;
    store.delete(&id("complete")).await.unwrap();
    assert!(store.accept(whole("complete", &["하나"])).await.unwrap().created);
    store.shut_down().await;
    assert_eq!(
        counter(&path),
        Some(format::VERSION),
        "an older program must see that it is too old"
    );
    assert_eq!(super::store(folder.path()).counted(), [1, 1, 0, 1, 0, 1]);
}

#[tokio::test]
async fn a_store_of_version_1_is_read_and_goes_on_in_the_present_version() {
    assert_readable(VERSION_1, 1).await;
}

#[tokio::test]
async fn a_store_of_version_2_is_read_as_it_was_written() {
    assert_readable(VERSION_2, 2).await;
}

#[test]
fn there_is_a_fixture_of_the_present_version() {
    assert_eq!(format::VERSION, 2, "add a fixture, and a test that reads it");
}

/// Prints the store in the folder $STORE as a fixture: `STORE=… cargo test --lib -- --ignored --nocapture prints_a_fixture`.
#[test]
#[ignore = "makes fixtures"]
fn prints_a_fixture() {
    let db = sled::open(std::env::var_os("STORE").unwrap()).unwrap();
    for (key, value) in db.iter().map(Result::unwrap) {
        let text = std::str::from_utf8(&value).ok().map(str::to_owned);
        let line = Line {
            key: hex(&key),
            hex: text.is_none().then(|| hex(&value)),
            text,
        };
        println!("{}", serde_json::to_string(&line).unwrap());
    }
}
