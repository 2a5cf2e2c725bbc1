//! The [`Model`] that runs an exported graph in ONNX Runtime, on the processor or an NVIDIA card.

mod environment;
mod error;
mod memory;
mod probe;
mod session;
mod slots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::session::RunOptions;

use super::TokenId;
use super::model::{BankShape, DecodeRow, Model, ModelError, ModelShape, SlotId, Terminator};
pub use error::OnnxError;
pub use memory::{keep_little_freed_memory, trim_memory};
use slots::{Feed, Slots};

/// What to load and where.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// ONNX Runtime's shared library. One for the life of the process.
    pub library: PathBuf,
    /// The graph; its weights lie beside it.
    pub graph: PathBuf,
    pub provider: Provider,
    /// Each with a context that the model's rotation tables reach.
    pub banks: Vec<BankShape>,
    pub geometry: Geometry,
    /// Whether the second bank lies in the memory of the last slots of the first.
    pub overlaid: bool,
    /// Most slots that a decode may span.
    pub rows_max: usize,
    /// Whether to measure, on a processor, that the query tile holds on it: below a second for a small model, minutes for a large one.
    pub check_query_tile: bool,
}

/// The device that computes and holds the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Cpu {
        threads: usize,
    },
    Cuda {
        device: u32,
        /// Bound of ONNX Runtime's arena, which holds weights, slots and workspace.
        memory_limit_bytes: Option<u64>,
    },
}

impl Provider {
    /// The device's name in errors and status.
    fn device(self) -> String {
        match self {
            Self::Cpu { .. } => "cpu".to_owned(),
            Self::Cuda { device, .. } => format!("cuda:{device}"),
        }
    }
}

/// The sizes that `model.json` gives; the graph is held against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub layers: usize,
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Tokens, and values of a row of logits.
    pub vocabulary: usize,
    /// In tokens.
    pub query_tile: usize,
}

/// An exported graph with its slots. Keys and values have the type that the graph asks for: f32 on a processor, f16 on a card, i8 where it rounds them.
pub struct OnnxModel {
    slots: Slots,
    shape: ModelShape,
    rows_max: usize,
    run_options: Arc<RunOptions>,
    /// The last run's inputs, kept for their allocations.
    tokens: Vec<i64>,
    pasts: Vec<usize>,
    wanted: Vec<i64>,
}

impl OnnxModel {
    /// Loads ONNX Runtime if it is not loaded yet, the weights, and memory for the slots.
    pub fn load(options: OnnxOptions) -> Result<Self, OnnxError> {
        let cuda = matches!(options.provider, Provider::Cuda { .. });
        let environment = environment::environment(&options.library, cuda)?;
        let (session, element) = session::open(&environment, &options.graph, options.provider, &options.geometry)?;
        let run_options = RunOptions::new().map_err(|source| OnnxError::Session {
            graph: options.graph.clone(),
            device: options.provider.device(),
            source,
        })?;
        let mut model = Self {
            slots: Slots::new(session, element, &options)?,
            shape: ModelShape {
                vocabulary: options.geometry.vocabulary,
                query_tile: options.geometry.query_tile,
                banks: options.banks,
            },
            rows_max: options.rows_max,
            run_options: Arc::new(run_options),
            tokens: Vec::new(),
            pasts: Vec::new(),
            wanted: Vec::new(),
        };
        if options.check_query_tile {
            probe::check_query_tile(&mut model)?;
        }
        Ok(model)
    }

    /// Measures the query tile as `check_query_tile` of the options does; what the slots held is gone.
    pub fn check_query_tile(&mut self) -> Result<(), OnnxError> {
        probe::check_query_tile(self)
    }

    /// Loads ONNX Runtime, once in a process, and tells its version, for example `1.31.1`: whether a library can be used is known before any
    /// model is loaded.
    pub fn load_runtime(library: &Path, cuda: bool) -> Result<String, OnnxError> {
        environment::environment(library, cuda)?;
        Ok(environment::version().unwrap_or_default())
    }

    /// The bits of all keys and values at one position of a slot: for comparing ways to compute them. Nothing if they are on a card.
    pub fn position_bits(&self, slot: SlotId, position: usize) -> Option<Vec<u8>> {
        self.slots.position_bits(slot.bank, slot.index, position)
    }

