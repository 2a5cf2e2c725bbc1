//! What clients do with interviews: submit, open, answer, finish, look, retry, cancel, delete.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::Daemon;
use super::doubts::Before;
use super::faults::{internal, left_out, of_refusal, of_rubric, of_store};
use super::lives::life_of;
use crate::actors::message::Life;
use crate::actors::pool::{DescribeLife, Standing};
use crate::actors::room::{Full, Place};
use crate::crash_points::CrashPoint;
use crate::domain::event::{Event, EventKind};
use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::interview::{Answer, AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::outcome::Outcome;
use crate::domain::state::{AnswerState, InterviewState};
use crate::socket::call::ListParams;
use crate::socket::fault::{Fault, Kind};
use crate::socket::params::LIST_LIMIT;
use crate::socket::view::{
    AnswerView, Answered, Cancelled, Deleted, InterviewView, ListView, ListedInterview, Moved, Submitted,
};
use crate::store::{self, Accept, Page, Phase, Record, StoreError, Summary, View};

/// Interviews of a list that are looked up before it is somebody else's turn.
const LISTED_AT_ONCE: usize = 50;

/// A client's text as an id of an interview.
pub fn interview_id(text: &str) -> Result<InterviewId, Fault> {
    InterviewId::parse(text).map_err(|error| {
        Fault::new(Kind::InvalidParams, format!("params.interview_id: {error}")).with("path", "interview_id")
    })
}

pub fn unknown(id: &InterviewId) -> Fault {
    Fault::not_found(format!("there is no interview {id}"))
}

fn ids(interview: &Interview) -> Vec<AnswerId> {
    interview.answers().iter().map(|answer| answer.id.clone()).collect()
}

impl Daemon {
    /// The interview, or `not_found`.
    pub(super) fn view(&self, id: &InterviewId) -> Result<View, Fault> {
        self.store.view(id).map_err(of_store)?.ok_or_else(|| unknown(id))
    }

    fn refuse_while_draining(&self) -> Result<(), Fault> {
        let why = match (self.stop.borrow().is_some(), self.draining.load(Ordering::Relaxed)) {
            (true, _) => "the daemon is stopping and accepts no interviews and answers; try again when it is back",
            (false, true) => "the daemon is draining and accepts no interviews and answers now; try again later",
            (false, false) => return Ok(()),
        };
        Err(Fault::new(Kind::Draining, why))
    }

    fn reserve(&self, places: usize) -> Result<Vec<Place>, Fault> {
        self.room.reserve(places).map_err(|Full { taken, max }| {
            let message = match places > max {
                true => format!("{places} answers are more than the queue ever holds: queue.max_queued_answers = {max}"),
                false => format!(
                    "the queue is full: {taken} answers wait, {places} more would exceed queue.max_queued_answers = {max}"
                ),
            };
            let retry_after_ms = (taken as u64 * 50).clamp(1_000, 60_000);
            Fault::new(Kind::Busy, message).with("retry_after_ms", retry_after_ms)
        })
    }

    pub(super) async fn submit(&self, draft: Draft, opening: Opening) -> Result<Submitted, Fault> {
        self.refuse_while_draining()?;
        let settings = self.settings();
        let new_id = InterviewId::parse(&Uuid::now_v7().to_string()).map_err(internal)?;
        let id = draft
            .interview_id
            .as_deref()
            .and_then(|text| InterviewId::parse(text).ok());
        let id = id.unwrap_or_else(|| new_id.clone());
        let _turn = self.turn_of(&id).await.map_err(of_store)?;
        // What is there already was checked when it came, needs no room, and may be repeated whatever the limits are now.
        let known = self.store.view(&id).map_err(of_store)?;
        let (rubric, limits) = match &known {
            Some(view) => (
                self.rubrics.by_hash(&view.record.rubric_hash).map_err(of_rubric)?.0,
                Limits::NONE,
            ),
            None => (Arc::clone(&settings.rubric.rubric), settings.limits),
        };
        let interview = Interview::new(draft, new_id, opening, &rubric, &limits).map_err(of_refusal)?;
        let total = interview.answers().len();
        let (before, places) = match &known {
            Some(view) => (Before::of(view), Vec::new()),
            None => (
                Before {
                    total,
                    ..Before::default()
                },
                self.reserve(total)?,
            ),
        };
        CrashPoint::RoomReserved.reached();
        let accept = Accept {
            interview,
            stays_open: opening == Opening::StaysOpen,
            at: (self.clock)(),
            rubric_hash: settings.rubric.hash.clone(),
            rubric_text: Arc::clone(&settings.rubric.text),
        };
        // Whoever left the id out must know by which to ask again.
        let named = |error| match error {
            StoreError::Uncertain { .. } => of_store(error).with("interview_id", id.as_str()),
            error => of_store(error),
        };
        let accepted = self.store.accept(accept).await;
        let accepted = self.doubting(&id, before, accepted).map_err(named)?;
        let answers = ids(&accepted.record.interview);
        if accepted.created {
            CrashPoint::AcceptStored.reached();
            tracing::info!(interview = id.as_str(), answers = answers.len(), "accepted");
            self.tell(&id, EventKind::Accepted, 0, answers.len());
            CrashPoint::AcceptTold.reached();
            self.engage(accepted.record, places);
            CrashPoint::AcceptEngaged.reached();
        }
        Ok(Submitted {
            state: accepted.state,
            interview_id: id,
            answers,
            created: accepted.created,
        })
    }

    /// Sets to work what is stored; if that fails, it is set to work at the next start.
    pub(super) fn engage(&self, record: Record, places: Vec<Place>) {
        let id = record.interview.id.clone();
        match self.lives.engage(record, places) {
            Ok(()) => self.losses().forget(id.as_str()),
            Err(error) => self.does_not_begin(id.as_str(), &error),
        }
    }

    pub(super) fn tell(&self, id: &InterviewId, kind: EventKind, done: usize, total: usize) {
        self.hub.publish(&Event {
            interview_id: id.clone(),
            kind,
            done,
            total,
        });
    }

    pub(super) async fn answer(&self, id: &str, draft: AnswerDraft) -> Result<Answered, Fault> {
        self.refuse_while_draining()?;
        let id = interview_id(id)?;
        let _turn = self.turn_of(&id).await.map_err(of_store)?;
        let settings = self.settings();
        loop {
            let record = self.view(&id)?.record;
            if let Some(known) = known_answer(&record, &draft)? {
                return Ok(answered(&record, known, false));
            }
            if record.phase != Phase::Open {
                return Err(takes_no_more(&record));
            }
            let (rubric, _) = self.rubrics.by_hash(&record.rubric_hash).map_err(of_rubric)?;
            let mut interview = record.interview.clone();
            let before = interview.answers().len();
            let answer = interview
                .add(draft.clone(), &rubric, &settings.limits)
                .map_err(of_refusal)?
                .clone();
            let places = self.reserve(1)?;
            let answer_id = answer.id.clone();
            match self.store.add_answer(&id, answer, before).await {
                Ok(added) => {
                    let reply = answered(&added.record, answer_id, added.created);
                    if added.created {
                        CrashPoint::AnswerStored.reached();
                        self.engage(added.record, places);
                        CrashPoint::AnswerEngaged.reached();
                    }
                    return Ok(reply);
                }
                // Another answer came first: this one is checked against it and tried again.
                Err(StoreError::Changed { .. }) => {}
                Err(error) => return Err(of_store(error)),
            }
        }
    }

    pub(super) async fn finish(&self, id: &str) -> Result<Moved, Fault> {
        let id = interview_id(id)?;
        let _turn = self.turn_of(&id).await.map_err(of_store)?;
        self.finish_in_turn(id).await
    }

    /// What becomes of an open interview that nobody finishes: it is finished, or cancelled if it is empty.
    pub(super) async fn finish_forgotten(&self, life: &Life) -> Result<(), Fault> {
        let id = &life.interview_id;
        let _turn = self.turn_of(id).await.map_err(of_store)?;
        let view = self.store.view(id).map_err(of_store)?;
        // In the last moment somebody may have finished or deleted it, or even begun another of that id.
        match view.filter(|view| view.record.sequence == life.sequence && view.state() == InterviewState::Open) {
            Some(view) if view.total() == 0 => self.cancel_in_turn(id.clone()).await.map(drop),
            Some(_) => self.finish_in_turn(id.clone()).await.map(drop),
            None => Ok(()),
        }
    }

    async fn finish_in_turn(&self, id: InterviewId) -> Result<Moved, Fault> {
        match self.store.close(&id, (self.clock)()).await {
            Ok(moved) => {
                let reply = as_moved(&moved);
                if moved.newly {
                    CrashPoint::FinishStored.reached();
                    self.engage(moved.record, Vec::new());
                    CrashPoint::FinishEngaged.reached();
                }
                Ok(reply)
            }
            Err(StoreError::Conflict(text)) => {
                // Repeating `finish` succeeds in any later state; finishing what was cancelled while open does not.
                let view = self.view(&id)?;
                match view.record.due_since {
                    Some(_) => Ok(Moved {
                        state: view.state(),
                        interview_id: id,
                        answers: ids(&view.record.interview),
                    }),
                    None => Err(Fault::conflict(text)),
                }
            }
            Err(error) => Err(of_store(error)),
        }
    }

    pub(super) async fn retry(&self, id: &str) -> Result<Moved, Fault> {
        let id = interview_id(id)?;
        let _turn = self.turn_of(&id).await.map_err(of_store)?;
        let before = self.before(&id).map_err(of_store)?;
        let moved = self.store.reopen(&id, (self.clock)()).await;
        let moved = self.doubting(&id, before, moved).map_err(of_store)?;
        CrashPoint::RetryStored.reached();
        tracing::info!(interview = id.as_str(), "retried");
        let reply = as_moved(&moved);
        self.engage(moved.record, Vec::new());
        CrashPoint::RetryEngaged.reached();
        Ok(reply)
    }

    pub(super) async fn cancel(&self, id: &str) -> Result<Cancelled, Fault> {
        let id = interview_id(id)?;
        let _turn = self.turn_of(&id).await.map_err(of_store)?;
        self.cancel_in_turn(id).await
    }

    async fn cancel_in_turn(&self, id: InterviewId) -> Result<Cancelled, Fault> {
        let before = self.before(&id).map_err(of_store)?;
        let cancelled = self.store.cancel(&id).await;
        let (record, newly) = self.doubting(&id, before, cancelled).map_err(of_store)?;
        self.losses().forget(id.as_str());
        // If it was stored by a call that did not hear so, its work goes on until now.
        if newly {
            CrashPoint::CancelStored.reached();
            tracing::info!(interview = id.as_str(), "cancelled");
        }
        self.lives.abandon(&record);
        if newly {
            CrashPoint::CancelAbandoned.reached();
            let total = record.interview.answers().len();
            self.tell(&id, EventKind::Cancelled, total, total);
        }
        Ok(Cancelled {
            interview_id: id,
            state: InterviewState::Cancelled,
        })
    }

    pub(super) async fn delete(&self, id: &str) -> Result<Deleted, Fault> {
        let id = interview_id(id)?;
        let _turn = self.turn_of(&id).await.map_err(of_store)?;
        let before = self.before(&id).map_err(of_store)?;
        let deleted = self.store.delete(&id).await;
        let was = self.doubting(&id, before, deleted).map_err(of_store)?;
        CrashPoint::DeleteStored.reached();
        tracing::info!(interview = id.as_str(), "deleted");
        self.losses().forget(id.as_str());
        match &was {
            Some(was) => self.lives.abandon(&was.record),
            // Nobody can say which life it was in: none goes on.
            None => self.lives.abandon_others(&id, None),
        }
        CrashPoint::DeleteAbandoned.reached();
        let (done, total) = was.map_or((0, 0), |was| (was.done(), was.total()));
        self.tell(&id, EventKind::Deleted, done, total);
        Ok(Deleted { deleted: true })
    }

    pub(super) async fn get(&self, id: &str) -> Result<InterviewView, Fault> {
        let id = interview_id(id)?;
        let view = self.view(&id)?;
        let standing = match view.state() {
            InterviewState::Open | InterviewState::Scoring => self.pool.send(DescribeLife(life_of(&view.record))).await,
            _ => Ok(Vec::new()),
        };
        let standing = standing.unwrap_or_default(); // a pool that is gone runs nothing
        let state = view.state();
        let answers = view.record.interview.answers().iter().zip(&view.outcomes).enumerate();
        let current = view.report.filter(|report| report.generation == view.record.generation);
        Ok(InterviewView {
            state,
            done: view.done(),
            total: view.total(),
            answers: answers
                .map(|(index, (answer, outcome))| {
                    let standing = standing.iter().find(|standing| standing.index == index);
                    answer_view(answer, outcome.as_ref(), standing, state)
                })
                .collect(),
            submitted_at: view.record.submitted_at,
            finished_at: current.map(|report| report.finished_at),
            interview_id: id,
        })
    }

    /// Looks a few up at a time, so that others get their turn in between.
    pub(super) async fn list(&self, params: ListParams) -> Result<ListView, Fault> {
        let limit = params.limit.unwrap_or(LIST_LIMIT);
        let mut view = ListView {
            interviews: Vec::new(),
            next: params.after,
        };
        loop {
            let some = (limit - view.interviews.len()).min(LISTED_AT_ONCE);
            let page = self.page(params.state, some, view.next.as_deref())?;
            view.interviews.extend(page.interviews.into_iter().map(listed));
            view.next = page.next;
            if view.next.is_none() {
                return Ok(view);
            }
            tokio::task::yield_now().await;
            if view.interviews.len() >= limit {
                break;
            }
        }
        // A client is told of more only if there is more in this state.
        let mut after = view.next.clone();
        while after.is_some() {
            let page = self.page(params.state, 1, after.as_deref())?;
            if !page.interviews.is_empty() {
                return Ok(view);
            }
            after = page.next;
            tokio::task::yield_now().await;
        }
        view.next = None;
        Ok(view)
    }

    fn page(&self, state: Option<InterviewState>, limit: usize, after: Option<&str>) -> Result<Page, Fault> {
        let page = self.store.list(state, limit, after).map_err(of_store)?;
        page.unreadable.iter().for_each(left_out);
        Ok(page)
    }
}

/// As the store has just written it: what comes after that is no matter of this request.
fn as_moved(moved: &store::Moved) -> Moved {
    Moved {
        interview_id: moved.record.interview.id.clone(),
        state: moved.state,
        answers: ids(&moved.record.interview),
    }
}

fn listed(summary: Summary) -> ListedInterview {
    ListedInterview {
        interview_id: summary.id,
        state: summary.state,
        done: summary.done,
        total: summary.total,
        submitted_at: summary.submitted_at,
    }
}

/// The id of the draft if the interview has just this answer already; a conflict if it has another of that id.
fn known_answer(record: &Record, draft: &AnswerDraft) -> Result<Option<AnswerId>, Fault> {
    let Some(known) = record
        .interview
        .answers()
        .iter()
        .find(|answer| Some(answer.id.as_str()) == draft.answer_id.as_deref())
    else {
        return Ok(None);
    };
    let same = known.stage == draft.stage
        && known.question == draft.question
        && known.text == draft.answer
        && known.follow_up_of.as_ref().map(AnswerId::as_str) == draft.follow_up_of.as_deref();
    match same {
        true => Ok(Some(known.id.clone())),
        false => Err(Fault::conflict(format!(
            "the interview {} has an answer {} with other content",
            record.interview.id, known.id
        ))),
    }
}

fn takes_no_more(record: &Record) -> Fault {
    let what = match record.phase {
        Phase::Cancelled => "cancelled",
        Phase::Finished | Phase::Open => "finished",
    };
    Fault::conflict(format!(
        "the interview {} is {what} and takes no more answers",
        record.interview.id
    ))
}

fn answered(record: &Record, answer_id: AnswerId, created: bool) -> Answered {
    Answered {
        interview_id: record.interview.id.clone(),
        answer_id,
        answers: ids(&record.interview),
        created,
    }
}

fn answer_view(
    answer: &Answer,
    outcome: Option<&Outcome>,
    standing: Option<&Standing>,
    interview: InterviewState,
) -> AnswerView {
    let state = match (outcome, standing, interview) {
        (Some(outcome), ..) => outcome.verdict.state(),
        (None, _, InterviewState::Cancelled) => AnswerState::Cancelled,
        (None, Some(standing), _) if standing.running => AnswerState::Running,
        (None, ..) => AnswerState::Queued,
    };
    let attempts = match outcome {
        Some(outcome) => outcome.timing.attempts,
        None => standing.map_or(0, |standing| standing.attempts),
    };
    AnswerView {
        answer_id: answer.id.clone(),
        state,
        score: outcome.and_then(|outcome| outcome.verdict.score()),
        attempts,
        reason: outcome.and_then(|outcome| outcome.verdict.reason()).map(str::to_owned),
    }
}
