//! GpuActor: the face of one engine thread. Turns assignments into prompts, and what the engine wrote into verdicts.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Instant;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseActFuture,
    ResponseFuture, WrapFuture,
};
use tokio::sync::oneshot;
use tracing::Span;

use super::engine_thread::{self, Command, EngineEvent, Gauge, What, text_of};
use super::message::{Assign, Ended, EngineDown, EngineUp, Moments, Outage, Task, Undone, Written};
use super::pool::{EngineDoors, StartEngine};
use crate::crash_points::CrashPoint;
use crate::engine::job::{Disposition, Failure, Job, JobId, Output};
use crate::engine::model::ModelError;
use crate::scoring::{AnswerReading, NARRATIVE_BANK, NarrativeReading, SCORING_BANK, Scorer};
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

/// Whom a GpuActor tells what happened.
#[derive(Clone)]
pub struct Pool {
    pub up: Recipient<EngineUp>,
    pub down: Recipient<EngineDown>,
    pub ended: Recipient<Ended>,
}

/// One engine.
pub struct GpuActor {
    id: usize,
    scorer: Arc<Scorer>,
    pool: Pool,
    thread: Option<engine_thread::Plan>,
    commands: Option<(Sender<Command>, JoinHandle<()>)>,
    jobs: HashMap<JobId, Held>,
}

/// An assignment on its way.
struct Held {
    /// `None` while its prompt is being made.
    reading: Option<Reading>,
    tokens_in: usize,
    admitted_at: Option<Instant>,
    prefilled_at: Option<Instant>,
    /// Whose work it is: in it stands whatever is logged of it.
    span: Span,
}

enum Reading {
    Answer(AnswerReading),
    Narrative(NarrativeReading),
}

impl GpuActor {
    /// `id` is the pool's; `thread` says what the engine is made of.
    pub fn new(id: usize, scorer: Arc<Scorer>, pool: Pool, thread: engine_thread::Plan) -> Self {
        Self {
            id,
            scorer,
            pool,
            thread: Some(thread),
            commands: None,
            jobs: HashMap::new(),
        }
    }

    fn command(&self, command: Command) {
        // An engine that is gone says so itself, by `Down`.
        if let Some((commands, _)) = &self.commands {
            let _ = commands.send(command);
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
            (Ok(output), Some(reading)) => catch_unwind(AssertUnwindSafe(|| reading.read(&output, held.tokens_in)))
                .unwrap_or_else(|panic| Err(Undone::for_good(format!("reading it failed: {}", text_of(&*panic))))),
            (Ok(_), None) => Err(Undone::for_good("the engine ended a job that it was not given")),
            (Err(failure), _) => Err(Undone {
                disposition: failure.disposition(),
                out_of_memory: matches!(failure, Failure::Model(ModelError::OutOfMemory { .. })),
                reason: failure.to_string(),
            }),
        };
        self.end(job, held, at, written);
    }

    fn down(&mut self, outage: Outage, context: &mut Context<Self>) {
        self.jobs.clear();
        self.pool.down.do_send(EngineDown { actor: self.id, outage });
        context.stop();
    }
}

/// How the pool starts its engines: an actor each, counting into `counters`; rates count from `epoch`.
pub fn start_engine(counters: Arc<Counters>, epoch: Instant) -> StartEngine {
    Box::new(move |id, planned, setup, pool| {
        let gauge = Arc::new(Gauge::default());
        let thread = engine_thread::Plan {
            id,
            planned: planned.clone(),
            factory: Arc::clone(&setup.factory),
            meter: Arc::clone(&setup.meter),
            options: setup.options,
            gauge: Arc::clone(&gauge),
            counters: Arc::clone(&counters),
            epoch,
        };
        let actor = GpuActor::new(id, Arc::clone(&setup.scorer), pool, thread).start();
        EngineDoors {
            assign: actor.clone().recipient(),
            forget: actor.clone().recipient(),
            set_slots: actor.clone().recipient(),
            retire: actor.recipient(),
            gauge,
        }
    })
}

impl Undone {
    fn for_good(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            disposition: Disposition::Fail,
            out_of_memory: false,
        }
    }
}

