//! The thread that owns an engine: drains its inbox between steps, sleeps only when there is nothing to do, and never takes the process with it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::in_flight::{Place, Trail};
use super::memory::{Allowance, Meter};
use super::message::Outage;
use super::rehearsal::rehearse;
use super::seats::Newcomer;
use super::watch::Pulse;
use crate::crash_points::CrashPoint;
use crate::domain::privacy::words_of;
use crate::engine::job::{Failure, Job, JobEvent, JobId, Output};
use crate::engine::model::{Model, ModelError, SlotId};
use crate::engine::{Engine, Options, Phase, SlotView};
use crate::scoring::SCORING_BANK;
use crate::telemetry::{Counters, Rate};

/// One engine of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// As in `cuda:0`.
    pub device: String,
    pub device_index: u32,
    /// Most that ONNX Runtime may use of a card.
    pub memory_bytes: u64,
    /// Answers that it scores at a time.
    pub slots: usize,
    /// Of these, what the narrative's slot lies over: none of them begins while a narrative waits or is written. 0 where that has memory of its own.
    pub narrative_takes: usize,
    pub allowance: Allowance,
}

/// Makes the model of an engine; asked again after the engine died.
pub trait ModelFactory: Send + Sync {
    fn build(&self, planned: &Planned) -> Result<Box<dyn Model>, Outage>;
}

/// What the thread is told.
pub enum Command {
    Run {
        job: Box<Job>,
        /// Where to note at which step it is.
        trail: Option<Trail>,
    },
    Cancel(JobId),
    /// Another number of slots for answers. `done` is told once it has them, and dropped if it cannot.
    Resize {
        slots: usize,
        done: oneshot::Sender<()>,
    },
    Stop,
}

/// engine thread → GpuActor: what happened, and when.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EngineEvent {
    pub at: Instant,
    pub what: What,
}

pub enum What {
    Up {
        /// Bytes of the device that the process holds, if that can be read.
        held: Option<u64>,
    },
    Admitted(JobId),
    Prefilled(JobId),
    Ended(JobId, Result<Output, Failure>),
    /// The thread has ended, as it was told to.
    Stopped,
    /// The thread has ended; nothing that it had will come back.
    Down(Outage),
}

/// What can be read of an engine from outside while it works.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<Reading>);

#[derive(Debug, Default)]
pub struct Reading {
    pub slots: Vec<SlotView>,
    /// Slots that were ever used.
    pub touched: BTreeSet<SlotId>,
    pub steps: u64,
    pub rate: Rate,
}

impl Gauge {
    pub fn read(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread is made of.
pub struct Plan {
    pub newcomer: Newcomer,
    pub factory: Arc<dyn ModelFactory>,
    pub meter: Meter,
    pub options: Options,
    pub gauge: Arc<Gauge>,
    pub pulse: Arc<Pulse>,
    pub counters: Arc<Counters>,
    /// When the process began; rates count from here.
    pub epoch: Instant,
}

/// An engine's thread, as its actor has it.
pub struct Thread {
    pub commands: Sender<Command>,
    /// `None` in a simulation, which has no threads.
    pub handle: Option<JoinHandle<()>>,
}

/// Starts the thread; it loads its model first.
pub fn spawn(plan: Plan, events: Recipient<EngineEvent>) -> std::io::Result<Thread> {
    let name = format!("engine-{}", plan.newcomer.id);
    let (commands, mut worker) = Worker::new(plan, events);
    let thread = std::thread::Builder::new().name(name);
    let handle = thread.spawn(move || while worker.turn(Idle::Waits) {})?;
    Ok(Thread {
        commands,
        handle: Some(handle),
    })
}

/// What a worker does that has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// For a command.
    Waits,
    Returns,
}

/// What the thread does, turn by turn.
pub struct Worker {
    plan: Plan,
    inbox: Receiver<Command>,
    events: Recipient<EngineEvent>,
    /// There once the model is loaded.
    engine: Option<Engine>,
    happened: Vec<JobEvent>,
    /// The job that may end the process.
    followed: Option<(JobId, Trail)>,
    /// Who is told once there are the slots that were asked for.
    resizing: Vec<oneshot::Sender<()>>,
}

impl Worker {
    /// Gives where it takes its commands too.
    pub fn new(plan: Plan, events: Recipient<EngineEvent>) -> (Sender<Command>, Self) {
        let (commands, inbox) = channel();
        let worker = Self {
            plan,
            inbox,
            events,
            engine: None,
            happened: Vec::new(),
            followed: None,
            resizing: Vec::new(),
        };
        (commands, worker)
    }

    /// Whether it has its model.
    pub fn is_loaded(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether its engine has something to do.
    pub fn is_at_work(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| !engine.is_idle())
    }

    /// Loads the model, obeys a command or takes a step. `false`: there is nothing more to come.
    pub fn turn(&mut self, idle: Idle) -> bool {
        // A panic below is this engine's death and nobody else's: whatever it touched is dropped with it.
        let end = match catch_unwind(AssertUnwindSafe(|| self.go_on(idle))) {
            Ok(Ok(ControlFlow::Continue(()))) => return true,
            Ok(Ok(ControlFlow::Break(()))) => What::Stopped,
            Ok(Err(outage)) => What::Down(outage),
            Err(panic) => What::Down(format!("the engine panicked: {}", words_of(&*panic)).into()),
        };
        self.resizing.clear();
        // Its memory is free when that is told.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.engine.take())));
        self.plan.gauge.read().slots.clear();
        self.tell(end);
        false
    }

