//! For tests of other rooms: a store without a thread, whose writer does a round when it is told to, on a disk that fails, is full, or turns out full when it
//! is told to.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::disk::Durable;
use super::shelf::Shelf;
use super::trouble::Trouble;
use super::writer::{Message, Shared, WAITING_MAX, Writer, close, lock, read, write};
use super::{Inner, Options, Reserve, Store, StoreError, View, keys, reads};
use crate::domain::ids::InterviewId;
use crate::domain::report::Report;
use crate::domain::time::Timestamp;

/// What the disk must keep free.
const FLOOR_BYTES: u64 = 1 << 20;
const PLENTY_BYTES: u64 = 1 << 30;

/// The other end of a store: its writer.
pub(crate) struct Hand {
    writer: Writer,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Message>,
    disk: Arc<State>,
    _still_running: watch::Sender<()>,
}

struct State {
    fails: AtomicBool,
    has_failed: AtomicBool,
    free_bytes: AtomicU64,
    /// What becomes of the next round, if the disk turns out full when its changes have been made.
    overflow: Mutex<Option<Overflow>>,
    /// Why the store cannot be opened.
    shut: Mutex<Option<Shut>>,
}

/// What becomes of changes that nobody knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    Lasts,
    /// Nor can the store be read from then on, until it has been opened again.
    IsLost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shut {
    Full,
    Otherwise,
}

/// A disk without a disk: a process that dies loses nothing of what was flushed.
struct Disk(Arc<State>);

impl Durable for Disk {
    fn open(&mut self) -> Result<(), StoreError> {
        match *lock(&self.0.shut) {
            None => Ok(()),
            Some(Shut::Full) => Err(StoreError::Full("the disk is full, as it was told to be".to_owned())),
            Some(Shut::Otherwise) => Err(StoreError::Io {
                doing: "open",
                path: "db".into(),
                source: io::Error::other("it was told not to open"),
            }),
        }
    }

    fn flush(&mut self, db: &sled::Db) -> sled::Result<()> {
        let overflow = lock(&self.0.overflow).take();
        if overflow != Some(Overflow::IsLost) {
            db.flush()?;
        }
        match overflow {
            None => Ok(()),
            Some(_) => Err(sled::Error::Io(io::Error::from(ErrorKind::StorageFull))),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.0.fails.load(Ordering::Relaxed) {
            true => {
                self.0.has_failed.store(true, Ordering::Relaxed);
                Err(io::Error::other("the disk has failed, as it was told to"))
            }
            false => Ok(()),
        }
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        Ok(self.0.free_bytes.load(Ordering::Relaxed))
    }
}

impl Store {
    /// As damage that comes while the store is open: the interview's head says nothing any more.
    pub(crate) fn spoil_head(&self, id: &InterviewId) {
        let shelf = write(&self.inner.shared.shelf);
        let db = &shelf.as_ref().unwrap().db;
        let sequence = db.get(keys::id(id.as_str())).unwrap().unwrap();
        let head = keys::head(keys::number(&sequence).unwrap());
        db.insert(head, "no record").unwrap();
    }

    /// Nothing that this store is asked to write is answered before its hand does a round.
    pub(crate) fn by_hand(path: &Path, now: Timestamp) -> Result<(Self, Hand), StoreError> {
        Self::by_hand_that_is(None, path, now)
    }

    /// As [`Self::by_hand`], of a store that cannot be opened for the first time.
    pub(crate) fn by_hand_that_is(shut: Option<Shut>, path: &Path, now: Timestamp) -> Result<(Self, Hand), StoreError> {
        let shared = Arc::new(Shared::new(path.to_owned()));
        let disk = Arc::new(State {
            fails: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            free_bytes: AtomicU64::new(PLENTY_BYTES),
            overflow: Mutex::default(),
            shut: Mutex::new(shut),
        });
        let options = Options {
            reserve: Reserve {
                ballast_bytes: 0,
                floor_bytes: FLOOR_BYTES,
            },
            ..Options::default()
        };
        let mut writer = Writer::new(Arc::clone(&shared), Box::new(Disk(Arc::clone(&disk))), options);
        assert_eq!(writer.begin(now)?, Vec::<String>::new());
        let (sender, inbox) = mpsc::channel(WAITING_MAX);
        let (still_running, running) = watch::channel(());
        let inner = Inner {
            shared: Arc::clone(&shared),
            sender: Some(sender),
            running,
            thread: None,
        };
        let hand = Hand {
            writer,
            shared,
            inbox,
            disk,
            _still_running: still_running,
        };
        Ok((Self { inner: Arc::new(inner) }, hand))
    }
}

impl Hand {
    /// Does what waits, as one round, and answers. How many messages that were.
    pub(crate) fn round(&mut self) -> usize {
        let waiting = self.inbox.len();
        let loses = *lock(&self.disk.overflow) == Some(Overflow::IsLost);
        let before = loses.then(|| files(&self.shared.path));
        if let Ok(first) = self.inbox.try_recv() {
            self.writer.turn(first, &mut self.inbox);
        }
        if let Some(before) = before
            && lock(&self.disk.overflow).is_none()
        {
            close(&self.shared, write(&self.shared.shelf).take());
            for (path, _) in files(&self.shared.path) {
                fs::remove_file(path).unwrap();
            }
            for (path, bytes) in before {
                fs::write(path, bytes).unwrap();
            }
        }
        waiting
    }

