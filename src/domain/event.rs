//! What happens to an interview, for those who watch.

use serde::{Deserialize, Serialize};

use super::ids::{AnswerId, InterviewId};
use super::report::Status;
use super::score::Score;

/// One thing that happened to an interview; `done` counts its answers that have ended, `total` all known ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub interview_id: InterviewId,
    #[serde(flatten)]
    pub kind: EventKind,
    pub done: usize,
    pub total: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    Accepted,
    /// Gated answers too, with 0.
    AnswerScored {
        answer_id: AnswerId,
        score: Score,
    },
    AnswerUnscored {
        answer_id: AnswerId,
        reason: String,
    },
    ReportStarted,
    ReportReady {
        status: Status,
        overall: Option<Score>,
    },
    Cancelled,
    Deleted,
}
