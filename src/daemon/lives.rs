//! The lives that are going on: starts an InterviewActor for each when its turn comes, and finds it again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, ArbiterHandle};

use super::line::{Length, Line, Waiting};
use super::rubrics::{Rubrics, RubricsError};
use crate::actors::age::Age;
use crate::actors::interview::{Doors, InterviewActor};
use crate::actors::message::{Abandon, AddAnswer, Begin, Case, Finish, Life};
use crate::actors::report::Clock;
use crate::actors::room::{Place, Room};
use crate::crash_points::CrashPoint;
use crate::domain::ids::InterviewId;
use crate::domain::time::Timestamp;
use crate::store::{Reach, Record, Store, StoreError, View};

/// While so many answers wait for slots, finished interviews that come later wait in the store: a rush costs memory for their ids and not for their
/// texts. Far more than slots become free at a time, so that no engine ever waits for the store.
pub const ANSWERS_AHEAD: usize = 512;

pub struct Lives {
    arbiter: ArbiterHandle,
    doors: Doors,
    store: Store,
    rubrics: Arc<Rubrics>,
    room: Arc<Room>,
    clock: Clock,
    answers_ahead: usize,
    going: Mutex<Going>,
}

#[derive(Default)]
struct Going {
    /// Those that have begun.
    live: BTreeMap<Life, Begun>,
    line: Line,
}

struct Begun {
    case: Arc<Case>,
    actor: Addr<InterviewActor>,
    /// Since its submission; `None` once no more answers can come.
    open: Option<Age>,
}

impl Begun {
    fn abandon(&self, life: Life) {
        self.case.over.store(true, Ordering::Relaxed);
        self.actor.do_send(Abandon { life });
    }
}

/// Why the work of an interview that is stored cannot go on now; it does at the next start.
#[derive(Debug, thiserror::Error)]
pub enum EngageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rubric(#[from] RubricsError),
}

impl EngageError {
    fn is_of_the_whole_store(&self) -> bool {
        match self {
            Self::Store(error) | Self::Rubric(RubricsError::Store(error)) => error.reach() == Reach::Whole,
            Self::Rubric(_) => false,
        }
    }
}

/// The life that a record tells of.
pub fn life_of(record: &Record) -> Life {
    Life {
        sequence: record.sequence,
        generation: record.generation,
        interview_id: record.interview.id.clone(),
    }
}

impl Lives {
    /// `answers_ahead`: how many answers wait in the pool before others wait in the store, usually [`ANSWERS_AHEAD`].
    pub fn new(
        arbiter: ArbiterHandle,
        doors: Doors,
        store: Store,
        rubrics: Arc<Rubrics>,
        room: Arc<Room>,
        clock: Clock,
        answers_ahead: usize,
    ) -> Self {
        Self {
            arbiter,
            doors,
            store,
            rubrics,
            room,
            clock,
            answers_ahead,
            going: Mutex::default(),
        }
    }

    /// Sees to it that everything that `record` asks for is under way, or in line. May be repeated, and in any order: an older record changes
    /// nothing.
    pub fn engage(&self, record: Record, places: Vec<Place>) -> Result<(), EngageError> {
        let life = life_of(&record);
        let mut going = self.going();
        let due = record.due_since.map(|since| self.age(since));
        let begun = going.live.get_mut(&life);
        if let Some(begun) = begun.filter(|begun| begun.actor.connected()) {
            let interview = Arc::new(record.interview);
            match due {
                Some(due) => {
                    begun.open = None;
                    begun.actor.do_send(Finish { interview, due });
                }
                None => begun.actor.do_send(AddAnswer { interview, places }),
            }
            return Ok(());
        }
        if going.line.holds(&life) {
            return Ok(()); // what is stored by then is what begins
        }
        going.live.retain(|_, begun| begun.actor.connected());
        let waiting = Waiting {
            places,
            answers: record.interview.answers().len(),
            due,
            since: Instant::now(),
        };
        // What comes before others that have begun does not wait behind them; nor does an open interview, whose answers come one by one.
        let is_last = going.live.last_key_value().is_none_or(|(last, _)| *last < life);
        let in_line = waiting.places.len() + going.line.places();
        if due.is_some() && is_last && (!going.line.is_empty() || self.has_enough(in_line)) {
            going.line.push(life, waiting);
            // Places may have been reserved by others that are to stand in line too: then none of them is ever given back to tell that it can go on.
            self.room.look_again();
            return Ok(());
        }
        self.begin(&mut going, life, waiting)
    }

