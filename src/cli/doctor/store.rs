//! The store's folder: whose it is, who may look into it, whether what is in it can be read, and how much room there is.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::{Finding, can_be_made, nearest, open_to_others, shown};
use crate::cli::exit::Failure;
use crate::cli::interrupt;
use crate::cli::leftovers::Leftovers;
use crate::cli::text::{bytes, count};
use crate::config::Config;
use crate::daemon::now;
use crate::store::{Store, StoreError, free_bytes, is_in_use, is_open_elsewhere};

const CHECK: &str = "store";
const DISK: &str = "disk";
/// Opening a store changes files in it, so a copy is opened, up to this size.
const COPIED_BYTES_MAX: u64 = 256 << 20;
const FREE_BYTES_COMFORTABLE: u64 = 1 << 30;

/// What a copy of the store says.
struct Read {
    interviews: usize,
    unreadable: Vec<String>,
}

pub fn findings(config: &Config) -> Result<Vec<Finding>, Failure> {
    let path = &config.store.path;
    let name = shown(path, "store.path");
    let folder = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(vec![not_there(path, &name), room(config, 0)]);
        }
        Err(error) => {
            let found = format!("{name} cannot be looked at: {error}");
            return Ok(vec![Finding::error(CHECK, found, "ask as the daemon's own user")]);
        }
        Ok(folder) if !folder.is_dir() => {
            let found = format!("{name} is no folder");
            return Ok(vec![Finding::error(
                CHECK,
                found,
                "move it away, or choose another path",
            )]);
        }
        Ok(folder) => folder,
    };
    let mut findings = Vec::new();
    if let Some(mode) = open_to_others(folder.permissions().mode()) {
        let found = format!("{name} has the mode {mode}, so that others may look into it");
        findings.push(Finding::warning(CHECK, found, format!("chmod 700 {}", path.display())));
    }
    let (owner, user) = (folder.uid(), geteuid().as_raw());
    if owner != user && user != 0 {
        let found = format!("{name} belongs to the user {owner}, and you are {user}");
        findings.push(Finding::error(CHECK, found, "run the daemon, and this, as that user"));
        return Ok(findings);
    }
    let size = size(path).unwrap_or(0);
    findings.push(contents(path, &name, size)?);
    findings.push(room(config, size));
    Ok(findings)
}

fn not_there(path: &Path, name: &str) -> Finding {
    match can_be_made(path) {
        true => Finding::ok(CHECK, format!("{name} is not there yet; the first start makes it")),
        false => Finding::error(
            CHECK,
            format!("{name} is not there and cannot be made"),
            "make its folder, writable by the daemon's user, or choose another path",
        ),
    }
}

/// Whether what is in it can be read.
fn contents(path: &Path, name: &str, size: u64) -> Result<Finding, Failure> {
    let of_error = |error: &StoreError| Finding::of_error(CHECK, error);
    match is_in_use(path) {
        Err(error) => return Ok(of_error(&error)),
        Ok(true) => {
            return Ok(Finding::ok(
                CHECK,
                format!("{name} is in use by a daemon, which has opened it"),
            ));
        }
        Ok(false) => {}
    }
    if size > COPIED_BYTES_MAX {
        let found = format!(
            "{name} has {}, too many to try a copy of; a start or `interviewd export` reads it",
            bytes(size)
        );
        return Ok(Finding::ok(CHECK, found));
    }
    let leftovers = Leftovers::default();
    let at_the_end = leftovers.clone();
    interrupt::end_with(move || at_the_end.clear_at_once())?;
    let read = copied(path, size, &leftovers).and_then(|copy| match copy {
        Some(copy) => read(&copy).map(Some),
        None => Ok(None),
    });
    leftovers.clear();
    Ok(match read {
        // It may have been copied while that daemon was writing.
        _ if matches!(is_in_use(path), Ok(true)) => {
            Finding::ok(CHECK, format!("{name} is in use by a daemon that has just started"))
        }
        Ok(None) => Finding::ok(CHECK, format!("{name} was not tried: there is no room for a copy")),
        Ok(Some(read)) if read.unreadable.is_empty() => judged(name, &read),
        // Asked only now, and not before every look: sled takes who asks for another that has it open.
        _ if matches!(is_open_elsewhere(path), Ok(true)) => Finding::ok(
            CHECK,
            format!("{name} is in use by another program, maybe an older interviewd: a copy of it says nothing"),
        ),
        Ok(Some(read)) => judged(name, &read),
        Err(StoreError::Damaged { why, .. }) => Finding::error(
            CHECK,
            format!("{name} is damaged ({why})"),
            "the next start moves it aside and begins an empty one; then stop, `interviewd import` the newest backup, and start again",
        ),
        Err(error) => of_error(&error),
    })
}

fn judged(name: &str, read: &Read) -> Finding {
    let interviews = count(read.interviews, "interview");
    match read.unreadable.first() {
        None => Finding::ok(CHECK, format!("{name} opens, and all of {interviews} can be read")),
        Some(first) => Finding::error(
            CHECK,
            format!(
                "{} of {name} cannot be read ({first} …), {interviews} can",
                read.unreadable.len()
            ),
            "a backup may have them: `interviewd export`, import that and then an older backup into a new store.path",
        ),
    }
}

