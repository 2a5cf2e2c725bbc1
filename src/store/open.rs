//! Opening the store, and what is done when it is damaged.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::Options;
use super::disk::{failed, is_free, sync, wait_until_free};
use super::error::StoreError;
use super::reads;
use super::shelf::{Changes, Shelf};
use super::verbs::Counts;
use super::writer::said;
use crate::domain::time::Timestamp;

/// What is behind a store's name when it was moved aside as a whole; the time follows.
pub const QUARANTINE: &str = ".quarantine-";

/// What opening has found.
pub(super) struct Found {
    pub shelf: Shelf,
    pub counts: Counts,
    /// What had to be moved aside, for people.
    pub notes: Vec<String>,
}

/// Why a try failed.
enum Failure {
    /// What is stored is damaged: this much is known.
    Damaged(String),
    Other(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Sled { source, .. } if is_damage(source) => Self::Damaged(source.to_string()),
            StoreError::Missing { .. } => Self::Damaged(error.to_string()),
            _ => Self::Other(error),
        }
    }
}

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Opens what is there, or begins anew. `path` is absolute; `now` names what has to be moved aside.
pub(super) fn open(path: &Path, options: &Options, now: Timestamp) -> Result<Found, StoreError> {
    make_folder(path)?;
    let mut notes = Vec::new();
    let first = match attempt(path, options) {
        Ok((shelf, counts)) => return Ok(Found { shelf, counts, notes }),
        Err(Failure::Other(error)) => return Err(error),
        Err(Failure::Damaged(why)) => why,
    };
    let second = if set_aside_snapshots(path, now, &mut notes)? {
        wait_until_free(path);
        match attempt(path, options) {
            Ok((shelf, counts)) => return Ok(Found { shelf, counts, notes }),
            Err(Failure::Other(error)) => return Err(error),
            Err(Failure::Damaged(why)) => why,
        }
    } else {
        first
    };
    // What was moved aside goes with the rest.
    notes.clear();
    quarantine(path, &second, now, &mut notes)?;
    make_folder(path)?;
    match attempt(path, options) {
        Ok((shelf, counts)) => Ok(Found { shelf, counts, notes }),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Damaged(why)) => Err(StoreError::Broken(format!(
            "even a new store at {} is unreadable ({why})",
            path.display()
        ))),
    }
}

/// Opens what is there, or begins anew; what is damaged is left as it is.
pub(super) fn open_as_it_is(path: &Path, options: &Options) -> Result<Found, StoreError> {
    make_folder(path)?;
    match attempt(path, options) {
        Ok((shelf, counts)) => Ok(Found {
            shelf,
            counts,
            notes: Vec::new(),
        }),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Damaged(why)) => Err(StoreError::Damaged {
            what: format!("the store at {}", path.display()),
            why,
        }),
    }
}

/// The folder, for nobody else to read. Its parents are made as other folders are: the socket may lie there, for a group to open.
fn make_folder(path: &Path) -> Result<(), StoreError> {
    let parents = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let made = parents.and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(path));
    made.map_err(|source| failed("create the folder", path, source))
}

/// Opens sled and reads everything that starting needs. sled panics on some damage; that is damage too.
fn attempt(path: &Path, options: &Options) -> Result<(Shelf, Counts), Failure> {
    if !is_free(path).map_err(|source| failed("look for the lock of", path, source))? {
        return Err(Failure::Other(StoreError::Locked { path: path.to_owned() }));
    }
    let begun = path.join("conf").exists();
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let config = sled::Config::new().path(path).cache_capacity(options.cache_bytes);
        let db = config.open().map_err(|source| StoreError::Sled {
            doing: "open the store",
            source,
        })?;
        let shelf = Shelf { db };
        if begun && shelf.db.is_empty() {
            // sled takes a log that it cannot read for one that has just begun, and would write over it.
            return Err(Failure::Damaged("nothing can be read of what was in it".to_owned()));
        }
        begin(&shelf)?;
        let counts = reads::recount(&shelf)?;
        reads::unfinished(&shelf)?;
        Ok((shelf, counts))
    }));
    let opened = opened.unwrap_or_else(|panic| Err(Failure::Damaged(said(&*panic).to_owned())));
    match opened {
        // Somebody was faster than us after our look at the lock.
        Err(Failure::Other(StoreError::Sled { .. })) if matches!(is_free(path), Ok(false)) => {
            Err(Failure::Other(StoreError::Locked { path: path.to_owned() }))
        }
        other => other,
    }
}

