//! What the model wrote, read into the domain's terms: levels from distributions, quotes with their places, the narrative.

use std::sync::Arc;

use serde::Deserialize;

use super::error::ScoringError;
use super::vocabulary::Vocabulary;
use crate::domain::outcome::{CriterionScore, Evidence};
use crate::domain::report::Narrative;
use crate::domain::rubric::Area;
use crate::domain::score::{Level, LevelSd};
use crate::engine::job::{Distribution, Output};

/// All that it takes to read the output about one answer.
pub struct AnswerReading {
    pub(super) vocabulary: Arc<Vocabulary>,
    criteria: Vec<(String, u32)>,
    answer: String,
    judged: Option<usize>,
}

/// All that it takes to read a narrative.
pub struct NarrativeReading {
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) competencies: Vec<String>,
}

#[derive(Deserialize)]
struct Written {
    criteria: Vec<WrittenCriterion>,
    feedback: String,
}

#[derive(Deserialize)]
struct WrittenCriterion {
    name: String,
    evidence: String,
}

impl AnswerReading {
    /// `judged`: code points of the answer that the model sees.
    pub(super) fn new(vocabulary: Arc<Vocabulary>, area: &Area, answer: &str, judged: usize) -> Self {
        let criteria = area.criteria.iter().map(|c| (c.name.clone(), c.points));
        Self {
            vocabulary,
            criteria: criteria.collect(),
            answer: answer.to_owned(),
            judged: Some(judged).filter(|judged| *judged < answer.chars().count()),
        }
    }

    /// Code points of the answer that are judged, where it had to be cut.
    pub fn judged_code_points(&self) -> Option<usize> {
        self.judged
    }

    /// The criteria in the rubric's order, and the feedback as it was written.
    pub fn read(&self, output: &Output) -> Result<(Vec<CriterionScore>, String), ScoringError> {
        let written: Written = parsed(&self.vocabulary, output)?;
        let expected = self.criteria.len();
        for (what, found) in [
            ("criteria", written.criteria.len()),
            ("distributions", output.distributions.len()),
        ] {
            if found != expected {
                return Err(ScoringError::Output(format!(
                    "it has {found} {what} instead of {expected}"
                )));
            }
        }
        let rows = self.criteria.iter().zip(written.criteria).zip(&output.distributions);
        let criteria = rows.map(|(((name, points), written), distribution)| {
            if written.name != *name {
                return Err(ScoringError::Output(format!(
                    "it names {:?} instead of {name:?}",
                    written.name
                )));
            }
            let (level, level_sd) = self.level(distribution)?;
            Ok(CriterionScore {
                name: name.clone(),
                points: *points,
                level,
                level_sd,
                score: level.score(*points),
                evidence: self.evidence(written.evidence)?,
            })
        });
        Ok((criteria.collect::<Result<_, _>>()?, written.feedback))
    }

    /// Tokens such as `4` and `4}` say the same level.
    fn level(&self, distribution: &Distribution) -> Result<(Level, LevelSd), ScoringError> {
        let mut by_level = [0.0; 5];
        for (token, probability) in &distribution.0 {
            match self.vocabulary.bytes(*token).first() {
                Some(digit @ b'1'..=b'5') => by_level[usize::from(digit - b'1')] += probability,
                _ => return Err(ScoringError::Output(format!("the token {token} is no level"))),
            }
        }
        Level::from_distribution(by_level)
            .ok_or_else(|| ScoringError::Output("the probabilities of a level are no distribution".to_owned()))
    }

    /// Where the quote occurs first in the answer as it was sent; an empty one is none.
    fn evidence(&self, quote: String) -> Result<Option<Evidence>, ScoringError> {
        if quote.is_empty() {
            return Ok(None);
        }
        let found = self.answer.find(&quote);
        let before = found.ok_or_else(|| ScoringError::Output("it quotes what was not said".to_owned()))?;
        let start = self.answer[..before].chars().count();
        let end = start + quote.chars().count();
        Ok(Some(Evidence { quote, start, end }))
    }
}

impl NarrativeReading {
    pub fn read(&self, output: &Output) -> Result<Narrative, ScoringError> {
        let narrative: Narrative = parsed(&self.vocabulary, output)?;
        match narrative.competencies.keys().eq(&self.competencies) {
            true => Ok(narrative),
            false => Err(ScoringError::Output("it speaks of other competencies".to_owned())),
        }
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(vocabulary: &Vocabulary, output: &Output) -> Result<T, ScoringError> {
    serde_json::from_slice(&vocabulary.joined(&output.tokens)).map_err(ScoringError::NotJson)
}
