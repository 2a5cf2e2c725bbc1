//! When a backup is due, what it is made of, and which ones go.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::super::Settings;
use super::super::tests::{daemon, submit};
use super::*;
use crate::domain::ids::InterviewId;
use crate::domain::interview::{Draft, Interview, Limits, Opening};
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::runtime::sha256_hex;
use crate::store::import::ExportReader;
use crate::store::{Accept, Options, export_file};

const HOUR: Duration = Duration::from_secs(3_600);

fn at(hours: i64) -> Timestamp {
    Timestamp::from_millis(1_769_850_000_000 + hours * 3_600_000)
}

struct World {
    folder: TempDir,
    store: Store,
    backups: Backups,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.store.path = folder.path().join("store");
        let store = Store::open(&config.store.path, &Options::default(), at(0))
            .unwrap()
            .store;
        let backups = Backups::of(&config);
        Self { folder, store, backups }
    }

    async fn open_one(&self, id: &str) {
        let rubric = Rubric::parse(DEFAULT).unwrap();
        let id = InterviewId::parse(id).unwrap();
        let accept = Accept {
            interview: Interview::new(Draft::default(), id, Opening::StaysOpen, &rubric, &Limits::default()).unwrap(),
            stays_open: true,
            at: at(0),
            rubric_hash: sha256_hex(DEFAULT.as_bytes()).unwrap(),
            rubric_text: DEFAULT.into(),
        };
        self.store.accept(accept).await.unwrap();
    }

    fn write(&self, keep: usize, now: Timestamp) {
        self.backups.write(&self.store, keep, now).unwrap();
    }

    fn hours(&self, now: Timestamp) -> Vec<i64> {
        let there = self.backups.list(now).unwrap();
        there
            .iter()
            .map(|one| (one.begun_at.millis() - at(0).millis()) / 3_600_000)
            .collect()
    }

    fn interviews_of_newest(&self, now: Timestamp) -> usize {
        let there = self.backups.list(now).unwrap();
        let mut reader = ExportReader::open(export_file::open(&there.last().unwrap().path).unwrap()).unwrap();
        std::iter::from_fn(|| reader.next_interview().unwrap()).count()
    }
}

#[test]
fn a_backup_is_due_when_the_interval_has_passed_since_the_newest() {
    let waited = Duration::ZERO;
    assert!(is_due(None, at(0), waited, HOUR));
    assert!(!is_due(Some(at(0)), at(0), waited, HOUR));
    assert!(!is_due(
        Some(at(0)),
        Timestamp::from_millis(at(1).millis() - 1),
        waited,
        HOUR
    ));
    assert!(is_due(Some(at(0)), at(1), waited, HOUR));
}

#[test]
fn a_clock_that_was_wrong_neither_stops_backups_nor_has_them_written_all_the_time() {
    let ten_years = at(24 * 3_650);
    assert!(!is_due(Some(ten_years), at(0), HOUR / 2, HOUR));
    assert!(is_due(Some(ten_years), at(0), HOUR, HOUR));
}

#[test]
fn a_name_says_when_the_backup_was_begun() {
    assert_eq!(name(at(0)), "interviewd-20260131T090000Z.jsonl.gz");
    assert_eq!(begun_at(&name(at(5))), Some(at(5)));
    for other in [
        "interviewd-.jsonl.gz",
        "interviewd-20260131T090000Z.jsonl",
        "x",
        "interviewd-2026T0Z.jsonl.gz",
    ] {
        assert_eq!(begun_at(other), None, "{other}");
    }
}

#[tokio::test]
async fn the_newest_stay_and_nothing_but_backups_is_removed() {
    let world = World::new();
    world.open_one("iv-1").await;
    for hour in 0..3 {
        world.write(2, at(hour));
    }
    assert_eq!(world.hours(at(3)), [1, 2]);
    let folder = &world.backups.folder;
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    let file = &world.backups.list(at(3)).unwrap()[0].path;
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(folder.join("notes.txt"), "").unwrap();
    fs::write(folder.join(".interviewd-abc.partial"), "").unwrap();
    world.write(1, at(4));
    let mut left = names(folder).unwrap();
    left.sort();
    assert_eq!(left, [name(at(4)), "notes.txt".to_owned()]);
    assert_eq!(world.interviews_of_newest(at(4)), 1);
}

#[tokio::test]
async fn a_backup_of_a_time_to_come_goes_like_the_oldest() {
    let world = World::new();
    world.write(2, at(1_000));
    world.write(2, at(0));
    assert_eq!(world.hours(at(1)), [1_000, 0]);
    world.write(2, at(1));
    assert_eq!(world.hours(at(1)), [0, 1]);
}

#[tokio::test]
async fn while_a_damaged_store_lies_beside_no_backup_is_removed() {
    let world = World::new();
    let aside = world.folder.path().join("store.quarantine-1769850000");
    fs::create_dir(&aside).unwrap();
    assert_eq!(world.backups.quarantined().unwrap(), std::slice::from_ref(&aside));
    for hour in 0..3 {
        world.write(1, at(hour));
    }
    assert_eq!(world.hours(at(3)), [0, 1, 2]);
    fs::remove_dir(aside).unwrap();
    world.write(1, at(3));
    assert_eq!(world.hours(at(3)), [3]);
}

#[tokio::test]
async fn what_was_deleted_leaves_the_backups_in_time() {
    let world = World::new();
    world.open_one("iv-1").await;
    world.write(2, at(0));
    world.store.delete(&InterviewId::parse("iv-1").unwrap()).await.unwrap();
    world.write(2, at(1));
    assert_eq!(world.hours(at(1)), [0, 1]);
    world.write(2, at(2));
    assert_eq!(world.hours(at(2)), [1, 2]);
    assert_eq!(world.interviews_of_newest(at(2)), 0);
}

#[actix::test]
async fn after_the_path_was_changed_backups_stay_with_the_store_that_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(&folder.path().join("store"), &Options::default(), at(0)).unwrap();
    let daemon = daemon(folder.path(), opened.store).await;
    submit(&daemon, "iv-1").await.unwrap();
    let mut settings = Settings::clone(&daemon.settings());
    settings.config.store.path = folder.path().join("other");
    daemon.replace_settings(settings);
    assert!(daemon.back_up_if_due(HOUR, Duration::ZERO).unwrap());
    assert_eq!(names(&folder.path().join("store.backups")).unwrap().len(), 1);
    assert!(!folder.path().join("other.backups").exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let mut world = World::new();
    fs::write(world.folder.path().join("file"), "").unwrap();
    world.backups.folder = world.folder.path().join("file/backups");
    let problem = world.backups.write(&world.store, 1, at(0)).unwrap_err();
    assert!(
        with_causes(&problem).contains("file/backups cannot be used: "),
        "{}",
        with_causes(&problem)
    );
}
