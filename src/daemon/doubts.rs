//! Changes of which the store could not say whether they are written: kept until it can, and then told of once, as what became of them.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use tokio::sync;

use super::Daemon;
use super::lives::life_of;
use crate::domain::event::EventKind;
use crate::domain::ids::InterviewId;
use crate::domain::state::InterviewState;
use crate::store::{Reach, StoreError, View};

/// What is in doubt: of each interview its last change.
pub type Doubts = BTreeMap<InterviewId, Before>;

/// How an interview was before a change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before {
    /// Its number in the store, if it was there: an id that is used again has another.
    pub sequence: Option<u64>,
    pub was_cancelled: bool,
    pub done: usize,
    /// Its answers; of one that was not there, those that it was to have.
    pub total: usize,
}

impl Before {
    pub fn of(view: &View) -> Self {
        Self {
            sequence: Some(view.record.sequence),
            was_cancelled: view.state() == InterviewState::Cancelled,
            done: view.done(),
            total: view.total(),
        }
    }
}

impl Daemon {
    /// The turn to change an interview, once everybody was told of its changes before. While nobody knows of those, there is none.
    pub(super) async fn turn_of(&self, id: &InterviewId) -> Result<sync::MutexGuard<'_, ()>, StoreError> {
        let turn = self.turns.of(id).await;
        self.settle(id)?;
        Ok(turn)
    }

    /// How the interview is that is about to be changed.
    pub(super) fn before(&self, id: &InterviewId) -> Result<Before, StoreError> {
        let sequence = self.store.sequence(id)?;
        // What cannot be read can be deleted all the same.
        let view = readable(self.store.view(id))?;
        let known = view.as_ref().map(Before::of).unwrap_or_default();
        Ok(Before { sequence, ..known })
    }

    /// What the store said to a change; if it could not say what became of it, that is remembered.
    pub(super) fn doubting<T>(
        &self,
        id: &InterviewId,
        before: Before,
        changed: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(StoreError::Uncertain { .. }) = changed {
            self.doubts().insert(id.clone(), before);
        }
        changed
    }

    /// Tells what became of everything that was in doubt.
    pub(super) async fn settle_all(&self) {
        self.settle_noted().await;
        // Whoever was told of a doubt before the store was opened again may not have noted it yet.
        self.turns.pass().await;
        self.settle_noted().await;
    }

    async fn settle_noted(&self) {
        let ids: Vec<_> = self.doubts().keys().cloned().collect();
        for id in ids {
            let _ = self.turn_of(&id).await; // what is in doubt again stays so until the next time
        }
    }

    /// Tells what became of the interview's change that was in doubt, and stops the work that it has ended. In the interview's turn.
    fn settle(&self, id: &InterviewId) -> Result<(), StoreError> {
        let Some(before) = self.doubts().get(id).copied() else {
            return Ok(());
        };
        let sequence = self.store.sequence(id)?;
        let view = readable(self.store.view(id))?;
        self.doubts().remove(id);
        let cancelled = view.as_ref().filter(|view| view.state() == InterviewState::Cancelled);
        let total = cancelled.map_or(0, View::total);
        let told = match (before.sequence, sequence) {
            (None, Some(_)) => Some((EventKind::Accepted, 0, before.total)),
            (Some(was), is) if is != Some(was) => Some((EventKind::Deleted, before.done, before.total)),
            _ if cancelled.is_some() && !before.was_cancelled => Some((EventKind::Cancelled, total, total)),
            _ => None,
        };
        // What is there and cannot be read has not ended.
        if view.is_some() || sequence.is_none() {
            let goes_on = view.filter(|view| view.state() != InterviewState::Cancelled);
            self.lives
                .abandon_others(id, goes_on.map(|view| life_of(&view.record)).as_ref());
        }
        if let Some((kind, done, total)) = told {
            tracing::info!(interview = id.as_str(), ?kind, "this is stored, though nobody heard so");
            if kind != EventKind::Accepted {
                self.losses().forget(id.as_str());
            }
            self.tell(id, kind, done, total);
        }
        Ok(())
    }

    fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` for what cannot be read; an error where the store can say nothing now.
fn readable(view: Result<Option<View>, StoreError>) -> Result<Option<View>, StoreError> {
    match view {
        Err(error) if error.reach() == Reach::Part => Ok(None),
        view => view,
    }
}
