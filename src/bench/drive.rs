//! The ways to have work done by an engine: one by one, all at once, and as it arrives on a clock of its own.

use std::time::Duration;

use super::error::BenchError;
use super::timed::{Clock, Meter, Timed, Usage};
use crate::engine::constraint::Constraint;
use crate::engine::job::{Job, JobEvent, JobId, Output};
use crate::engine::model::{Model, ModelShape};
use crate::engine::{Engine, Options, TokenId};
use crate::scoring::SCORING_BANK;

/// One output to be written.
pub struct Work {
    /// For messages.
    pub name: String,
    pub bank: usize,
    pub prompt: Vec<TokenId>,
    pub constraint: Box<dyn Constraint>,
    pub output_max: usize,
}

/// How the works of a row are handed to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Each begins where nothing is left of the others.
    Apart,
    /// Each begins with what the others have left in the slots.
    InTurn,
    AtOnce,
    /// One after so long a time, on a clock that only the engine's steps move and that jumps over idleness.
    Arriving(Duration),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Measured {
    /// From the first submit to the last end; of arriving works: from the last arrival on.
    pub wall: Duration,
    /// Of each work, from its submit or arrival to its end.
    pub took: Vec<Duration>,
    pub outputs: Vec<Output>,
    pub prompt_tokens: u64,
    pub steps: u64,
    pub usage: Usage,
}

/// An engine on a timed model.
pub struct Rig {
    engine: Engine,
    meter: Meter,
    clock: Clock,
}

/// The works of a row under way.
struct Run<'a> {
    row: &'a str,
    ended: &'a mut dyn FnMut(usize),
    names: Vec<String>,
    outputs: Vec<Option<Output>>,
    begun: Vec<Duration>,
    took: Vec<Duration>,
    done: usize,
    /// Time by the steps alone, with the jumps of arrivals.
    now: Duration,
    steps: u64,
    events: Vec<JobEvent>,
}

impl Rig {
    pub fn new(model: Box<dyn Model>, options: Options, clock: Clock) -> Self {
        let meter = Meter::default();
        let timed = Timed::new(model, Clock::clone(&clock), meter.clone());
        Self {
            engine: Engine::new(Box::new(timed), options),
            meter,
            clock,
        }
    }

    pub fn shape(&self) -> &ModelShape {
        self.engine.shape()
    }

    /// The clock that everything is timed by.
    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    /// So many slots for answers, and nothing in any slot that could be reused.
    pub fn prepare(&mut self, slots: usize) -> Result<(), BenchError> {
        let resized = self.engine.resize(SCORING_BANK, slots);
        resized.map_err(|source| BenchError::Slots { slots, source })?;
        self.engine.forget_prefixes();
        Ok(())
    }

    /// Runs works to their ends; the first that fails ends it. `ended` is told how many are done.
    pub fn run(
        &mut self,
        row: &str,
        how: How,
        works: Vec<Work>,
        ended: &mut dyn FnMut(usize),
    ) -> Result<Measured, BenchError> {
        let count = works.len();
        let mut run = Run {
            row,
            ended,
            names: works.iter().map(|work| work.name.clone()).collect(),
            outputs: (0..count).map(|_| None).collect(),
            begun: vec![Duration::ZERO; count],
            took: vec![Duration::ZERO; count],
            done: 0,
            now: Duration::ZERO,
            steps: 0,
            events: Vec::new(),
        };
        let prompt_tokens = works.iter().map(|work| work.prompt.len() as u64).sum();
        self.meter.take();
        let mut wall = Duration::ZERO;
        match how {
            How::Apart | How::InTurn => {
                for (index, work) in works.into_iter().enumerate() {
                    if how == How::Apart {
                        self.engine.forget_prefixes();
                    }
                    let begun = (self.clock)();
                    run.submit(&mut self.engine, index, work, run.now);
                    self.exhaust(&mut run)?;
                    wall += (self.clock)() - begun;
                }
            }
            How::AtOnce => {
                let begun = (self.clock)();
                for (index, work) in works.into_iter().enumerate() {
                    run.submit(&mut self.engine, index, work, Duration::ZERO);
                }
                self.exhaust(&mut run)?;
                wall = (self.clock)() - begun;
            }
            How::Arriving(every) => {
                let mut arrivals = (0u32..).map(|index| index * every).zip(works).enumerate().peekable();
                let mut last = Duration::ZERO;
                while let Some((_, (at, _))) = arrivals.peek() {
                    last = *at;
                    if self.engine.is_idle() {
                        run.now = run.now.max(*at);
                    }
                    while let Some((index, (at, work))) = arrivals.next_if(|(_, (at, _))| *at <= run.now) {
                        run.submit(&mut self.engine, index, work, at);
                    }
                    self.step(&mut run)?;
                }
                self.exhaust(&mut run)?;
                wall = run.now - last;
            }
        }
        let usage = self.meter.take();
        run.measured(wall, prompt_tokens, usage)
    }

    fn exhaust(&mut self, run: &mut Run) -> Result<(), BenchError> {
        while !self.engine.is_idle() {
            self.step(run)?;
        }
        Ok(())
    }

    fn step(&mut self, run: &mut Run) -> Result<(), BenchError> {
        let begun = (self.clock)();
        self.engine.step(&mut run.events);
        run.now += (self.clock)() - begun;
        run.steps += 1;
        run.take_in()
    }
}

impl Run<'_> {
    /// `at`: when it came, which may be in the midst of the last step.
    fn submit(&mut self, engine: &mut Engine, index: usize, work: Work, at: Duration) {
        self.begun[index] = at;
        engine.submit(Job {
            id: JobId(index as u64),
            bank: work.bank,
            prompt: work.prompt,
            constraint: work.constraint,
            output_max: work.output_max,
            alone: false,
        });
    }

    fn take_in(&mut self) -> Result<(), BenchError> {
        for event in self.events.drain(..) {
            let JobEvent::Ended(JobId(id), result) = event else {
                continue;
            };
            let index = id as usize;
            let output = result.map_err(|source| BenchError::Answer {
                row: self.row.to_owned(),
                answer: self.names[index].clone(),
                source,
            })?;
            self.outputs[index] = Some(output);
            self.took[index] = self.now - self.begun[index];
            self.done += 1;
            (self.ended)(self.done);
        }
        Ok(())
    }

    fn measured(self, wall: Duration, prompt_tokens: u64, usage: Usage) -> Result<Measured, BenchError> {
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (output, answer) in self.outputs.into_iter().zip(self.names) {
            let row = self.row.to_owned();
            outputs.push(output.ok_or(BenchError::Lost { row, answer })?);
        }
        Ok(Measured {
            wall,
            took: self.took,
            outputs,
            prompt_tokens,
            steps: self.steps,
            usage,
        })
    }
}
