//! The last step of durability: sled's `flush` hands its writes to the kernel, this has the kernel hand them to the disk.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::claim::{is_taken, unlock};
use super::error::StoreError;

/// What an error says was being done when the disk did not keep what it was given.
pub(super) const SYNC: &str = "sync";

/// What the store asks of the disk, beside sled. A seam for tests.
pub(super) trait Durable: Send {
    /// Begins anew with the files that sled has just opened.
    fn open(&mut self) -> Result<(), StoreError>;
    /// Has sled hand what it was given to the kernel.
    fn flush(&mut self, db: &sled::Db) -> sled::Result<()> {
        db.flush().map(drop)
    }
    /// The step after which what was flushed survives a power loss.
    fn sync(&mut self) -> io::Result<()>;
    fn free_bytes(&mut self) -> io::Result<u64>;
}

/// sled's files through descriptors of our own. The kernel reports a failed write-back once to each descriptor, so sled cannot take ours.
pub(super) struct Files {
    store: PathBuf,
    data: Option<File>,
    /// Blobs that are on the disk already.
    synced: HashSet<OsString>,
}

impl Files {
    pub fn of(store: &Path) -> Self {
        Self {
            store: store.to_owned(),
            data: None,
            synced: HashSet::new(),
        }
    }
}

impl Durable for Files {
    /// Also makes the names of sled's files durable, which sled leaves to chance.
    fn open(&mut self) -> Result<(), StoreError> {
        // That one cannot be opened may pass; that one cannot be synced is never known to.
        let synced = |path: PathBuf| {
            let file = File::open(&path).map_err(|source| failed("open", &path, source))?;
            file.sync_all().map_err(|source| failed(SYNC, &path, source))
        };
        synced(self.store.join("conf"))?;
        synced(self.store.join("blobs"))?;
        synced(self.store.clone())?;
        if let Some(parent) = self.store.parent() {
            synced(parent.to_owned())?;
        }
        let path = self.store.join("db");
        self.data = Some(File::open(&path).map_err(|source| failed("open", &path, source))?);
        self.synced.clear();
        self.sync().map_err(|source| failed(SYNC, &path, source))
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        free_bytes(&self.store)
    }

    fn sync(&mut self) -> io::Result<()> {
        let data = self.data.as_ref();
        data.ok_or(io::Error::from(ErrorKind::NotConnected))?.sync_data()?;
        let blobs = self.store.join("blobs");
        let mut present = HashSet::new();
        for entry in fs::read_dir(&blobs)? {
            present.insert(entry?.file_name());
        }
        let new: Vec<_> = present.difference(&self.synced).collect();
        for name in &new {
            match sync(&blobs.join(name)) {
                // sled has collected it in the meantime.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        if !new.is_empty() {
            sync(&blobs)?;
        }
        self.synced = present;
        Ok(())
    }
}

/// Makes a file's content, or a folder's names, durable.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Bytes that are free where the folder is, or will be.
pub fn free_bytes(store: &Path) -> io::Result<u64> {
    let there = store.ancestors().find(|path| path.exists()).unwrap_or(store);
    let system = rustix::fs::statvfs(there)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

pub(super) fn failed(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Whether an interviewd, this process included, has the store open. Whoever opens it may hear for a moment that it is locked, and sled never does.
pub fn is_in_use(store: &Path) -> Result<bool, StoreError> {
    is_taken(store).map_err(|source| failed("look for the lock of", store, source))
}

/// Whether a program has the store open that knows nothing of our lock: an older interviewd. Whoever opens it may hear for a moment that it is locked.
pub fn is_open_elsewhere(store: &Path) -> Result<bool, StoreError> {
    let is_free = is_free(store).map_err(|source| failed("look for the lock of", store, source))?;
    Ok(!is_free)
}

/// Whether no process, this one included, has sled's data file open.
pub(super) fn is_free(store: &Path) -> io::Result<bool> {
    let file = match File::open(store.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => unlock(&file).map(|()| true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits until sled's own threads have let go of a database that was dropped; false if they do not.
pub(super) fn wait_until_free(store: &Path) -> bool {
    const TRIES_MAX: u32 = 1_000;
    for _ in 0..TRIES_MAX {
        match is_free(store) {
            Ok(false) => thread::sleep(Duration::from_millis(5)),
            Ok(true) => return true,
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_blobs_are_synced_once_and_may_vanish() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("blobs")).unwrap();
        for name in ["conf", "db", "blobs/17"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut files = Files::of(folder.path());
        assert!(files.sync().is_err(), "nothing is open yet");
        files.open().unwrap();
        assert!(files.synced.contains(&OsString::from("17")));
        fs::remove_file(folder.path().join("blobs/17")).unwrap();
        files.sync().unwrap();
        assert!(files.synced.is_empty());
    }
}