/// Gives a new store its counter; checks that an old one is ours and of a version that we know.
fn begin(shelf: &Shelf) -> Result<(), Failure> {
    if !shelf.db.is_empty() {
        shelf.next_number()?;
        return Ok(());
    }
    let mut changes = Changes::default();
    changes.put_number(1);
    shelf.db.apply_batch(changes.0)?;
    shelf.db.flush()?;
    Ok(())
}

fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => true,
        // A file that is shorter than sled remembers.
        sled::Error::Io(error) => matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData),
        _ => false,
    }
}

/// Renames snapshots that are no good: sled then reads its whole log instead. Good ones stay, since without them damage in the log could pass
/// for its end. True if there was any.
fn set_aside_snapshots(path: &Path, now: Timestamp, notes: &mut Vec<String>) -> Result<bool, StoreError> {
    let listed = |source| failed("list the folder", path, source);
    let mut found = false;
    for entry in fs::read_dir(path).map_err(listed)? {
        let entry = entry.map_err(listed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("snap.") {
            continue;
        }
        let file = entry.path();
        let bytes = fs::read(&file).map_err(|source| failed("read", &file, source))?;
        if is_snapshot(&bytes) {
            continue;
        }
        let aside = unused(&path.join(format!("bad-{name}-{}", seconds(now))));
        fs::rename(&file, &aside).map_err(|source| failed("move aside", &file, source))?;
        notes.push(format!(
            "the store's snapshot {name} was empty or damaged; it was moved to {}, and the log was read in full instead: nothing is lost",
            aside.display()
        ));
        found = true;
    }
    sync(path).map_err(|source| failed("sync", path, source))?;
    Ok(found)
}

/// Moves the whole store away.
fn quarantine(path: &Path, why: &str, now: Timestamp, notes: &mut Vec<String>) -> Result<(), StoreError> {
    if !wait_until_free(path) {
        return Err(StoreError::Locked { path: path.to_owned() });
    }
    let mut away = path.as_os_str().to_owned();
    away.push(format!("{QUARANTINE}{}", seconds(now)));
    let away = unused(Path::new(&away));
    fs::rename(path, &away).map_err(|source| failed("move into quarantine", path, source))?;
    if let Some(parent) = path.parent() {
        sync(parent).map_err(|source| failed("sync", parent, source))?;
    }
    let (path, away) = (path.display(), away.display());
    let note = format!(
        "the store at {path} is damaged ({why}); it was moved as a whole to {away}, and an empty one was begun: interviews and reports from \
         before are not in it. To restore them: stop interviewd, `interviewd import` the newest backup from before, start again"
    );
    // The new store may still fail to open, and the next start would find it healthy.
    tracing::error!("{note}");
    notes.push(note);
    Ok(())
}

fn seconds(now: Timestamp) -> i64 {
    now.millis().div_euclid(1_000)
}

/// The path itself, or with a number if there is something already.
fn unused(path: &Path) -> PathBuf {
    let numbered = |n: u32| PathBuf::from(format!("{}-{n}", path.display()));
    let candidates = std::iter::once(path.to_owned()).chain((2..).map(numbered));
    candidates
        .into_iter()
        .find(|candidate| candidate.symlink_metadata().is_err())
        .unwrap_or_else(|| path.to_owned())
}

/// Whether these are the bytes of a whole snapshot of sled's: its content, 8 bytes of length, the CRC-32 of the content.
fn is_snapshot(bytes: &[u8]) -> bool {
    let Some((rest, sum)) = bytes.split_last_chunk::<4>() else {
        return false;
    };
    match rest.split_last_chunk::<8>() {
        Some((content, _)) if !content.is_empty() => crc32(content) == u32::from_le_bytes(*sum),
        _ => false,
    }
}

/// The CRC-32 of zip and Ethernet, bit by bit: it is needed once in a blue moon.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let step = |sum: u32| (sum >> 1) ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
    !bytes
        .iter()
        .fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_snapshot_is_whole_or_none() {
        let content = b"pages".as_slice();
        let whole = [content, &5u64.to_le_bytes(), &crc32(content).to_le_bytes()].concat();
        assert!(is_snapshot(&whole));
        assert!(!is_snapshot(b""));
        assert!(!is_snapshot(&whole[1..]));
        assert!(!is_snapshot(&whole[..whole.len() - 1]));
    }

    #[test]
    fn names_that_are_taken_get_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(unused(&path), path);
        fs::write(&path, "").unwrap();
        fs::write(folder.path().join("x-2"), "").unwrap();
        assert_eq!(unused(&path), folder.path().join("x-3"));
    }
}
