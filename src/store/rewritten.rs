//! The door for tests that feed the store's reading any bytes there may be: a value, read as the store reads it and written as it writes it.

use super::error::StoreError;
use super::format;
use super::record::Head;
use super::shelf::{Parts, Words};
use crate::domain::interview::Answer;
use crate::domain::outcome::Outcome;
use crate::domain::report::Report;

/// What a value can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    Counter,
    Head,
    /// An interview without its answers.
    Words,
    Answer,
    Outcome,
    Report,
    Rubric,
}

impl ValueKind {
    pub const ALL: [Self; 7] = [
        Self::Counter,
        Self::Head,
        Self::Words,
        Self::Answer,
        Self::Outcome,
        Self::Report,
        Self::Rubric,
    ];
}

/// The bytes that the store would write for what it reads in these.
pub fn rewritten(kind: ValueKind, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let what = "a value";
    Ok(match kind {
        ValueKind::Counter => format::encode(&format::decode::<u64>(what, bytes)?),
        ValueKind::Head => format::encode(&format::decode::<Head>(what, bytes)?),
        ValueKind::Words => {
            let interview = format::decode::<Parts>(what, bytes)?.interview(&what)?;
            format::encode(&Words::of(&interview))
        }
        ValueKind::Answer => format::encode(&format::decode::<Answer>(what, bytes)?),
        ValueKind::Outcome => format::encode(&format::decode::<Outcome>(what, bytes)?),
        ValueKind::Report => format::encode(&format::decode::<Report>(what, bytes)?),
        ValueKind::Rubric => format::encode(&format::decode::<String>(what, bytes)?),
    })
}
