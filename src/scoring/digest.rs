//! What the narrative's prompt is told of an interview: its numbers, and of every answer the first quote and the feedback.

use crate::domain::fold::Numbers;
use crate::domain::interview::Interview;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::score::Score;

/// The numbers of an interview and what was said of its answers. Unscored answers have nothing to tell and are left out.
#[derive(Debug, Clone)]
pub struct Digest {
    pub overall: Score,
    /// In the rubric's order.
    pub areas: Vec<Option<Score>>,
    /// In the rubric's order.
    pub competencies: Vec<Option<Score>>,
    /// The scored and the gated answers, in the interview's order.
    pub answers: Vec<DigestAnswer>,
}

#[derive(Debug, Clone)]
pub struct DigestAnswer {
    /// As in the rubric, `_followup` included.
    pub stage: String,
    pub final_score: Score,
    pub told: Told,
}

/// What an answer's note is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Judged {
        /// The first one that is not null.
        quote: Option<String>,
        feedback: String,
    },
    /// The answer was gated.
    NothingSaid,
}

impl Digest {
    /// From what is stored; `outcomes` and `numbers` are in the interview's order. `None` where there is no overall score.
    pub fn of(interview: &Interview, outcomes: &[Outcome], numbers: &Numbers) -> Option<Self> {
        let rows = interview.answers().iter().zip(outcomes).zip(&numbers.answers);
        let answers = rows.filter_map(|((answer, outcome), numbers)| {
            Some(DigestAnswer {
                stage: answer.stage.clone(),
                final_score: numbers.final_score?,
                told: told(&outcome.verdict)?,
            })
        });
        Some(Self {
            overall: numbers.overall?,
            areas: numbers.areas.clone(),
            competencies: numbers.competencies.values().copied().collect(),
            answers: answers.collect(),
        })
    }
}

fn told(verdict: &Verdict) -> Option<Told> {
    match verdict {
        Verdict::Scored { criteria, feedback } => Some(Told::Judged {
            quote: criteria.iter().find_map(|c| Some(c.evidence.as_ref()?.quote.clone())),
            feedback: feedback.clone(),
        }),
        Verdict::Gated { .. } => Some(Told::NothingSaid),
        Verdict::Unscored { .. } => None,
    }
}
