//! What clients ask, and which answers the protocol allows: judged by every state that the interview had between question and answer.

use std::sync::atomic::Ordering;

use serde_json::Value;

use super::process::{Process, now};
use super::{World, exam};
use crate::domain::ids::InterviewId;
use crate::domain::interview::{Answer, AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::state::InterviewState;
use crate::socket::call::{Call, Format};
use crate::socket::fault::{Fault, Kind};
use crate::socket::service::Reply;
use crate::store::{Phase, View};

/// What is asked of an interview.
#[derive(Debug, Clone)]
pub enum Op {
    Submit(Draft),
    Open(Draft),
    Answer(AnswerDraft),
    Finish,
    Retry,
    Cancel,
    Delete,
    Get,
    Report,
    /// In milliseconds of the world's clock.
    Wait {
        until: i64,
    },
}

/// A question on its way.
#[derive(Debug)]
pub struct Asked {
    pub ticket: u64,
    pub id: InterviewId,
    pub op: Op,
    /// How the interview was stored since the question was asked.
    pub views: Vec<Option<View>>,
    /// The most places that were taken meanwhile.
    pub taken_max: usize,
    /// Whether the daemon accepted nothing at some time, and all the time.
    pub was_draining: bool,
    /// Whether the store refused something at some time.
    pub was_in_trouble: bool,
    /// Whether nobody was told how the interview is stored at some time.
    pub was_hidden: bool,
    pub draining_only: bool,
}

impl Op {
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Get | Self::Report | Self::Wait { .. })
    }

    pub fn call(&self, id: &InterviewId, now: i64) -> Call {
        let interview_id = id.to_string();
        match self.clone() {
            Self::Submit(draft) => Call::Submit(draft),
            Self::Open(draft) => Call::Open(draft),
            Self::Answer(answer) => Call::Answer { interview_id, answer },
            Self::Finish => Call::Finish { interview_id },
            Self::Retry => Call::Retry { interview_id },
            Self::Cancel => Call::Cancel { interview_id },
            Self::Delete => Call::Delete { interview_id },
            Self::Get => Call::Get { interview_id },
            Self::Report => Call::Report {
                interview_id,
                format: Format::Json,
            },
            Self::Wait { until } => Call::WaitForReport {
                interview_id,
                timeout_ms: (until - now) as u64,
                format: Format::Json,
            },
        }
    }

    /// Places that it needs in the queue.
    pub fn places(&self) -> Option<usize> {
        match self {
            Self::Submit(draft) | Self::Open(draft) => Some(draft.answers.len()),
            Self::Answer(_) => Some(1),
            _ => None,
        }
    }

    /// What the protocol says to this, of an interview that is stored so. The error is its kind.
    fn due(&self, view: Option<&View>, now: i64) -> Result<(), Kind> {
        let Some(view) = view else {
            return match self {
                Self::Submit(_) | Self::Open(_) => Ok(()),
                _ => Err(Kind::NotFound),
            };
        };
        let fails_if = |fails: bool, kind| if fails { Err(kind) } else { Ok(()) };
        let phase = view.record.phase;
        match self {
            Self::Submit(draft) | Self::Open(draft) => fails_if(!is_opened_by(view, draft), Kind::Conflict),
            Self::Answer(draft) => {
                let mut answers = view.record.interview.answers().iter();
                let known = answers.find(|answer| draft.answer_id.as_deref() == Some(answer.id.as_str()));
                let conflicts = known.map_or(phase != Phase::Open, |known| !is_same(known, draft));
                fails_if(conflicts, Kind::Conflict)
            }
            Self::Finish if phase == Phase::Open && view.total() == 0 => Err(Kind::InvalidParams),
            Self::Finish => fails_if(
                phase == Phase::Cancelled && view.record.due_since.is_none(),
                Kind::Conflict,
            ),
            Self::Retry => {
                let narrated = view.report.is_some_and(|report| report.has_narrative);
                let may = match view.state() {
                    InterviewState::Partial => true,
                    InterviewState::Complete => !narrated,
                    _ => false,
                };
                fails_if(!may, Kind::Conflict)
            }
            Self::Cancel => fails_if(view.state().is_reported(), Kind::Conflict),
            Self::Delete | Self::Get => Ok(()),
            Self::Report | Self::Wait { .. } if phase == Phase::Cancelled => Err(Kind::Conflict),
            Self::Report => fails_if(view.report.is_none(), Kind::NotReady),
            Self::Wait { until } if view.report.is_none() && now < *until => Err(Kind::Internal), // it waits
            Self::Wait { .. } => fails_if(view.report.is_none(), Kind::NotReady),
        }
    }
}

