//! ReportActor: records every outcome, notices when an interview is whole, has the narrative written, folds and stores the report.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use tokio::sync::oneshot;

use super::age::Age;
use super::message::{
    Abandon, AnswerScored, Case, Extend, Life, Making, NarrativeWritten, OpenReport, Provide, ReportReady, Settle,
    WriteNarrative,
};
use crate::crash_points::CrashPoint;
use crate::domain::event::{Event, EventKind};
use crate::domain::ids::AnswerId;
use crate::domain::interview::Interview;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::report::{Narrative, Provenance, Report, Times};
use crate::domain::time::Timestamp;
use crate::store::{Finished, Recorded, Store, StoreError};
use crate::telemetry::Counters;

/// Those who want to know what happens to interviews. Must not block.
pub trait Watchers: Send + Sync {
    fn tell(&self, event: Event);
}

/// The time of day, for what is stored.
pub type Clock = fn() -> Timestamp;

pub struct ReportActor {
    store: Store,
    narrator: Recipient<WriteNarrative>,
    watchers: Arc<dyn Watchers>,
    counters: Arc<Counters>,
    clock: Clock,
    making: Option<Arc<Making>>,
    /// In the order of submission.
    open: BTreeMap<Life, Open>,
    /// Writes to the store that are on their way.
    writing: usize,
    /// Ends with the last of them.
    last_write: Option<oneshot::Receiver<()>>,
    until_settled: Vec<oneshot::Sender<()>>,
}

/// A report that is not yet stored.
struct Open {
    case: Arc<Case>,
    interview: Arc<Interview>,
    outcomes: Vec<Option<Outcome>>,
    /// Since when it is due; `None` while answers may come.
    due: Option<Age>,
    phase: Phase,
    /// What wrote the narrative.
    making: Option<Arc<Making>>,
    done: Recipient<ReportReady>,
}

enum Phase {
    /// Answers are still to end, or to come.
    Collecting,
    Narrating,
    /// The narrative, or why there is none, waits for being folded in.
    Folding(Result<Narrative, String>),
    Storing,
}

impl Open {
    fn done(&self) -> usize {
        self.outcomes.iter().flatten().count()
    }

    fn tell(&self, watchers: &dyn Watchers, kind: EventKind) {
        if self.case.over.load(Ordering::Relaxed) {
            return; // its end has been told
        }
        watchers.tell(Event {
            interview_id: self.interview.id.clone(),
            kind,
            done: self.done(),
            total: self.outcomes.len(),
        });
    }

    /// All outcomes, if the interview is whole.
    fn whole(&self) -> Option<Vec<Outcome>> {
        let whole = self.due.is_some() && self.outcomes.iter().all(Option::is_some);
        whole.then(|| self.outcomes.iter().flatten().cloned().collect())
    }

    /// Takes the interview as it is now; what was known stays known.
    fn grow(&mut self, interview: Arc<Interview>, due: Option<Age>) {
        if interview.answers().len() >= self.outcomes.len() {
            self.outcomes.resize(interview.answers().len(), None);
            self.interview = interview;
        }
        self.due = self.due.or(due);
    }
}

