//! Why there is nothing to show.

use crate::domain::interview::Refusal;
use crate::engine::job::Failure;
use crate::engine::model::ModelError;
use crate::scoring::ScoringError;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No model, no runtime, no memory, no card: in the words of whoever missed it.
    #[error("{0}")]
    Load(String),
    #[error("the bundled interview cannot be scored under this rubric")]
    Interview(#[from] Refusal),
    #[error("the prompts cannot be made with this model's tokenizer")]
    Scoring(#[from] ScoringError),
    #[error("the engine could not be given {slots} slots")]
    Slots { slots: usize, source: ModelError },
    #[error("{row}: {answer} was not written")]
    Answer {
        row: String,
        answer: String,
        source: Failure,
    },
    #[error("{row}: the engine did not end {answer}")]
    Lost { row: String, answer: String },
    #[error("the chart cannot be drawn: {0}")]
    Chart(String),
}
