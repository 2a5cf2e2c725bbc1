//! The daemon's durable facts in sled: whatever a verb has answered is on the disk, and whatever is read was.
//!
//! One thread ([`writer`]) owns all writes. It takes every verb that waits, applies them in their order ([`verbs`]), and only after one flush
//! and one sync ([`disk`]) answers them all. Reads go to sled directly and wait while a round becomes durable, so that nobody sees what a
//! crash could take back. Whether answers have ended is never stored: it is derived from the outcomes that are there.
//!
//! [`open`] is what is done about damage, with a [`census`] of what is there; [`space`] what is done about a disk that fills up.

#[cfg(test)]
pub(crate) mod by_hand;
mod census;
mod claim;
mod disk;
mod erasing;
mod error;
pub mod export;
pub mod export_file;
mod format;
pub mod import;
mod keys;
mod open;
mod reads;
mod record;
mod rewritten;
mod shelf;
mod space;
mod tail;
#[cfg(test)]
mod tests;
mod trouble;
mod verbs;
mod writer;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot, watch};

pub use disk::{free_bytes, is_in_use, is_open_elsewhere};
pub use error::{Reach, StoreError};
pub use open::{QUARANTINE, is_there, some_of};
pub use record::{
    Accept, Accepted, Added, Finished, Moved, Page, Phase, Record, Recorded, ReportHead, Summary, Unfinished,
    Unreadable, View,
};
#[doc(hidden)]
pub use rewritten::{ValueKind, rewritten};
pub use space::Reserve;
pub use trouble::Trouble;

use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::interview::Answer;
use crate::domain::outcome::Outcome;
use crate::domain::report::Report;
use crate::domain::state::InterviewState;
use crate::domain::time::Timestamp;
use disk::{Durable, Files, failed};
use open::guarded;
use shelf::Shelf;
use verbs::Books;
use writer::{Message, Shared, Verb, WAITING_MAX, Writer, lock, read};

/// What can be chosen about a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for pages that were read or written.
    pub cache_bytes: u64,
    pub reserve: Reserve,
    /// Whether damage is an error, and the store is left where it is.
    pub leaves_damage: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 2 * 1024 * 1024,
            reserve: Reserve::default(),
            leaves_damage: false,
        }
    }
}

/// A handle of the store; clones are the same store. Dropping the last one does what waits and closes the database, as
/// [`Store::shut_down`] does at once.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// An open store.
pub struct Opened {
    pub store: Store,
    /// What opening had to move aside, for people; usually empty. If it is not, the daemon should say so. Every opening says it until
    /// [`Store::told`].
    pub notes: Vec<String>,
}

struct Inner {
    shared: Arc<Shared>,
    sender: Option<mpsc::Sender<Message>>,
    /// Its other end is gone when the writer has let go of the database.
    running: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // It catches every panic of its own.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the store in the folder `path`, which is created if need be. `now` names what has to be moved aside: a damaged snapshot, or the
    /// whole store, to `<path>.quarantine-<unix seconds>`. Only damage is moved aside; a missing permission, a lock or a newer
    /// version are errors. Reads a few hundred bytes per interview. A store whose disk is full is given all the same: until it has been opened while
    /// it is tended, everything that is asked of it is [`StoreError::Full`].
    pub fn open(path: &Path, options: &Options, now: Timestamp) -> Result<Opened, StoreError> {
        let path = std::path::absolute(path).map_err(|source| failed("find", path, source))?;
        // Without a slash at its end: names are made by adding to it.
        let path = PathBuf::from_iter(path.components());
        let disk = Box::new(Files::of(&path));
        Self::open_on(path, disk, options, now)
    }

    fn open_on(path: PathBuf, disk: Box<dyn Durable>, options: &Options, now: Timestamp) -> Result<Opened, StoreError> {
        let shared = Arc::new(Shared::new(path));
        let mut writer = Writer::new(Arc::clone(&shared), disk, options.clone());
        let notes = writer.begin(now)?;
        Ok(Opened {
            store: Self::start(shared, writer)?,
            notes,
        })
    }

