//! How an answer ended, as it is stored: a verdict, what was noticed about the answer, and what it took.

use serde::{Deserialize, Serialize};

use super::fold::Judged;
use super::score::{Level, LevelSd, Score};
use super::state::AnswerState;

/// The one lasting record of an answer in a generation of its interview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub verdict: Verdict,
    pub flags: Vec<Flag>,
    /// Code points of the answer that the model saw; absent unless it was cut (flag `truncated`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_code_points: Option<usize>,
    pub timing: Timing,
    /// SHA-256 (hex) of the `model.json` of the model that judged; absent where no model did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_hash: Option<String>,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Verdict {
    /// The criteria are the area's, in the rubric's order.
    Scored {
        criteria: Vec<CriterionScore>,
        feedback: String,
    },
    /// Nothing was said: every criterion is at level 1 and no model was asked.
    Gated { criteria: Vec<CriterionScore> },
    /// No verdict could be had; never a number.
    Unscored { reason: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriterionScore {
    pub name: String,
    /// Share of the answer's 100 points.
    pub points: u32,
    pub level: Level,
    pub level_sd: LevelSd,
    /// points × (level − 1) / 4.
    pub score: Score,
    pub evidence: Option<Evidence>,
}

/// A part of the answer: `start` and `end` are offsets in Unicode code points into the answer as it was sent, `quote` is exactly that slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub quote: String,
    pub start: usize,
    pub end: usize,
}

/// What was noticed about an answer without a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Empty, or nothing but punctuation and white space.
    NoAnswer,
    /// Too long for its token budget: only its beginning was judged.
    Truncated,
    VeryShort,
    /// Says little more than that the candidate does not know.
    Refusal,
    RepeatsQuestion,
}

/// What an answer took. All 0 where no model was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// From acceptance (or the answer's arrival) to a slot.
    pub queued_ms: u64,
    pub prefill_ms: u64,
    pub decode_ms: u64,
    /// Tokens of the prompt, reused ones included.
    pub tokens_in: u64,
    /// Tokens written, forced ones included.
    pub tokens_out: u64,
    /// Runs that it took; 0 if gated.
    pub attempts: u32,
}

impl Verdict {
    /// The sum of the criteria's scores; `None` if unscored.
    pub fn score(&self) -> Option<Score> {
        match self {
            Self::Scored { criteria, .. } | Self::Gated { criteria } => {
                Some(Score::sum(criteria.iter().map(|c| c.score)))
            }
            Self::Unscored { .. } => None,
        }
    }

    pub fn state(&self) -> AnswerState {
        match self {
            Self::Scored { .. } => AnswerState::Scored,
            Self::Gated { .. } => AnswerState::Gated,
            Self::Unscored { .. } => AnswerState::Unscored,
        }
    }

    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Unscored { reason } => Some(reason),
            _ => None,
        }
    }

    /// As the fold of a report counts it.
    pub fn judged(&self) -> Judged {
        match self {
            Self::Scored { .. } => Judged::Scored(self.score().unwrap_or_default()),
            Self::Gated { .. } => Judged::Gated,
            Self::Unscored { .. } => Judged::Unscored,
        }
    }
}
