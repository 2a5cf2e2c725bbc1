//! GpuActor: the face of one engine thread. Has assignments made into prompts, and what the engine wrote read into verdicts.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, WrapFuture,
};
use tokio::sync::oneshot;
use tracing::Span;

use super::doors::{EngineDoors, PoolDoors};
use super::engine_thread::{self, Command, EngineEvent, Gauge, Thread, What};
use super::message::{Assign, Cause, Ended, EngineDown, EngineLate, EngineUp, Moments, Outage, Task, Undone, Written};
use super::pool::StartEngine;
use super::prompts::{Prepare, Prepared, Reading, beside};
use super::watch::{Deadlines, Pulse, Sight, Watch, longest_silence};
use crate::crash_points::CrashPoint;
use crate::domain::privacy::words_of;
use crate::engine::job::{Disposition, Failure, JobId, Output};
use crate::engine::model::ModelError;
use crate::scoring::Scorer;
use crate::telemetry::Counters;

/// GpuPool → GpuActor: nobody waits for this any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forget(pub JobId);

/// GpuPool → GpuActor, while no answer runs: another number of scoring slots. Answers whether it has them; if not, the engine goes down.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct SetSlots(pub usize);

/// GpuPool → GpuActor: stop, and give the memory back. Answered when it is free.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire;

/// Starts an engine's thread, which tells what happens there.
pub type Launch = Box<dyn FnOnce(Recipient<EngineEvent>) -> io::Result<Thread>>;

/// What an engine's actor works with; other things of the kind in a simulation.
pub struct Means {
    pub prepare: Prepare,
    pub launch: Launch,
    /// The thread's.
    pub pulse: Arc<Pulse>,
    pub deadlines: Arc<Deadlines>,
}

impl Means {
    /// `thread` says what the engine is made of.
    pub fn ordinary(scorer: Arc<Scorer>, thread: engine_thread::Plan, deadlines: Arc<Deadlines>) -> Self {
        Self {
            prepare: beside(scorer),
            pulse: Arc::clone(&thread.pulse),
            launch: Box::new(move |events| engine_thread::spawn(thread, events)),
            deadlines,
        }
    }
}

/// One engine.
pub struct GpuActor {
    id: usize,
    pool: PoolDoors,
    prepare: Prepare,
    launch: Option<Launch>,
    thread: Option<Thread>,
    /// In the order in which they were given.
    jobs: BTreeMap<JobId, Held>,
    pulse: Arc<Pulse>,
    watch: Watch,
    deadlines: Arc<Deadlines>,
    /// Whether the model is still being loaded, and that has not been complained of.
    may_be_late: bool,
    /// Whether the thread did not come back in time, and nobody waits for it any more.
    is_given_up: bool,
    /// Answered by the end of the channel, once the thread has ended.
    until_gone: Vec<oneshot::Sender<()>>,
}

/// An assignment on its way.
struct Held {
    /// `None` while its prompt is being made.
    reading: Option<Reading>,
    /// When it was given, as the watch counts.
    begun: Duration,
    admitted_at: Option<Instant>,
    prefilled_at: Option<Instant>,
    /// Whose work it is: in it stands whatever is logged of it.
    span: Span,
}

impl GpuActor {
    /// `id` is the pool's.
    pub fn new(id: usize, pool: PoolDoors, means: Means) -> Self {
        Self {
            id,
            pool,
            prepare: means.prepare,
            launch: Some(means.launch),
            thread: None,
            jobs: BTreeMap::new(),
            pulse: means.pulse,
            watch: Watch::new(tokio::time::Instant::now()),
            deadlines: means.deadlines,
            may_be_late: true,
            is_given_up: false,
            until_gone: Vec::new(),
        }
    }

    fn command(&self, command: Command) {
        // An engine that is gone says so itself, by `Down`.
        if let Some(thread) = &self.thread {
            let _ = thread.commands.send(command);
        }
    }

    fn end(&mut self, job: JobId, held: Held, ended_at: Instant, result: Result<Written, Undone>) {
        let moments = Moments {
            admitted_at: held.admitted_at,
            prefilled_at: held.prefilled_at,
            ended_at,
        };
        CrashPoint::WorkEnded.reached();
        self.pool.ended.do_send(Ended { job, result, moments });
    }