impl ReportActor {
    pub fn new(
        store: Store,
        narrator: Recipient<WriteNarrative>,
        watchers: Arc<dyn Watchers>,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            narrator,
            watchers,
            counters,
            clock,
            making: None,
            open: BTreeMap::new(),
            writing: 0,
            last_write: None,
            until_settled: Vec::new(),
        }
    }

    /// Has the narrative written if the interview is whole.
    fn check(&mut self, life: &Life, context: &mut Context<Self>) {
        let Some(open) = self.open.get_mut(life) else { return };
        if !matches!(open.phase, Phase::Collecting) {
            return;
        }
        let Some(outcomes) = open.whole() else { return };
        open.tell(&*self.watchers, EventKind::ReportStarted);
        if outcomes
            .iter()
            .any(|outcome| matches!(outcome.verdict, Verdict::Scored { .. }))
        {
            open.phase = Phase::Narrating;
            CrashPoint::ReportWhole.reached();
            self.narrator.do_send(WriteNarrative {
                case: Arc::clone(&open.case),
                interview: Arc::clone(&open.interview),
                outcomes: Arc::new(outcomes),
            });
        } else {
            // Whoever was asked for strengths now could only invent them.
            open.phase = Phase::Folding(Err("no answer was scored".to_owned()));
            self.fold(life, context);
        }
    }

    /// Folds and stores the report if there is all that it takes.
    fn fold(&mut self, life: &Life, context: &mut Context<Self>) {
        let Some(open) = self.open.get_mut(life) else { return };
        let Some(making) = open.making.clone().or_else(|| self.making.clone()) else {
            return; // there is no model yet
        };
        let (Some(outcomes), Some(due)) = (open.whole(), open.due) else {
            return;
        };
        let narrative = match std::mem::replace(&mut open.phase, Phase::Storing) {
            Phase::Folding(narrative) => narrative,
            other => {
                open.phase = other;
                return;
            }
        };
        let times = Times {
            submitted_at: open.case.submitted_at,
            finished_at: (self.clock)(),
            took_ms: due.now().as_millis() as u64,
        };
        let provenance = provenance(&making, &open.case, &outcomes);
        let id = life.interview_id.as_str();
        match Report::assemble(
            &open.interview,
            &outcomes,
            &open.case.rubric,
            narrative,
            provenance,
            times,
        ) {
            Ok(report) => {
                CrashPoint::ReportFolded.reached();
                self.store_report(life.clone(), report, context);
            }
            Err(error) => {
                tracing::error!(interview = id, %error, "the report cannot be folded; it is tried again at the next start")
            }
        }
    }

    fn store_report(&mut self, life: Life, report: Report, context: &mut Context<Self>) {
        let (status, overall) = (report.status, report.overall);
        let store = self.store.clone();
        let key = life.clone();
        let stored = async move { store.finish(&key.interview_id, key.generation, report).await };
        self.write(context, stored, move |actor, stored, _| {
            let Some(open) = actor.open.remove(&life) else { return };
            match stored {
                // A disk that was full in between may have kept it without the store knowing.
                Ok(Finished::Stored | Finished::AlreadyThere) => {
                    CrashPoint::ReportStored.reached();
                    tracing::info!(interview = life.interview_id.as_str(), "report stored");
                    actor.counters.report();
                    open.tell(&*actor.watchers, EventKind::ReportReady { status, overall });
                    CrashPoint::ReportTold.reached();
                }
                Ok(Finished::Stale) => {} // another life's, or cancelled meanwhile
                Err(error) => {
                    tracing::error!(interview = life.interview_id.as_str(), %error, "the report cannot be stored; it is due again at the next start");
                }
            }
            open.done.do_send(ReportReady);
        });
    }

    /// Runs a write to the store and counts it until its result has been dealt with: in the order in which the writes were asked for, though many of
    /// them become durable at once.
    fn write<T: 'static>(
        &mut self,
        context: &mut Context<Self>,
        write: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut Self, T, &mut Context<Self>) + 'static,
    ) {
        self.writing += 1;
        let (done, turn) = oneshot::channel::<()>();
        let before = self.last_write.replace(turn);
        let in_turn = async move {
            let result = write.await;
            if let Some(before) = before {
                let _ = before.await; // a dropped sender is the end of that write
            }
            result
        };
        context.spawn(in_turn.into_actor(self).map(move |result, actor, context| {
            then(actor, result, context);
            drop(done);
            actor.writing -= 1;
            if actor.writing == 0 {
                for waiting in actor.until_settled.drain(..) {
                    let _ = waiting.send(()); // whoever asked may have stopped waiting
                }
            }
        }));
    }

    fn recorded(
        &mut self,
        life: &Life,
        answer_id: &AnswerId,
        outcome: Outcome,
        recorded: Result<Recorded, StoreError>,
        context: &mut Context<Self>,
    ) {
        let id = life.interview_id.as_str();
        let outcome = match recorded {
            Ok(Recorded::Stored) => {
                CrashPoint::OutcomeRecorded.reached();
                outcome
            }
            Ok(Recorded::AlreadyThere(first)) => *first,
            Ok(Recorded::Stale) => {
                tracing::debug!(
                    interview = id,
                    answer = answer_id.as_str(),
                    "an outcome of an earlier life was dropped"
                );
                return;
            }
            Err(error) => {
                tracing::error!(interview = id, answer = answer_id.as_str(), %error, "an outcome cannot be stored; it is scored again at the next start");
                return;
            }
        };
        let Some(open) = self.open.get_mut(life) else { return };
        let Some(index) = open
            .interview
            .answers()
            .iter()
            .position(|answer| answer.id == *answer_id)
        else {
            return;
        };
        if open.outcomes[index].is_some() {
            return;
        }
        let kind = event_of(answer_id, &outcome.verdict);
        match outcome.verdict.score() {
            Some(_) => self.counters.answer_scored(),
            None => self.counters.answer_unscored(),
        }
        tracing::info!(interview = id, answer = answer_id.as_str(), state = ?outcome.verdict.state(), attempts = outcome.timing.attempts, "answer ended");
        open.outcomes[index] = Some(outcome);
        open.tell(&*self.watchers, kind);
        CrashPoint::OutcomeTold.reached();
        self.check(life, context);
    }
}