    /// Whether enough answers wait in the pool, of `in_line` places that are not in it.
    fn has_enough(&self, in_line: usize) -> bool {
        self.room.taken().saturating_sub(in_line) >= self.answers_ahead
    }

    /// Begins what stands in line, as answers get slots. For as long as the daemon lives. Tells what cannot begin.
    pub async fn keep_beginning(&self, unbegun: impl Fn(&InterviewId, &EngageError)) {
        loop {
            self.room.freed().await;
            while self.begin_first(&unbegun) {}
        }
    }

    /// Whether there was a turn for one.
    fn begin_first(&self, unbegun: impl Fn(&InterviewId, &EngageError)) -> bool {
        let mut going = self.going();
        if self.has_enough(going.line.places()) {
            return false;
        }
        let Some((life, waiting)) = going.line.pop() else {
            return false;
        };
        let id = life.interview_id.clone();
        match self.begin(&mut going, life, waiting) {
            Ok(()) => true,
            // Nothing can be begun before the store has been opened again, here or by a restart, and then all that is unfinished is begun anew.
            Err(error) if error.is_of_the_whole_store() => false,
            Err(error) => {
                unbegun(&id, &error);
                true
            }
        }
    }

    fn begin(&self, going: &mut Going, life: Life, waiting: Waiting) -> Result<(), EngageError> {
        // What was known of it may be overtaken by now: by another answer, by a cancellation, or by its own report.
        let view = self.store.view(&life.interview_id)?;
        let goes_on = |view: &View| life_of(&view.record) == life && view.state().goes_on();
        let Some(view) = view.filter(goes_on) else {
            return Ok(());
        };
        let (rubric, rubric_provenance) = self.rubrics.by_hash(&view.record.rubric_hash)?;
        let case = Arc::new(Case {
            life: life.clone(),
            rubric,
            rubric_provenance,
            submitted_at: view.record.submitted_at,
            over: AtomicBool::new(false),
        });
        let (doors, its_case) = (self.doors.clone(), Arc::clone(&case));
        let actor = InterviewActor::start_in_arbiter(&self.arbiter, move |_| InterviewActor::new(its_case, doors));
        actor.do_send(Begin {
            interview: Arc::new(view.record.interview),
            outcomes: view.outcomes,
            due: waiting.due.or(view.record.due_since.map(|since| self.age(since))),
            places: waiting.places,
            queued_at: waiting.since,
        });
        CrashPoint::LifeBegun.reached();
        let is_open = view.record.due_since.is_none();
        let open = is_open.then(|| self.age(view.record.submitted_at));
        going.live.insert(life, Begun { case, actor, open });
        Ok(())
    }

    /// Those that have taken answers for so long, the first submitted first.
    pub fn open_for(&self, time: Duration) -> Vec<Life> {
        let old = |begun: &Begun| begun.open.is_some_and(|age| age.now() >= time);
        let going = self.going();
        let lives = going.live.iter().filter(|(_, begun)| old(begun));
        lives.map(|(life, _)| life.clone()).collect()
    }

    fn age(&self, moment: Timestamp) -> Age {
        Age::of(moment, (self.clock)())
    }

    /// Stops the work of a life, and from now on nobody is told of it.
    pub fn abandon(&self, record: &Record) {
        let life = life_of(record);
        let mut going = self.going();
        going.line.remove(&life);
        if let Some(begun) = going.live.remove(&life) {
            begun.abandon(life);
        }
    }

    /// As [`Self::abandon`], of every life under this id but the one that goes on, if any does.
    pub fn abandon_others(&self, id: &InterviewId, goes_on: Option<&Life>) {
        let mut going = self.going();
        going.line.remove_others(id, goes_on);
        let is_other = |life: &Life| life.interview_id == *id && Some(life) != goes_on;
        for (life, begun) in going.live.extract_if(.., |life, _| is_other(life)) {
            begun.abandon(life);
        }
    }

    /// What has not begun.
    pub fn line(&self) -> Length {
        self.going().line.length()
    }

    fn going(&self) -> MutexGuard<'_, Going> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
