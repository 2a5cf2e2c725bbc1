//! The lives that are going on: starts an InterviewActor for each, and finds it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, Addr, ArbiterHandle};

use super::rubrics::{Rubrics, RubricsError};
use crate::actors::interview::{Doors, InterviewActor};
use crate::actors::message::{Abandon, AddAnswer, Begin, Case, Finish, Life};
use crate::actors::room::Place;
use crate::store::{Record, Store, StoreError};

pub struct Lives {
    arbiter: ArbiterHandle,
    doors: Doors,
    store: Store,
    rubrics: Arc<Rubrics>,
    live: Mutex<HashMap<Life, Going>>,
}

struct Going {
    case: Arc<Case>,
    actor: Addr<InterviewActor>,
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
        let due_since = record.due_since;
        let interview = Arc::new(record.interview);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let going = live.get(&life).map(|going| &going.actor);
        if let Some(actor) = going.filter(|actor| actor.connected()) {
            match due_since {
                Some(due_since) => actor.do_send(Finish { interview, due_since }),
                None => actor.do_send(AddAnswer { interview, places }),
            }
            return Ok(());
        }
        let outcomes = match self.store.view(&life.interview_id)? {
            Some(view) if view.record.generation == life.generation => view.outcomes,
            _ => return Ok(()), // deleted meanwhile
        };
        let (rubric, rubric_provenance) = self.rubrics.by_hash(&record.rubric_hash)?;
        let case = Arc::new(Case {
            life: life.clone(),
            rubric,
            rubric_provenance,
            submitted_at: record.submitted_at,
            over: AtomicBool::new(false),
        });
        let (doors, its_case) = (self.doors.clone(), Arc::clone(&case));
        let actor = InterviewActor::start_in_arbiter(&self.arbiter, move |_| InterviewActor::new(its_case, doors));
        actor.do_send(Begin {
            interview,
            outcomes,
            due_since,
            places,
        });
        live.retain(|_, going| going.actor.connected());
        live.insert(life, Going { case, actor });
        Ok(())
    }

    /// Stops the work of a life, and from now on nobody is told of it.
    pub fn abandon(&self, record: &Record) {
        let life = life_of(record);
        let going = self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&life);
        if let Some(going) = going {
            going.case.over.store(true, Ordering::Relaxed);
            going.actor.do_send(Abandon { life });
        }
    }
}
