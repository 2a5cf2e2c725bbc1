//! Opening the store, and what is done when it is damaged.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{self, Path, PathBuf};

use super::Options;
use super::census::{self, Census, Disagreement, is_facts};
use super::claim::Claim;
use super::disk::{failed, free_bytes, is_free, sync, wait_until_free};
use super::error::{StoreError, is_damage};
use super::format;
use super::keys;
use super::shelf::{Changes, Shelf};
use super::space::Ballast;
use super::verbs::Counts;
use super::writer::OPENING_BYTES;
use crate::crash_points::CrashPoint;
use crate::domain::privacy::words_of;
use crate::domain::time::Timestamp;

/// The file that is there while a store is begun: what else is there was told to nobody.
const UNBORN: &str = "unborn";

/// What is behind a store's name when it was moved aside as a whole; the time follows.
pub const QUARANTINE: &str = ".quarantine-";

/// The file in a store that says what was moved aside of it, or that it was itself, until that has been told: the opening that did it may have failed
/// afterwards. A line for each.
const UNTOLD: &str = "untold";

/// What opening has found.
pub(super) struct Found {
    pub shelf: Shelf,
    pub counts: Counts,
    /// Interviews of which nothing can be read.
    pub unreadable: Vec<String>,
    /// What had to be moved aside, for people.
    pub notes: Vec<String>,
}

/// Why a try failed.
pub(super) enum Failure {
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

impl From<Disagreement> for Failure {
    fn from(why: Disagreement) -> Self {
        match why {
            Disagreement::Damage(why) => Self::Damaged(why),
            Disagreement::Unknown(error) => Self::Other(error),
        }
    }
}

/// sled panics on some damage: then it is an error that says what was being read.
pub(super) fn guarded<T>(what: impl Display, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        Err(StoreError::Damaged {
            what: what.to_string(),
            why: words_of(&*panic).to_owned(),
        })
    })
}

/// Opens what is there, or begins anew. `path` is absolute; `now` names what has to be moved aside. `claim` is taken if it is not there yet, before
/// anything is looked at. `is_first`: whether nobody works on what is stored yet. Only then may another store take its place: numbers begin anew in
/// that.
pub(super) fn open(
    path: &Path,
    options: &Options,
    now: Timestamp,
    claim: &mut Option<Claim>,
    is_first: bool,
) -> Result<Found, StoreError> {
    let damaged = |why: String| {
        let what = format!("the store at {}", path.display());
        Err(StoreError::Damaged { what, why })
    };
    if !is_first && !has_begun(path) {
        return damaged("it is not there any more".to_owned());
    }
    make_folder(path)?;
    if claim.is_none() {
        *claim = Some(Claim::take(path)?);
    }
    tidy(path, now)?;
    let first = match attempt(path, options) {
        Ok((shelf, census)) => return Ok(found(path, shelf, census)),
        Err(Failure::Other(error)) => return Err(error),
        Err(Failure::Damaged(why)) => why,
    };
    if free_bytes(path).is_ok_and(|free| free < OPENING_BYTES) {
        // What sled could not write passes for damage too.
        return Err(StoreError::Full(format!(
            "the store at {} cannot be opened ({first}), maybe only because its disk is full",
            path.display()
        )));
    }
    if options.leaves_damage {
        return damaged(first);
    }
    let second = if set_aside_snapshots(path, now)? {
        wait_until_free(path);
        match attempt(path, options) {
            Ok((shelf, census)) => return Ok(found(path, shelf, census)),
            Err(Failure::Other(error)) => return Err(error),
            Err(Failure::Damaged(why)) => why,
        }
    } else {
        first
    };
    if !is_first {
        return damaged(second);
    }
    // Nobody needs the ballast there.
    let ballast = Ballast::new(path, options.reserve).give_up();
    ballast.map_err(|source| failed("give up the ballast in", path, source))?;
    quarantine(path, &second, now)?;
    make_folder(path)?;
    // What was claimed has gone away with the rest.
    *claim = None;
    *claim = Some(Claim::take(path)?);
    match attempt(path, options) {
        Ok((shelf, census)) => Ok(found(path, shelf, census)),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Damaged(why)) => Err(StoreError::Broken(format!(
            "even a new store at {} is unreadable ({why})",
            path.display()
        ))),
    }
}

