//! For tests of other rooms: a store without a thread, whose writer does a round when it is told to, on a disk that fails or is full when it is told to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};

use super::disk::Durable;
use super::shelf::Shelf;
use super::trouble::Trouble;
use super::writer::{Message, Shared, WAITING_MAX, Writer, close, read, write};
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
}

/// A disk without a disk: a process that dies loses nothing of what was flushed.
struct Disk(Arc<State>);

impl Durable for Disk {
    fn open(&mut self) -> Result<(), StoreError> {
        Ok(())
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
        let shared = Arc::new(Shared::new(path.to_owned()));
        let disk = Arc::new(State {
            fails: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            free_bytes: AtomicU64::new(PLENTY_BYTES),
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
        if let Ok(first) = self.inbox.try_recv() {
            self.writer.turn(first, &mut self.inbox);
        }
        waiting
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

    // ---- What sled shows, though nobody else is told of it after a failed sync. This disk keeps it.

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
