//! What waits for a slot, in the order in which it gets one: first come, first served by interview.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use super::in_flight::{Past, Row};
use super::message::{Case, Life, Moments, Task};
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
    /// Runs that failed by themselves: not those that ended with the engine.
    pub failures: u32,
    /// How often an engine died while nothing but this ran on it.
    pub deaths_alone: u32,
    /// How often it was forgiven what it failed in, because the engine was to blame.
    pub pardons: u32,
    /// Why it failed the last time, and how that run went.
    pub last_failure: Option<(String, Moments)>,
    /// Whether it must run with nothing beside it.
    pub alone: bool,
    /// What earlier processes tell of it.
    pub past: Past,
    /// While it runs: where that is noted.
    pub row: Option<Row>,
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
            failures: 0,
            deaths_alone: 0,
            pardons: 0,
            last_failure: None,
            alone: false,
            past: Past::default(),
            row: None,
        }
    }

    /// `None`: the narrative.
    pub fn answer_id(&self) -> Option<&str> {
        match self.task {
            Task::Answer { index } => self.interview.answers().get(index).map(|answer| answer.id.as_str()),
            Task::Narrative { .. } => None,
        }
    }

    pub fn key(&self) -> Key {
        let index = match self.task {
            Task::Answer { index } => index,
            Task::Narrative { .. } => usize::MAX,
        };
        (self.case.life.clone(), index)
    }
}

/// Order of submission, then order within the interview; the narrative last.
pub type Key = (Life, usize);

/// A line of waiting work.
#[derive(Default)]
pub struct Queue(BTreeMap<Key, Work>);

impl Queue {
    /// Work that comes back takes its old place in the order.
    pub fn push(&mut self, mut work: Work) {
        work.row = None;
        self.0.insert(work.key(), work);
    }

    pub fn first(&self) -> Option<(&Key, &Work)> {
        self.0.first_key_value()
    }

    pub fn get(&self, key: &Key) -> Option<&Work> {
        self.0.get(key)
    }

    pub fn take(&mut self, key: &Key) -> Option<Work> {
        self.0.remove(key)
    }

    /// What should run before others, going by when works were last blamed: what never was, then what was longest ago, each in order.
    pub fn least_blamed(&self, blamed_at: impl Fn(&Key) -> Option<u64>) -> Option<(&Key, &Work)> {
        self.0.iter().min_by_key(|(key, _)| blamed_at(key))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Work> {
        self.0.values_mut()
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets everything of a life.
    pub fn remove(&mut self, life: &Life) {
        self.0.extract_if(keys_of(life), |_, _| true).for_each(drop);
    }

    /// What waits of a life.
    pub fn of(&self, life: &Life) -> impl Iterator<Item = &Work> {
        self.0.range(keys_of(life)).map(|(_, work)| work)
    }

    /// Interviews that have work here.
    pub fn lives(&self) -> usize {
        let mut lives: Vec<_> = self.0.keys().map(|(life, _)| life).collect();
        lives.dedup(); // they are in order
        lives.len()
    }

    /// When the work that waits longest came.
    pub fn oldest(&self) -> Option<Instant> {
        self.0.values().map(|work| work.queued_at).min()
    }
}

fn keys_of(life: &Life) -> RangeInclusive<Key> {
    (life.clone(), 0)..=(life.clone(), usize::MAX)
}
