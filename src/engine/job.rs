//! What goes into the engine and what comes out: a prompt with its grammar, and the tokens written or why there are none.

use super::TokenId;
use super::constraint::{Constraint, ConstraintError};
use super::model::ModelError;

/// A key that the engine's user chooses; unique among the jobs in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct JobId(pub u64);

/// One output to be written.
pub struct Job {
    pub id: JobId,
    /// Which bank's slots it may have.
    pub bank: usize,
    /// At least 2 tokens.
    pub prompt: Vec<TokenId>,
    pub constraint: Box<dyn Constraint>,
    /// Most tokens that may be written, forced ones included. With the prompt they must fit the bank's context.
    pub output_max: usize,
    /// Whether it must run with nothing beside it, in any bank: it may be what killed an engine.
    pub alone: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// Forced ones included.
    pub tokens: Vec<TokenId>,
    /// One for each `Weigh` step, in order.
    pub distributions: Vec<Distribution>,
    /// Prompt tokens whose key/values were copied from another slot or still there.
    pub reused: usize,
    /// Of `tokens`, how many were forced.
    pub forced: usize,
}

/// The allowed tokens of one step with their probabilities, which sum to 1 over them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Distribution(pub Vec<(TokenId, f64)>);

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("the model's logits are not finite numbers")]
    NotFinite,
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    #[error("{tokens} tokens of prompt and output do not fit a slot of {context}")]
    TooLong { tokens: usize, context: usize },
    #[error("the output did not end within its {0} tokens")]
    Endless(usize),
    #[error("the job cannot be run: {0}")]
    Unfit(String),
}

/// What can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It may go well another time.
    Retry,
    /// It will fail the same way every time.
    Fail,
}

impl Failure {
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Model(ModelError::OutOfMemory { .. } | ModelError::Terminated | ModelError::Failed(_)) => {
                Disposition::Retry
            }
            Self::NotFinite => Disposition::Retry,
            Self::Constraint(_) | Self::TooLong { .. } | Self::Endless(_) | Self::Unfit(_) => Disposition::Fail,
        }
    }
}

/// What happened to a job in a step.
#[derive(Debug)]
pub enum JobEvent {
    /// It has a slot.
    Admitted(JobId),
    /// The first token of its output was chosen or forced: its prompt is through the model.
    Prefilled(JobId),
    Ended(JobId, Result<Output, Failure>),
}