    /// Overwrites all that a slot holds with one byte, on a processor: for showing that nothing reads what a sequence left behind.
    pub fn overwrite(&mut self, slot: SlotId, byte: u8) {
        self.slots.fill(slot.bank, slot.index, byte);
    }

    fn run(&mut self, bank: usize, first: usize) -> Result<&[f32], ModelError> {
        // A call that came too late for its run must not end this one.
        self.run_options
            .unterminate()
            .map_err(|error| ModelError::Failed(error.to_string()))?;
        let feed = Feed {
            bank,
            first,
            tokens: &self.tokens,
            pasts: &self.pasts,
            wanted: &self.wanted,
        };
        self.slots.run(&feed, &self.run_options)
    }

    /// Refuses what would end in a panic or in a row of the embedding that is not there.
    fn check(&self, bank: usize, slots: std::ops::Range<usize>, longest: usize) -> Result<(), ModelError> {
        let failed = |what: String| Err(ModelError::Failed(what));
        let Some(shape) = self.shape.banks.get(bank) else {
            return failed(format!("there is no bank {bank}"));
        };
        if slots.end > self.slots.count(bank) {
            return failed(format!(
                "bank {bank} has {} slots, not {slots:?}",
                self.slots.count(bank)
            ));
        }
        if longest > shape.context {
            return failed(format!("{longest} tokens do not fit a slot of {}", shape.context));
        }
        match self.tokens.iter().find(|token| **token >= self.shape.vocabulary as i64) {
            Some(token) => failed(format!(
                "token {token} is not in a vocabulary of {}",
                self.shape.vocabulary
            )),
            None => Ok(()),
        }
    }
}

impl Model for OnnxModel {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn rows_max(&self) -> usize {
        self.rows_max
    }

    fn is_overlaid(&self) -> bool {
        self.slots.is_overlaid()
    }

    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError> {
        self.tokens.clear();
        self.tokens.extend(tokens.iter().map(|token| i64::from(*token)));
        self.pasts.clear();
        self.pasts.push(past);
        self.wanted.clear();
        self.wanted.extend(wanted.then_some(tokens.len() as i64 - 1));
        if tokens.len() < 2 {
            return Err(ModelError::Failed(format!(
                "a chunk of {} tokens: at least 2 are needed",
                tokens.len()
            )));
        }
        self.check(
            slot.bank,
            slot.index..slot.index.saturating_add(1),
            past.saturating_add(tokens.len()),
        )?;
        self.run(slot.bank, slot.index)
    }

    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
        if rows.is_empty() {
            return Ok(&[]);
        }
        self.tokens.clear();
        self.tokens.extend(rows.iter().map(|row| i64::from(row.token)));
        self.pasts.clear();
        self.pasts.extend(rows.iter().map(|row| row.past));
        self.wanted.clear();
        self.wanted.extend(
            (0_i64..)
                .zip(rows)
                .filter(|(_, row)| row.wanted)
                .map(|(index, _)| index),
        );
        let longest = rows.iter().map(|row| row.past).max().unwrap_or(0).saturating_add(1);
        self.check(bank, first..first.saturating_add(rows.len()), longest)?;
        self.run(bank, first)
    }

    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
        if from.bank != to.bank {
            return Err(ModelError::Failed(format!(
                "a prefix cannot go from {from:?} to {to:?}: other banks have other contexts"
            )));
        }
        self.tokens.clear();
        let slots = from.index.min(to.index)..from.index.max(to.index).saturating_add(1);
        self.check(from.bank, slots, tokens)?;
        self.slots.copy_prefix(from.bank, from.index, to.index, tokens)
    }

    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        self.tokens.clear();
        self.check(bank, 0..0, 0)?;
        let result = self.slots.resize(bank, slots);
        for (index, shape) in self.shape.banks.iter_mut().enumerate() {
            shape.slots = self.slots.count(index); // more than one may have lost its memory
        }
        result
    }

    /// Takes effect at the next node of the graph.
    fn terminator(&self) -> Terminator {
        let options = Arc::clone(&self.run_options);
        Terminator::new(move || {
            // It sets a flag: the only way to fail is a null pointer.
            let _ = options.terminate();
        })
    }
}
