//! The report: numbers from the fold, what the model wrote, and where it all comes from, as the socket protocol shows it.

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize};

use super::fold::{Band, Numbers, PassLikelihood, UnknownStage, fold};
use super::ids::{AnswerId, InterviewId};
use super::interview::Interview;
use super::outcome::{CriterionScore, Flag, Outcome, Timing, Verdict};
use super::rubric::{Rubric, WEIGHT_UNIT};
use super::score::{Score, fixed_point};
use super::state::AnswerState;
use super::time::Timestamp;

/// A report of the socket protocol, field for field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub interview_id: InterviewId,
    pub status: Status,
    /// Share of the answers that are scored or gated, 0 to 1, to a thousandth.
    #[serde(deserialize_with = "coverage")]
    pub coverage: f64,
    pub overall: Option<Score>,
    pub band: Option<Band>,
    pub pass_likelihood: Option<PassLikelihood>,
    /// In the rubric's order.
    pub areas: Vec<AreaReport>,
    /// By id, in the rubric's order.
    pub competencies: IndexMap<String, Option<Score>>,
    /// In the interview's order.
    pub answers: Vec<AnswerReport>,
    pub narrative: Option<Narrative>,
    /// Why there is no narrative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrative_reason: Option<String>,
    pub provenance: Provenance,
    pub submitted_at: Timestamp,
    pub finished_at: Timestamp,
    /// From `finish` (or `submit`, or `retry`) to the stored report.
    pub took_ms: u64,
}

/// Whether every answer is scored or gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Complete,
    Partial,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AreaReport {
    pub area: String,
    pub name: String,
    /// Share of the overall score, 0 to 1, to a ten-thousandth.
    #[serde(deserialize_with = "weight")]
    pub weight: f64,
    pub score: Option<Score>,
    pub answers: Vec<AnswerId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerReport {
    pub answer_id: AnswerId,
    pub stage: String,
    pub area: String,
    pub state: AnswerState,
    pub score: Option<Score>,
    pub final_score: Option<Score>,
    pub adjustment: i32,
    /// `None` if unscored.
    pub criteria: Option<Vec<CriterionScore>>,
    /// `None` if gated or unscored.
    pub feedback: Option<String>,
    pub flags: Vec<Flag>,
    /// Code points that were judged, where the answer was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_code_points: Option<usize>,
    /// Why there is no score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub timing: Timing,
}

/// What was never written is refused, and what was is read to the last bit.
fn coverage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let thousandths = fixed_point(deserializer, 1_000.0, 0..=1_000)?;
    Ok(f64::from(thousandths) / 1_000.0)
}

/// As [`coverage`].
fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let unit = f64::from(WEIGHT_UNIT);
    Ok(f64::from(fixed_point(deserializer, unit, 0..=WEIGHT_UNIT)?) / unit)
}

/// The senior interviewer's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrative {
    pub summary: String,
    pub strengths: Vec<String>,
    pub improvements: Vec<String>,
    /// By id, one sentence for each competency that has a score.
    pub competencies: IndexMap<String, String>,
}

