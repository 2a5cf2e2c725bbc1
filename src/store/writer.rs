//! The one thread that writes: it takes all verbs that wait, applies them, makes them durable together, and answers them.
//!
//! Where the disk is full, verbs that can wait are held until there is room, and sled, which does not get over a full disk, is opened again. What
//! a round that failed has changed is in doubt until then, and nobody is told of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{mpsc, oneshot, watch};

use super::Options;
use super::census;
use super::claim::Claim;
use super::disk::{self, Durable};
use super::error::StoreError;
use super::open::{self, guarded};
use super::shelf::{Doubt, Shelf};
use super::space::{Ballast, Room};
use super::trouble::{Trouble, full, of_sled, why_shut};
use super::verbs::{Books, Counts};
use crate::crash_points::CrashPoint;
use crate::domain::privacy::words_of;
use crate::domain::time::Timestamp;

/// Verbs that may wait, and the most of them that share one flush.
pub(super) const WAITING_MAX: usize = 1_024;
/// sled writes while it opens: a snapshot, and the rest of a segment. With less than this it is not tried.
pub(super) const OPENING_BYTES: u64 = 2 * 1024 * 1024;

/// What the writer and the readers share.
pub(super) struct Shared {
    pub path: PathBuf,
    /// Written while a round is applied *and* made durable, so that nobody reads what a crash could take back. `None` once shut down, and while
    /// it cannot be opened.
    pub shelf: RwLock<Option<Shelf>>,
    pub trouble: Mutex<Option<Trouble>>,
    /// Verbs that wait for room.
    pub held: AtomicUsize,
    /// As of the last durable round.
    pub counts: Mutex<Counts>,
    /// Interviews of which nothing could be read when the store was opened, without those that were erased since.
    pub unreadable: Mutex<Vec<String>>,
}

impl Shared {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            shelf: RwLock::new(None),
            trouble: Mutex::new(None),
            held: AtomicUsize::new(0),
            counts: Mutex::new(Counts::default()),
            unreadable: Mutex::default(),
        }
    }

    pub fn trouble(&self) -> Option<Trouble> {
        lock(&self.trouble).clone()
    }

    /// Why there is no shelf.
    pub fn why_shut(&self) -> StoreError {
        match self.trouble() {
            Some(Trouble::Short(_)) | None => StoreError::ShutDown,
            Some(trouble) => trouble.refusal(),
        }
    }
}

pub(super) enum Message {
    Work(Box<dyn Work>),
    /// Looks after the disk; answered with what opening had to say, if the store has been opened again.
    Tend(Timestamp, oneshot::Sender<Option<Vec<String>>>),
    Stop,
}

/// A verb on its way through the writer.
pub(super) trait Work: Send {
    /// May come again, if the verb was held.
    fn apply(&mut self, books: &mut Books<'_>);
    /// Whether it rather waits than be answered. `stopped`: why nothing is written.
    fn can_wait(&self, stopped: Option<&Trouble>) -> bool;
    /// `stopped`: why its round was not made durable, or there was none.
    fn answer(self: Box<Self>, stopped: Option<&Trouble>);
}

/// A verb as a function, its result, and who asked.
pub(super) struct Verb<F, T> {
    pub verb: F,
    pub is_patient: bool,
    /// Whether it was applied, if perhaps not to its end.
    pub is_begun: bool,
    pub result: Option<Result<T, StoreError>>,
    pub reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Work for Verb<F, T>
where
    F: Fn(&mut Books<'_>) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn apply(&mut self, books: &mut Books<'_>) {
        self.is_begun = true;
        self.result = Some((self.verb)(books));
    }

    fn can_wait(&self, stopped: Option<&Trouble>) -> bool {
        let may_be_done_later = match stopped {
            Some(trouble) => trouble.is_passing(),
            None => matches!(self.result, Some(Err(StoreError::Full(_)))),
        };
        self.is_patient && may_be_done_later
    }

    fn answer(self: Box<Self>, stopped: Option<&Trouble>) {
        let result = match (stopped, self.result) {
            (Some(trouble), _) if self.is_begun => Err(StoreError::Uncertain {
                what: "what was asked for".to_owned(),
                reason: trouble.reason().to_owned(),
            }),
            (Some(trouble), _) => Err(trouble.refusal()),
            (None, Some(result)) => result,
            (None, None) => Err(StoreError::ShutDown),
        };
        // Who asked may have gone; the verb is done all the same.
        let _ = self.reply.send(result);
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Box<dyn Durable>,
    ballast: Ballast,
    options: Options,
    /// Held from the first opening on, whether or not sled is open.
    claim: Option<Claim>,
    /// Whether others may be at work on what is stored.
    was_open: bool,
    /// Verbs that wait, in the order in which they came.
    held: Vec<Box<dyn Work>>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, disk: Box<dyn Durable>, options: Options) -> Self {
        Self {
            ballast: Ballast::new(&shared.path, options.reserve),
            shared,
            disk,
            options,
            claim: None,
            was_open: false,
            held: Vec::new(),
        }
    }

