//! How work ended, as the reports are told: a verdict with its flags and times, or the narrative, or why there is neither.

use std::sync::Arc;
use std::time::Instant;

use actix::Recipient;

use super::message::{AnswerScored, Making, Moments, NarrativeWritten, Task, Written};
use super::queue::Work;
use crate::crash_points::CrashPoint;
use crate::domain::gate;
use crate::domain::outcome::{Flag, Outcome, Timing, Verdict};

/// Whom the pool tells what came of the work.
#[derive(Clone)]
pub struct Outlets {
    pub scored: Recipient<AnswerScored>,
    pub narrative: Recipient<NarrativeWritten>,
}

impl Outlets {
    /// The model wrote something.
    pub(super) fn written(&self, work: Work, written: Written, moments: Moments, making: &Arc<Making>) {
        match (written, &work.task) {
            (Written::Narrative { narrative, .. }, Task::Narrative { .. }) => {
                CrashPoint::NarrativeDecided.reached();
                self.narrative.do_send(NarrativeWritten {
                    life: work.case.life.clone(),
                    narrative: Ok(narrative),
                    making: Some(Arc::clone(making)),
                });
            }
            (
                Written::Answer {
                    criteria,
                    feedback,
                    judged_code_points,
                    tokens_in,
                    tokens_out,
                },
                Task::Answer { index },
            ) => self.answer_ended(
                &work,
                *index,
                Outcome {
                    verdict: Verdict::Scored { criteria, feedback },
                    flags: Vec::new(),
                    judged_code_points,
                    timing: timing(&work, Some(moments), tokens_in, tokens_out),
                    model_hash: Some(making.model.hash.clone()),
                },
            ),
            _ => {
                let reason = "the engine wrote something else than it was asked for".to_owned();
                self.given_up(work, reason, Some(moments));
            }
        }
    }

    /// Nothing will be written.
    pub(super) fn given_up(&self, work: Work, reason: String, moments: Option<Moments>) {
        match &work.task {
            Task::Narrative { .. } => {
                CrashPoint::NarrativeDecided.reached();
                self.narrative.do_send(NarrativeWritten {
                    life: work.case.life.clone(),
                    narrative: Err(reason),
                    making: None,
                });
            }
            Task::Answer { index } => self.answer_ended(
                &work,
                *index,
                Outcome {
                    verdict: Verdict::Unscored { reason },
                    flags: Vec::new(),
                    judged_code_points: None,
                    timing: timing(&work, moments, 0, 0),
                    model_hash: None,
                },
            ),
        }
    }

    fn answer_ended(&self, work: &Work, index: usize, mut outcome: Outcome) {
        let answer = &work.interview.answers()[index];
        outcome.flags = gate::flags(&answer.question, &answer.text);
        if outcome.judged_code_points.is_some() {
            outcome.flags.push(Flag::Truncated);
        }
        CrashPoint::OutcomeDecided.reached();
        self.scored.do_send(AnswerScored {
            life: work.case.life.clone(),
            answer_id: answer.id.clone(),
            outcome,
        });
    }
}

fn timing(work: &Work, moments: Option<Moments>, tokens_in: usize, tokens_out: usize) -> Timing {
    let between = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
    let (mut queued_ms, mut prefill_ms, mut decode_ms) = (0, 0, 0);
    if let Some(moments) = moments {
        let admitted = moments.admitted_at.unwrap_or(moments.ended_at);
        let prefilled = moments.prefilled_at.unwrap_or(moments.ended_at);
        queued_ms = between(work.queued_at, admitted);
        prefill_ms = between(admitted, prefilled);
        decode_ms = between(prefilled, moments.ended_at);
    }
    Timing {
        queued_ms,
        prefill_ms,
        decode_ms,
        tokens_in: tokens_in as u64,
        tokens_out: tokens_out as u64,
        attempts: work.attempts,
    }
}
