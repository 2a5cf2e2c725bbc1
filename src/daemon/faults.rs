//! From the rooms' errors to what a client is told.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::rubrics::RubricsError;
use crate::domain::interview::{Problem, Refusal};
use crate::socket::fault::{Fault, Kind};
use crate::socket::seldom::Seldom;
use crate::store::StoreError;

/// A store in trouble refuses every request for as long as it lasts.
static REFUSALS: Mutex<Seldom> = Mutex::new(Seldom::new());

/// An interview or answer that is not as it must be.
pub fn of_refusal(refusal: Refusal) -> Fault {
    let message = refusal.to_string();
    let fault = match refusal.problem {
        Problem::TooLarge { limit, actual } => Fault::too_large(message, limit, actual),
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
        | StoreError::Io { .. }
        | StoreError::Sled { .. } => Kind::Storage,
    };
    if kind == Kind::Storage
        && let Some(times) = to_be_said(&error, &mut REFUSALS.lock().unwrap_or_else(PoisonError::into_inner))
    {
        tracing::error!(%error, times, "the store refused");
    }
    Fault::new(kind, with_causes(&error))
}

/// How often the store has refused since that was last said, if it is to be said now. What is about one interview is always said.
fn to_be_said(error: &StoreError, refusals: &mut Seldom) -> Option<u64> {
    match error {
        StoreError::Full(_)
        | StoreError::Shut(_)
        | StoreError::Uncertain { .. }
        | StoreError::Broken(_)
        | StoreError::ShutDown => refusals.happened(Instant::now()),
        _ => Some(1),
    }
}

/// A rubric that an interview was accepted under and that is not to be had: the store is damaged, or of another program.
pub fn of_rubric(error: RubricsError) -> Fault {
    match error {
        RubricsError::Store(error) => of_store(error),
        error @ RubricsError::Lost(_) => {
            tracing::error!(%error, "the store has lost a rubric");
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
    fn a_store_that_refuses_everything_says_so_once_and_what_is_about_one_interview_each_time() {
        let mut seldom = Seldom::new();
        let full = StoreError::Full("the disk is full".into());
        assert_eq!(to_be_said(&full, &mut seldom), Some(1));
        for _ in 0..100 {
            assert_eq!(to_be_said(&full, &mut seldom), None);
        }
        let missing = StoreError::Missing {
            what: "the interview iv".into(),
        };
        assert_eq!(to_be_said(&missing, &mut seldom), Some(1));
        assert_eq!(to_be_said(&missing, &mut seldom), Some(1));
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
