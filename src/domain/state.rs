//! Where an interview and its answers stand.

use serde::{Deserialize, Serialize};

/// The life of an interview, in its order; `cancelled` from the first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterviewState {
    /// More answers may come.
    Open,
    /// Finished; not all answers have ended.
    Scoring,
    /// All answers have ended; the report is being written.
    Reporting,
    Complete,
    Partial,
    Cancelled,
}

impl InterviewState {
    /// Every state, as `status` counts them.
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::Scoring,
        Self::Reporting,
        Self::Complete,
        Self::Partial,
        Self::Cancelled,
    ];

    /// The word that the protocol has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Scoring => "scoring",
            Self::Reporting => "reporting",
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether there is still something to do: the report is still to come.
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Open | Self::Scoring | Self::Reporting)
    }

    /// Whether the current generation has its report.
    pub fn is_reported(self) -> bool {
        matches!(self, Self::Complete | Self::Partial)
    }
}

/// Where an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerState {
    Queued,
    Running,
    Scored,
    Gated,
    Unscored,
    Cancelled,
}
