//! A model whose runs are timed and counted, as the engine sees it and as the table reads it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::TokenId;
use crate::engine::model::{DecodeRow, Model, ModelError, ModelShape, SlotId};

/// Time since any moment in the past. Tests have their own.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What a model did since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Inside prefills and decodes.
    pub inside: Duration,
    /// Copying prefixes from slot to slot, which is no part of `inside`.
    pub copying: Duration,
    pub prefills: u64,
    /// Tokens of all prefills.
    pub chunk_tokens: u64,
    pub decodes: u64,
    /// Rows of all decodes that were wanted, and that stood idle between them.
    pub rows: u64,
    pub idle_rows: u64,
}

/// Where a [`Timed`] model writes what it does.
#[derive(Clone, Default)]
pub struct Meter(Arc<Mutex<Usage>>);

/// Passes everything on to `model`.
pub struct Timed {
    model: Box<dyn Model>,
    clock: Clock,
    meter: Meter,
}

impl Meter {
    /// What was done since the last call.
    pub fn take(&self) -> Usage {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, change: impl FnOnce(&mut Usage)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Timed {
    pub fn new(model: Box<dyn Model>, clock: Clock, meter: Meter) -> Self {
        Self { model, clock, meter }
    }
}

impl Model for Timed {
    fn shape(&self) -> &ModelShape {
        self.model.shape()
    }

    fn rows_max(&self) -> usize {
        self.model.rows_max()
    }

    fn is_overlaid(&self) -> bool {
        self.model.is_overlaid()
    }

    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError> {
        let begun = (self.clock)();
        let logits = self.model.prefill(slot, past, tokens, wanted);
        let took = (self.clock)() - begun;
        self.meter.add(|usage| {
            usage.inside += took;
            usage.prefills += 1;
            usage.chunk_tokens += tokens.len() as u64;
        });
        logits
    }

    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
        let begun = (self.clock)();
        let logits = self.model.decode(bank, first, rows);
        let took = (self.clock)() - begun;
        let wanted = rows.iter().filter(|row| row.wanted).count();
        self.meter.add(|usage| {
            usage.inside += took;
            usage.decodes += 1;
            usage.rows += wanted as u64;
            usage.idle_rows += (rows.len() - wanted) as u64;
        });
        logits
    }

    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
        let begun = (self.clock)();
        let copied = self.model.copy_prefix(from, to, tokens);
        let took = (self.clock)() - begun;
        self.meter.add(|usage| usage.copying += took);
        copied
    }

    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        self.model.resize(bank, slots)
    }
}