fn event_of(answer_id: &AnswerId, verdict: &Verdict) -> EventKind {
    let answer_id = answer_id.clone();
    match (verdict.score(), verdict.reason()) {
        (Some(score), _) => EventKind::AnswerScored { answer_id, score },
        (None, reason) => EventKind::AnswerUnscored {
            answer_id,
            reason: reason.unwrap_or_default().to_owned(),
        },
    }
}

fn provenance(making: &Making, case: &Case, outcomes: &[Outcome]) -> Provenance {
    let hashes = outcomes.iter().filter_map(|outcome| outcome.model_hash.as_ref());
    let mut other_models: Vec<_> = hashes.filter(|hash| **hash != making.model.hash).cloned().collect();
    other_models.sort();
    other_models.dedup();
    Provenance {
        model: making.model.clone(),
        rubric: case.rubric_provenance.clone(),
        prompt: making.prompt.clone(),
        engine: making.engine.clone(),
        interviewd: env!("CARGO_PKG_VERSION").to_owned(),
        other_models,
    }
}

impl Actor for ReportActor {
    type Context = Context<Self>;
}

impl Handler<OpenReport> for ReportActor {
    type Result = ();

    fn handle(&mut self, asked: OpenReport, context: &mut Self::Context) {
        let life = asked.case.life.clone();
        match self.open.entry(life.clone()) {
            // Opened before: nothing is begun a second time.
            Entry::Occupied(mut open) => {
                let open = open.get_mut();
                open.done = asked.done;
                open.grow(asked.interview, asked.due);
            }
            Entry::Vacant(place) => {
                let mut outcomes = asked.outcomes;
                outcomes.resize(asked.interview.answers().len(), None);
                place.insert(Open {
                    case: asked.case,
                    interview: asked.interview,
                    outcomes,
                    due: asked.due,
                    phase: Phase::Collecting,
                    making: None,
                    done: asked.done,
                });
            }
        }
        self.check(&life, context);
    }
}

impl Handler<Extend> for ReportActor {
    type Result = ();

    fn handle(&mut self, more: Extend, context: &mut Self::Context) {
        if let Some(open) = self.open.get_mut(&more.life) {
            open.grow(more.interview, more.due);
        }
        self.check(&more.life, context);
    }
}

impl Handler<AnswerScored> for ReportActor {
    type Result = ();

    fn handle(&mut self, scored: AnswerScored, context: &mut Self::Context) {
        CrashPoint::OutcomeArrived.reached();
        let AnswerScored {
            life,
            answer_id,
            outcome,
        } = scored;
        let store = self.store.clone();
        let (key, answer, stored) = (life.clone(), answer_id.clone(), outcome.clone());
        let record = async move { store.record(&key.interview_id, key.generation, &answer, stored).await };
        self.write(context, record, move |actor, recorded, context| {
            actor.recorded(&life, &answer_id, outcome, recorded, context);
        });
    }
}

impl Handler<NarrativeWritten> for ReportActor {
    type Result = ();

    fn handle(&mut self, written: NarrativeWritten, context: &mut Self::Context) {
        let open = self.open.get_mut(&written.life);
        if let Some(open) = open.filter(|open| matches!(open.phase, Phase::Narrating)) {
            open.phase = Phase::Folding(written.narrative);
            open.making = written.making;
            self.fold(&written.life, context);
        }
    }
}

impl Handler<Provide> for ReportActor {
    type Result = ();

    fn handle(&mut self, Provide { making }: Provide, context: &mut Self::Context) {
        self.making = Some(making);
        let lives: Vec<_> = self.open.keys().cloned().collect();
        for life in lives {
            self.fold(&life, context);
        }
    }
}

impl Handler<Abandon> for ReportActor {
    type Result = ();

    fn handle(&mut self, Abandon { life }: Abandon, _: &mut Self::Context) {
        self.open.remove(&life);
    }
}

impl Handler<Settle> for ReportActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Settle, _: &mut Self::Context) -> Self::Result {
        let (settled, waiting) = oneshot::channel();
        match self.writing {
            0 => drop(settled),
            _ => self.until_settled.push(settled),
        }
        Box::pin(async move {
            let _ = waiting.await; // a dropped sender means that nothing is on its way
        })
    }
}
