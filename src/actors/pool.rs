//! GpuPool: the queue and the engines. Gives work to the engine with the least to do, in order of submission, and decides what a failure means.

mod failing;
mod weighing;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, Recipient, ResponseFuture};
use tokio::sync::oneshot;

pub use super::describe::{Busy, Describe, DescribeLife, Description, SeatState, Seated, Standing};
pub use super::endings::Outlets;
pub use super::seats::{Newcomer, Setup};
pub use failing::BackOff;
pub use weighing::Weigh;

use super::describe::{describe, standings};
use super::doors::{EngineDoors, PoolDoors};
use super::engine_thread::Planned;
use super::gpu::{Forget, Retire, SetSlots};
use super::in_flight::{InFlight, Row};
use super::memory;
use super::message::{Abandon, AnswerScorer, Assign, Ended, EngineDown, EngineLate, EngineUp, Task, WriteNarrative};
use super::queue::{Key, Queue, Work};
use super::seats::{Seats, Step, bank_of};
use crate::crash_points::CrashPoint;
use crate::engine::job::JobId;
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK};
use failing::Toll;
use weighing::WEIGHED_EVERY;

/// daemon → GpuPool: from now on, these engines.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Adopt {
    pub setup: Arc<Setup>,
    pub actors: Vec<Planned>,
    /// How often work may fail by itself before it is given up.
    pub attempts_max: u32,
}

/// daemon → GpuPool: how often work is begun before it is given up, from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetAttempts(pub u32);

/// daemon → GpuPool: give no more work to engines; answered when nothing runs any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// daemon → GpuPool: let go of the engines, whatever they run; answered when those that were loaded have stopped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Release;

/// daemon → GpuPool: note in this file what runs, unless that is done in another already.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Remember(pub PathBuf);

/// Starts the actor of an engine. A test puts another in its place.
pub type StartEngine = Box<dyn Fn(Newcomer, &Arc<Setup>, PoolDoors) -> EngineDoors>;

/// What is to be given to an engine.
struct Next {
    key: Key,
    bank: usize,
    alone: bool,
}

pub struct GpuPool {
    start: StartEngine,
    outlets: Outlets,
    back_off: BackOff,
    epoch: Instant,
    setup: Option<Arc<Setup>>,
    attempts_max: u32,
    seats: Seats,
    /// Of every engine in `seats`, by its id.
    doors: HashMap<usize, EngineDoors>,
    answers: Queue,
    narratives: Queue,
    in_flight: InFlight,
    last_job: JobId,
    paused: bool,
    /// Whether devices are being read.
    weighing: bool,
    until_idle: Vec<oneshot::Sender<()>>,
}

impl GpuPool {
    /// `epoch`: from where the engines' rates count.
    pub fn new(start: StartEngine, outlets: Outlets, back_off: BackOff, epoch: Instant) -> Self {
        Self {
            start,
            outlets,
            back_off,
            epoch,
            setup: None,
            attempts_max: 1,
            seats: Seats::default(),
            doors: HashMap::new(),
            answers: Queue::default(),
            narratives: Queue::default(),
            in_flight: InFlight::default(),
            last_job: JobId(0),
            paused: false,
            weighing: false,
            until_idle: Vec::new(),
        }
    }

    /// Takes work in; what has ended the process too often is not run again.
    fn admit(&mut self, mut work: Work) {
        work.past = self.in_flight.past(&work.case.life, &work.task);
        work.alone = work.past.is_suspect();
        if let Some(reason) = work.past.verdict() {
            let (interview, answer) = (work.case.life.interview_id.as_str(), work.answer_id());
            tracing::error!(interview, answer, reason, "work is not run again");
            return self.outlets.given_up(work, reason, None);
        }
        self.queue(bank_of(&work.task)).push(work);
        self.dispatch();
    }

