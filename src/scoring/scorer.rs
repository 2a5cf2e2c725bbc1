//! The room's face: everything that an answer or a narrative needs on its way into the engine and out of it again.

use std::path::Path;
use std::sync::Arc;

use super::checks;
use super::constants::Constants;
use super::constraint::Compiler;
use super::digest::Digest;
use super::encoder::{Encoded, Encoder};
use super::error::ScoringError;
use super::outline::Outline;
use super::prompt::{Prompts, answer_at, stage_of};
use super::reading::{AnswerReading, NarrativeReading};
use super::templates::Templates;
use super::vocabulary::Vocabulary;
use crate::domain::fold::fold;
use crate::domain::interview::Interview;
use crate::domain::outcome::Outcome;
use crate::domain::rubric::Rubric;
use crate::engine::TokenId;
use crate::engine::constraint::Constraint;

/// Prompts, grammars and readings for one model. Shared by all who prepare work for it.
pub struct Scorer {
    pub(super) prompts: Prompts,
    pub(super) encoder: Arc<Encoder>,
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) compiler: Compiler,
}

/// An answer on its way to the engine, for a slot of [`SCORING_BANK`](super::constants::SCORING_BANK).
pub struct PreparedAnswer {
    pub prompt: Vec<TokenId>,
    pub constraint: Box<dyn Constraint>,
    pub output_max: usize,
    pub reading: AnswerReading,
}

/// A narrative on its way to the engine, for a slot of [`NARRATIVE_BANK`](super::constants::NARRATIVE_BANK).
pub struct PreparedNarrative {
    pub prompt: Vec<TokenId>,
    pub constraint: Box<dyn Constraint>,
    pub output_max: usize,
    pub reading: NarrativeReading,
}

impl Scorer {
    /// Reads `tokenizer.json` and the chat template of a model's folder and checks that they suit. `eos`: the tokens that end a turn; `vocabulary`:
    /// the length of a row of the model's logits. A rubric is checked by [`check_rubric`](Self::check_rubric).
    pub fn load(
        folder: &Path,
        chat_template_file: &str,
        eos: &[TokenId],
        vocabulary: usize,
    ) -> Result<Self, ScoringError> {
        Self::read(folder, chat_template_file, eos, vocabulary)?.checked(eos)
    }

    /// As [`load`](Self::load), for whoever checks one thing at a time.
    pub fn read(
        folder: &Path,
        chat_template_file: &str,
        eos: &[TokenId],
        vocabulary: usize,
    ) -> Result<Self, ScoringError> {
        let path = folder.join(chat_template_file);
        let chat_template =
            std::fs::read_to_string(&path).map_err(|e| ScoringError::Unreadable { path, source: e.into() })?;
        let encoder = Encoder::load(&folder.join("tokenizer.json"))?;
        Self::unchecked(encoder, chat_template, eos, vocabulary)
    }

    pub(super) fn unchecked(
        encoder: Encoder,
        chat_template: String,
        eos: &[TokenId],
        vocabulary: usize,
    ) -> Result<Self, ScoringError> {
        let encoder = Arc::new(encoder);
        let vocabulary = Arc::new(Vocabulary::new(&encoder, eos, vocabulary)?);
        Ok(Self {
            prompts: Prompts::new(Templates::new(chat_template)?),
            compiler: Compiler::new(Arc::clone(&vocabulary), Arc::clone(&encoder))?,
            encoder,
            vocabulary,
        })
    }

    pub(super) fn checked(self, eos: &[TokenId]) -> Result<Self, ScoringError> {
        self.check_turns(eos)?;
        self.check_answers()?;
        self.check_level()?;
        Ok(self)
    }

    /// Checks that every end of a turn and every marker of the chat template is exactly one special token.
    pub fn check_turns(&self, eos: &[TokenId]) -> Result<(), ScoringError> {
        checks::ends_of_turn(self, eos)?;
        checks::template(self)
    }

    /// Checks that each of these markers is exactly this one special token.
    pub fn check_markers(&self, markers: &[(&str, TokenId)]) -> Result<(), ScoringError> {
        checks::markers(self, markers)
    }

