//! For tests of other rooms: a store without a thread, whose writer does a round when it is told to, on a disk that fails when it is told to.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use tokio::sync::{mpsc, watch};

use super::disk::Durable;
use super::writer::{Message, Shared, WAITING_MAX, Writer};
use super::{Inner, Options, Store, StoreError, open};
use crate::domain::time::Timestamp;

/// The other end of a store: its writer.
pub(crate) struct Hand {
    writer: Writer,
    inbox: mpsc::Receiver<Message>,
    fails: Arc<AtomicBool>,
    _still_running: watch::Sender<()>,
}

/// A disk without a disk: a process that dies loses nothing of what was flushed.
struct Disk(Arc<AtomicBool>);

impl Durable for Disk {
    fn sync(&mut self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the disk has failed, as it was told to")),
            false => Ok(()),
        }
    }
}

impl Store {
    /// Nothing that this store is asked to write is answered before its hand does a round.
    pub(crate) fn by_hand(path: &Path, now: Timestamp) -> Result<(Self, Hand), StoreError> {
        let found = open::open(path, &Options::default(), now)?;
        assert_eq!(found.notes, Vec::<String>::new());
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            shelf: RwLock::new(Some(found.shelf)),
            broken: OnceLock::new(),
            counts: Mutex::new(found.counts),
        });
        let (sender, inbox) = mpsc::channel(WAITING_MAX);
        let (still_running, running) = watch::channel(());
        let fails = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk: Box::new(Disk(Arc::clone(&fails))),
        };
        let inner = Inner {
            shared,
            sender: Some(sender),
            running,
            thread: None,
        };
        let hand = Hand {
            writer,
            inbox,
            fails,
            _still_running: still_running,
        };
        Ok((Self { inner: Arc::new(inner) }, hand))
    }
}

impl Hand {
    /// Does what waits, as one round, and answers. How many verbs that were.
    pub(crate) fn round(&mut self) -> usize {
        let waiting = self.inbox.len();
        if let Ok(first) = self.inbox.try_recv() {
            self.writer.turn(first, &mut self.inbox);
        }
        waiting
    }

    /// From now on no sync succeeds.
    pub(crate) fn fail(&self) {
        self.fails.store(true, Ordering::Relaxed);
    }

    pub(crate) fn fails(&self) -> bool {
        self.fails.load(Ordering::Relaxed)
    }

    /// As the end of the process: what waits is not done, and the database is closed.
    pub(crate) fn die(self) {
        self.writer.release();
    }
}
