//! Whose the store is: whoever has it open holds a file in its folder locked, from before the first look at what is there until it is closed.
//!
//! sled locks its data file too, but only from its own opening on: what is removed before that, and a store that is moved aside, would be anybody's.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::disk::failed;
use super::error::StoreError;

const NAME: &str = "lock";

/// Held by one at a time, in this process and in all others; the system takes it from a process that dies.
pub(super) struct Claim {
    locked: File,
}

impl Claim {
    /// [`StoreError::Locked`] if it is another's. The folder must be there; the file stays in it for ever.
    pub fn take(store: &Path) -> Result<Self, StoreError> {
        let path = store.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|source| failed("open", &path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&file, &path) => Ok(Self { locked: file }),
            // Whoever had it has moved the store aside in between, and this file with it.
            Ok(()) | Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path: store.to_owned() }),
            Err(error) => Err(failed("lock", &path, error.into())),
        }
    }
}

impl Drop for Claim {
    /// Not only by closing it: a process that is just being started by this one has it open for a moment, too.
    fn drop(&mut self) {
        let _ = unlock(&self.locked); // closing it is the other way
    }
}

/// At once, whoever else has the file open.
pub(super) fn unlock(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::Unlock)?)
}

/// Whether somebody has it. Changes nothing, and works where nothing can be written.
pub(super) fn is_taken(store: &Path) -> io::Result<bool> {
    let file = match File::open(store.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared, so that looks do not take one another for somebody who has it.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => unlock(&file).map(|()| false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether the path still leads to the file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: io::Result<std::fs::Metadata>| data.map(|data| (data.dev(), data.ino())).ok();
    let own = identity(file.metadata());
    own.is_some() && own == identity(path.metadata())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_has_it_until_it_lets_go_and_a_look_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_taken(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let claim = Claim::take(folder.path()).unwrap();
        assert!(is_taken(folder.path()).unwrap());
        assert!(matches!(Claim::take(folder.path()), Err(StoreError::Locked { .. })));
        drop(claim);
        assert!(!is_taken(folder.path()).unwrap());
        Claim::take(folder.path()).unwrap();
    }

    #[test]
    fn a_file_that_was_moved_away_in_between_claims_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        fs::rename(&path, &other).unwrap();
        assert!(!is_at(&file, &path), "nothing is there");
        fs::write(&path, "").unwrap();
        assert!(!is_at(&file, &path) && is_at(&file, &other));
    }
}