    /// Opens the store for the first time; gives what had to be moved aside. A full disk is no error: it is tried again when the store is tended.
    pub fn begin(&mut self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        match self.open(now) {
            Err(error) if error.is_full() => {
                self.stop(Trouble::Full(full(&error)));
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// Runs until it is told to stop or nobody is left who could ask; then lets go of the database, and of `running`.
    pub fn run(mut self, mut inbox: mpsc::Receiver<Message>, running: watch::Sender<()>) {
        while let Some(first) = inbox.blocking_recv() {
            self.turn(first, &mut inbox);
        }
        self.serve_held();
        self.release();
        drop(running);
    }

    /// Takes what waits behind a first message, and does it.
    pub fn turn(&mut self, first: Message, inbox: &mut mpsc::Receiver<Message>) {
        let mut work = Vec::new();
        let mut message = Some(first);
        while let Some(next) = message {
            match next {
                Message::Work(one) => work.push(one),
                Message::Tend(now, reply) => {
                    let _ = reply.send(self.tend(now)); // who asked may have gone
                }
                // What was sent before is still received.
                Message::Stop => inbox.close(),
            }
            message = if work.len() < WAITING_MAX {
                inbox.try_recv().ok()
            } else {
                None
            };
        }
        self.serve(work);
    }

    fn serve(&mut self, mut work: Vec<Box<dyn Work>>) {
        if work.is_empty() {
            return;
        }
        if self.stopped().is_none()
            && let Err(trouble) = self.round(&mut work)
        {
            self.stop(trouble);
        }
        let stopped = self.stopped();
        for one in work {
            match one.can_wait(stopped.as_ref()) {
                true => self.held.push(one),
                false => one.answer(stopped.as_ref()),
            }
            CrashPoint::VerbAnswered.reached();
        }
        self.shared.held.store(self.held.len(), Ordering::Relaxed);
    }

    fn serve_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.serve(held);
    }

    /// Why nothing is written.
    fn stopped(&self) -> Option<Trouble> {
        self.shared
            .trouble()
            .filter(|trouble| !matches!(trouble, Trouble::Short(_)))
    }

    fn stop(&mut self, trouble: Trouble) {
        tracing::error!("{trouble}");
        if let Trouble::Full(_) = trouble {
            self.give_up_ballast();
        }
        *lock(&self.shared.trouble) = Some(trouble);
    }

    /// Apply, flush, sync. An error says why it is not known what of the round will last.
    fn round(&mut self, work: &mut [Box<dyn Work>]) -> Result<(), Trouble> {
        let room = self.look();
        let mut guard = write(&self.shared.shelf);
        let shelf = guard
            .as_mut()
            .ok_or(Trouble::Broken("it has been shut down".to_owned()))?;
        let mut books = Books::new(shelf, *lock(&self.shared.counts), room);
        let disk = &mut self.disk;
        CrashPoint::RoundBegun.reached();
        let ran = catch_unwind(AssertUnwindSafe(|| -> Result<Counts, Trouble> {
            for one in work {
                one.apply(&mut books);
                books.failure().map_err(|error| of_sled("a write", &error))?;
                CrashPoint::VerbApplied.reached();
            }
            if books.has_changed() {
                CrashPoint::RoundApplied.reached();
                disk.flush(&shelf.db).map_err(|error| of_sled("a flush", &error))?;
                CrashPoint::RoundFlushed.reached();
                // After this nobody knows what the kernel has dropped, whatever it says was lacking.
                disk.sync()
                    .map_err(|error| Trouble::Broken(format!("a sync failed: {error}")))?;
                CrashPoint::RoundSynced.reached();
            }
            Ok(books.counts())
        }));
        let panicked =
            |panic: Box<dyn Any + Send>| Err(Trouble::Broken(format!("a write panicked: {}", words_of(&*panic))));
        let is_miscounted = books.is_miscounted();
        let touched = books.into_touched();
        match ran.unwrap_or_else(panicked) {
            Ok(counts) => {
                *lock(&self.shared.counts) = counts;
                drop(guard);
                if is_miscounted {
                    self.recount();
                }
                Ok(())
            }
            Err(trouble) => {
                shelf.doubt = Some(Doubt {
                    of: touched,
                    reason: trouble.reason().to_owned(),
                });
                Err(trouble)
            }
        }
    }

    /// After a round, so that others read meanwhile.
    fn recount(&self) {
        let guard = read(&self.shared.shelf);
        let Some(shelf) = guard.as_ref() else { return };
        match guarded("the interviews", || census::take(shelf)) {
            Ok(census) => *lock(&self.shared.counts) = census.counts,
            Err(error) => tracing::warn!(%error, "the interviews in the store cannot be counted anew"),
        }
    }

    /// Measures what may be written, and gives up the ballast if that is too little.
    fn look(&mut self) -> Room {
        let Some(mut free) = self.free() else {
            return Room::UNLIMITED; // it cannot be measured; sled will see whether there is room
        };
        if free < self.ballast.floor_bytes() && self.give_up_ballast() {
            free = self.free().unwrap_or(free);
        }
        let short = self.ballast.is_short(free).then(|| {
            Trouble::Short(format!(
                "{} are free on the disk of {}, and more than {} must be (store.free_floor_mib and store.ballast_mib)",
                mib(free),
                self.shared.path.display(),
                mib(self.ballast.needed_bytes())
            ))
        });
        let mut trouble = lock(&self.shared.trouble);
        let is_stopped = trouble
            .as_ref()
            .is_some_and(|trouble| !matches!(trouble, Trouble::Short(_)));
        match (&*trouble, &short) {
            _ if is_stopped => {}
            (None, Some(short)) => tracing::error!("{short}"),
            (Some(_), None) => tracing::info!("there is room on the disk again: the store takes new interviews"),
            _ => {}
        }
        if !is_stopped {
            *trouble = short;
        }
        self.ballast.room(free)
    }

    fn free(&mut self) -> Option<u64> {
        let free = self.disk.free_bytes();
        free.inspect_err(|error| tracing::warn!(%error, "the free space of the store's disk cannot be measured"))
            .ok()
    }

    /// True if there was one.
    fn give_up_ballast(&self) -> bool {
        match self.ballast.give_up() {
            Ok(true) => {
                tracing::warn!("the disk is nearly full: the store's ballast was given up to make room");
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::error!(%error, "the store's ballast cannot be given up");
                false
            }
        }
    }

    /// What is done from time to time: opens sled again after a full disk, puts the ballast back, does what waits for room. Gives what opening
    /// had to say if it has been opened.
    fn tend(&mut self, now: Timestamp) -> Option<Vec<String>> {
        let opened = match self.stopped() {
            Some(trouble) if trouble.is_passing() => self.open_again(now),
            _ => None,
        };
        if self.stopped().is_none() {
            self.look();
            let free = self.free().unwrap_or(0);
            if self.ballast.is_due(free)
                && let Err(error) = self.ballast.put_in_place()
            {
                tracing::warn!(%error, "the store's ballast cannot be made");
            }
            self.serve_held();
        }
        opened
    }

    fn open_again(&mut self, now: Timestamp) -> Option<Vec<String>> {
        if let Some(Trouble::Full(_)) = self.stopped() {
            self.give_up_ballast();
        }
        if self.free().is_some_and(|free| free < OPENING_BYTES) {
            return None;
        }
        match self.open(now) {
            Ok(notes) => {
                tracing::info!("the store has been opened again");
                Some(notes)
            }
            Err(error) => {
                let stays = why_shut(&error);
                let mut trouble = lock(&self.shared.trouble);
                let passes = stays.is_passing();
                if trouble.as_ref() != Some(&stays) {
                    tracing::error!("{stays}");
                    *trouble = Some(stays);
                }
                drop(trouble);
                if !passes {
                    // Whoever waits for room waits in vain.
                    self.serve_held();
                }
                None
            }
        }
    }

    /// Opens the database, letting go of what was open. Reads wait meanwhile.
    fn open(&mut self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        if self.free().is_some_and(|free| free < self.ballast.floor_bytes()) {
            self.give_up_ballast();
        }
        let shared = Arc::clone(&self.shared);
        let mut guard = write(&shared.shelf);
        close(&shared, guard.take());
        let found = open::open(&shared.path, &self.options, now, &mut self.claim, !self.was_open)?;
        if let Err(error) = self.disk.open() {
            close(&shared, Some(found.shelf));
            return Err(error);
        }
        self.was_open = true;
        *lock(&shared.counts) = found.counts;
        *lock(&shared.unreadable) = found.unreadable;
        *lock(&shared.trouble) = None;
        *guard = Some(found.shelf);
        drop(guard);
        let free = self.free().unwrap_or(0);
        if self.ballast.is_due(free) {
            // If it cannot be made, looking says what is lacking.
            let _ = self.ballast.put_in_place();
        }
        self.look();
        Ok(found.notes)
    }

    /// Closes the database and gives the store up: others may open it when this returns.
    pub fn release(&mut self) {
        let shelf = write(&self.shared.shelf).take();
        let was_well = shelf.is_some() && self.stopped().is_none();
        close(&self.shared, shelf);
        let has_room = self.free().is_none_or(|free| free >= OPENING_BYTES);
        if was_well
            && has_room
            && let Err(error) = open::checkpoint(&self.shared.path, &self.options)
        {
            tracing::warn!(%error, "the next opening cannot hold the store against this stop");
        }
        self.claim = None;
    }
}

pub(super) fn close(shared: &Shared, shelf: Option<Shelf>) {
    if shelf.is_none() {
        return;
    }
    // sled syncs as it closes and panics if that fails; whatever was acknowledged is on the disk already.
    let closed = catch_unwind(AssertUnwindSafe(|| drop(shelf)));
    if closed.is_err() || !disk::wait_until_free(&shared.path) {
        tracing::warn!("the store did not close cleanly; nothing that was acknowledged is lost");
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

// A panic while one of these was held has made the store broken, or happened in a reader, which changes nothing: what is inside stays usable.

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
