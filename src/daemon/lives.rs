//! The lives that are going on: starts an InterviewActor for each, and finds it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, Addr, ArbiterHandle};

use super::rubrics::{Rubrics, RubricsError};
use crate::actors::interview::{Doors, InterviewActor};
use crate::actors::message::{Abandon, AddAnswer, Begin, Case, Finish, Life};
use crate::actors::room::Place;
use crate::domain::state::InterviewState;
use crate::store::{Record, Store, StoreError, View};

pub struct Lives {
    arbiter: ArbiterHandle,
    doors: Doors,
    store: Store,
    rubrics: Arc<Rubrics>,
    live: Mutex<HashMap<Life, Addr<InterviewActor>>>,
}

/// Why the work of an interview that is stored cannot go on now; it does at the next start.
#[derive(Debug, thiserror::Error)]
pub enum EngageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rubric(#[from] RubricsError),
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
    pub fn new(arbiter: ArbiterHandle, doors: Doors, store: Store, rubrics: Arc<Rubrics>) -> Self {
        Self {
            arbiter,
            doors,
            store,
            rubrics,
            live: Mutex::default(),
        }
    }

    /// Sees to it that everything that `record` asks for is under way. May be repeated, and in any order: an older record changes nothing.
    pub fn engage(&self, record: Record, places: Vec<Place>) -> Result<(), EngageError> {
        let life = life_of(&record);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(actor) = live.get(&life).filter(|actor| actor.connected()) {
            let interview = Arc::new(record.interview);
            match record.due_since {
                Some(due_since) => actor.do_send(Finish { interview, due_since }),
                None => actor.do_send(AddAnswer { interview, places }),
            }
            return Ok(());
        }
        // The record may be overtaken by now: by another answer, by a cancellation, or by its own report.
        let view = self.store.view(&life.interview_id)?;
        let goes_on = |view: &View| {
            use InterviewState::{Open, Reporting, Scoring};
            life_of(&view.record) == life && matches!(view.state(), Open | Scoring | Reporting)
        };
        let Some(view) = view.filter(goes_on) else {
            return Ok(());
        };
        let (rubric, rubric_provenance) = self.rubrics.by_hash(&view.record.rubric_hash)?;
        let case = Arc::new(Case {
            life: life.clone(),
            rubric,
            rubric_provenance,
            submitted_at: view.record.submitted_at,
        });
        let doors = self.doors.clone();
        let actor = InterviewActor::start_in_arbiter(&self.arbiter, move |_| InterviewActor::new(case, doors));
        actor.do_send(Begin {
            interview: Arc::new(view.record.interview),
            outcomes: view.outcomes,
            due_since: view.record.due_since,
            places,
        });
        live.retain(|_, actor| actor.connected());
        live.insert(life, actor);
        Ok(())
    }

    /// Stops the work of a life.
    pub fn abandon(&self, record: &Record) {
        let life = life_of(record);
        let actor = self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&life);
        if let Some(actor) = actor {
            actor.do_send(Abandon { life });
        }
    }
}
