//! From the rooms' errors to what a client is told.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::rubrics::RubricsError;
use crate::domain::interview::{Problem, Refusal};
use crate::socket::fault::{Fault, Kind};
use crate::socket::seldom::Seldom;
use crate::store::{Reach, StoreError, Unreadable};

/// What the store refuses it refuses for as long as somebody asks.
static REFUSALS: LazyLock<Mutex<Refusals>> = LazyLock::new(Mutex::default);

/// How often the store has refused everything, and what cannot be read of an interview or a rubric.
#[derive(Debug, Default)]
struct Refusals {
    of_everything: Seldom,
    /// By what was said.
    of_one: HashMap<String, Seldom>,
}

/// An interview or answer that is not as it must be.
pub fn of_refusal(refusal: Refusal) -> Fault {
    let message = refusal.to_string();
    let fault = match refusal.problem {
        Problem::TooLarge { limit, actual, .. } => Fault::too_large(message, limit, actual),
        _ => Fault::new(Kind::InvalidParams, message),
    };
    fault.with("path", refusal.path)
}

/// What the store did not do.
pub fn of_store(error: StoreError) -> Fault {
    let kind = match &error {
        StoreError::NotFound(_) => Kind::NotFound,
        StoreError::Conflict(_) | StoreError::Changed { .. } => Kind::Conflict,
        StoreError::Empty(_) | StoreError::BadCursor(_) => Kind::InvalidParams,
        StoreError::Full(_)
        | StoreError::Shut(_)
        | StoreError::Uncertain { .. }
        | StoreError::Broken(_)
        | StoreError::ShutDown
        | StoreError::Locked { .. }
        | StoreError::NewerVersion { .. }
        | StoreError::Unreadable { .. }
        | StoreError::Missing { .. }
        | StoreError::Damaged { .. }
        | StoreError::Unerasable { .. }
        | StoreError::Io { .. }
        | StoreError::Sled { .. } => Kind::Storage,
    };
    if kind == Kind::Storage
        && let Some(times) = refusals().refused(&error)
    {
        tracing::error!(%error, times, "the store refused");
    }
    Fault::new(kind, with_causes(&error))
}

/// What a list does without.
pub fn left_out(one: &Unreadable) {
    let error = &one.error;
    if let Some(times) = refusals().refused(error) {
        tracing::error!(interview = one.name, %error, times, "an interview is left out of a list");
    }
}

fn refusals() -> MutexGuard<'static, Refusals> {
    REFUSALS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refusals {
    /// How often this was refused since that was last said, if it is to be said now. What is about one interview is said for each of them.
    fn refused(&mut self, error: &StoreError) -> Option<u64> {
        match error.reach() {
            Reach::Whole => self.of_everything.happened(Instant::now()),
            Reach::Request | Reach::Part => self.refused_one(error),
        }
    }

    fn refused_one(&mut self, error: &impl Display) -> Option<u64> {
        const NAMED_MAX: usize = 1_000;
        let what = error.to_string();
        let refusals = match self.of_one.len() < NAMED_MAX || self.of_one.contains_key(&what) {
            true => self.of_one.entry(what).or_default(),
            false => &mut self.of_everything,
        };
        refusals.happened(Instant::now())
    }
}

/// A rubric that an interview was accepted under and that is not to be had: the store is damaged, or of another program.
pub fn of_rubric(error: RubricsError) -> Fault {
    match error {
        RubricsError::Store(error) => of_store(error),
        error @ RubricsError::Lost(_) => {
            if let Some(times) = refusals().refused_one(&error) {
                tracing::error!(%error, times, "the store has lost a rubric");
            }
            Fault::new(Kind::Storage, error.to_string())
        }
        error => internal(error),
    }
}

/// A defect of ours: the socket logs the text with an id, and tells the client only the id.
pub fn internal(error: impl std::error::Error) -> Fault {
    Fault::new(Kind::Internal, with_causes(&error))
}

/// An error with its causes, on one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_refuses_everything_says_so_once_and_what_cannot_be_read_once_for_each() {
        let mut refusals = Refusals::default();
        let missing = |n: u32| StoreError::Missing {
            what: format!("the interview iv-{n}"),
        };
        for error in [StoreError::Full("the disk is full".into()), missing(1), missing(2)] {
            assert_eq!(refusals.refused(&error), Some(1));
            for _ in 0..100 {
                assert_eq!(refusals.refused(&error), None);
            }
        }
        let said = (3..2_000).filter(|n| refusals.refused(&missing(*n)).is_some());
        assert_eq!(said.count(), 998, "nobody fills the log with ever more of them");
        assert_eq!(refusals.of_one.len(), 1_000);
    }

    #[test]
    fn a_rubric_that_is_lost_is_said_once_however_many_interviews_it_was_of() {
        let mut refusals = Refusals::default();
        for hash in ["cafe", "c0de"] {
            let lost = RubricsError::Lost(hash.into());
            assert_eq!(refusals.refused_one(&lost), Some(1));
            assert_eq!(refusals.refused_one(&lost), None);
        }
    }

    #[test]
    fn a_rubric_that_a_damaged_store_does_not_give_is_the_stores_fault() {
        let why = String::from("its checksum is another one");
        let damaged = StoreError::Unreadable {
            what: "the rubric cafe".into(),
            why,
        };
        for error in [RubricsError::Store(damaged), RubricsError::Lost("cafe".into())] {
            let fault = of_rubric(error);
            assert_eq!(fault.kind, Kind::Storage, "{}", fault.message);
            assert!(fault.message.contains("the rubric cafe"), "{}", fault.message);
        }
    }
}
