//! The thread that owns an engine: drains its inbox between steps, sleeps only when there is nothing to do, and never takes the process with it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::in_flight::Trail;
use super::memory::{Allowance, Meter};
use super::message::Outage;
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
        /// Where to note how far it has come.
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
    /// The pool's id of the engine.
    pub id: usize,
    pub planned: Planned,
    pub factory: Arc<dyn ModelFactory>,
    pub meter: Meter,
    pub options: Options,
    pub gauge: Arc<Gauge>,
    pub pulse: Arc<Pulse>,
    pub counters: Arc<Counters>,
    /// When the process began; rates count from here.
    pub epoch: Instant,
}

/// Starts the thread; it loads its model first.
pub fn spawn(plan: Plan, events: Recipient<EngineEvent>) -> std::io::Result<(Sender<Command>, JoinHandle<()>)> {
    let (commands, inbox) = channel();
    let name = format!("engine-{}", plan.id);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let tell = |what| {
            events.do_send(EngineEvent {
                at: Instant::now(),
                what,
            })
        };
        // A panic below is this engine's death and nobody else's: whatever it touched is dropped with it.
        let ended = catch_unwind(AssertUnwindSafe(|| live(&plan, &inbox, &tell)));
        plan.gauge.read().slots.clear();
        match ended {
            Ok(Ok(())) => tell(What::Stopped),
            Ok(Err(outage)) => tell(What::Down(outage)),
            Err(panic) => tell(What::Down(format!("the engine panicked: {}", words_of(&*panic)).into())),
        }
    })?;
    Ok((commands, thread))
}

/// Until told to stop.
fn live(plan: &Plan, inbox: &Receiver<Command>, tell: &dyn Fn(What)) -> Result<(), Outage> {
    let model = plan.factory.build(&plan.planned)?;
    let mut engine = Engine::new(model, plan.options);
    plan.pulse.attach(&engine);
    let (mut events, mut followed, mut resizing) = (Vec::new(), None, Vec::new());
    tell(What::Up {
        held: (plan.meter)(&plan.planned.device).map(|held| held.bytes),
    });
    loop {
        let command = match engine.is_idle() {
            true => wait(plan, inbox),
            false => inbox.try_recv(),
        };
        match command {
            Ok(Command::Run { job, trail }) => {
                if let Some(trail) = trail {
                    // Then it takes the same steps as in the process before, whatever ran since.
                    engine.forget_prefixes();
                    followed = Some((job.id, trail));
                }
                engine.submit(*job);
            }
            Ok(Command::Cancel(id)) => {
                engine.cancel(id);
            }
            Ok(Command::Resize { slots, done }) => {
                resized(engine.resize(SCORING_BANK, slots))?;
                resizing.push(done);
            }
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {
                step(plan, &mut engine, &mut events, tell)?;
                follow(plan, &mut followed);
            }
        }
        // It waits for the slots' last sequences to end.
        if !engine.is_resizing() {
            for done in resizing.drain(..) {
                let _ = done.send(()); // whoever asked may have gone
            }
        }
    }
}

/// Until there is something to do.
fn wait(plan: &Plan, inbox: &Receiver<Command>) -> Result<Command, TryRecvError> {
    plan.pulse.set_busy(false);
    let command = inbox.recv();
    plan.pulse.set_busy(true);
    command.map_err(|_| TryRecvError::Disconnected)
}

/// Notes how far the job has come that may end the process.
fn follow(plan: &Plan, followed: &mut Option<(JobId, Trail)>) {
    let Some((job, trail)) = followed else { return };
    let place = plan.gauge.read().slots.iter().find_map(|view| {
        let tokens = u32::try_from(view.tokens_done).unwrap_or(u32::MAX);
        (view.job == Some(*job)).then_some((u32::from(view.phase == Phase::Decode), tokens))
    });
    match place {
        Some(place) => trail.mark(place),
        None => *followed = None,
    }
}

fn step(plan: &Plan, engine: &mut Engine, events: &mut Vec<JobEvent>, tell: &dyn Fn(What)) -> Result<(), Outage> {
    let report = engine.step(events);
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
    CrashPoint::EngineStepped.reached();
    for event in events.drain(..) {
        tell(match event {
            JobEvent::Admitted(id) => What::Admitted(id),
            JobEvent::Prefilled(id) => What::Prefilled(id),
            JobEvent::Ended(id, result) => What::Ended(id, result),
        });
    }
    Ok(())
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