    /// Brings the engines into line with the plan and hands out work.
    fn reconcile(&mut self, context: &mut Context<Self>) {
        if let Some(setup) = self.setup.clone() {
            for step in self.seats.steps(&setup, !self.paused) {
                self.take(step, &setup, context);
            }
        }
        self.dispatch();
    }

    fn take(&mut self, step: Step, setup: &Arc<Setup>, context: &mut Context<Self>) {
        match step {
            Step::Start(newcomer) => {
                let address = context.address();
                let (id, pool) = (newcomer.id, PoolDoors::of(address));
                self.doors.insert(id, (self.start)(newcomer, setup, pool));
            }
            Step::Resize { id, slots } => {
                let Some(doors) = self.doors.get(&id) else { return };
                let resized = wrap_future::<_, Self>(doors.set_slots.send(SetSlots(slots)));
                context.spawn(resized.map(move |resized, pool, context: &mut Context<Self>| {
                    // One that could not be resized says itself that it is down.
                    if matches!(resized, Ok(true)) {
                        pool.seats.resized(id);
                        pool.reconcile(context);
                    }
                }));
            }
            Step::Retire { id } => {
                let Some(doors) = self.doors.get(&id) else { return };
                let left = wrap_future::<_, Self>(doors.retire.send(Retire));
                context.spawn(left.map(move |_, pool, context: &mut Context<Self>| {
                    pool.seats.left(id);
                    pool.doors.remove(&id);
                    pool.went_on(context);
                }));
            }
        }
    }

    /// Hands out work while there is a slot for what is first in line. A bank without a free slot does not hold up the other, but behind work that
    /// must be alone nobody passes: it would wait for ever.
    fn dispatch(&mut self) {
        let mut full = [false; 2];
        while let Some(next) = self.next(full) {
            let Some(free) = self.seats.least_busy(next.bank, next.alone) else {
                if next.alone {
                    return;
                }
                full[next.bank] = true;
                continue;
            };
            let (bank, key) = match next.alone && !free.is_proven {
                true => self.witness(next.bank, next.key),
                false => (next.bank, next.key),
            };
            let Some(doors) = self.doors.get(&free.id) else { return };
            let assign = doors.assign.clone();
            let Some(work) = self.queue(bank).take(&key) else {
                return;
            };
            self.assign(free.id, &assign, work, next.alone);
        }
    }

    /// What comes next for a bank that is not full.
    fn next(&self, full: [bool; 2]) -> Option<Next> {
        // What may have ended a process has this one to itself.
        let is_suspect = |work: &Work| work.past.is_suspect();
        if self.paused || self.seats.running().any(is_suspect) {
            return None;
        }
        let open = self.lines().into_iter().filter(|(bank, _)| !full[*bank]);
        let firsts = open.filter_map(|(bank, line)| Some((line.first()?, bank)));
        let ((key, work), bank) = firsts.min_by_key(|((key, _), _)| *key)?;
        if is_suspect(work) && !self.seats.is_idle() {
            return None;
        }
        let (key, alone) = (key.clone(), work.alone);
        Some(Next { key, bank, alone })
    }

    /// What is run alone on an engine that has not written anything since something failed there, or at all: if what is first in line has failed, then
    /// something else before it, so that it shows who is to blame.
    fn witness(&self, bank: usize, first: Key) -> (usize, Key) {
        let blamed_at = |key: &Key| self.seats.blamed_at(key);
        if blamed_at(&first).is_none() {
            return (bank, first);
        }
        let least = self
            .lines()
            .into_iter()
            .filter_map(|(bank, line)| Some((bank, line.least_blamed(blamed_at)?)));
        let witness = least.min_by_key(|(_, (key, _))| (blamed_at(key), *key));
        // One that may end the process waits until it has that to itself.
        match witness {
            Some((bank, (key, work))) if !work.past.is_suspect() => (bank, key.clone()),
            _ => (bank, first),
        }
    }

