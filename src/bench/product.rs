//! The product's own work: the bundled interview through the product's prompts and grammars, and its narrative from the scores that came out.

use std::sync::Arc;

use super::constraints::Stepwise;
use super::drive::Work;
use super::error::BenchError;
use crate::domain::ids::InterviewId;
use crate::domain::interview::{Draft, Interview, Limits, Opening};
use crate::domain::outcome::{Outcome, Timing, Verdict};
use crate::domain::rubric::Rubric;
use crate::engine::job::Output;
use crate::runtime::demo_model;
use crate::scoring::{AnswerReading, NARRATIVE_BANK, SCORING_BANK, Scorer, ScoringError};

/// The interview with all that it takes to score it.
pub struct Product {
    scorer: Arc<Scorer>,
    rubric: Arc<Rubric>,
    interview: Interview,
}

impl Product {
    /// The first `answers` of the bundled interview.
    pub fn new(scorer: Arc<Scorer>, rubric: Arc<Rubric>, answers: usize) -> Result<Self, BenchError> {
        let mut draft: Draft =
            serde_json::from_str(demo_model::INTERVIEW).expect("it is compiled in and a test reads it");
        draft.answers.truncate(answers);
        let id = InterviewId::parse("bench").expect("it is an id");
        let interview = Interview::new(draft, id, Opening::Whole, &rubric, &Limits::default())?;
        Ok(Self {
            scorer,
            rubric,
            interview,
        })
    }

    /// How many answers there are.
    pub fn count(&self) -> usize {
        self.interview.answers().len()
    }

    /// The work of an answer, by its place in the interview, and how to read what is written. `stepwise`: forced tokens are decoded one by one.
    pub fn answer(&self, index: usize, stepwise: bool, vocabulary: usize) -> Result<(Work, AnswerReading), BenchError> {
        let made = self.scorer.answer(&self.interview, index, &self.rubric)?;
        let constraint = match stepwise {
            true => Box::new(Stepwise::new(made.constraint, vocabulary)),
            false => made.constraint,
        };
        let work = Work {
            name: self.interview.answers()[index].id.to_string(),
            bank: SCORING_BANK,
            prompt: made.prompt,
            constraint,
            output_max: made.output_max,
        };
        Ok((work, made.reading))
    }

    /// The narrative on what was written about the answers.
    pub fn narrative(&self, readings: &[AnswerReading], outputs: &[Output]) -> Result<Work, BenchError> {
        let outcomes = readings
            .iter()
            .zip(outputs)
            .map(|(reading, output)| outcome(reading, output));
        let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
        let made = self.scorer.narrative(&self.interview, &outcomes, &self.rubric)?;
        Ok(Work {
            name: "the narrative".to_owned(),
            bank: NARRATIVE_BANK,
            prompt: made.prompt,
            constraint: made.constraint,
            output_max: made.output_max,
        })
    }
}

fn outcome(reading: &AnswerReading, output: &Output) -> Result<Outcome, ScoringError> {
    let (criteria, feedback) = reading.read(output)?;
    Ok(Outcome {
        verdict: Verdict::Scored { criteria, feedback },
        flags: Vec::new(),
        judged_code_points: reading.judged_code_points(),
        timing: Timing::default(),
        model_hash: None,
    })
}