/// The interview that a draft is, under the world's rubric.
pub fn interview_of(draft: &Draft, opening: Opening) -> Interview {
    let unused = InterviewId::parse("unused").unwrap();
    let rubric = crate::actors::tests::rubric();
    Interview::new(draft.clone(), unused, opening, &rubric, &Limits::default()).unwrap()
}

pub fn is_same(answer: &Answer, draft: &AnswerDraft) -> bool {
    answer.text == draft.answer && answer.stage == draft.stage && answer.question == draft.question
}

fn is_opened_by(view: &View, draft: &Draft) -> bool {
    let drafted = interview_of(draft, Opening::StaysOpen);
    let stored = &view.record.interview;
    stored.position == drafted.position && stored.answers().get(..view.record.opened) == Some(drafted.answers())
}

/// What chance has clients ask.
impl World {
    fn any_id(&mut self) -> InterviewId {
        self.ids[self.chance.below(self.ids.len())].clone()
    }

    pub(super) fn ask_for_change(&mut self, process: &Process) {
        let id = self.any_id();
        // Of one interview one thing is changed at a time, if perhaps by several clients that ask for the same.
        let pending = self.asked.iter().find(|asked| asked.id == id && asked.op.changes());
        if let Some(asked) = pending {
            let (op, again) = (asked.op.clone(), self.chance.below(3) == 0);
            return if again {
                self.ask(process, id, op)
            };
        }
        let op = self.choose(&id);
        self.ask(process, id, op);
    }

    fn choose(&mut self, id: &InterviewId) -> Op {
        let (variant, answers) = (self.chance.below(3), 1 + self.chance.below(5));
        let (choice, poison) = (self.chance.below(24), self.has_poison);
        let draft = |answers| exam::draft(id.as_str(), variant, answers, poison);
        let view = self.truth.view(id);
        match (choice, view.map(|view| (view.record.phase, view.state()))) {
            (0..=11, None) => Op::Submit(draft(answers)),
            (12..=20, None) => Op::Open(draft(answers - 1)),
            (0..=14, Some((Phase::Open, _))) => {
                let index = view.map_or(0, |view| view.total());
                Op::Answer(exam::answer(id.as_str(), variant, index, poison))
            }
            (15..=20, Some((Phase::Open, _))) => Op::Finish,
            (0..=12, Some((_, InterviewState::Complete | InterviewState::Partial))) => Op::Retry,
            (0..=4, Some((Phase::Cancelled, _))) => Op::Delete,
            (13..=17, _) => Op::Submit(draft(answers)),
            (18, _) => Op::Open(draft(answers)),
            (19..=20, _) => Op::Retry,
            (21, _) => Op::Cancel,
            (22, _) => Op::Delete,
            _ => Op::Finish,
        }
    }

    /// Somebody does not want an interview any more that is under way.
    pub(super) fn ask_to_end(&mut self, process: &Process) {
        let going = |id: &&InterviewId| self.truth.view(id).is_some_and(|view| view.state().goes_on());
        let going: Vec<_> = self.ids.iter().filter(going).cloned().collect();
        if going.is_empty() {
            return;
        }
        let id = going[self.chance.below(going.len())].clone();
        let op = [Op::Cancel, Op::Delete][self.chance.below(2)].clone();
        if !self.asked.iter().any(|asked| asked.id == id && asked.op.changes()) {
            self.ask(process, id, op);
        }
    }

    pub(super) fn ask_to_read(&mut self, process: &Process) {
        let id = self.any_id();
        let until = now() + 1 + self.chance.below(5_000) as i64;
        let op = match self.chance.below(3) {
            0 => Op::Get,
            1 => Op::Report,
            _ => Op::Wait { until },
        };
        self.ask(process, id, op);
    }

    pub(super) fn ask(&mut self, process: &Process, id: InterviewId, op: Op) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.history.add(format!("client {ticket} asks of {id}: {op:?}"));
        let draining = process.daemon.draining.load(Ordering::Relaxed);
        let was_hidden = process.hand.hides(&id);
        process.ask(ticket, op.call(&id, now()));
        self.asked.push(Asked {
            ticket,
            views: vec![self.truth.view(&id).cloned()],
            id,
            op,
            taken_max: process.daemon.room.taken(),
            was_draining: draining,
            was_in_trouble: process.is_in_trouble(),
            was_hidden,
            draining_only: draining,
        });
    }
}

