//! GpuPool: the queue and the engines. Gives work to the engine with the least to do, in order of submission, and decides what a failure means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, Recipient, ResponseFuture};
use tokio::sync::oneshot;

pub use super::describe::{Busy, Describe, DescribeLife, Description, SeatState, Seated, Standing};
pub use super::endings::Outlets;
pub use super::seats::Setup;

use super::describe::{describe, standings};
use super::engine_thread::{Gauge, Planned};
use super::gpu::{Forget, Pool as Doors, Retire, SetSlots};
use super::memory;
use super::message::{
    Abandon, AnswerScorer, Assign, Ended, EngineDown, EngineUp, Moments, Outage, Task, Undone, WriteNarrative,
};
use super::queue::{Queue, Work};
use super::seats::{Death, Seats, Step, bank_of};
use crate::crash_points::CrashPoint;
use crate::engine::job::{Disposition, JobId};
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK};

/// An answer that stops the engine so often, with nothing beside it, is not run again.
const DEATHS_ALONE_MAX: u32 = 3;

/// How often it is read what engines at work hold of their devices.
const WEIGHED_EVERY: Duration = Duration::from_secs(5);

/// How long an engine that died is left alone: doubled with every death in a row.
#[derive(Debug, Clone, Copy)]
pub struct BackOff {
    pub min: Duration,
    pub max: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        }
    }
}

impl BackOff {
    /// `deaths` in a row.
    pub(super) fn after(self, deaths: u32) -> Duration {
        let doubled = 1_u32 << deaths.saturating_sub(1).min(16);
        self.min.saturating_mul(doubled).min(self.max)
    }
}

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

/// GpuPool → itself, now and then: read what the engines that work hold of their devices.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Weigh;

/// What the pool has of an engine's actor.
pub struct EngineDoors {
    pub assign: Recipient<Assign>,
    pub forget: Recipient<Forget>,
    pub set_slots: Recipient<SetSlots>,
    pub retire: Recipient<Retire>,
    pub gauge: Arc<Gauge>,
}

/// Starts the actor of an engine, given its id. A test puts another in its place.
pub type StartEngine = Box<dyn Fn(usize, &Planned, &Arc<Setup>, Doors) -> EngineDoors>;

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
    last_job: u64,
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
            last_job: 0,
            paused: false,
            weighing: false,
            until_idle: Vec::new(),
        }
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
            Step::Start { id, plan } => {
                let address = context.address();
                let pool = Doors {
                    up: address.clone().recipient(),
                    down: address.clone().recipient(),
                    ended: address.recipient(),
                };
                self.doors.insert(id, (self.start)(id, &plan, setup, pool));
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
        while let Some((bank, alone)) = self.first(full) {
            let Some(member) = self.seats.least_busy(bank, alone) else {
                if alone {
                    return;
                }
                full[bank] = true;
                continue;
            };
            let line = if bank == SCORING_BANK {
                &mut self.answers
            } else {
                &mut self.narratives
            };
            let Some(doors) = self.doors.get(&member.id) else {
                return;
            };
            let Some(mut work) = line.pop() else { return };
            work.attempts += 1;
            work.place = None;
            self.last_job += 1;
            let job = JobId(self.last_job);
            doors.assign.do_send(Assign {
                job,
                case: Arc::clone(&work.case),
                interview: Arc::clone(&work.interview),
                task: work.task.clone(),
                alone,
            });
            member.running.insert(job, work);
            CrashPoint::WorkAssigned.reached();
        }
    }

    /// What is first in line for a bank that is not full, and whether it must be alone.
    fn first(&self, full: [bool; 2]) -> Option<(usize, bool)> {
        if self.paused {
            return None;
        }
        let lines = [(SCORING_BANK, &self.answers), (NARRATIVE_BANK, &self.narratives)];
        let open = lines.into_iter().filter(|(bank, _)| !full[*bank]);
        let firsts = open.filter_map(|(bank, line)| Some((line.first()?, bank)));
        let ((_, work), bank) = firsts.min_by_key(|((key, _), _)| *key)?;
        Some((bank, work.alone))
    }

    fn queue(&mut self, bank: usize) -> &mut Queue {
        match bank {
            SCORING_BANK => &mut self.answers,
            _ => &mut self.narratives,
        }
    }

    /// `is_free`: that it failed does not count.
    fn failed(&mut self, mut work: Work, undone: Undone, moments: Moments, is_free: bool) {
        let interview = work.case.life.interview_id.as_str();
        let (answer, attempt, reason) = (work.answer_id(), work.attempts, &undone.reason);
        tracing::warn!(interview, answer, attempt, reason, "work was not done");
        if is_free {
            return self.queue(bank_of(&work.task)).push(work);
        }
        work.failures += 1;
        if undone.disposition == Disposition::Retry && work.failures < self.attempts_max {
            // The last attempt is made without company, in case the company was the trouble.
            work.alone |= work.failures + 1 >= self.attempts_max;
            self.queue(bank_of(&work.task)).push(work);
            CrashPoint::WorkPutBack.reached();
        } else {
            self.outlets.given_up(work, undone.reason, Some(moments));
        }
    }

    /// What an engine that died was given is run again, alone: a death in company counts for nobody. For slots that could not be had, no work is to
    /// blame.
    fn bury(&mut self, running: Vec<Work>, Outage { reason, out_of_memory }: Outage) {
        let was_alone = running.len() == 1;
        for mut work in running {
            if out_of_memory {
                self.queue(bank_of(&work.task)).push(work);
                continue;
            }
            work.deaths_alone += u32::from(was_alone);
            work.alone = true;
            if work.deaths_alone >= DEATHS_ALONE_MAX {
                let reason = format!(
                    "it stopped the engine {DEATHS_ALONE_MAX} times with nothing beside it; the last time: {reason}"
                );
                self.outlets.given_up(work, reason, None);
            } else {
                self.queue(bank_of(&work.task)).push(work);
            }
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
        self.answers.push(Work::new(case, interview, task, queued_at, place));
        self.dispatch();
    }
}

