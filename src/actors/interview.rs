//! InterviewActor: one for each live interview. Turns its answers into work as they arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture};

use super::age::Age;
use super::message::{
    Abandon, AddAnswer, AnswerScored, AnswerScorer, Begin, Case, Extend, Finish, OpenReport, ReportReady,
};
use super::room::Place;
use crate::crash_points::CrashPoint;
use crate::domain::gate;
use crate::domain::interview::Interview;
use crate::domain::outcome::{Flag, Outcome, Timing};

/// Whom an InterviewActor sends its answers to.
#[derive(Clone)]
pub struct Doors {
    pub open_report: Recipient<OpenReport>,
    pub extend_report: Recipient<Extend>,
    pub gated: Recipient<AnswerScored>,
    pub scorer: Recipient<AnswerScorer>,
    pub abandon_report: Recipient<Abandon>,
    pub abandon_work: Recipient<Abandon>,
}

pub struct InterviewActor {
    case: Arc<Case>,
    doors: Doors,
    /// How many of its answers have been sent on their way.
    sent: usize,
    places: VecDeque<Place>,
}

impl InterviewActor {
    pub fn new(case: Arc<Case>, doors: Doors) -> Self {
        Self {
            case,
            doors,
            sent: 0,
            places: VecDeque::new(),
        }
    }

    /// Takes the interview as it is now and sends the answers that are new.
    fn grow(&mut self, interview: Arc<Interview>, due: Option<Age>, places: Vec<Place>) {
        if interview.answers().len() < self.sent {
            return; // overtaken by a later message, which knew more
        }
        self.places.extend(places);
        self.doors.extend_report.do_send(Extend {
            life: self.case.life.clone(),
            interview: Arc::clone(&interview),
            due,
        });
        CrashPoint::ReportExtended.reached();
        self.send(&interview, &[], Instant::now());
    }

    fn send(&mut self, interview: &Arc<Interview>, outcomes: &[Option<Outcome>], queued_at: Instant) {
        for index in self.sent..interview.answers().len() {
            if outcomes.get(index).is_none_or(Option::is_none) {
                self.send_one(interview, index, queued_at);
            }
        }
        self.sent = self.sent.max(interview.answers().len());
        self.places.clear();
    }

    fn send_one(&mut self, interview: &Arc<Interview>, index: usize, queued_at: Instant) {
        let answer = &interview.answers()[index];
        let place = self.places.pop_front();
        let gate = gate::gate(&answer.text)
            .then(|| self.case.rubric.stage(&answer.stage))
            .flatten();
        if let Some(stage) = gate {
            self.doors.gated.do_send(AnswerScored {
                life: self.case.life.clone(),
                answer_id: answer.id.clone(),
                outcome: Outcome {
                    verdict: gate::gated_outcome(stage.area),
                    flags: vec![Flag::NoAnswer],
                    judged_code_points: None,
                    timing: Timing::default(),
                    model_hash: None,
                },
            });
            CrashPoint::GatedSent.reached();
            return;
        }
        self.doors.scorer.do_send(AnswerScorer {
            case: Arc::clone(&self.case),
            interview: Arc::clone(interview),
            index,
            queued_at,
            place,
        });
        CrashPoint::AnswerSent.reached();
    }
}

impl Actor for InterviewActor {
    type Context = Context<Self>;
}

impl Handler<Begin> for InterviewActor {
    type Result = ();

    fn handle(&mut self, begin: Begin, context: &mut Self::Context) {
        self.places = begin.places.into();
        let opened = self.doors.open_report.send(OpenReport {
            case: Arc::clone(&self.case),
            interview: Arc::clone(&begin.interview),
            outcomes: begin.outcomes.clone(),
            due: begin.due,
            done: context.address().recipient(),
        });
        context.wait(opened.into_actor(self).map(move |opened, actor, context| match opened {
            Ok(()) => {
                CrashPoint::ReportOpened.reached();
                actor.send(&begin.interview, &begin.outcomes, begin.queued_at);
            }
            Err(_) => context.stop(), // the reports are shut down: this goes on at the next start
        }));
    }
}

impl Handler<AddAnswer> for InterviewActor {
    type Result = ();

    fn handle(&mut self, added: AddAnswer, _: &mut Self::Context) {
        self.grow(added.interview, None, added.places);
    }
}

impl Handler<Finish> for InterviewActor {
    type Result = ();

    fn handle(&mut self, finish: Finish, _: &mut Self::Context) {
        self.grow(finish.interview, Some(finish.due), Vec::new());
    }
}

impl Handler<ReportReady> for InterviewActor {
    type Result = ();

    fn handle(&mut self, _: ReportReady, context: &mut Self::Context) {
        CrashPoint::LifeOver.reached();
        context.stop();
    }
}

impl Handler<Abandon> for InterviewActor {
    type Result = ();

    fn handle(&mut self, abandon: Abandon, context: &mut Self::Context) {
        // The report first: after that it asks the pool for nothing more, so what the pool forgets stays forgotten.
        let report = self.doors.abandon_report.send(abandon.clone());
        context.wait(report.into_actor(self).map(|_, actor, context: &mut Context<Self>| {
            CrashPoint::ReportAbandoned.reached();
            actor.doors.abandon_work.do_send(abandon);
            context.stop();
        }));
    }
}
