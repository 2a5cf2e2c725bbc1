//! Tokens in, tokens out: many sequences on one copy of the weights. Knows nothing of interviews.

pub mod constraint;
pub mod job;
pub mod model;

/// A token of the model's vocabulary.
pub type TokenId = u32;
