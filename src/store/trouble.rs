//! What keeps a store from taking everything that it is given: why, for how long, and what is said to whoever asks meanwhile.

use std::fmt::{self, Display};

use super::disk;
use super::error::StoreError;
use super::space::is_full;

/// What keeps a store from taking everything that it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is nearly full: interviews are refused, results are kept.
    Short(String),
    /// The disk is full: nothing is written until there is room and sled has been opened again.
    Full(String),
    /// sled could not be opened again, though not for want of room: this is tried again and again.
    Shut(String),
    /// Nobody knows what of the last writes will be there: nothing is written before a restart.
    Broken(String),
}

impl Trouble {
    /// Whether opening sled again ends it.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Shut(_))
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Short(reason) | Self::Full(reason) | Self::Shut(reason) | Self::Broken(reason) => reason,
        }
    }

    /// What is said to whoever asks meanwhile: nothing was changed.
    pub(super) fn refusal(&self) -> StoreError {
        match self {
            Self::Full(reason) => StoreError::Full(reason.clone()),
            Self::Shut(reason) => StoreError::Shut(reason.clone()),
            Self::Broken(reason) | Self::Short(reason) => StoreError::Broken(reason.clone()),
        }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(reason) => write!(f, "the store takes no new interviews: {reason}"),
            Self::Full(reason) => write!(f, "the store waits for room: {reason}"),
            Self::Shut(reason) => write!(
                f,
                "the store cannot be opened again, which is tried every second: {reason}"
            ),
            Self::Broken(reason) => write!(f, "the store takes no more writes: {reason}"),
        }
    }
}

pub(super) fn of_sled(what: &str, error: &sled::Error) -> Trouble {
    match error {
        sled::Error::Io(error) if is_full(error) => Trouble::Full(format!("the disk was full at {what}")),
        _ => Trouble::Broken(format!("{what} failed: {error}")),
    }
}

/// An error that says that there is no room.
pub(super) fn full(error: &StoreError) -> String {
    match error {
        StoreError::Full(reason) => reason.clone(),
        other => format!("{other}, because the disk is full"),
    }
}

/// Why sled could not be opened again. After a failed sync nobody knows what the kernel has dropped, and a damaged store is moved aside by the next
/// start; anything else may pass.
pub(super) fn why_shut(error: &StoreError) -> Trouble {
    match error {
        StoreError::Io { doing: disk::SYNC, .. } | StoreError::Damaged { .. } | StoreError::Broken(_) => {
            Trouble::Broken(error.in_full())
        }
        _ if error.is_full() => Trouble::Full(full(error)),
        _ => Trouble::Shut(error.in_full()),
    }
}