impl Handler<WriteNarrative> for GpuPool {
    type Result = ();

    fn handle(&mut self, asked: WriteNarrative, _: &mut Self::Context) {
        let task = Task::Narrative {
            outcomes: asked.outcomes,
        };
        let work = Work::new(asked.case, asked.interview, task, Instant::now(), None);
        self.narratives.push(work);
        CrashPoint::NarrativeQueued.reached();
        self.dispatch();
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

impl Handler<Weigh> for GpuPool {
    type Result = ();

    fn handle(&mut self, _: Weigh, context: &mut Self::Context) {
        let devices = self.seats.devices_at_work();
        let Some(setup) = self.setup.as_ref().filter(|_| !devices.is_empty() && !self.weighing) else {
            return;
        };
        self.weighing = true;
        let meter = Arc::clone(&setup.meter);
        // Asking a driver may take its time.
        let readings = tokio::task::spawn_blocking(move || {
            let own = |device: &str| meter(device).filter(|held| !held.is_guess);
            let read = |device: String| own(&device).map(|held| (device, held.bytes));
            devices.into_iter().filter_map(read).collect::<Vec<_>>()
        });
        context.spawn(wrap_future::<_, Self>(readings).map(|readings, pool, context| {
            pool.weighing = false;
            for (device, held) in readings.unwrap_or_default() {
                memory::weigh(&mut pool.seats, &pool.doors, &device, held);
            }
            pool.reconcile(context);
        }));
    }
}

impl Handler<EngineDown> for GpuPool {
    type Result = ();

    fn handle(&mut self, down: EngineDown, context: &mut Self::Context) {
        let EngineDown { actor: id, outage } = down;
        tracing::error!(engine = id, reason = outage.reason, "an engine went down");
        self.doors.remove(&id);
        if let Some(Death { running, in_a_row }) = self.seats.died(id, &outage) {
            self.bury(running, outage);
            if let Some(deaths) = in_a_row {
                context.run_later(self.back_off.after(deaths), move |pool, context| {
                    pool.seats.mourned(id);
                    pool.reconcile(context);
                });
            }
        }
        self.went_on(context);
    }
}

impl Handler<Ended> for GpuPool {
    type Result = ();

    fn handle(&mut self, ended: Ended, context: &mut Self::Context) {
        let job = ended.job;
        let out_of_memory = ended.result.as_ref().err().filter(|undone| undone.out_of_memory);
        let is_free = out_of_memory.is_some_and(|undone| self.seats.ran_out(job, &undone.reason));
        let Some((work, making)) = self.seats.take(job) else {
            return; // nobody waits for it any more
        };
        match ended.result {
            Ok(written) => self.outlets.written(work, written, ended.moments, &making),
            Err(undone) => self.failed(work, undone, ended.moments, is_free),
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