impl Reading {
    fn read(&self, output: &Output, tokens_in: usize) -> Result<Written, Undone> {
        let tokens_out = output.tokens.len();
        Ok(match self {
            Self::Answer(reading) => {
                let (criteria, feedback) = reading.read(output).map_err(Undone::for_good)?;
                Written::Answer {
                    criteria,
                    feedback,
                    judged_code_points: reading.judged_code_points(),
                    tokens_in,
                    tokens_out,
                }
            }
            Self::Narrative(reading) => Written::Narrative {
                narrative: reading.read(output).map_err(Undone::for_good)?,
                tokens_in,
                tokens_out,
            },
        })
    }
}

impl Actor for GpuActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let Some(plan) = self.thread.take() else { return };
        match engine_thread::spawn(plan, context.address().recipient()) {
            Ok(thread) => self.commands = Some(thread),
            Err(error) => {
                let reason = format!("no thread could be started for the engine: {error}");
                self.down(reason.into(), context);
            }
        }
    }
}

impl Handler<Assign> for GpuActor {
    type Result = ();

    fn handle(&mut self, assign: Assign, context: &mut Self::Context) {
        let held = Held {
            reading: None,
            tokens_in: 0,
            admitted_at: None,
            prefilled_at: None,
            span: span_of(&assign),
        };
        let (job, scorer, span) = (assign.job, Arc::clone(&self.scorer), held.span.clone());
        self.jobs.insert(job, held);
        // Rendering, tokenising and compiling the grammar take milliseconds: beside the decoding, not between its steps.
        let prepared = tokio::task::spawn_blocking(move || span.in_scope(|| prepare(&scorer, assign)));
        context.spawn(prepared.into_actor(self).map(move |prepared, actor, _| {
            // The words of a panic may quote the answer; its place is in the log.
            let prepared =
                prepared.unwrap_or_else(|_| Err(Undone::for_good("the prompt could not be made: making it panicked")));
            match (prepared, actor.jobs.get_mut(&job)) {
                (_, None) => {} // forgotten meanwhile
                (Ok((engine_job, reading)), Some(held)) => {
                    held.tokens_in = engine_job.prompt.len();
                    held.reading = Some(reading);
                    CrashPoint::PromptMade.reached();
                    actor.command(Command::Run(Box::new(engine_job)));
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

fn prepare(scorer: &Scorer, assign: Assign) -> Result<(Job, Reading), Undone> {
    let Assign {
        job,
        case,
        interview,
        task,
        alone,
    } = assign;
    let (bank, prompt, constraint, output_max, reading) = match task {
        Task::Answer { index } => {
            let made = scorer
                .answer(&interview, index, &case.rubric)
                .map_err(Undone::for_good)?;
            (
                SCORING_BANK,
                made.prompt,
                made.constraint,
                made.output_max,
                Reading::Answer(made.reading),
            )
        }
        Task::Narrative { outcomes } => {
            let made = scorer
                .narrative(&interview, &outcomes, &case.rubric)
                .map_err(Undone::for_good)?;
            (
                NARRATIVE_BANK,
                made.prompt,
                made.constraint,
                made.output_max,
                Reading::Narrative(made.reading),
            )
        }
    };
    tracing::debug!(tokens = prompt.len(), "the prompt is made");
    let job = Job {
        id: job,
        bank,
        prompt,
        constraint,
        output_max,
        alone,
    };
    Ok((job, reading))
}

impl Handler<EngineEvent> for GpuActor {
    type Result = ();

    fn handle(&mut self, event: EngineEvent, context: &mut Self::Context) {
        let at = event.at;
        match event.what {
            What::Up { held } => self.pool.up.do_send(EngineUp { actor: self.id, held }),
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
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Retire, _: &mut Self::Context) -> Self::Result {
        self.command(Command::Stop);
        let thread = self.commands.take().map(|(_, thread)| thread);
        let joined = tokio::task::spawn_blocking(move || thread.map(JoinHandle::join));
        Box::pin(
            joined
                .into_actor(self)
                .map(|_, _, context: &mut Context<Self>| context.stop()),
        )
    }
}
