//! The line: finished interviews that wait in the store, and not in memory, while the pool has enough to do.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::actors::age::Age;
use crate::actors::message::Life;
use crate::actors::room::Place;
use crate::domain::ids::InterviewId;

/// Lives that have not begun, in the order in which they will.
#[derive(Default)]
pub struct Line {
    waiting: BTreeMap<Life, Waiting>,
    places: usize,
    answers: usize,
}

/// What is known of a life without a look into the store.
pub struct Waiting {
    pub places: Vec<Place>,
    pub answers: usize,
    pub due: Option<Age>,
    pub since: Instant,
}

/// The line at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Length {
    pub interviews: usize,
    pub answers: usize,
    /// When the one that waits longest came.
    pub oldest: Option<Instant>,
}

impl Line {
    pub fn push(&mut self, life: Life, waiting: Waiting) {
        self.places += waiting.places.len();
        self.answers += waiting.answers;
        let before = self.waiting.insert(life, waiting);
        debug_assert!(before.is_none(), "a life stands in line once");
    }

    pub fn pop(&mut self) -> Option<(Life, Waiting)> {
        let (life, waiting) = self.waiting.pop_first()?;
        self.left(&waiting);
        Some((life, waiting))
    }

    pub fn remove(&mut self, life: &Life) {
        if let Some(waiting) = self.waiting.remove(life) {
            self.left(&waiting);
        }
    }

    /// Every life under this id but the one that goes on, if any does.
    pub fn remove_others(&mut self, id: &InterviewId, goes_on: Option<&Life>) {
        let others = self.waiting.keys();
        let others = others.filter(|life| life.interview_id == *id && Some(*life) != goes_on);
        let lives: Vec<_> = others.cloned().collect();
        for life in &lives {
            self.remove(life);
        }
    }

    fn left(&mut self, waiting: &Waiting) {
        self.places -= waiting.places.len();
        self.answers -= waiting.answers;
    }

    pub fn holds(&self, life: &Life) -> bool {
        self.waiting.contains_key(life)
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Places in the queue's room that are taken by what stands here.
    pub fn places(&self) -> usize {
        self.places
    }

    pub fn length(&self) -> Length {
        Length {
            interviews: self.waiting.len(),
            answers: self.answers,
            oldest: self.waiting.values().map(|waiting| waiting.since).min(),
        }
    }
}