fn found(path: &Path, shelf: Shelf, census: Census) -> Found {
    let read = |file: PathBuf| {
        fs::read_to_string(&file)
            .inspect_err(|error| tracing::warn!(%error, path = %file.display(), "what it says of what was moved aside cannot be read"))
            .unwrap_or_default()
    };
    let texts = untold(path).into_iter().map(read);
    Found {
        shelf,
        counts: census.counts,
        unreadable: census.unreadable,
        notes: texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect(),
    }
}

/// The first of many names.
pub fn some_of(names: &[String]) -> String {
    const NAMES_MAX: usize = 20;
    match names.len().checked_sub(NAMES_MAX) {
        Some(more @ 1..) => format!("{} and {more} more", names[..NAMES_MAX].join(", ")),
        _ => names.join(", "),
    }
}

/// The folder, for nobody else to read. Its parents are made as other folders are: the socket may lie there, for a group to open.
fn make_folder(path: &Path) -> Result<(), StoreError> {
    let parents = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let made = parents.and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(path));
    made.map_err(|source| failed("create the folder", path, source))
}

/// Opens sled and reads everything that starting needs. sled panics on some damage; that is damage too.
pub(super) fn attempt(path: &Path, options: &Options) -> Result<(Shelf, Census), Failure> {
    let begun = has_begun(path);
    if !begun {
        mark_unborn(path).map_err(|source| failed("begin the store in", path, source))?;
    }
    census::check_log(path)?;
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let shelf = database(path, options)?;
        if begun && shelf.db.is_empty() {
            // sled takes a log that it cannot read for one that has just begun, and would write over it.
            return Err(Failure::Damaged("nothing can be read of what was in it".to_owned()));
        }
        CrashPoint::StoreMade.reached();
        let version = begin(&shelf)?;
        CrashPoint::StoreBegun.reached();
        if !begun {
            mark_born(path).map_err(|source| failed("begin the store in", path, source))?;
        }
        let census = census::take(&shelf)?;
        census.check(path)?;
        if version < format::VERSION {
            // From here on an older program is told by the counter that this is not its store any more.
            renumber(&shelf, shelf.next_number()?)?;
        }
        Ok((shelf, census))
    }));
    let opened = opened.unwrap_or_else(|panic| Err(Failure::Damaged(words_of(&*panic).to_owned())));
    match opened {
        Err(Failure::Other(error)) if is_lock(&error) => {
            Err(Failure::Other(StoreError::Locked { path: path.to_owned() }))
        }
        other => other,
    }
}

/// Whether sled says that its data file is locked, if only by somebody who looked.
fn is_lock(error: &StoreError) -> bool {
    match error {
        StoreError::Sled {
            source: sled::Error::Io(error),
            ..
        } => error.to_string().starts_with("could not acquire lock"),
        _ => false,
    }
}

fn mark_unborn(path: &Path) -> io::Result<()> {
    File::create(path.join(UNBORN))?.sync_all()?;
    sync(path)
}

fn mark_born(path: &Path) -> io::Result<()> {
    sync(&path.join("db"))?;
    fs::remove_file(path.join(UNBORN))?;
    sync(path)
}

