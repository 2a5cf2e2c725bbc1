//! Changes of one interview come one after the other: each has been stored, set to work and told before the next begins.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::ids::InterviewId;

/// Interviews that share a lock wait for one another, which is seldom with so many.
const LOCKS: usize = 256;

pub struct Turns(Vec<Mutex<()>>);

impl Turns {
    pub fn new() -> Self {
        Self((0..LOCKS).map(|_| Mutex::new(())).collect())
    }

    /// Waits until every change has ended that goes on now.
    pub async fn pass(&self) {
        for turn in &self.0 {
            drop(turn.lock().await);
        }
    }

    /// Waits until nobody else changes the interview; whoever waits longer comes first.
    pub async fn of(&self, id: &InterviewId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        self.0[(hasher.finish() % LOCKS as u64) as usize].lock().await
    }
}
