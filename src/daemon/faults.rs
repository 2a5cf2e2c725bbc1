//! From the rooms' errors to what a client is told.

use crate::domain::interview::{Problem, Refusal};
use crate::socket::fault::{Fault, Kind};
use crate::store::StoreError;

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
    if kind == Kind::Storage {
        tracing::error!(%error, "the store refused");
    }
    Fault::new(kind, with_causes(&error))
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