    /// The disk turns out full in the next round that changes anything, once its changes have been made.
    pub(crate) fn overflow(&self, overflow: Option<Overflow>) {
        *lock(&self.disk.overflow) = overflow;
    }

    /// From now on the store cannot be opened, if there is a reason.
    pub(crate) fn shut(&self, shut: Option<Shut>) {
        *lock(&self.disk.shut) = shut;
    }

    /// Whether nothing is written, for whatever reason.
    pub(crate) fn is_stopped(&self) -> bool {
        !matches!(self.shared.trouble(), None | Some(Trouble::Short(_)))
    }

    /// Whether anything can be read.
    pub(crate) fn is_open(&self) -> bool {
        read(&self.shared.shelf).is_some()
    }

    /// Whether nobody is told how this interview is stored.
    pub(crate) fn hides(&self, id: &InterviewId) -> bool {
        let shelf = read(&self.shared.shelf);
        shelf.as_ref().is_none_or(|shelf| shelf.sure_of(id).is_err())
    }

    /// From now on no sync succeeds.
    pub(crate) fn fail(&self) {
        self.disk.fails.store(true, Ordering::Relaxed);
    }

    pub(crate) fn fails(&self) -> bool {
        self.disk.fails.load(Ordering::Relaxed)
    }

    /// Whether a sync has failed, and nobody can know what of its round will last.
    pub(crate) fn has_failed(&self) -> bool {
        self.disk.has_failed.load(Ordering::Relaxed)
    }

    /// Whether the store knows it.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.shared.trouble(), Some(Trouble::Broken(_)))
    }

    /// Verbs that wait for room.
    pub(crate) fn held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// The disk is as full as it gets, or has room again.
    pub(crate) fn set_full(&self, is_full: bool) {
        let free_bytes = if is_full { 0 } else { PLENTY_BYTES };
        self.disk.free_bytes.store(free_bytes, Ordering::Relaxed);
    }

    pub(crate) fn lacks_room(&self) -> bool {
        self.disk.free_bytes.load(Ordering::Relaxed) < PLENTY_BYTES
    }

    // ---- What sled shows of an open store, though nobody else is told of it after a round that failed. This disk keeps it.

    pub(crate) fn view(&self, id: &InterviewId) -> Option<View> {
        self.shown(|shelf| reads::view(shelf, id))
    }

    pub(crate) fn report(&self, id: &InterviewId) -> Option<Report> {
        self.shown(|shelf| reads::report(shelf, id))
    }

    pub(crate) fn report_json(&self, id: &InterviewId) -> Option<String> {
        self.shown(|shelf| reads::report_json(shelf, id))
    }

    fn shown<T>(&self, look: impl FnOnce(&Shelf) -> Result<T, StoreError>) -> T {
        look(read(&self.shared.shelf).as_ref().unwrap()).unwrap()
    }

    /// As the death of the process: what waits is not done, and nothing is written down.
    pub(crate) fn die(self) {
        close(&self.shared, write(&self.shared.shelf).take());
    }

    /// As an orderly stop.
    pub(crate) fn stop(mut self) {
        self.writer.release();
    }
}

/// Sled's own, with what is in them.
fn files(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let is_sleds = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        path.is_file()
            && (["db", "conf"].contains(&&*name) || name.starts_with("snap.") || path.starts_with(store.join("blobs")))
    };
    let folders = [store.to_owned(), store.join("blobs")];
    let listed = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = listed.map(|entry| entry.unwrap().path()).filter(is_sleds);
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}
