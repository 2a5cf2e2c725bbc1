//! The models of the world's engines: simulated ones, whose runs hang until the world lets them go on or somebody ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::actors::engine_thread::{ModelFactory, Planned};
use crate::actors::message::Outage;
use crate::engine::TokenId;
use crate::engine::model::{DecodeRow, Model, ModelError, ModelShape, SlotId, Terminator};
use crate::engine::simulated::{Script, Simulated};
use crate::engine::tests::{overlaid, simulated};

/// What the world and a model know of a run that hangs. It hangs before its first call: nobody outside can tell it from one that hangs at a later one.
#[derive(Default)]
pub struct Halt {
    is_terminated: AtomicBool,
    ends_run: AtomicBool,
}

impl Halt {
    /// A run begins to hang; who ended one before has not ended this one.
    pub fn begin(&self) {
        self.is_terminated.store(false, Ordering::Relaxed);
    }

    /// Whether somebody has told it to end.
    pub fn is_terminated(&self) -> bool {
        self.is_terminated.load(Ordering::Relaxed)
    }

    /// Whether the run that goes on now ends without a result.
    pub fn set_ends_run(&self, ends: bool) {
        self.ends_run.store(ends, Ordering::Relaxed);
    }

    fn pass(&self) -> Result<(), ModelError> {
        match self.ends_run.swap(false, Ordering::Relaxed) {
            true => Err(ModelError::Terminated),
            false => Ok(()),
        }
    }
}

/// How many slots for answers the narrative of a model lies over where it has no memory of its own.
pub fn covered_by(model: &str) -> usize {
    1 + model.len() % 2
}

/// What an engine's model will be.
pub struct Factory {
    /// As of [`covered_by`].
    pub covered: usize,
    pub script: Script,
    /// Why it cannot be loaded.
    pub outage: Option<Outage>,
    pub halt: Arc<Halt>,
}

impl ModelFactory for Factory {
    fn build(&self, planned: &Planned) -> Result<Box<dyn Model>, Outage> {
        if let Some(outage) = &self.outage {
            return Err(outage.clone());
        }
        let model = match planned.narrative_takes {
            0 => simulated(&[planned.slots, 1]),
            _ => overlaid(planned.slots, self.covered),
        };
        Ok(Box::new(Halting {
            model: model.with_script(self.script.clone()),
            halt: Arc::clone(&self.halt),
        }))
    }
}

struct Halting {
    model: Simulated,
    halt: Arc<Halt>,
}

impl Model for Halting {
    fn shape(&self) -> &ModelShape {
        self.model.shape()
    }

    fn is_overlaid(&self) -> bool {
        self.model.is_overlaid()
    }

    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError> {
        self.halt.pass()?;
        self.model.prefill(slot, past, tokens, wanted)
    }

    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
        self.halt.pass()?;
        self.model.decode(bank, first, rows)
    }

    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
        self.halt.pass()?;
        self.model.copy_prefix(from, to, tokens)
    }

    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        self.halt.pass()?;
        self.model.resize(bank, slots)
    }

    fn terminator(&self) -> Terminator {
        let halt = Arc::clone(&self.halt);
        Terminator::new(move || halt.is_terminated.store(true, Ordering::Relaxed))
    }
}
