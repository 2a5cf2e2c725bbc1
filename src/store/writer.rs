//! The one thread that writes: it takes all verbs that wait, applies them, makes them durable together, and answers them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{self, Durable};
use super::error::StoreError;
use super::shelf::Shelf;
use super::verbs::{Books, Counts};
use crate::crash_points::CrashPoint;

/// Verbs that may wait, and the most of them that share one flush.
pub(super) const WAITING_MAX: usize = 1_024;

/// What the writer and the readers share.
pub(super) struct Shared {
    pub path: PathBuf,
    /// Written while a round is applied *and* made durable, so that nobody reads what a crash could take back. `None` once shut down.
    pub shelf: RwLock<Option<Shelf>>,
    /// Why nothing is written any more.
    pub broken: OnceLock<String>,
    /// As of the last durable round.
    pub counts: Mutex<Counts>,
}

pub(super) enum Message {
    Work(Box<dyn Work>),
    Stop,
}

/// A verb on its way through the writer.
pub(super) trait Work: Send {
    fn apply(&mut self, books: &mut Books<'_>);
    /// `durable` is an error, with the reason, if the round failed.
    fn answer(self: Box<Self>, durable: Result<(), &str>);
}

/// A verb as a function, its result, and who asked.
pub(super) struct Verb<F, T> {
    verb: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Verb<F, T> {
    pub fn new(verb: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self {
            verb: Some(verb),
            result: None,
            reply,
        }
    }
}

impl<F, T> Work for Verb<F, T>
where
    F: FnOnce(&mut Books<'_>) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn apply(&mut self, books: &mut Books<'_>) {
        self.result = self.verb.take().map(|verb| verb(books));
    }

    fn answer(self: Box<Self>, durable: Result<(), &str>) {
        let result = match durable {
            Ok(()) => self.result.expect("a round that went well has applied every verb"),
            Err(reason) => Err(StoreError::Broken(reason.to_owned())),
        };
        // Who asked may have gone; the verb is done all the same.
        let _ = self.reply.send(result);
    }
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub disk: Box<dyn Durable>,
}

impl Writer {
    /// Runs until it is told to stop or nobody is left who could ask; then lets go of the database, and of `running`.
    pub fn run(mut self, mut inbox: mpsc::Receiver<Message>, running: watch::Sender<()>) {
        while let Some(first) = inbox.blocking_recv() {
            self.turn(first, &mut inbox);
        }
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
                // What was sent before is still received.
                Message::Stop => inbox.close(),
            }
            message = if work.len() < WAITING_MAX {
                inbox.try_recv().ok()
            } else {
                None
            };
        }
        if !work.is_empty() {
            self.serve(work);
        }
    }

    fn serve(&mut self, mut work: Vec<Box<dyn Work>>) {
        if self.shared.broken.get().is_none()
            && let Err(reason) = self.round(&mut work)
        {
            tracing::error!(reason, "the store takes no more writes");
            self.shared.broken.get_or_init(|| reason);
        }
        let durable = self.shared.broken.get().map_or(Ok(()), |reason| Err(reason.as_str()));
        for one in work {
            one.answer(durable);
            CrashPoint::VerbAnswered.reached();
        }
    }

    /// Apply, flush, sync. An error says why it is not known what of the round will last.
    fn round(&mut self, work: &mut [Box<dyn Work>]) -> Result<(), String> {
        let mut guard = write(&self.shared.shelf);
        let shelf = guard.as_mut().ok_or("it has been shut down")?;
        let mut books = Books::new(shelf, *lock(&self.shared.counts));
        let disk = &mut self.disk;
        CrashPoint::RoundBegun.reached();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            for one in work {
                one.apply(&mut books);
                books.failure()?;
                CrashPoint::VerbApplied.reached();
            }
            if books.has_changed() {
                CrashPoint::RoundApplied.reached();
                shelf.db.flush().map_err(|error| format!("a flush failed: {error}"))?;
                CrashPoint::RoundFlushed.reached();
                disk.sync().map_err(|error| format!("a sync failed: {error}"))?;
                CrashPoint::RoundSynced.reached();
            }
            Ok(books.counts())
        }));
        let counts = ran.unwrap_or_else(|panic| Err(format!("a write panicked: {}", said(&*panic))))?;
        *lock(&self.shared.counts) = counts;
        Ok(())
    }

    /// Closes the database and returns when its lock is free.
    pub fn release(&self) {
        let shelf = write(&self.shared.shelf).take();
        // sled syncs as it closes and panics if that fails; whatever was acknowledged is on the disk already.
        let closed = catch_unwind(AssertUnwindSafe(|| drop(shelf)));
        if closed.is_err() || !disk::wait_until_free(&self.shared.path) {
            tracing::warn!("the store did not close cleanly; nothing that was acknowledged is lost");
        }
    }
}

/// The words of a panic.
pub(super) fn said(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without words",
    }
}

// A panic while one of these was held has made the store broken, or happened in a reader, which changes nothing: what is inside stays usable.

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
