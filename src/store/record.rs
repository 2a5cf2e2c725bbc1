//! What goes into the store and what comes out of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use crate::domain::ids::InterviewId;
use crate::domain::interview::Interview;
use crate::domain::outcome::Outcome;
use crate::domain::report::{Report, Status};
use crate::domain::score::Score;
use crate::domain::state::InterviewState;
use crate::domain::time::Timestamp;

/// What is stored of one interview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub interview: Interview,
    /// Of the submissions, ascending: first come, first served.
    pub sequence: u64,
    /// Unique over the store's whole life, other interviews and deleted ones included.
    pub generation: u64,
    /// How many of the answers came with the opening; a repeated opening is compared with these.
    pub opened: usize,
    pub phase: Phase,
    pub submitted_at: Timestamp,
    /// When the last answer was there: `submit`, `finish` or `retry`; `None` while open.
    pub due_since: Option<Timestamp>,
    /// The rubric it was accepted under; its text is [`super::Store::rubric`].
    pub rubric_hash: String,
}

/// What was decided about an interview; whether its answers have ended is not stored but derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// More answers may come.
    Open,
    Finished,
    Cancelled,
}

/// A new interview.
#[derive(Debug, Clone)]
pub struct Accept {
    pub interview: Interview,
    pub stays_open: bool,
    pub at: Timestamp,
    pub rubric_hash: String,
    pub rubric_text: Arc<str>,
}

/// The interview as it is now; `created` is false if it was there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub record: Record,
    pub state: InterviewState,
    pub created: bool,
}

/// The interview as it is now; `created` is false if the answer was there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    pub record: Record,
    pub created: bool,
}

/// The interview as a change has left it; `newly` is false if it was so before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub record: Record,
    pub state: InterviewState,
    pub newly: bool,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    Stored,
    /// This generation has one, which stays.
    AlreadyThere,
    /// Of another generation, or of an interview that is deleted or cancelled.
    Stale,
}

/// What became of an outcome.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    Stored,
    /// The first outcome of an answer in a generation stays: this one.
    AlreadyThere(Box<Outcome>),
    /// Of another generation, of an interview that is deleted or cancelled, or of an answer that it does not have.
    Stale,
}

/// The interviews that are to go on.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// First submitted first.
    pub records: Vec<Record>,
    pub unreadable: Vec<Unreadable>,
}

/// An interview that is stored but cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Its id; its number in the store if not even that can be read.
    pub name: String,
    pub error: StoreError,
}

/// What lists and states need of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportHead {
    pub generation: u64,
    pub status: Status,
    pub overall: Option<Score>,
    pub finished_at: Timestamp,
    pub has_narrative: bool,
}

impl ReportHead {
    pub(super) fn of(report: &Report, generation: u64) -> Self {
        Self {
            generation,
            status: report.status,
            overall: report.overall,
            finished_at: report.finished_at,
            has_narrative: report.narrative.is_some(),
        }
    }
}

/// An interview with everything that is known about it, as of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub record: Record,
    /// In the interview's order; of the current generation.
    pub outcomes: Vec<Option<Outcome>>,
    /// Of an earlier generation while a retry runs.
    pub report: Option<ReportHead>,
}

impl View {
    pub fn state(&self) -> InterviewState {
        let all_ended = self.outcomes.iter().all(Option::is_some);
        state(self.record.phase, self.record.generation, self.report, all_ended)
    }

    /// Answers that have ended: scored, gated, unscored, or cancelled with the interview.
    pub fn done(&self) -> usize {
        match self.record.phase {
            Phase::Cancelled => self.total(),
            Phase::Open | Phase::Finished => self.outcomes.iter().flatten().count(),
        }
    }

    /// Answers that are known by now.
    pub fn total(&self) -> usize {
        self.outcomes.len()
    }
}

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub id: InterviewId,
    pub state: InterviewState,
    pub done: usize,
    pub total: usize,
    pub submitted_at: Timestamp,
}

/// Some interviews, oldest first; maybe fewer than were asked for, although there are more.
#[derive(Debug, Default)]
pub struct Page {
    pub interviews: Vec<Summary>,
    /// Interviews between these that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Where the next page begins; `None` on the last one. It may turn out to be empty.
    pub next: Option<String>,
}

/// The small part of an interview that is rewritten when something happens to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub id: InterviewId,
    pub generation: u64,
    pub opened: usize,
    pub answers: usize,
    pub phase: Phase,
    pub submitted_at: Timestamp,
    pub due_since: Option<Timestamp>,
    pub rubric_hash: String,
    pub report: Option<ReportHead>,
}

impl Head {
    pub fn record(&self, sequence: u64, interview: Interview) -> Record {
        Record {
            interview,
            sequence,
            generation: self.generation,
            opened: self.opened,
            phase: self.phase,
            submitted_at: self.submitted_at,
            due_since: self.due_since,
            rubric_hash: self.rubric_hash.clone(),
        }
    }

    /// The state, if it does not depend on the outcomes.
    pub fn settled(&self) -> Option<InterviewState> {
        let (if_ended, if_not) = (self.state(true), self.state(false));
        (if_ended == if_not).then_some(if_ended)
    }

    pub fn state(&self, all_ended: bool) -> InterviewState {
        state(self.phase, self.generation, self.report, all_ended)
    }
}

fn state(phase: Phase, generation: u64, report: Option<ReportHead>, all_ended: bool) -> InterviewState {
    let status = report.filter(|r| r.generation == generation).map(|r| r.status);
    match (phase, status) {
        (Phase::Cancelled, _) => InterviewState::Cancelled,
        (Phase::Open, _) => InterviewState::Open,
        (Phase::Finished, Some(Status::Complete)) => InterviewState::Complete,
        (Phase::Finished, Some(Status::Partial)) => InterviewState::Partial,
        (Phase::Finished, None) if all_ended => InterviewState::Reporting,
        (Phase::Finished, None) => InterviewState::Scoring,
    }
}
