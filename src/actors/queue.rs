//! What waits for a slot, in the order in which it gets one: first come, first served by interview.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::message::{Case, Life, Task};
use super::room::Place;
use crate::domain::interview::Interview;

/// One answer to be scored or one narrative to be written, with its history.
pub struct Work {
    pub case: Arc<Case>,
    pub interview: Arc<Interview>,
    pub task: Task,
    pub queued_at: Instant,
    /// Given back when it gets a slot.
    pub place: Option<Place>,
    /// Runs that were begun.
    pub attempts: u32,
    /// How often an engine died while nothing but this ran on it.
    pub deaths_alone: u32,
    /// Whether it must run with nothing beside it.
    pub alone: bool,
}

impl Work {
    pub fn new(
        case: Arc<Case>,
        interview: Arc<Interview>,
        task: Task,
        queued_at: Instant,
        place: Option<Place>,
    ) -> Self {
        Self {
            case,
            interview,
            task,
            queued_at,
            place,
            attempts: 0,
            deaths_alone: 0,
            alone: false,
        }
    }

    fn key(&self) -> Key {
        let index = match self.task {
            Task::Answer { index } => index,
            Task::Narrative { .. } => usize::MAX,
        };
        (self.case.life.clone(), index)
    }
}

/// Order of submission, then order within the interview; the narrative last.
type Key = (Life, usize);

/// A line of waiting work.
#[derive(Default)]
pub struct Queue(BTreeMap<Key, Work>);

impl Queue {
    /// Work that comes back takes its old place in the order.
    pub fn push(&mut self, work: Work) {
        self.0.insert(work.key(), work);
    }

    pub fn first(&self) -> Option<&Work> {
        self.0.first_key_value().map(|(_, work)| work)
    }

    pub fn pop(&mut self) -> Option<Work> {
        self.0.pop_first().map(|(_, work)| work)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything of a life.
    pub fn remove(&mut self, life: &Life) {
        self.0.retain(|(of, _), _| of != life);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Work> {
        self.0.values()
    }

    /// Interviews that have work here.
    pub fn lives(&self) -> usize {
        self.0.keys().map(|(life, _)| life).collect::<HashSet<_>>().len()
    }

    /// When the work that waits longest came.
    pub fn oldest(&self) -> Option<Instant> {
        self.0.values().map(|work| work.queued_at).min()
    }
}