    fn lines(&self) -> [(usize, &Queue); 2] {
        [(SCORING_BANK, &self.answers), (NARRATIVE_BANK, &self.narratives)]
    }

    fn assign(&mut self, engine: usize, to: &Recipient<Assign>, mut work: Work, alone: bool) {
        let has_process = work.past.is_suspect();
        work.attempts += 1;
        work.place = None;
        work.alone = alone;
        work.row = self
            .in_flight
            .begin(&work.case.life, &work.task, work.past, has_process);
        self.last_job.0 += 1;
        to.do_send(Assign {
            job: self.last_job,
            case: Arc::clone(&work.case),
            interview: Arc::clone(&work.interview),
            task: work.task.clone(),
            alone,
            trail: work.row.as_ref().filter(|_| has_process).map(Row::trail),
        });
        self.seats.assign(engine, self.last_job, work);
        CrashPoint::WorkAssigned.reached();
    }

    fn queue(&mut self, bank: usize) -> &mut Queue {
        match bank {
            SCORING_BANK => &mut self.answers,
            _ => &mut self.narratives,
        }
    }

    /// After work has ended: its slot may serve another, or nothing runs any more.
    fn went_on(&mut self, context: &mut Context<Self>) {
        self.reconcile(context);
        if self.seats.is_idle() {
            self.until_idle.clear(); // whoever waits is answered by the end of the channel
        }
    }
}

impl Actor for GpuPool {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1_024);
        context.run_interval(WEIGHED_EVERY, |_, context| context.notify(Weigh));
    }
}

impl Handler<Adopt> for GpuPool {
    type Result = ();

    fn handle(&mut self, adopt: Adopt, context: &mut Self::Context) {
        self.seats.adopt(adopt.actors);
        self.setup = Some(adopt.setup);
        self.attempts_max = adopt.attempts_max;
        CrashPoint::ModelAdopted.reached();
        self.reconcile(context);
    }
}

impl Handler<SetAttempts> for GpuPool {
    type Result = ();

    fn handle(&mut self, SetAttempts(attempts_max): SetAttempts, _: &mut Self::Context) {
        self.attempts_max = attempts_max;
    }
}

impl Handler<Remember> for GpuPool {
    type Result = ();

    fn handle(&mut self, Remember(path): Remember, _: &mut Self::Context) {
        if self.in_flight.is_open() {
            return;
        }
        match InFlight::open(&path) {
            Ok(opened) => self.in_flight.take_over(opened),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "what engines run cannot be noted: work that ends the process would not be found out");
            }
        }
    }
}

impl Handler<AnswerScorer> for GpuPool {
    type Result = ();

    fn handle(&mut self, asked: AnswerScorer, _: &mut Self::Context) {
        let AnswerScorer {
            case,
            interview,
            index,
            queued_at,
            place,
        } = asked;
        let task = Task::Answer { index };
        self.admit(Work::new(case, interview, task, queued_at, place));
    }
}

impl Handler<WriteNarrative> for GpuPool {
    type Result = ();

    fn handle(&mut self, asked: WriteNarrative, _: &mut Self::Context) {
        let task = Task::Narrative {
            outcomes: asked.outcomes,
        };
        self.admit(Work::new(asked.case, asked.interview, task, Instant::now(), None));
        CrashPoint::NarrativeQueued.reached();
    }
}

impl Handler<EngineUp> for GpuPool {
    type Result = ();

    fn handle(&mut self, up: EngineUp, context: &mut Self::Context) {
        let device = self.seats.up(up.actor);
        // Before it is given work: if the plan was wrong, it goes again.
        if let (Some(device), Some(held)) = (device, up.held) {
            memory::weigh(&mut self.seats, &self.doors, &device, held);
        }
        CrashPoint::EngineUp.reached();
        self.reconcile(context);
    }
}

impl Handler<EngineLate> for GpuPool {
    type Result = ();

    fn handle(&mut self, late: EngineLate, _: &mut Self::Context) {
        self.seats.comes_late(late.actor, &late.reason);
    }
}

