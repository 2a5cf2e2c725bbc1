//! The bridge between interviews and the engine: prompts as token ids. Its contract is `models/prompts/README.md`.

pub mod constants;
pub mod encoder;
pub mod prompt;
pub mod templates;
