//! The backups: who may look into them, how old the newest is and whether it can be read, and whether a damaged store waits for one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Finding, can_be_made, nearest, open_to_others, shown, store};
use crate::cli::exit::Failure;
use crate::cli::text::{bytes, count, seconds};
use crate::config::Config;
use crate::daemon::backup::{Backup, Backups};
use crate::domain::time::Timestamp;
use crate::store::import::ExportReader;
use crate::store::{QUARANTINE, export_file, free_bytes};

const CHECK: &str = "backups";
/// Up to this size the newest is read in full.
const READ_BYTES_MAX: u64 = 64 << 20;

pub fn findings(config: &Config, now: Timestamp) -> Vec<Finding> {
    let backups = Backups::of(config);
    let name = shown(&backups.folder, "backup.path");
    let there = match backups.list(now) {
        Ok(there) => there,
        Err(error) => {
            let found = format!("{name} cannot be looked at: {error}");
            return vec![Finding::error(CHECK, found, "ask as the daemon's own user")];
        }
    };
    let mut findings = Vec::new();
    findings.extend(quarantined(&backups, &there));
    findings.extend(permissions(&backups.folder, &there));
    if config.backup.every_h == 0 {
        let found = "the daemon writes none (backup.every_h = 0): `interviewd export` is yours to run";
        findings.push(Finding::ok(CHECK, found));
        return findings;
    }
    findings.push(newest(config, &name, &there, now));
    findings.extend(room(config, &backups));
    findings
}

fn newest(config: &Config, name: &str, there: &[Backup], now: Timestamp) -> Finding {
    let Some(newest) = there.last() else {
        return Finding::ok(
            CHECK,
            format!("none in {name} yet; a running daemon writes the first one"),
        );
    };
    let age = now.since(newest.begun_at) / 1_000;
    let found = format!(
        "{} in {name}, the newest {} old",
        count(there.len(), "backup"),
        seconds(age)
    );
    match read(newest) {
        Err(failure) => Finding::error(
            CHECK,
            format!("the newest backup cannot be read: {failure}"),
            "look to the disk; an older backup may be sound",
        ),
        // One interval has passed when the next is due, and then it takes a while.
        Ok(_) if age > u64::from(config.backup.every_h) * 3_600 * 2 => Finding::warning(
            CHECK,
            found,
            "a daemon that ran all the time would have written another; its log says why it did not",
        ),
        Ok(Some(interviews)) => Finding::ok(
            CHECK,
            format!("{found}, whole, with {}", count(interviews, "interview")),
        ),
        Ok(None) => Finding::ok(CHECK, found),
    }
}

/// How many interviews are in a backup; `None` if it is too large to be read on the side.
fn read(backup: &Backup) -> Result<Option<usize>, Failure> {
    let path = &backup.path;
    if fs::metadata(path).is_ok_and(|file| file.len() > READ_BYTES_MAX) {
        return Ok(None);
    }
    let lines = export_file::open(path).map_err(|error| Failure::failed(Failure::chain("", &error)))?;
    let bad = |bad| Failure::failed(format!("{}, {bad}", path.display()));
    let mut reader = ExportReader::open(lines).map_err(bad)?;
    let mut interviews = 0;
    while reader.next_interview().map_err(bad)?.is_some() {
        interviews += 1;
    }
    Ok(Some(interviews))
}

fn permissions(folder: &Path, there: &[Backup]) -> Option<Finding> {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode());
    let open = |path: &Path| open_to_others(mode(path)).is_some();
    let files = there.iter().filter(|backup| open(&backup.path)).count();
    if !folder.exists() || (files == 0 && !open(folder)) {
        return None;
    }
    let found = format!(
        "others may look into {} ({:04o}) or into {} in it",
        folder.display(),
        mode(folder) & 0o777,
        count(files, "backup")
    );
    let path = folder.display();
    Some(Finding::warning(
        CHECK,
        found,
        format!("chmod 700 {path}; chmod 600 {path}/*"),
    ))
}