    fn start(shared: Arc<Shared>, writer: Writer) -> Result<Self, StoreError> {
        let (sender, inbox) = mpsc::channel(WAITING_MAX);
        let (still_running, running) = watch::channel(());
        let spawned = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(inbox, still_running));
        let thread = spawned.map_err(|source| failed("start the writer of", &shared.path, source))?;
        let inner = Inner {
            shared,
            sender: Some(sender),
            running,
            thread: Some(thread),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does what was asked before, then closes the database. Its lock is free when this returns; whatever is asked afterwards, of any clone, is
    /// [`StoreError::ShutDown`].
    pub async fn shut_down(&self) {
        if let Some(sender) = &self.inner.sender {
            // It cannot be sent if another call came first.
            let _ = sender.send(Message::Stop).await;
        }
        // Nothing is ever sent: this ends, with an error, when the writer has.
        let _ = self.inner.running.clone().changed().await;
    }

    // ---- Verbs: durable when they return.

    /// Takes an interview in. The same id with the same content gives what is stored by now, with other content [`StoreError::Conflict`].
    pub async fn accept(&self, new: Accept) -> Result<Accepted, StoreError> {
        self.write(move |books| books.accept(&new)).await
    }

    /// Appends an answer that was checked against the first `expected_answers` ones. If there are others by now: [`StoreError::Changed`].
    pub async fn add_answer(
        &self,
        id: &InterviewId,
        answer: Answer,
        expected_answers: usize,
    ) -> Result<Added, StoreError> {
        let id = id.clone();
        self.write(move |books| books.add_answer(&id, &answer, expected_answers))
            .await
    }

    /// Ends an open interview (the protocol's `finish`).
    pub async fn close(&self, id: &InterviewId, at: Timestamp) -> Result<Moved, StoreError> {
        let id = id.clone();
        self.write(move |books| books.close(&id, at)).await
    }

    /// Keeps how an answer ended, unless that is known already or nobody waits for it any more. Where the disk is full this takes until there is
    /// room.
    pub async fn record(
        &self,
        id: &InterviewId,
        generation: u64,
        answer: &AnswerId,
        outcome: Outcome,
    ) -> Result<Recorded, StoreError> {
        let (id, answer) = (id.clone(), answer.clone());
        self.write_patiently(move |books| books.record(&id, generation, &answer, &outcome))
            .await
    }

    /// Keeps the report in place of an earlier generation's. [`StoreError::Conflict`] while answers have not ended. Where the disk is full this takes
    /// until there is room.
    pub async fn finish(&self, id: &InterviewId, generation: u64, report: Report) -> Result<Finished, StoreError> {
        let id = id.clone();
        self.write_patiently(move |books| books.finish(&id, generation, &report))
            .await
    }

    /// Begins a new generation that keeps what is scored or gated (the protocol's `retry`). The report stays until the new one.
    pub async fn reopen(&self, id: &InterviewId, at: Timestamp) -> Result<Moved, StoreError> {
        let id = id.clone();
        self.write(move |books| books.reopen(&id, at)).await
    }

    /// Cancels what has no report yet, and drops the report of an earlier generation. The flag is false if it was cancelled before.
    pub async fn cancel(&self, id: &InterviewId) -> Result<(Record, bool), StoreError> {
        let id = id.clone();
        self.write(move |books| books.cancel(&id)).await
    }

    /// Erases an interview and gives what it was, if that could be read. Results that are still on their way will be [`Recorded::Stale`], even if
    /// the id is used again. What sled cannot read of it, and what lies between two such pages, stays in its files; where even the rest cannot be taken out of
    /// there without harm to others, [`StoreError::Unerasable`].
    pub async fn delete(&self, id: &InterviewId) -> Result<Option<View>, StoreError> {
        let erased = id.clone();
        let was = self.write(move |books| books.delete(&erased)).await?;
        lock(&self.inner.shared.unreadable).retain(|name| name != id.as_str());
        Ok(was)
    }

    // ---- Reads. They wait for the round that is being written, which is as long as the disk needs for a sync. What a round that failed has changed
    // is [`StoreError::Uncertain`] from then on; so is whatever is of all interviews.

    pub fn view(&self, id: &InterviewId) -> Result<Option<View>, StoreError> {
        self.read_of(id, format_args!("the interview {id}"), |shelf| reads::view(shelf, id))
    }

    /// The number that an interview got when it was submitted, also if nothing else of it can be read.
    pub fn sequence(&self, id: &InterviewId) -> Result<Option<u64>, StoreError> {
        self.read_of(id, format_args!("the interview {id}"), |shelf| shelf.sequence(id))
    }

    /// The newest report; of an earlier generation while a retry runs.
    pub fn report(&self, id: &InterviewId) -> Result<Option<Report>, StoreError> {
        self.read_of(id, format_args!("the report of the interview {id}"), |shelf| {
            reads::report(shelf, id)
        })
    }

    /// As [`Store::report`], the JSON object as it was stored.
    pub fn report_json(&self, id: &InterviewId) -> Result<Option<String>, StoreError> {
        self.read_of(id, format_args!("the report of the interview {id}"), |shelf| {
            reads::report_json(shelf, id)
        })
    }

    /// The interviews that are open, scoring or reporting, in the order of their submission, and those of them that cannot be read.
    pub fn unfinished(&self) -> Result<Unfinished, StoreError> {
        self.read_all("the list of unfinished interviews", reads::unfinished)
    }

    /// At most `limit` interviews (at least one), oldest first; fewer, or none, where they are hard to find: whoever wants more goes on from
    /// `next`. `after` is the `next` of an earlier page, with the same `state`.
    pub fn list(&self, state: Option<InterviewState>, limit: usize, after: Option<&str>) -> Result<Page, StoreError> {
        self.read_all("the list of interviews", |shelf| {
            reads::list(shelf, state, limit, after)
        })
    }

    /// The names of interviews of which nothing could be read when the store was opened, without those that were erased since.
    pub fn unreadable(&self) -> Vec<String> {
        lock(&self.inner.shared.unreadable).clone()
    }

    /// How many interviews are in each state. From memory.
    pub fn counts(&self) -> [(InterviewState, u64); InterviewState::ALL.len()] {
        let counts = lock(&self.inner.shared.counts).0;
        std::array::from_fn(|index| (InterviewState::ALL[index], counts[index]))
    }

    /// The text of a rubric that an interview was accepted under.
    pub fn rubric(&self, hash: &str) -> Result<Option<String>, StoreError> {
        self.read(format_args!("the rubric {hash}"), |shelf| reads::rubric(shelf, hash))
    }

    /// What keeps the store from taking everything, and what waits because of it, for people; `None` while all is well.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.inner.shared.trouble()?;
        Some(match self.inner.shared.held.load(Ordering::Relaxed) {
            0 => trouble.to_string(),
            held => format!("{trouble}; {held} results are kept in memory until they can be written"),
        })
    }

