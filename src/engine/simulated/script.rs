//! Planned faults of a simulated model: what goes wrong, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::super::TokenId;
use super::super::model::ModelError;

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At the n-th call of the model, of any kind, from 1.
    Call(u64),
    /// At the n-th call and at all that follow.
    From(u64),
    /// At every n-th call.
    Every(u64),
    /// At every prefill of a chunk with this token.
    Token(TokenId),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    Failed,
    OutOfMemory,
    Terminated,
    /// The first wanted row has logits that are not numbers.
    NotFinite,
    /// The first wanted row has a logit beyond all others.
    Infinite,
    /// One logit too few, or one where none was wanted.
    WrongShape,
    Panic,
    /// The process is gone, as after an invalid access to memory.
    Abort,
    /// The run goes on until it is terminated.
    Hang,
    /// The run goes on and heeds nobody, until [`Script::release`].
    Stuck,
    /// The run takes so much longer, unless it is terminated.
    SlowMs(u64),
}

/// One planned fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub when: When,
    pub what: Fault,
}

/// Planned faults. Clones share the count of calls: a fault at the n-th call comes once, however often the engine is built anew.
#[derive(Debug, Clone, Default)]
pub struct Script {
    faults: Vec<Planned>,
    calls: Arc<AtomicU64>,
    released: Arc<Latch>,
}

/// What a fault makes of the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoiled {
    No,
    NotFinite,
    Infinite,
    WrongShape,
}

impl Script {
    /// With one more fault; of those that are due at a call, the first happens.
    pub fn with(mut self, when: When, what: Fault) -> Self {
        self.faults.push(Planned { when, what });
        self
    }

    /// Calls of the models with this script so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Lets go of the runs that are stuck, and of all that will be.
    pub fn release(&self) {
        self.released.open();
    }

    /// Counts a call, and has happen what is due. `ended` opens when the run is terminated.
    ///
    /// # Panics
    /// If that is planned.
    pub(super) fn play(&self, tokens: &[TokenId], ended: &Latch) -> Result<Spoiled, ModelError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let due = |when: When| match when {
            When::Call(number) => number == call,
            When::From(number) => number <= call,
            When::Every(number) => call.is_multiple_of(number),
            When::Token(token) => tokens.contains(&token),
        };
        let Some(fault) = self.faults.iter().find(|fault| due(fault.when)) else {
            return Ok(Spoiled::No);
        };
        match fault.what {
            Fault::NotFinite => Ok(Spoiled::NotFinite),
            Fault::Infinite => Ok(Spoiled::Infinite),
            Fault::WrongShape => Ok(Spoiled::WrongShape),
            Fault::Terminated => Err(ModelError::Terminated),
            Fault::Failed => Err(ModelError::Failed(format!("scripted at call {call}"))),
            Fault::OutOfMemory => Err(ModelError::OutOfMemory {
                device: "simulated".into(),
                reason: format!("scripted at call {call}"),
            }),
            Fault::Panic => panic!("scripted at call {call}"),
            Fault::Abort => std::process::abort(),
            Fault::Hang => {
                ended.wait(None);
                Err(ModelError::Terminated)
            }
            Fault::Stuck => {
                self.released.wait(None);
                Err(ModelError::Failed(format!("scripted at call {call}, and released")))
            }
            Fault::SlowMs(more) => match ended.wait(Some(Duration::from_millis(more))) {
                true => Err(ModelError::Terminated),
                false => Ok(Spoiled::No),
            },
        }
    }
}

impl FromIterator<Planned> for Script {
    fn from_iter<I: IntoIterator<Item = Planned>>(faults: I) -> Self {
        Self {
            faults: faults.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// A door that threads wait at.
#[derive(Debug, Default)]
pub(super) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    pub fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Waits until it is open, or for so long. Gives whether it is open.
    fn wait(&self, longest: Option<Duration>) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shut = |open: &mut bool| !*open;
        match longest {
            None => *self
                .opened
                .wait_while(open, is_shut)
                .unwrap_or_else(PoisonError::into_inner),
            Some(longest) => {
                let waited = self.opened.wait_timeout_while(open, longest, is_shut);
                *waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}
