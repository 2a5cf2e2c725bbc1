//! Results as clients see them: what the daemon writes and the command line reads.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::service::Role;
use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::report::Status as ReportStatus;
use crate::domain::score::Score;
use crate::domain::state::{AnswerState, InterviewState};
use crate::domain::time::Timestamp;

/// The protocol that this is.
pub const PROTOCOL: u32 = 1;

/// Of `hello`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Greeting {
    pub name: String,
    pub version: String,
    pub protocol: u32,
    pub role: Role,
    /// The loaded model's name.
    pub model: Option<String>,
}

/// Of `interview.submit` and `interview.open`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submitted {
    pub interview_id: InterviewId,
    pub state: InterviewState,
    pub answers: Vec<AnswerId>,
    pub created: bool,
}

/// Of `interview.answer`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answered {
    pub interview_id: InterviewId,
    pub answer_id: AnswerId,
    pub answers: Vec<AnswerId>,
    pub created: bool,
}

/// Of `interview.finish` and `interview.retry`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Moved {
    pub interview_id: InterviewId,
    pub state: InterviewState,
    pub answers: Vec<AnswerId>,
}

/// Of `interview.cancel`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cancelled {
    pub interview_id: InterviewId,
    pub state: InterviewState,
}

/// Of `interview.delete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deleted {
    pub deleted: bool,
}

/// Of `interview.get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterviewView {
    pub interview_id: InterviewId,
    pub state: InterviewState,
    pub done: usize,
    pub total: usize,
    pub answers: Vec<AnswerView>,
    pub submitted_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AnswerView {
    pub answer_id: AnswerId,
    pub state: AnswerState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Of `interview.list`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListView {
    pub interviews: Vec<ListedInterview>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListedInterview {
    pub interview_id: InterviewId,
    pub state: InterviewState,
    pub done: usize,
    pub total: usize,
    pub submitted_at: Timestamp,
}

/// Of `report.get` and `report.wait`: `report` is an object, or a text for the other formats.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportView {
    pub interview_id: InterviewId,
    pub status: ReportStatus,
    pub report: Box<RawValue>,
}

/// Of `store.export`: a portion of the lines that `interviewd export` writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportView {
    pub rubrics: Vec<ExportedRubric>,
    pub interviews: Vec<Box<RawValue>>,
    /// What cannot be read any more, for people.
    pub unreadable: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportedRubric {
    pub hash: String,
    pub text: String,
}

/// Of `config.reload`: keys as in `pool.slots_per_actor`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
    pub needs_restart: Vec<String>,
}

/// Of `pool.resize`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanView {
    pub device: String,
    pub actors: Vec<PlannedActor>,
    pub explanation: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedActor {
    pub device: String,
    pub slots: usize,
}

/// Of `drain`, `resume` and `shutdown`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accepting {
    pub state: DaemonState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    Starting,
    Ready,
    Degraded,
    Draining,
}

/// Of `status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    pub version: String,
    pub uptime_s: u64,
    pub state: DaemonState,
    /// Why it is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub model: Option<ModelView>,
    pub devices: Vec<DeviceView>,
    pub pool: PoolView,
    pub queue: QueueView,
    pub interviews: InterviewCounts,
    pub totals: Totals,
    pub store: StoreView,
    pub connections: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelView {
    pub name: String,
    pub hash: String,
    pub precision: String,
    pub context_tokens: usize,
    pub demo: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceView {
    /// `cuda` or `cpu`.
    pub kind: String,
    pub index: u32,
    pub name: String,
    pub memory_total_mib: u64,
    pub memory_free_mib: u64,
    pub budget_mib: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PoolView {
    pub planned_actors: usize,
    pub actors: Vec<ActorView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActorView {
    pub id: usize,
    /// As in `cuda:0`.
    pub device: String,
    pub state: ActorState,
    pub slots: usize,
    pub slots_busy: usize,
    /// Answers handed to it that have no slot yet.
    pub queue: usize,
    pub steps: u64,
    pub tokens_per_s: f64,
    pub restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The busy slots.
    pub slot_table: Vec<SlotRow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    Starting,
    Ready,
    Restarting,
    Retiring,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlotRow {
    /// Scoring slots from 0; the narrative's slots follow them.
    pub slot: usize,
    pub interview_id: InterviewId,
    /// `None`: the narrative.
    pub answer_id: Option<AnswerId>,
    /// `prefill` or `decode`.
    pub phase: String,
    pub tokens_done: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct QueueView {
    pub interviews: usize,
    pub answers: usize,
    pub max: usize,
    pub oldest_wait_s: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct InterviewCounts {
    pub open: u64,
    pub scoring: u64,
    pub reporting: u64,
    pub complete: u64,
    pub partial: u64,
    pub cancelled: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Totals {
    pub answers_scored: u64,
    pub answers_unscored: u64,
    pub reports: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreView {
    pub path: String,
    pub size_bytes: u64,
    pub free_bytes: u64,
}