impl Asked {
    /// The reply in words, which are the same in every repetition: reports tell of real time too.
    pub fn heard(&self, reply: &Result<Reply, Fault>) -> String {
        let ticket = self.ticket;
        match (reply, &self.op) {
            (Ok(_), Op::Report | Op::Wait { .. }) => format!("client {ticket} has a report"),
            (reply, _) => format!("client {ticket} hears {reply:?}"),
        }
    }

    /// Whether the reply is one that the protocol allows.
    pub fn check(&self, reply: &Result<Reply, Fault>, process: &Process, now: i64) {
        let views = || self.views.iter().map(Option::as_ref);
        match reply {
            Err(fault) => {
                let from_without = match fault.kind {
                    // Reads go on, but for those of what nobody knows.
                    Kind::Storage if !self.op.changes() => self.was_hidden,
                    Kind::Storage => self.was_in_trouble || process.is_in_trouble(),
                    // Who waits for a report is told when the daemon stops.
                    Kind::Draining => {
                        self.was_draining && (self.op.places().is_some() || matches!(self.op, Op::Wait { .. }))
                    }
                    Kind::Busy => {
                        let max = process.daemon.room.max();
                        let is_full = |places: usize| self.taken_max.saturating_add(places) > max;
                        // When the store has been opened again, what is under way is counted twice for a moment, until it is seen to be.
                        self.op
                            .places()
                            .is_some_and(|places| self.was_in_trouble || is_full(places))
                    }
                    _ => false,
                };
                let allowed = from_without || views().any(|view| self.op.due(view, now) == Err(fault.kind));
                assert!(allowed, "{self:?} was refused: {fault:?}");
            }
            Ok(reply) => {
                assert!(
                    !(self.draining_only && self.op.places().is_some()),
                    "{self:?} was accepted while draining"
                );
                let may = views().any(|view| self.op.due(view, now).is_ok()) || self.is_hidden_retry();
                assert!(may, "{self:?} was answered: {reply}");
                let result: Value = serde_json::from_str(reply.get()).unwrap();
                self.check_effect(self.views.last().unwrap().as_ref(), &result);
                self.check_reading(&result);
            }
        }
    }

    /// Whether a report and its retry came in one round, so that nobody saw the interview between them.
    fn is_hidden_retry(&self) -> bool {
        let hidden = |pair: &[Option<View>]| match pair {
            [Some(old), Some(new)] => {
                let reported = new.report.map(|report| report.generation);
                old.state() == InterviewState::Reporting && reported == Some(old.record.generation)
            }
            _ => false,
        };
        matches!(self.op, Op::Retry) && self.views.windows(2).any(hidden)
    }

    /// What was acknowledged is stored.
    fn check_effect(&self, view: Option<&View>, result: &Value) {
        let record = view.map(|view| &view.record);
        let took_effect = match &self.op {
            Op::Submit(draft) | Op::Open(draft) => view.is_some_and(|view| is_opened_by(view, draft)),
            Op::Answer(draft) => record.is_some_and(|record| {
                let mut answers = record.interview.answers().iter();
                answers.any(|answer| draft.answer_id.as_deref() == Some(answer.id.as_str()) && is_same(answer, draft))
            }),
            Op::Finish => record.is_some_and(|record| record.due_since.is_some()),
            Op::Retry => {
                let before = self.views[0].as_ref().map(|view| view.record.generation);
                record.map(|record| record.generation) > before
            }
            Op::Cancel => record.is_some_and(|record| record.phase == Phase::Cancelled),
            Op::Delete => record.is_none(),
            Op::Get | Op::Report | Op::Wait { .. } => true,
        };
        assert!(took_effect, "{self:?} was acknowledged ({result}) and is not stored");
    }

    /// What is told was stored at some time since it was asked.
    fn check_reading(&self, result: &Value) {
        if !matches!(self.op, Op::Get) {
            return;
        }
        let told = |view: &View| {
            let answers = view.record.interview.answers().iter().zip(&view.outcomes);
            let answers_told = result["answers"].as_array().unwrap();
            let mut all = answers.zip(answers_told);
            view.total() == answers_told.len()
                && result["state"] == view.state().as_str()
                && result["done"] == view.done()
                && result["total"] == view.total()
                && all.all(|((answer, outcome), told)| {
                    let score = outcome.as_ref().and_then(|outcome| outcome.verdict.score());
                    told["answer_id"] == answer.id.as_str()
                        && told.get("score")
                            == serde_json::to_value(score)
                                .ok()
                                .filter(|score| !score.is_null())
                                .as_ref()
                })
        };
        assert!(self.views.iter().flatten().any(told), "{self:?}: never was it {result}");
    }
}