/// A damaged store that was moved aside: until it is gone, somebody has something to do.
fn quarantined(backups: &Backups, there: &[Backup]) -> Vec<Finding> {
    let aside = backups.quarantined().unwrap_or_default();
    let finding = |aside: &std::path::PathBuf| {
        let before = |moved: i64| {
            there
                .iter()
                .rev()
                .find(move |backup| backup.begun_at.millis() / 1_000 <= moved)
        };
        let backup = match moved_at(aside).and_then(before) {
            Some(backup) => backup.path.display().to_string(),
            None => "a backup".to_owned(),
        };
        let advice = format!(
            "stop the daemon, `interviewd import {backup}`, start it again; once all is well remove that folder, until then old backups are kept"
        );
        Finding::warning(
            "quarantine",
            format!("a damaged store was moved to {}", aside.display()),
            advice,
        )
    };
    aside.iter().map(finding).collect()
}

/// In seconds since 1970, by its name.
fn moved_at(aside: &Path) -> Option<i64> {
    let name = aside.file_name()?.to_str()?;
    let (_, moment) = name.rsplit_once(QUARANTINE)?;
    moment.split('-').next()?.parse().ok()
}

fn room(config: &Config, backups: &Backups) -> Option<Finding> {
    let folder = &backups.folder;
    if !can_be_made(folder) {
        return Some(Finding::error(
            CHECK,
            format!("{} cannot be written", shown(folder, "backup.path")),
            "make it, writable by the daemon's user alone, or choose another path",
        ));
    }
    let needed = backups.room(store::size(&config.store.path).unwrap_or(0));
    let free = free_bytes(nearest(folder)).ok()?;
    (free < needed).then(|| {
        let found = format!(
            "the next one is skipped: {} are free, and {} must be",
            bytes(free),
            bytes(needed)
        );
        Finding::warning(CHECK, found, "make room, or set backup.path to another disk")
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Level;
    use super::*;
    use crate::store::export_file::ExportFile;

    /// 2026-01-31T09:00:00Z.
    const NOON: i64 = 1_769_850_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn write(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        ExportFile::create(&path, at(NOON)).unwrap().finish().unwrap();
    }

    fn config(folder: &Path) -> Config {
        let mut config = Config::default();
        config.store.path = folder.join("store");
        config
    }

    #[test]
    fn the_newest_backup_is_read_and_its_age_judged() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let asked = |now: i64| findings(&config, at(now)).pop().unwrap();
        assert!(asked(NOON).found.starts_with("none in "));
        let file = folder.path().join("store.backups/interviewd-20260131T090000Z.jsonl.gz");
        write(file.clone());
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        let fresh = asked(NOON + 3_600);
        assert_eq!(fresh.level, Level::Ok);
        assert!(
            fresh
                .found
                .ends_with("the newest 1 h 0 min old, whole, with 0 interviews"),
            "{fresh:?}"
        );
        assert_eq!(asked(NOON + 49 * 3_600).level, Level::Warning);
        fs::write(&file, "nonsense").unwrap();
        let broken = asked(NOON);
        assert!(
            broken.level == Level::Error && broken.found.contains("line 1"),
            "{broken:?}"
        );
    }

    #[test]
    fn what_others_may_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let file = folder.path().join("store.backups/interviewd-20260131T090000Z.jsonl.gz");
        write(file.clone());
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(findings(&config, at(NOON)).len(), 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let found = findings(&config, at(NOON));
        assert!(
            found[0].level == Level::Warning && found[0].found.contains("1 backup"),
            "{found:?}"
        );
    }

    #[test]
    fn a_store_in_quarantine_names_the_backup_from_before() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let before = folder.path().join("store.backups/interviewd-20260131T090000Z.jsonl.gz");
        write(before.clone());
        write(folder.path().join("store.backups/interviewd-20260131T110000Z.jsonl.gz"));
        fs::create_dir(folder.path().join(format!("store{QUARANTINE}{}-2", NOON + 3_600))).unwrap();
        let found = findings(&config, at(NOON + 7_200));
        assert_eq!(found[0].check, "quarantine");
        let advice = found[0].advice.as_ref().unwrap();
        assert!(
            advice.contains(&format!("interviewd import {}", before.display())),
            "{advice}"
        );
    }
}