    fn ended(&mut self, job: JobId, at: Instant, result: Result<Output, Failure>) {
        let Some(held) = self.jobs.remove(&job) else { return };
        let _of_this = held.span.clone().entered();
        tracing::debug!(written = result.is_ok(), "the engine is done with it");
        let written = match (result, &held.reading) {
            // What a model wrote is foreign text: should reading it ever panic, that is the end of this answer and not of the actor.
            (Ok(output), Some(reading)) => catch_unwind(AssertUnwindSafe(|| reading(&output)))
                .unwrap_or_else(|panic| Err(Undone::for_good(format!("reading it failed: {}", words_of(&*panic))))),
            (Ok(_), None) => Err(Undone::for_good("the engine ended a job that it was not given")),
            (Err(failure), _) => Err(Undone {
                disposition: failure.disposition(),
                cause: match failure {
                    Failure::Model(ModelError::OutOfMemory { .. }) => Cause::Memory,
                    _ => Cause::Failure,
                },
                reason: match failure {
                    // Nobody but the watch ends runs whose outcome is waited for.
                    Failure::Model(ModelError::Terminated) => overdue(self.deadlines.step()),
                    failure => failure.to_string(),
                },
            }),
        };
        self.end(job, held, at, written);
    }

    fn down(&mut self, outage: Outage, context: &mut Context<Self>) {
        self.tell_down(outage, false);
        context.stop();
    }

    fn tell_down(&mut self, outage: Outage, is_stuck: bool) {
        self.jobs.clear();
        if !is_stuck {
            self.until_gone.clear();
        }
        self.pool.down.do_send(EngineDown {
            actor: self.id,
            outage,
            is_stuck,
        });
    }

    /// The thread has ended, as it was told to.
    fn stopped(&mut self, context: &mut Context<Self>) {
        let Some(handle) = self.thread.take().and_then(|thread| thread.handle) else {
            self.until_gone.clear();
            return context.stop();
        };
        let joined = tokio::task::spawn_blocking(move || handle.join());
        context.wait(joined.into_actor(self).map(|_, actor, context: &mut Context<Self>| {
            actor.until_gone.clear();
            context.stop();
        }));
    }

    fn look_later(&self, context: &mut Context<Self>) {
        context.run_later(Watch::pause(&self.deadlines), Self::look);
    }

    /// Looks whether the engine makes progress, and whether an answer takes too long.
    fn look(&mut self, context: &mut Context<Self>) {
        let now = tokio::time::Instant::now();
        match self.watch.look(now, &self.pulse, &self.deadlines) {
            // Said afterwards: writing to a log may take long enough for a run to move on.
            Sight::Overdue if self.watch.end_run(&self.pulse) => {
                tracing::warn!(engine = self.id, "{}", overdue(self.deadlines.step()));
            }
            Sight::Overdue | Sight::Well => {}
            Sight::Lost => return self.give_up(),
        }
        self.complain_of_loading();
        let limit = self.deadlines.answer();
        let is_late = |held: &Held| self.watch.passed().saturating_sub(held.begun) >= limit;
        let late = self.jobs.iter().filter(|(_, held)| is_late(held)).map(|(job, _)| *job);
        for job in late.collect::<Vec<_>>() {
            self.command(Command::Cancel(job));
            if let Some(held) = self.jobs.remove(&job) {
                let reason = format!("it was not done in {} (scoring.answer_timeout_s)", seconds(limit));
                let undone = Undone {
                    reason,
                    disposition: Disposition::Retry,
                    cause: Cause::Time,
                };
                self.end(job, held, Instant::now(), Err(undone));
            }
        }
        self.look_later(context);
    }

    /// What hangs while it loads a model cannot be ended: it is waited for, and that is said.
    fn complain_of_loading(&mut self) {
        let limit = self.deadlines.load();
        if !self.may_be_late || self.watch.passed() < limit {
            return;
        }
        self.may_be_late = false;
        let reason = format!(
            "the model has been loading for more than {} (twice runtime.step_timeout_s): its disk or the device may not answer; it goes on once \
             they do, and what is accepted meanwhile is held",
            seconds(limit)
        );
        tracing::error!(engine = self.id, reason, "an engine is late");
        self.pool.late.do_send(EngineLate { actor: self.id, reason });
    }

    /// The thread does not come back. It is left to itself: should it ever end its step, it finds nobody and ends, and that is told.
    fn give_up(&mut self) {
        let step = self.deadlines.step();
        let reason = format!(
            "the engine has done nothing for {} (runtime.step_timeout_s and some grace) and does not end its step when told to: its thread is \
             given up",
            seconds(longest_silence(step))
        );
        let handle = self.thread.take().and_then(|thread| thread.handle);
        let thread = handle.as_ref().and_then(|handle| handle.thread().name());
        tracing::error!(engine = self.id, thread, reason, "an engine is given up");
        self.is_given_up = true;
        self.tell_down(reason.into(), true);
    }
}

/// Why a step was ended.
fn overdue(step: Duration) -> String {
    let step = seconds(step);
    format!("a step of the engine did nothing for {step} (runtime.step_timeout_s) and was ended")
}

fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// How the pool starts its engines: an actor each, counting into `counters`; rates count from `epoch`.
pub fn start_engine(counters: Arc<Counters>, deadlines: Arc<Deadlines>, epoch: Instant) -> StartEngine {
    Box::new(move |newcomer, setup, pool| {
        let gauge = Arc::new(Gauge::default());
        let id = newcomer.id;
        let thread = engine_thread::Plan {
            newcomer,
            factory: Arc::clone(&setup.factory),
            meter: Arc::clone(&setup.meter),
            options: setup.options,
            gauge: Arc::clone(&gauge),
            pulse: Arc::default(),
            counters: Arc::clone(&counters),
            epoch,
        };
        let means = Means::ordinary(Arc::clone(&setup.scorer), thread, Arc::clone(&deadlines));
        let actor = GpuActor::new(id, pool, means).start();
        EngineDoors::of(actor, gauge)
    })
}

impl Actor for GpuActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let Some(launch) = self.launch.take() else { return };
        match launch(context.address().recipient()) {
            Ok(thread) => {
                self.thread = Some(thread);
                self.look_later(context);
            }
            Err(error) => {
                let reason = format!("no thread could be started for the engine: {error}");
                self.down(reason.into(), context);
            }
        }
    }
}

impl Handler<Assign> for GpuActor {
    type Result = ();

    fn handle(&mut self, mut assign: Assign, context: &mut Self::Context) {
        let trail = assign.trail.take();
        let held = Held {
            reading: None,
            begun: self.watch.passed(),
            admitted_at: None,
            prefilled_at: None,
            span: span_of(&assign),
        };
        let (job, span) = (assign.job, held.span.clone());
        self.jobs.insert(job, held);
        let prepared = (self.prepare)(assign, span);
        context.spawn(prepared.into_actor(self).map(move |prepared, actor, _| {
            match (prepared, actor.jobs.get_mut(&job)) {
                (_, None) => {} // forgotten meanwhile
                (Ok(Prepared { job, reading }), Some(held)) => {
                    held.reading = Some(reading);
                    CrashPoint::PromptMade.reached();
                    let job = Box::new(job);
                    actor.command(Command::Run { job, trail });
                }
                (Err(undone), Some(_)) => {
                    if let Some(held) = actor.jobs.remove(&job) {
                        actor.end(job, held, Instant::now(), Err(undone));
                    }
                }
            }
        }));
    }
}

fn span_of(assign: &Assign) -> Span {
    let interview = assign.interview.id.as_str();
    match assign.task {
        Task::Answer { index } => {
            let answer = assign.interview.answers().get(index).map(|answer| answer.id.as_str());
            tracing::info_span!("answer", interview, answer)
        }
        Task::Narrative { .. } => tracing::info_span!("narrative", interview),
    }
}

impl Handler<EngineEvent> for GpuActor {
    type Result = ();

    fn handle(&mut self, event: EngineEvent, context: &mut Self::Context) {
        let at = event.at;
        match event.what {
            What::Up { held } => {
                self.may_be_late = false;
                self.pool.up.do_send(EngineUp { actor: self.id, held });
            }
            What::Admitted(job) => {
                if let Some(held) = self.jobs.get_mut(&job) {
                    held.span.in_scope(|| tracing::debug!("it has a slot"));
                    held.admitted_at = Some(at);
                }
            }
            What::Prefilled(job) => {
                if let Some(held) = self.jobs.get_mut(&job) {
                    held.span
                        .in_scope(|| tracing::debug!("its prompt is through the model"));
                    held.prefilled_at = Some(at);
                }
            }
            What::Ended(job, result) => self.ended(job, at, result),
            What::Stopped if self.is_given_up => self.down("it has ended".to_owned().into(), context),
            What::Stopped => self.stopped(context),
            What::Down(outage) => self.down(outage, context),
        }
    }
}

impl Handler<Forget> for GpuActor {
    type Result = ();

    fn handle(&mut self, Forget(job): Forget, _: &mut Self::Context) {
        if self.jobs.remove(&job).is_some() {
            self.command(Command::Cancel(job));
        }
    }
}

impl Handler<SetSlots> for GpuActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, SetSlots(slots): SetSlots, _: &mut Self::Context) -> Self::Result {
        let (done, resized) = oneshot::channel();
        self.command(Command::Resize { slots, done });
        Box::pin(async move { resized.await.is_ok() })
    }
}

impl Handler<Retire> for GpuActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, _: &mut Self::Context) -> Self::Result {
        self.jobs.clear();
        self.command(Command::Stop);
        // Nobody waits for what still runs, so nobody waits for its step either.
        self.pulse.terminate();
        let (gone, waiting) = oneshot::channel();
        if self.thread.is_some() {
            self.until_gone.push(gone);
        }
        Box::pin(async move {
            let _ = waiting.await; // the end of the channel is the answer
        })
    }
}