    fn go_on(&mut self, idle: Idle) -> Result<ControlFlow<()>, Outage> {
        let Some(engine) = &mut self.engine else {
            self.load()?;
            return Ok(ControlFlow::Continue(()));
        };
        match hear(&self.plan.pulse, &self.inbox, !engine.is_idle(), idle) {
            Ok(Command::Run { job, trail }) => {
                if let Some(trail) = trail {
                    // Then it takes the same steps as in the process before, whatever ran since.
                    engine.forget_prefixes();
                    self.followed = Some((job.id, trail));
                }
                engine.submit(*job);
            }
            Ok(Command::Cancel(id)) => {
                engine.cancel(id);
                self.followed.take_if(|(job, _)| *job == id);
            }
            Ok(Command::Resize { slots, done }) => {
                resized(engine.resize(SCORING_BANK, slots))?;
                self.resizing.push(done);
            }
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(ControlFlow::Break(())),
            Err(TryRecvError::Empty) if engine.is_idle() => {}
            Err(TryRecvError::Empty) => {
                self.step()?;
            }
        }
        // It waits for the slots' last sequences to end.
        if self.engine.as_ref().is_some_and(|engine| !engine.is_resizing()) {
            for done in self.resizing.drain(..) {
                let _ = done.send(()); // whoever asked may have gone
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn load(&mut self) -> Result<(), Outage> {
        let Newcomer { plan, rehearses, .. } = &self.plan.newcomer;
        let model = self.plan.factory.build(plan)?;
        let mut engine = Engine::new(model, self.plan.options);
        self.plan.pulse.attach(&engine);
        if *rehearses {
            self.plan.pulse.set_busy(true);
            rehearse(&mut engine, self.plan.options.chunk_tokens)?;
        }
        self.engine = Some(engine);
        self.tell(What::Up {
            held: (self.plan.meter)(&self.plan.newcomer.plan.device).map(|held| held.bytes),
        });
        Ok(())
    }

    fn step(&mut self) -> Result<(), Outage> {
        let Self {
            plan,
            engine,
            happened,
            followed,
            ..
        } = self;
        let Some(engine) = engine else { return Ok(()) };
        let suspect = followed.as_ref().map(|(job, trail)| (*job, trail));
        if let Some((job, trail)) = suspect {
            trail.mark(place_of(job, &plan.gauge.read().slots));
        }
        let report = engine.step(happened);
        if let Some((_, trail)) = suspect {
            trail.mark(Place::Between);
        }
        if let Some(done) = report.resized {
            resized(done.outcome)?;
        }
        {
            let mut reading = plan.gauge.read();
            let reading = &mut *reading;
            engine.snapshot(&mut reading.slots);
            let busy = reading.slots.iter().filter(|view| view.job.is_some());
            reading.touched.extend(busy.map(|view| view.slot));
            reading.steps += 1;
            reading
                .rate
                .record(millis_since(plan.epoch), report.output_tokens as u64);
        }
        let read = report.prompt_tokens + report.reused_tokens;
        plan.counters.tokens(read as u64, report.output_tokens as u64);
        let ends = |event: &JobEvent, job: JobId| matches!(event, JobEvent::Ended(id, _) if *id == job);
        followed.take_if(|(job, _)| happened.iter().any(|event| ends(event, *job)));
        CrashPoint::EngineStepped.reached();
        let mut happened = std::mem::take(happened);
        for event in happened.drain(..) {
            self.tell(match event {
                JobEvent::Admitted(id) => What::Admitted(id),
                JobEvent::Prefilled(id) => What::Prefilled(id),
                JobEvent::Ended(id, result) => What::Ended(id, result),
            });
        }
        self.happened = happened;
        Ok(())
    }

    fn tell(&self, what: What) {
        self.events.do_send(EngineEvent {
            at: Instant::now(),
            what,
        });
    }
}

/// At which step a job is, as the slots show it.
fn place_of(job: JobId, slots: &[SlotView]) -> Place {
    let view = slots.iter().find(|view| view.job == Some(job));
    let tokens = |view: &SlotView| u32::try_from(view.tokens_done).unwrap_or(u32::MAX);
    match view {
        Some(view) if view.phase == Phase::Decode => Place::Writing(tokens(view)),
        Some(view) => Place::Reading(tokens(view)),
        None => Place::Reading(0), // it has no slot before its first step
    }
}

/// What is to be done next. `Empty`: the work that there is, if there is any.
fn hear(pulse: &Pulse, inbox: &Receiver<Command>, has_work: bool, idle: Idle) -> Result<Command, TryRecvError> {
    if has_work {
        return inbox.try_recv();
    }
    pulse.set_busy(false);
    let command = match idle {
        Idle::Waits => inbox.recv().map_err(|_| TryRecvError::Disconnected),
        Idle::Returns => inbox.try_recv(),
    };
    pulse.set_busy(!matches!(command, Err(TryRecvError::Empty)));
    command
}

/// After the slots for answers are others, or are gone.
fn resized(outcome: Result<(), ModelError>) -> Result<(), Outage> {
    outcome.map_err(|error| Outage {
        out_of_memory: matches!(error, ModelError::OutOfMemory { .. }),
        reason: format!("the slots could not be resized: {error}"),
    })
}

/// Milliseconds from `epoch` to now.
pub fn millis_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}
