//! Tokens in, tokens out: many sequences on one copy of the weights. Knows nothing of interviews.
//!
//! Five nouns: a [`job`] waits, a sequence is a job in its slot, slots are the [`model`]'s memory, the scheduler says what one step
//! runs, and the step runs it: chunks of those that have many tokens to feed, then one token for all that are decoding.

pub mod choice;
pub mod constraint;
mod invariants;
pub mod job;
pub mod model;
pub mod onnx;
mod scheduler;
mod sequence;
pub mod simulated;
mod slots;
pub mod step;
#[cfg(test)]
pub(crate) mod tests;

pub use step::{Engine, Options, Phase, Resized, SlotView, StepReport};

/// A token of the model's vocabulary.
pub type TokenId = u32;
