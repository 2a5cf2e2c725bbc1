//! What travels on an answer's path; orders of the daemon and the pool stand with those who take them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use actix::Message;

use super::age::Age;
use super::in_flight::Trail;
use super::room::Place;
use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::interview::Interview;
use crate::domain::outcome::{CriterionScore, Outcome};
use crate::domain::report::{EngineProvenance, ModelProvenance, Narrative, PromptProvenance, RubricProvenance};
use crate::domain::rubric::Rubric;
use crate::domain::time::Timestamp;
use crate::engine::job::{Disposition, JobId};

/// One life of an interview: its id may be deleted and used again, or its interview retried, and no result passes from one life to another.
/// Ordered by submission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life {
    /// Place in the order of submission.
    pub sequence: u64,
    pub generation: u64,
    pub interview_id: InterviewId,
}

/// What stays the same during a life.
#[derive(Debug)]
pub struct Case {
    pub life: Life,
    /// The rubric that the interview was accepted under.
    pub rubric: Arc<Rubric>,
    pub rubric_provenance: RubricProvenance,
    pub submitted_at: Timestamp,
    /// Set once the interview was cancelled or deleted: of what still happens to this life nobody is told.
    pub over: AtomicBool,
}

/// What made scores and narratives, apart from the rubric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Making {
    pub model: ModelProvenance,
    pub prompt: PromptProvenance,
    pub engine: EngineProvenance,
}

/// daemon → InterviewActor: a life begins, or is found again in the store.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Begin {
    pub interview: Arc<Interview>,
    /// In the interview's order; what has ended already is not done again.
    pub outcomes: Vec<Option<Outcome>>,
    /// Since the last answer was there; `None` while more may come.
    pub due: Option<Age>,
    pub places: Vec<Place>,
    /// From when on its answers have waited.
    pub queued_at: Instant,
}

/// daemon → InterviewActor: the interview has more answers than before.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AddAnswer {
    pub interview: Arc<Interview>,
    pub places: Vec<Place>,
}

/// daemon → InterviewActor: no more answers come.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Finish {
    pub interview: Arc<Interview>,
    pub due: Age,
}

/// InterviewActor → ReportActor, awaited before any work is sent: so that no outcome comes to nobody.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OpenReport {
    pub case: Arc<Case>,
    pub interview: Arc<Interview>,
    pub outcomes: Vec<Option<Outcome>>,
    pub due: Option<Age>,
    pub done: actix::Recipient<ReportReady>,
}

/// InterviewActor → ReportActor: more answers, or the end of them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Extend {
    pub life: Life,
    pub interview: Arc<Interview>,
    pub due: Option<Age>,
}

/// InterviewActor → GpuPool: one answer to be scored.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AnswerScorer {
    pub case: Arc<Case>,
    pub interview: Arc<Interview>,
    /// Which of its answers.
    pub index: usize,
    pub queued_at: Instant,
    pub place: Option<Place>,
}

/// GpuPool → GpuActor: work for a slot that is known to be free.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Assign {
    pub job: JobId,
    pub case: Arc<Case>,
    pub interview: Arc<Interview>,
    pub task: Task,
    /// Nothing may run beside it.
    pub alone: bool,
    /// Where to note how far it has come, if it may end the process.
    pub trail: Option<Trail>,
}

/// What the model is asked to write.
#[derive(Debug, Clone)]
pub enum Task {
    Answer {
        index: usize,
    },
    /// Outcomes in the interview's order.
    Narrative {
        outcomes: Arc<Vec<Outcome>>,
    },
}

/// GpuActor → GpuPool: an assignment has ended and its slot is free.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ended {
    pub job: JobId,
    pub result: Result<Written, Undone>,
    pub moments: Moments,
}

/// What the model wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    Answer {
        criteria: Vec<CriterionScore>,
        feedback: String,
        /// Code points that were judged, if the answer was cut.
        judged_code_points: Option<usize>,
        tokens_in: usize,
        tokens_out: usize,
    },
    Narrative {
        narrative: Narrative,
        tokens_in: usize,
        tokens_out: usize,
    },
}

/// Why an assignment came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub reason: String,
    pub disposition: Disposition,
    pub cause: Cause,
}

/// What an assignment came to nothing for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Failure,
    /// The device has no more memory: with fewer slots it may go well.
    Memory,
    /// The engine works, but not fast enough.
    Time,
}

/// When an assignment got its slot, and when its prompt was through the model.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    pub admitted_at: Option<Instant>,
    pub prefilled_at: Option<Instant>,
    pub ended_at: Instant,
}

/// GpuActor → GpuPool: the engine is loaded and takes work.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EngineUp {
    pub actor: usize,
    /// Bytes of its device that this process then held, if that can be read.
    pub held: Option<u64>,
}

/// GpuActor → GpuPool: loading the model takes too long. It goes on, and ends with one of the two others.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EngineLate {
    pub actor: usize,
    pub reason: String,
}

/// GpuActor → GpuPool: the engine is gone, and with it whatever was assigned to it. Of one that was stuck, a second time: its thread has come back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EngineDown {
    pub actor: usize,
    pub outage: Outage,
    /// Whether its thread does not come back, so that what it held is still held.
    pub is_stuck: bool,
}

/// Why there is no engine, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// What is missing and what to do.
    pub reason: String,
    /// Whether the device had no memory for so many slots.
    pub out_of_memory: bool,
}

impl From<String> for Outage {
    fn from(reason: String) -> Self {
        Self {
            reason,
            out_of_memory: false,
        }
    }
}

/// GpuPool (a gated answer: InterviewActor) → ReportActor: how an answer ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AnswerScored {
    pub life: Life,
    pub answer_id: AnswerId,
    pub outcome: Outcome,
}

/// ReportActor → GpuPool: all answers have ended, the senior interviewer may write.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WriteNarrative {
    pub case: Arc<Case>,
    pub interview: Arc<Interview>,
    pub outcomes: Arc<Vec<Outcome>>,
}

/// GpuPool → ReportActor: the narrative, or why there is none.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NarrativeWritten {
    pub life: Life,
    pub narrative: Result<Narrative, String>,
    /// What wrote it.
    pub making: Option<Arc<Making>>,
}

/// ReportActor → InterviewActor: the report is stored, or left to the next start; this life is over.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct ReportReady;

/// daemon → InterviewActor → ReportActor, then GpuPool: the interview was cancelled or deleted.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Abandon {
    pub life: Life,
}

/// daemon → ReportActor: what makes scores from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Provide {
    pub making: Arc<Making>,
}

/// daemon → ReportActor: answered when everything that has arrived is stored.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Settle;
