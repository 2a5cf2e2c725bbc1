//! What can go wrong in the store.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::disk::SYNC;
use super::space::is_full;
use crate::domain::ids::InterviewId;

/// Why the store did not do, or could not read, what it was asked for. Nothing has changed when one is returned, except that after
/// [`StoreError::Uncertain`] nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no interview {0}")]
    NotFound(InterviewId),
    /// Same key with other content, or not possible in this state; the text says which.
    #[error("{0}")]
    Conflict(String),
    #[error("the interview {0} has no answers; it needs at least one to be finished")]
    Empty(InterviewId),
    #[error(
        "the interview {id} has {found} answers by now, not {expected}; check the new answer against them and try again"
    )]
    Changed {
        id: InterviewId,
        expected: usize,
        found: usize,
    },
    #[error("{0:?} is no place in the list; use the `next` of an earlier page")]
    BadCursor(String),
    /// There is no room now, and nothing was changed. The same again may succeed once there is.
    #[error("the store has no room: {0}")]
    Full(String),
    /// sled could not be opened again, though not for want of room: that is tried again and again, and nothing was changed.
    #[error("the store cannot be opened now: {0}; this is tried again by itself")]
    Shut(String),
    /// A round failed after its changes had begun: they may be there once the store has been opened again, and until then nobody is told of them.
    #[error(
        "it is not known whether {what} is stored: {reason}; once the store is well again, look, or ask for the same again with the same ids, \
         which does nothing twice"
    )]
    Uncertain { what: String, reason: String },
    /// A write, flush or sync failed once: nothing is written any more, because nobody knows what of it would last.
    #[error("the store takes no more writes: {0}; see to the disk, then restart")]
    Broken(String),
    #[error("the store has been shut down")]
    ShutDown,
    #[error("the store at {} is in use by another process; stop that one, or choose another path", path.display())]
    Locked { path: PathBuf },
    #[error(
        "{what} has the format version {found}, this program knows up to {known}; use the newer interviewd that wrote it"
    )]
    NewerVersion { what: String, found: u32, known: u32 },
    /// `why` is in our own words: those of serde may quote a candidate.
    #[error("{what} cannot be understood, it was not written by this program: {why}")]
    Unreadable { what: String, why: String },
    #[error("{what} is missing from the store")]
    Missing { what: String },
    /// The database below panicked over what it found.
    #[error("{what} cannot be read: the store is damaged there ({why})")]
    Damaged { what: String, why: String },
    #[error(
        "the interview {id} cannot be erased without harm to others, since the store is damaged there ({why}); \
         `interviewd export` what can be read, and import that into a new store.path"
    )]
    Unerasable { id: InterviewId, why: String },
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {doing}")]
    Sled {
        doing: String,
        #[source]
        source: sled::Error,
    },
}

/// Whether sled has met damage.
pub(super) fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => true,
        // A file that is shorter than sled remembers.
        sled::Error::Io(error) => matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData),
        _ => false,
    }
}

/// How far an error reaches: what else can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing is wrong with the store: what was asked for is not there, or cannot be done as it was asked.
    Request,
    /// What was asked for cannot be read, or not be erased, and asking again does not change that. Everything else can.
    Part,
    /// The store can say or do nothing now, whatever it is asked for: it may once it has been opened again, or after a restart.
    Whole,
}

impl StoreError {
    pub fn reach(&self) -> Reach {
        match self {
            Self::NotFound(_) | Self::Conflict(_) | Self::Empty(_) | Self::Changed { .. } | Self::BadCursor(_) => {
                Reach::Request
            }
            Self::NewerVersion { .. }
            | Self::Unreadable { .. }
            | Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::Unerasable { .. } => Reach::Part,
            // Of a read: what a disk cannot give, it cannot give at that place.
            Self::Sled { .. } if !self.is_full() => Reach::Part,
            Self::Full(_)
            | Self::Shut(_)
            | Self::Uncertain { .. }
            | Self::Broken(_)
            | Self::ShutDown
            | Self::Locked { .. }
            | Self::Io { .. }
            | Self::Sled { .. } => Reach::Whole,
        }
    }

    /// With its cause.
    pub(super) fn in_full(&self) -> String {
        match self.source() {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// Whether only room was lacking. After a failed sync nobody knows what the kernel has dropped, whatever it says was lacking.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Io { doing: SYNC, .. } => false,
            Self::Io { source, .. }
            | Self::Sled {
                source: sled::Error::Io(source),
                ..
            } => is_full(source),
            _ => false,
        }
    }

    /// Says what was being read, where the database's own words do not.
    pub(super) fn about(self, what: impl Display) -> Self {
        match self {
            Self::Sled { source, .. } => Self::Sled {
                doing: format!("read {what}"),
                source,
            },
            other => other,
        }
    }
}

impl From<sled::Error> for StoreError {
    fn from(source: sled::Error) -> Self {
        Self::Sled {
            doing: "read from the store".to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_sled(source: sled::Error) -> StoreError {
        StoreError::Sled {
            doing: "read the interview iv".into(),
            source,
        }
    }

    #[test]
    fn of_every_error_it_is_known_what_else_can_be_asked_for() {
        let id = || InterviewId::parse("iv").unwrap();
        let text = || String::from("x");
        let io = |kind: ErrorKind| sled::Error::Io(kind.into());
        let (what, why) = (text, text);
        let of_request = [
            StoreError::NotFound(id()),
            StoreError::Conflict(text()),
            StoreError::Empty(id()),
            StoreError::Changed {
                id: id(),
                expected: 1,
                found: 2,
            },
            StoreError::BadCursor(text()),
        ];
        let of_part = [
            StoreError::NewerVersion {
                what: what(),
                found: 9,
                known: 2,
            },
            StoreError::Unreadable {
                what: what(),
                why: why(),
            },
            StoreError::Missing { what: what() },
            StoreError::Damaged {
                what: what(),
                why: why(),
            },
            StoreError::Unerasable { id: id(), why: why() },
            of_sled(sled::Error::Corruption { at: None, bt: () }),
            of_sled(sled::Error::ReportableBug(text())),
            of_sled(io(ErrorKind::UnexpectedEof)),
            // A bad sector.
            of_sled(io(ErrorKind::Other)),
        ];
        let of_whole = [
            StoreError::Full(why()),
            StoreError::Shut(why()),
            StoreError::Uncertain {
                what: what(),
                reason: why(),
            },
            StoreError::Broken(why()),
            StoreError::ShutDown,
            StoreError::Locked { path: "store".into() },
            StoreError::Io {
                doing: "open",
                path: "db".into(),
                source: ErrorKind::PermissionDenied.into(),
            },
            of_sled(io(ErrorKind::StorageFull)),
        ];
        let each = [
            (Reach::Request, &of_request[..]),
            (Reach::Part, &of_part),
            (Reach::Whole, &of_whole),
        ];
        for (reach, errors) in each {
            for error in errors {
                assert_eq!(error.reach(), reach, "{error:?}");
            }
        }
    }
}
