//! The bridge between interviews and the engine: an answer becomes a prompt and a grammar, what is written becomes scores. Its contract is
//! `models/prompts/README.md`; begin reading at [`scorer`].

#[cfg(test)]
mod adversaries;
mod checks;
pub mod constants;
pub mod constraint;
pub mod digest;
pub mod encoder;
pub mod error;
#[cfg(test)]
mod limits;
pub mod outline;
pub mod prompt;
pub mod reading;
pub mod scorer;
pub mod templates;
#[cfg(test)]
mod tests;
pub mod vocabulary;

pub use constants::{NARRATIVE_BANK, SCORING_BANK, banks, prompt_provenance};
pub use error::ScoringError;
pub use reading::{AnswerReading, NarrativeReading};
pub use scorer::{PreparedAnswer, PreparedNarrative, Scorer};