    /// Checks that nothing that stands in an answer becomes a control token, and that answers reach the model as they were sent.
    pub fn check_answers(&self) -> Result<(), ScoringError> {
        checks::untrusted(self)
    }

    /// Checks that forced text comes out as it went in, and ends where a level begins.
    pub fn check_level(&self) -> Result<(), ScoringError> {
        checks::literals(self)
    }

    /// Checks that a rubric's texts keep the budgets with this model's tokenizer, and that its names can stand in the grammars.
    pub fn check_rubric(&self, rubric: &Rubric) -> Result<(), ScoringError> {
        checks::rubric(self, rubric)
    }

    pub fn constants(&self) -> &Constants {
        &self.prompts.constants
    }

    /// The answer at `index` of the interview's order. It should not be one that is [gated](crate::domain::gate::gate).
    pub fn answer(&self, interview: &Interview, index: usize, rubric: &Rubric) -> Result<PreparedAnswer, ScoringError> {
        let budget = &self.constants().score;
        let segments = self.prompts.score(interview, index, rubric)?;
        let encoded = self.encoder.score(&segments, budget)?;
        let answer = answer_at(interview, index)?;
        let area = stage_of(rubric, &answer.stage)?.area;
        let judged: String = answer.text.chars().take(encoded.judged).collect();
        let grammar = self.prompts.score_grammar(area, &judged, false)?;
        let names: Vec<_> = area.criteria.iter().map(|c| c.name.as_str()).collect();
        let outline = Outline::score(&names, &budget.limits, Arc::clone(&self.encoder), &self.vocabulary);
        let constraint = self
            .compiler
            .compile("a scored answer", grammar, outline, budget.output)?;
        Ok(PreparedAnswer {
            reading: AnswerReading::new(Arc::clone(&self.vocabulary), area, &answer.text, encoded.judged),
            prompt: joined(encoded, "the prompt of an answer", budget.total() - budget.output)?,
            constraint: Box::new(constraint),
            output_max: budget.output,
        })
    }

    /// The narrative of an interview whose answers have all ended; `outcomes` are in the interview's order.
    pub fn narrative(
        &self,
        interview: &Interview,
        outcomes: &[Outcome],
        rubric: &Rubric,
    ) -> Result<PreparedNarrative, ScoringError> {
        let answers = interview.answers().len();
        if outcomes.len() != answers {
            return Err(ScoringError::Outcomes {
                answers,
                outcomes: outcomes.len(),
            });
        }
        let judged: Vec<_> = outcomes.iter().map(|outcome| outcome.verdict.judged()).collect();
        let numbers = fold(interview, &judged, rubric)?;
        let digest = Digest::of(interview, outcomes, &numbers).ok_or(ScoringError::NothingToTell)?;
        let budget = &self.constants().narrative;
        let segments = self.prompts.narrative(interview, &digest, rubric)?;
        let encoded = self.encoder.narrative(&segments, budget)?;
        let scored = numbers.competencies.into_iter().filter(|(_, score)| score.is_some());
        let competencies: Vec<_> = scored.map(|(id, _)| id).collect();
        let grammar = self.prompts.narrative_grammar(&competencies, false)?;
        let outline = self.narrative_outline(&competencies);
        let constraint = self
            .compiler
            .compile("the narrative", grammar, outline, budget.output)?;
        Ok(PreparedNarrative {
            reading: NarrativeReading {
                vocabulary: Arc::clone(&self.vocabulary),
                competencies,
            },
            prompt: joined(encoded, "the prompt of a narrative", budget.total() - budget.output)?,
            constraint: Box::new(constraint),
            output_max: budget.output,
        })
    }

    fn narrative_outline(&self, competencies: &[String]) -> Outline {
        let limits = &self.constants().narrative.limits;
        Outline::narrative(competencies, limits, Arc::clone(&self.encoder), &self.vocabulary)
    }
}

/// A prompt is within its budget unless the rubric's own texts are too long.
fn joined(encoded: Encoded, what: &str, budget: usize) -> Result<Vec<TokenId>, ScoringError> {
    let prompt = encoded.segments.concat();
    match prompt.len() <= budget {
        true => Ok(prompt),
        false => Err(ScoringError::OverBudget {
            part: what.to_owned(),
            tokens: prompt.len(),
            budget,
        }),
    }
}