/// A copy of the store in a folder of our own, which is gone afterwards; `None` if there is no room for one.
fn copied(path: &Path, size: u64, leftovers: &Leftovers) -> Result<Option<PathBuf>, StoreError> {
    let folder = std::env::temp_dir();
    let failed = |source| StoreError::Io {
        doing: "copy for a trial the store at",
        path: path.to_owned(),
        source,
    };
    if free_bytes(&folder).map_err(failed)? < size.saturating_mul(2) {
        return Ok(None);
    }
    let private = fs::Permissions::from_mode(0o700);
    let mut made = tempfile::Builder::new();
    let made = made
        .prefix("interviewd-doctor-")
        .permissions(private)
        .tempdir_in(folder);
    let copy = made.map_err(failed)?.keep();
    leftovers.folder(copy.clone());
    copy_files(path, &copy).map_err(failed)?;
    Ok(Some(copy))
}

/// A folder with its folders.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Opens a store that is nobody else's and reads all of it.
fn read(path: &Path) -> Result<Read, StoreError> {
    let store = Store::open_as_it_is(path, now())?;
    let (mut read, mut after) = (
        Read {
            interviews: 0,
            unreadable: Vec::new(),
        },
        None,
    );
    loop {
        let page = store.export(after.as_deref())?;
        read.interviews += page.interviews.len();
        read.unreadable.extend(page.unreadable);
        after = page.next;
        if after.is_none() {
            return Ok(read);
        }
    }
}

fn room(config: &Config, size: u64) -> Finding {
    let path = &config.store.path;
    let free = match free_bytes(nearest(path)) {
        Ok(free) => free,
        Err(error) => {
            let found = format!("the free space at {} cannot be asked for: {error}", path.display());
            return Finding::error(DISK, found, "ask as the daemon's own user");
        }
    };
    judged_room(free, config.store.reserve().needed_bytes(path), size)
}

/// `needed`: what the daemon wants to be free.
fn judged_room(free: u64, needed: u64, size: u64) -> Finding {
    let found = format!("{} are free for the store, which has {}", bytes(free), bytes(size));
    match free {
        _ if free < needed => Finding::error(
            DISK,
            format!(
                "{found}: new interviews are refused, for which {} must be free (store.free_floor_mib, and what store.ballast_mib still lacks)",
                bytes(needed)
            ),
            "make room, or move the store to a larger disk",
        ),
        ..FREE_BYTES_COMFORTABLE => Finding::warning(DISK, found, "make room, or move the store to a larger disk"),
        _ => Finding::ok(DISK, found),
    }
}

/// Bytes of the files in a folder and its folders.
pub fn size(path: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        total += match entry.file_type()?.is_dir() {
            true => size(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn config(store: PathBuf) -> Config {
        let mut config = Config::default();
        config.store.path = store;
        config
    }

    /// Every file with its bytes.
    fn everything(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files.extend(everything(&path)),
                false => files.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
        files.sort();
        files
    }

    #[test]
    fn a_sound_store_is_read_and_left_exactly_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let config = config(path.clone());
        let yet = findings(&config).unwrap();
        assert!(
            yet[0].level == Level::Ok && yet[0].found.contains("not there yet"),
            "{yet:?}"
        );
        drop(Store::open_as_it_is(&path, now()).unwrap());
        let before = everything(folder.path());
        let found = findings(&config).unwrap();
        assert!(
            found[0].found.ends_with("opens, and all of 0 interviews can be read"),
            "{found:?}"
        );
        assert_eq!(everything(folder.path()), before);
    }

    #[test]
    fn a_disk_is_too_full_exactly_where_the_daemon_refuses_what_is_new() {
        let needed = 64 << 20;
        assert_eq!(judged_room(needed - 1, needed, 0).level, Level::Error);
        assert_eq!(judged_room(needed, needed, 0).level, Level::Warning);
        assert_eq!(judged_room(4 << 30, needed, 0).level, Level::Ok);
    }

    #[test]
    fn a_store_that_is_in_use_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let _open = Store::open_as_it_is(&path, now()).unwrap();
        let found = findings(&config(path)).unwrap();
        assert!(
            found[0].level == Level::Ok && found[0].found.contains("in use by a daemon"),
            "{found:?}"
        );
    }

    #[test]
    fn a_store_that_looks_damaged_while_an_older_daemon_has_it_is_in_use() {
        use rustix::fs::{FlockOperation, flock};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        drop(Store::open_as_it_is(&path, now()).unwrap());
        let db = path.join("db");
        fs::write(&db, vec![0x5a; fs::metadata(&db).unwrap().len() as usize]).unwrap();
        let sleds = fs::File::open(&db).unwrap();
        flock(&sleds, FlockOperation::NonBlockingLockExclusive).unwrap();
        let found = &findings(&config(path.clone())).unwrap()[0];
        assert!(
            found.level == Level::Ok && found.found.contains("in use by another program"),
            "{found:?}"
        );
        drop(sleds);
        assert_eq!(findings(&config(path)).unwrap()[0].level, Level::Error);
    }

    #[test]
    fn damage_and_an_open_folder_are_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        drop(Store::open_as_it_is(&path, now()).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let db = path.join("db");
        fs::write(&db, vec![0x5a; fs::metadata(&db).unwrap().len() as usize]).unwrap();
        let before = everything(folder.path());
        let found = findings(&config(path.clone())).unwrap();
        assert_eq!(
            (found[0].level, found[1].level),
            (Level::Warning, Level::Error),
            "{found:?}"
        );
        assert_eq!(found[0].advice, Some(format!("chmod 700 {}", path.display())));
        assert!(
            found[1].advice.as_ref().unwrap().contains("interviewd import"),
            "{found:?}"
        );
        assert_eq!(everything(folder.path()), before);
        let file = config(db);
        assert!(findings(&file).unwrap()[0].found.contains("is no folder"));
    }
}