impl Handler<EngineDown> for GpuPool {
    type Result = ();

    fn handle(&mut self, down: EngineDown, context: &mut Self::Context) {
        let EngineDown {
            actor: id,
            outage,
            is_stuck,
        } = down;
        if self.seats.came_back(id) {
            tracing::info!(engine = id, "an engine that was given up has come back and has ended");
            return self.went_on(context);
        }
        self.doors.remove(&id);
        if let Some(death) = self.seats.died(id, &outage, is_stuck, self.last_job) {
            tracing::error!(engine = id, reason = outage.reason, "an engine went down");
            let in_a_row = death.in_a_row;
            self.bury(death, outage);
            if let Some(in_a_row) = in_a_row {
                self.mourn(id, in_a_row, context);
            }
        }
        self.went_on(context);
    }
}

impl Handler<Ended> for GpuPool {
    type Result = ();

    fn handle(&mut self, ended: Ended, context: &mut Self::Context) {
        let Ended { job, result, moments } = ended;
        match result {
            Ok(written) => {
                let guilty = self.seats.prove_sound(job);
                let Some((work, making)) = self.seats.take(job) else {
                    return; // nobody waits for it any more
                };
                self.outlets.written(work, written, moments, &making);
                self.convict(&guilty);
            }
            Err(undone) => {
                let toll = self.toll(job, &undone);
                let Some((work, _)) = self.seats.take(job) else {
                    return;
                };
                let reason = undone.reason.clone();
                self.failed(work, undone, moments, &toll);
                if let Toll::Forgiven(sick) = toll {
                    self.replace(sick, &reason, context);
                }
            }
        }
        self.went_on(context);
    }
}

impl Handler<Abandon> for GpuPool {
    type Result = ();

    fn handle(&mut self, Abandon { life }: Abandon, context: &mut Self::Context) {
        self.answers.remove(&life);
        self.narratives.remove(&life);
        CrashPoint::WorkForgotten.reached();
        for (id, job) in self.seats.forget(&life) {
            if let Some(doors) = self.doors.get(&id) {
                doors.forget.do_send(Forget(job));
            }
        }
        self.went_on(context);
    }
}

impl Handler<Drain> for GpuPool {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, context: &mut Self::Context) -> Self::Result {
        self.paused = true;
        self.in_flight.close();
        let (idle, waiting) = oneshot::channel();
        self.until_idle.push(idle);
        self.went_on(context);
        Box::pin(async move {
            let _ = waiting.await; // the end of the channel is the answer
        })
    }
}

impl Handler<Release> for GpuPool {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Release, context: &mut Self::Context) -> Self::Result {
        self.paused = true;
        self.in_flight.close();
        self.setup = None;
        self.seats.dismiss();
        let mut gone = Vec::new();
        for step in self.seats.retirements(|_| true) {
            let Step::Retire { id } = step else { continue };
            let loaded = self
                .seats
                .leaving()
                .iter()
                .any(|member| member.id == id && member.ready);
            match self.doors.remove(&id) {
                Some(doors) if loaded => gone.push(doors.retire.send(Retire)),
                Some(doors) => doors.retire.do_send(Retire), // loading can take long and cannot be interrupted
                None => {}
            }
            self.seats.left(id);
        }
        self.went_on(context);
        Box::pin(async move {
            for left in gone {
                let _ = left.await; // one that is gone has stopped
            }
        })
    }
}

impl Handler<Describe> for GpuPool {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> Self::Result {
        MessageResult(describe(&self.seats, &self.doors, &self.answers, self.epoch))
    }
}

impl Handler<DescribeLife> for GpuPool {
    type Result = Vec<Standing>;

    fn handle(&mut self, DescribeLife(life): DescribeLife, _: &mut Self::Context) -> Self::Result {
        standings(&self.seats, &self.answers, &life)
    }
}
