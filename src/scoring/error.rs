//! What can go wrong between an interview and the engine; all of it would go wrong again the same way.

use std::path::PathBuf;

use crate::domain::fold::UnknownStage;
use crate::domain::ids::AnswerId;
use crate::engine::job::Disposition;

/// Why a model's folder or a rubric does not suit, an answer cannot be asked about, or what was written cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScoringError {
    #[error("{path} cannot be read")]
    Unreadable { path: PathBuf, source: tokenizers::Error },
    #[error("the tokenizer failed on a text")]
    Tokenizer(#[source] tokenizers::Error),
    #[error("the tokenizer does not suit this program: {0}")]
    Unsuitable(String),
    #[error("the template {name} cannot be rendered")]
    Template {
        name: &'static str,
        source: minijinja::Error,
    },
    #[error("{part} needs {tokens} tokens and may have {budget}; shorten the texts of the rubric")]
    OverBudget { part: String, tokens: usize, budget: usize },
    #[error("the stage {stage} of an answer is not in the rubric {rubric}")]
    UnknownStage { stage: String, rubric: String },
    #[error(transparent)]
    Fold(#[from] UnknownStage),
    #[error("the answer {answer} follows up {parent}, which the interview does not have")]
    UnknownParent { answer: AnswerId, parent: AnswerId },
    #[error("the interview has {answers} answers, there is none at {index}")]
    NoSuchAnswer { index: usize, answers: usize },
    #[error("the interview has {answers} answers but {outcomes} outcomes")]
    Outcomes { answers: usize, outcomes: usize },
    #[error("no answer has a score: there is nothing to tell")]
    NothingToTell,
    #[error("the grammar of {what} cannot be compiled: {reason}")]
    Grammar { what: &'static str, reason: String },
    #[error("what the model wrote is not the JSON that its grammar allows")]
    NotJson(#[source] serde_json::Error),
    #[error("what the model wrote cannot be read: {0}")]
    Output(String),
}

impl ScoringError {
    /// Everything here follows from texts, tokenizer and rubric alone: another attempt would end alike.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreadable { .. }
            | Self::Tokenizer(_)
            | Self::Unsuitable(_)
            | Self::Template { .. }
            | Self::OverBudget { .. }
            | Self::UnknownStage { .. }
            | Self::Fold(_)
            | Self::UnknownParent { .. }
            | Self::NoSuchAnswer { .. }
            | Self::Outcomes { .. }
            | Self::NothingToTell
            | Self::Grammar { .. }
            | Self::NotJson(_)
            | Self::Output(_) => Disposition::Fail,
        }
    }
}