/// What made a report: equal provenance and equal answers give equal scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    pub model: ModelProvenance,
    pub rubric: RubricProvenance,
    pub prompt: PromptProvenance,
    pub engine: EngineProvenance,
    /// interviewd's version.
    pub interviewd: String,
    /// Hashes of other models that judged some of the answers, when the model was replaced in between; usually empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_models: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelProvenance {
    pub name: String,
    /// SHA-256 (hex) of model.json, which holds the files' hashes.
    pub hash: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RubricProvenance {
    pub id: String,
    pub version: u32,
    /// SHA-256 (hex) of the rubric file.
    pub hash: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptProvenance {
    pub version: u32,
    /// Tokens by part, as in `score.answer`.
    pub budgets: IndexMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineProvenance {
    /// ONNX Runtime's execution provider: `cpu` or `cuda`.
    pub provider: String,
    /// The card's name, or the processor's instruction set.
    pub device: String,
    /// ONNX Runtime's version.
    pub onnxruntime: String,
    /// Of the weights, as in `int4`.
    pub precision: String,
}

/// When an interview's time ran.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub submitted_at: Timestamp,
    pub finished_at: Timestamp,
    /// From when the last answer was there: `submit`, `finish` or `retry`. Not the difference of two times of day: clocks are set.
    pub took_ms: u64,
}

impl Report {
    /// Folds outcomes, one for each answer in the interview's order, into a report. `narrative` is what the model wrote or why it did not.
    pub fn assemble(
        interview: &Interview,
        outcomes: &[Outcome],
        rubric: &Rubric,
        narrative: Result<Narrative, String>,
        provenance: Provenance,
        times: Times,
    ) -> Result<Self, UnknownStage> {
        let judged: Vec<_> = outcomes.iter().map(|outcome| outcome.verdict.judged()).collect();
        let numbers = fold(interview, &judged, rubric)?;
        let (narrative, narrative_reason) = match narrative {
            Ok(narrative) => (Some(narrative), None),
            Err(reason) => (None, Some(reason)),
        };
        let status = match outcomes.iter().any(|o| matches!(o.verdict, Verdict::Unscored { .. })) {
            true => Status::Partial,
            false => Status::Complete,
        };
        Ok(Self {
            interview_id: interview.id.clone(),
            status,
            coverage: f64::from(numbers.coverage) / 1_000.0,
            overall: numbers.overall,
            band: numbers.band,
            pass_likelihood: numbers.pass_likelihood,
            areas: areas(interview, &numbers, rubric),
            answers: answers(interview, outcomes, &numbers, rubric),
            competencies: numbers.competencies,
            narrative,
            narrative_reason,
            provenance,
            submitted_at: times.submitted_at,
            finished_at: times.finished_at,
            took_ms: times.took_ms,
        })
    }
}

fn area_of<'a>(rubric: &'a Rubric, stage: &str) -> &'a str {
    rubric.stage(stage).map_or("", |stage| stage.area.id.as_str())
}

fn areas(interview: &Interview, numbers: &Numbers, rubric: &Rubric) -> Vec<AreaReport> {
    let ids_of = |area: &str| {
        let inside = interview.answers().iter().filter(|a| area_of(rubric, &a.stage) == area);
        inside.map(|answer| answer.id.clone()).collect()
    };
    rubric
        .areas
        .iter()
        .zip(&numbers.areas)
        .map(|(area, score)| AreaReport {
            area: area.id.clone(),
            name: area.name.clone(),
            weight: f64::from(area.weight) / f64::from(WEIGHT_UNIT),
            score: *score,
            answers: ids_of(&area.id),
        })
        .collect()
}

fn answers(interview: &Interview, outcomes: &[Outcome], numbers: &Numbers, rubric: &Rubric) -> Vec<AnswerReport> {
    let rows = interview.answers().iter().zip(outcomes).zip(&numbers.answers);
    rows.map(|((answer, outcome), numbers)| {
        let (criteria, feedback) = match &outcome.verdict {
            Verdict::Scored { criteria, feedback } => (Some(criteria.clone()), Some(feedback.clone())),
            Verdict::Gated { criteria } => (Some(criteria.clone()), None),
            Verdict::Unscored { .. } => (None, None),
        };
        AnswerReport {
            answer_id: answer.id.clone(),
            stage: answer.stage.clone(),
            area: area_of(rubric, &answer.stage).to_owned(),
            state: outcome.verdict.state(),
            score: numbers.score,
            final_score: numbers.final_score,
            adjustment: numbers.adjustment,
            criteria,
            feedback,
            flags: outcome.flags.clone(),
            judged_code_points: outcome.judged_code_points,
            reason: outcome.verdict.reason().map(str::to_owned),
            timing: outcome.timing,
        }
    })
    .collect()
}