/// Whether there is a store in the folder, sound or not; nothing is changed.
pub fn is_there(store: &Path) -> Result<bool, StoreError> {
    let entries = match names(store) {
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    // What a kill kept from being begun is none.
    let has = |name: &str| entries.iter().any(|entry| entry == name);
    let is_trace =
        |name: &String| ["db", "conf"].contains(&name.as_str()) || name.starts_with("snap.") || is_facts(name);
    Ok(!has(UNBORN) && entries.iter().any(is_trace))
}

/// Whether there was ever something in the folder.
fn has_begun(path: &Path) -> bool {
    let is_written = fs::metadata(path.join("db")).is_ok_and(|data| data.len() > 0);
    let is_trace = |name: &String| name.starts_with("snap.") || is_facts(name);
    is_written || names(path).is_ok_and(|names| names.iter().any(is_trace))
}

fn database(path: &Path, options: &Options) -> Result<Shelf, StoreError> {
    let config = sled::Config::new().path(path).cache_capacity(options.cache_bytes);
    let db = config.open().map_err(|source| StoreError::Sled {
        doing: format!("open the store at {}", path.display()),
        source,
    })?;
    Ok(Shelf::of(db))
}

/// Opens a closed store once more and closes it: sled writes a snapshot of what it opens, and does not read past it in its log again, where damage
/// could pass for the log's end. Then what it holds is written down, for the next opening.
pub(super) fn checkpoint(path: &Path, options: &Options) -> Result<(), StoreError> {
    let taken = guarded("the store that was just closed", || {
        let shelf = database(path, options)?;
        census::take(&shelf)
    });
    if !wait_until_free(path) {
        return Err(StoreError::Locked { path: path.to_owned() });
    }
    taken?
        .write_down(path)
        .map_err(|source| failed("write down what is in", path, source))
}

/// Gives a new store its counter; checks that an old one is ours and of a version that we know. Gives the version that it was last opened with.
fn begin(shelf: &Shelf) -> Result<u32, Failure> {
    if shelf.db.is_empty() {
        renumber(shelf, 1)?;
    }
    shelf.next_number()?;
    let counter = shelf.get(keys::COUNTER)?;
    Ok(counter.as_deref().and_then(format::version).unwrap_or(format::VERSION))
}

fn renumber(shelf: &Shelf, next: u64) -> Result<(), Failure> {
    let mut changes = Changes::default();
    changes.put_number(next);
    shelf.apply(changes)?;
    shelf.db.flush()?;
    Ok(())
}

/// Removes what sled would stumble over: a store that a kill kept from being begun, which looks like one that was damaged; a snapshot that a kill or a full disk kept from being finished, which it takes for the newest, and
/// settings that are damaged, which it makes anew.
fn tidy(path: &Path, now: Timestamp) -> Result<(), StoreError> {
    // Programs that know nothing of the claim may have it open.
    if !is_free(path).map_err(|source| failed("look for the lock of", path, source))? {
        return Err(StoreError::Locked { path: path.to_owned() });
    }
    let is_unborn = path.join(UNBORN).exists();
    for name in names(path)? {
        let is_unfinished = name.starts_with("snap.") && (is_unborn || name.ends_with(".generating"));
        if is_unfinished || is_unborn && ["db", "conf"].contains(&name.as_str()) {
            let file = path.join(name);
            fs::remove_file(&file).map_err(|source| failed("remove", &file, source))?;
        }
    }
    let settings = path.join("conf");
    match fs::read(&settings) {
        Ok(bytes) if are_settings(&bytes) => Ok(()),
        Ok(_) => set_aside(&settings, now, |aside| {
            format!("the store's file of settings was damaged; it was moved to {aside}, and made anew: nothing is lost")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("read", &settings, source)),
    }
}

/// The files and folders in the store's folder.
fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let listed = |source| failed("list the folder", path, source);
    let entries = fs::read_dir(path).map_err(listed)?;
    entries
        .map(|entry| Ok(entry.map_err(listed)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Renames a file so that sled does not see it. `note`: what is to be told about that, once it is there.
fn set_aside(file: &Path, now: Timestamp, note: impl FnOnce(path::Display) -> String) -> Result<(), StoreError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let aside = unused(&file.with_file_name(format!("bad-{name}-{}", seconds(now))));
    let note = note(aside.display());
    tracing::error!("{note}");
    // First, for after a death in between nothing shows any more that there is something to tell. A disk that is full keeps nobody from opening.
    let untold = File::options()
        .create(true)
        .append(true)
        .open(file.with_file_name(UNTOLD));
    let written = untold.and_then(|mut untold| writeln!(untold, "{note}").and_then(|()| untold.sync_all()));
    if let Err(error) = written {
        tracing::warn!(%error, "that is not written down, and told here only");
    }
    fs::rename(file, &aside).map_err(|source| failed("move aside", file, source))?;
    CrashPoint::PartMovedAside.reached();
    Ok(())
}

/// Renames snapshots that are no good: sled then reads its whole log instead. Good ones stay, since without them damage in the log could pass
/// for its end. True if there was any.
fn set_aside_snapshots(path: &Path, now: Timestamp) -> Result<bool, StoreError> {
    let mut found = false;
    for name in names(path)?.into_iter().filter(|name| name.starts_with("snap.")) {
        let file = path.join(&name);
        let bytes = fs::read(&file).map_err(|source| failed("read", &file, source))?;
        if is_snapshot(&bytes) {
            continue;
        }
        set_aside(&file, now, |aside| {
            format!(
                "the store's snapshot {name} was empty or damaged; it was moved to {aside}, and the log was read in full instead: nothing is lost"
            )
        })?;
        found = true;
    }
    sync(path).map_err(|source| failed("sync", path, source))?;
    Ok(found)
}

/// Moves the whole store away, with what is to be told about that.
fn quarantine(path: &Path, why: &str, now: Timestamp) -> Result<(), StoreError> {
    if !wait_until_free(path) {
        return Err(StoreError::Locked { path: path.to_owned() });
    }
    let mut away = path.as_os_str().to_owned();
    away.push(format!("{QUARANTINE}{}", seconds(now)));
    let away = unused(Path::new(&away));
    // On one line: what sled says when it panics may be on several.
    let why = why.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let note = format!(
        "the store at {} is damaged ({why}); it was moved as a whole to {}, and an empty one was begun: interviews and reports from \
         before are not in it. To restore them: stop interviewd, `interviewd import` the newest backup from before, start again",
        path.display(),
        away.display()
    );
    let untold = path.join(UNTOLD);
    let written = fs::write(&untold, &note)
        .and_then(|()| sync(&untold))
        .and_then(|()| sync(path));
    written.map_err(|source| failed("write", &untold, source))?;
    fs::rename(path, &away).map_err(|source| failed("move into quarantine", path, source))?;
    if let Some(parent) = path.parent() {
        sync(parent).map_err(|source| failed("sync", parent, source))?;
    }
    CrashPoint::StoreMovedAside.reached();
    tracing::error!("{note}");
    Ok(())
}

/// The files that say what was moved aside of this store, or as this store, and that nobody has been told.
fn untold(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let begin = format!("{}{QUARANTINE}", name.to_string_lossy());
    let mut files: Vec<_> = names(folder)
        .inspect_err(|error| tracing::warn!(%error, "nobody knows what was moved aside earlier"))
        .unwrap_or_default()
        .into_iter()
        .filter(|name| name.starts_with(&begin))
        .map(|name| folder.join(name).join(UNTOLD))
        .collect();
    files.sort();
    files.push(path.join(UNTOLD));
    files.retain(|file| file.exists());
    files
}

/// Whoever should know knows what was moved aside.
pub(super) fn told(path: &Path) {
    for file in untold(path) {
        if let Err(error) = fs::remove_file(&file) {
            tracing::warn!(%error, path = %file.display(), "it cannot be removed, and its text is told again by the next start");
        }
    }
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

/// Whether these are the bytes of sled's settings: lines of text and their CRC-32; or of none yet, as far as sled is concerned.
fn are_settings(bytes: &[u8]) -> bool {
    const NONE_BYTES: usize = 8;
    match bytes.split_last_chunk::<4>() {
        Some((text, sum)) => bytes.len() <= NONE_BYTES || crc32fast::hash(text) == u32::from_le_bytes(*sum),
        None => true,
    }
}

/// Whether these are the bytes of a whole snapshot of sled's: its content, 8 bytes of length, the CRC-32 of the content.
fn is_snapshot(bytes: &[u8]) -> bool {
    let Some((rest, sum)) = bytes.split_last_chunk::<4>() else {
        return false;
    };
    match rest.split_last_chunk::<8>() {
        Some((content, _)) if !content.is_empty() => crc32fast::hash(content) == u32::from_le_bytes(*sum),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_whole_or_none() {
        let content = b"pages".as_slice();
        let whole = [content, &5u64.to_le_bytes(), &crc32fast::hash(content).to_le_bytes()].concat();
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