    /// Looks after the disk, as somebody must every second or so: opens the store again once a full disk has room, puts the ballast back, writes
    /// what has waited. If the store has been opened, what opening had to say: unfinished interviews should then be set to work.
    pub async fn tend(&self, now: Timestamp) -> Option<Vec<String>> {
        let (reply, result) = oneshot::channel();
        let sender = self.inner.sender.as_ref()?;
        sender.send(Message::Tend(now, reply)).await.ok()?;
        result.await.ok()?
    }

    /// Whoever should know has been told what opening had to say.
    pub fn told(&self) {
        open::told(self.path());
    }

    /// The absolute path of the store's folder.
    pub fn path(&self) -> &Path {
        &self.inner.shared.path
    }

    /// Bytes that the store takes on the disk.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        self.read("the size of the store", |shelf| Ok(shelf.db.size_on_disk()?))
    }

    /// Bytes of the file system that are free for the store.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        free_bytes(self.path()).map_err(|error| failed("ask for the free space of", self.path(), error))
    }

    async fn write<T, F>(&self, verb: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Books<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.ask(verb, false).await
    }

    async fn write_patiently<T, F>(&self, verb: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Books<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.ask(verb, true).await
    }

    async fn ask<T, F>(&self, verb: F, is_patient: bool) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Books<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let sender = self.inner.sender.as_ref().ok_or(StoreError::ShutDown)?;
        let work = Box::new(Verb {
            verb,
            is_patient,
            is_begun: false,
            result: None,
            reply,
        });
        sender
            .send(Message::Work(work))
            .await
            .map_err(|_| StoreError::ShutDown)?;
        result.await.unwrap_or(Err(StoreError::ShutDown))
    }

    fn read_of<T>(
        &self,
        id: &InterviewId,
        what: impl Display,
        look: impl FnOnce(&Shelf) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(what, |shelf| shelf.sure_of(id).and_then(|()| look(shelf)))
    }

    fn read_all<T>(
        &self,
        what: impl Display,
        look: impl FnOnce(&Shelf) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(what, |shelf| shelf.sure_of_all().and_then(|()| look(shelf)))
    }

    fn read<T>(&self, what: impl Display, look: impl FnOnce(&Shelf) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let shelf = read(&self.inner.shared.shelf);
        let shelf = shelf.as_ref().ok_or_else(|| self.inner.shared.why_shut())?;
        guarded(&what, || look(shelf)).map_err(|error| error.about(&what))
    }
}
