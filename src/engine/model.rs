//! What the engine asks of a model: prefill a chunk, decode one token for many rows, copy a prefix. Slots are the model's memory.

use super::TokenId;

/// What a model is and holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelShape {
    /// Length of a row of logits.
    pub vocabulary: usize,
    /// Query tile T in tokens: a prefill chunk of length S with S mod T = 1 would change the bits of what it computes.
    pub query_tile: usize,
    /// Groups of slots of equal context.
    pub banks: Vec<BankShape>,
}

/// A group of slots. Rows of one bank decode together; a sequence never leaves its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BankShape {
    pub slots: usize,
    /// Tokens that a slot holds.
    pub context: usize,
}

/// The bank whose last slots share their memory with those of [`OVER`], if the model [is overlaid](Model::is_overlaid).
pub const UNDER: usize = 0;
/// The bank that has no memory of its own, if the model [is overlaid](Model::is_overlaid).
pub const OVER: usize = 1;

/// Slots of [`UNDER`] that the slots of [`OVER`] lie over, if the model is overlaid: all, if there are no more.
pub fn covered(banks: &[BankShape]) -> usize {
    let (Some(under), Some(over)) = (banks.get(UNDER), banks.get(OVER)) else {
        return 0;
    };
    let tokens = over.slots.saturating_mul(over.context);
    tokens.div_ceil(under.context.max(1)).min(under.slots)
}

/// A place in a model's key/value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    pub bank: usize,
    pub index: usize,
}

/// One row of a joint decode step: `token` is written at position `past` of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeRow {
    pub token: TokenId,
    pub past: usize,
    /// Whether its logits are asked for. Rows that aren't are idle: they stand in the range of slots, and what is written for them at `past` is
    /// nowhere read again.
    pub wanted: bool,
}

/// Why a model did not do what it was asked. After any of these the slots of the call hold nothing of use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("out of memory on {device}: {reason}")]
    OutOfMemory { device: String, reason: String },
    #[error("the run was ended before it was complete")]
    Terminated,
    #[error("the model failed: {0}")]
    Failed(String),
}

/// A model with its slots. One thread owns it.
pub trait Model: Send {
    fn shape(&self) -> &ModelShape;

    /// Most slots that a decode may span: with more rows its kernels would be slower than several runs.
    fn rows_max(&self) -> usize {
        usize::MAX
    }

    /// Whether the slots of the bank [`OVER`] lie in the memory of the last slots of the bank [`UNDER`]. Then only those or these may have sequences,
    /// and what is written to one is lost to the other.
    fn is_overlaid(&self) -> bool {
        false
    }

    /// Feeds `tokens` (at least 2) of one sequence, at positions `past..` of `slot`. Gives the logits of the last token (`vocabulary` long), or
    /// nothing if they are not `wanted` (the middle of a prefill).
    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError>;

    /// Feeds one token to each of the slots `first..first + rows.len()` of a bank. Gives the logits of the wanted rows, one after the other.
    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError>;

    /// Copies the first `tokens` positions of one slot to another of the same bank.
    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError>;

    /// Gives a bank another number of slots. What any slot of that bank held is gone.
    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError>;
}
