//! From judged answers to the numbers of a report: follow-up rule, areas, competencies, overall, bands.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::interview::Interview;
use super::rubric::Rubric;
use super::score::Score;

/// How an answer ended, as far as numbers go. A gated answer (nothing was said) has the score 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Scored(Score),
    Gated,
    Unscored,
}

/// An answer's numbers in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerNumbers {
    /// `None` if unscored.
    pub score: Option<Score>,
    pub final_score: Option<Score>,
    /// Points that the follow-up rule gave or took.
    pub adjustment: i32,
}

/// All numbers of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// In the interview's order.
    pub answers: Vec<AnswerNumbers>,
    /// In the rubric's order; `None` where no answer of the area has a score.
    pub areas: Vec<Option<Score>>,
    /// By id, in the rubric's order.
    pub competencies: IndexMap<String, Option<Score>>,
    pub overall: Option<Score>,
    /// Share of the answers that are scored or gated, in thousandths.
    pub coverage: u32,
    pub band: Option<Band>,
    pub pass_likelihood: Option<PassLikelihood>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Band {
    Excellent,
    Good,
    Fair,
    Poor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassLikelihood {
    High,
    Medium,
    Low,
}

/// A follow-up that differs from its parent by more than this is clearly better or worse.
const CLEAR_DIFFERENCE: i64 = 500; // hundredths of a point
/// Below this coverage nobody can say whether the candidate would pass.
const COVERAGE_MIN: u32 = 500; // thousandths

/// An interview meets a rubric that it was not accepted under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stage {0} of an answer is not in the rubric {1}")]
pub struct UnknownStage(String, String);

/// Computes a report's numbers. `judged` has one entry for each answer, in the interview's order; `rubric` is the one that the interview was
/// accepted under.
pub fn fold(interview: &Interview, judged: &[Judged], rubric: &Rubric) -> Result<Numbers, UnknownStage> {
    assert_eq!(interview.answers().len(), judged.len(), "every answer has ended");
    if let Some(lost) = interview.answers().iter().find(|a| rubric.stage(&a.stage).is_none()) {
        return Err(UnknownStage(lost.stage.clone(), rubric.id.clone()));
    }
    let answers: Vec<_> = (0..judged.len())
        .map(|index| numbers_of(interview, judged, rubric, index))
        .collect();
    let finals_where = |belongs: &dyn Fn(&str) -> bool| {
        let stages = interview.answers().iter().map(|answer| answer.stage.as_str());
        Score::mean(
            stages
                .zip(&answers)
                .filter(|(stage, _)| belongs(stage))
                .filter_map(|(_, numbers)| numbers.final_score),
        )
    };
    let in_area = |area: &str| finals_where(&|stage| rubric.stage(stage).is_some_and(|s| s.area.id == area));
    let of_competency = |id: &str| finals_where(&|stage| rubric.stage(stage).is_some_and(|s| s.competency == Some(id)));
    let areas: Vec<_> = rubric.areas.iter().map(|area| in_area(&area.id)).collect();
    let competencies = rubric
        .competencies
        .keys()
        .map(|id| (id.clone(), of_competency(id)))
        .collect();
    let overall = Score::weighted_mean(
        areas
            .iter()
            .zip(&rubric.areas)
            .filter_map(|(score, area)| score.map(|score| (score, area.weight))),
    );
    let coverage = coverage(judged);
    Ok(Numbers {
        areas,
        competencies,
        overall,
        coverage,
        band: overall.map(band),
        pass_likelihood: overall.filter(|_| coverage >= COVERAGE_MIN).map(pass_likelihood),
        answers,
    })
}

fn numbers_of(interview: &Interview, judged: &[Judged], rubric: &Rubric, index: usize) -> AnswerNumbers {
    let score = match judged[index] {
        Judged::Scored(score) => Some(score),
        Judged::Gated => Some(Score::ZERO),
        Judged::Unscored => None,
    };
    let adjustment = adjustment(interview, judged, rubric, index);
    AnswerNumbers {
        score,
        final_score: score.map(|score| score.adjusted(adjustment)),
        adjustment,
    }
}

/// The follow-up rule: both must be scored, and both count as they were before any adjustment.
fn adjustment(interview: &Interview, judged: &[Judged], rubric: &Rubric, index: usize) -> i32 {
    let answer = &interview.answers()[index];
    let parent = answer
        .follow_up_of
        .as_ref()
        .and_then(|id| interview.answers().iter().position(|a| a.id == *id));
    let (Some(parent), Some(stage)) = (parent, rubric.stage(&answer.stage)) else {
        return 0;
    };
    let (Judged::Scored(before), Judged::Scored(after)) = (judged[parent], judged[index]) else {
        return 0;
    };
    match i64::from(after.hundredths()) - i64::from(before.hundredths()) {
        difference if difference > CLEAR_DIFFERENCE => stage.area.improved,
        difference if difference < -CLEAR_DIFFERENCE => -stage.area.worsened,
        _ => 0,
    }
}

fn coverage(judged: &[Judged]) -> u32 {
    let ended = judged
        .iter()
        .filter(|judged| !matches!(judged, Judged::Unscored))
        .count();
    if judged.is_empty() {
        0
    } else {
        ((2_000 * ended + judged.len()) / (2 * judged.len())) as u32
    }
}

fn band(overall: Score) -> Band {
    match overall.hundredths() {
        8_500.. => Band::Excellent,
        7_000.. => Band::Good,
        5_000.. => Band::Fair,
        _ => Band::Poor,
    }
}

fn pass_likelihood(overall: Score) -> PassLikelihood {
    match overall.hundredths() {
        7_500.. => PassLikelihood::High,
        6_000.. => PassLikelihood::Medium,
        _ => PassLikelihood::Low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::InterviewId;
    use crate::domain::interview::{AnswerDraft, Draft, Limits, Opening};
    use crate::domain::rubric::DEFAULT;

    fn points(points: f64) -> Score {
        Score::from_hundredths((points * 100.0).round() as u32).unwrap()
    }

    fn scored(value: f64) -> Judged {
        Judged::Scored(points(value))
    }

    /// Answers a1, a2 … as (stage, parent's id, how it ended).
    fn folded(answers: &[(&str, Option<&str>, Judged)]) -> Numbers {
        let rubric = Rubric::parse(DEFAULT).unwrap();
        let draft = |(stage, parent, _): &(&str, Option<&str>, Judged)| AnswerDraft {
            stage: (*stage).into(),
            follow_up_of: parent.map(Into::into),
            ..AnswerDraft::default()
        };
        let draft = Draft {
            answers: answers.iter().map(draft).collect(),
            ..Draft::default()
        };
        let interview = Interview::new(
            draft,
            InterviewId::parse("x").unwrap(),
            Opening::Whole,
            &rubric,
            &Limits::default(),
        )
        .unwrap();
        fold(&interview, &answers.iter().map(|a| a.2).collect::<Vec<_>>(), &rubric).unwrap()
    }

    fn adjustment_of(parent: Judged, follow_up: Judged, stage: &str) -> (i32, Option<Score>) {
        let numbers = folded(&[
            (stage, None, parent),
            (&format!("{stage}_followup"), Some("a1"), follow_up),
        ]);
        (numbers.answers[1].adjustment, numbers.answers[1].final_score)
    }

    #[test]
    fn a_follow_up_counts_if_it_differs_clearly() {
        assert_eq!(
            adjustment_of(scored(50.0), scored(55.01), "skill"),
            (10, Some(points(65.01)))
        );
        assert_eq!(
            adjustment_of(scored(50.0), scored(55.0), "skill"),
            (0, Some(points(55.0)))
        );
        assert_eq!(
            adjustment_of(scored(50.0), scored(45.0), "skill"),
            (0, Some(points(45.0)))
        );
        assert_eq!(
            adjustment_of(scored(50.0), scored(44.99), "skill"),
            (-5, Some(points(39.99)))
        );
        assert_eq!(
            adjustment_of(scored(80.0), scored(95.0), "experience"),
            (15, Some(Score::FULL))
        );
        assert_eq!(
            adjustment_of(scored(80.0), scored(4.0), "problem_solving"),
            (-10, Some(Score::ZERO))
        );
    }

    #[test]
    fn a_follow_up_counts_only_if_both_were_scored() {
        assert_eq!(
            adjustment_of(Judged::Gated, scored(90.0), "skill"),
            (0, Some(points(90.0)))
        );
        assert_eq!(
            adjustment_of(scored(90.0), Judged::Gated, "skill"),
            (0, Some(Score::ZERO))
        );
        assert_eq!(
            adjustment_of(Judged::Unscored, scored(90.0), "skill"),
            (0, Some(points(90.0)))
        );
        assert_eq!(adjustment_of(scored(90.0), Judged::Unscored, "skill"), (0, None));
    }

    #[test]
    fn a_chain_compares_scores_before_adjustment() {
        let chain = [
            ("skill", None, scored(40.0)),
            ("skill_followup", Some("a1"), scored(50.0)),
            ("skill_followup", Some("a2"), scored(56.0)),
        ];
        let adjustments: Vec<_> = folded(&chain).answers.iter().map(|a| a.adjustment).collect();
        assert_eq!(adjustments, [0, 10, 10]);
    }

    #[test]
    fn areas_and_competencies_are_means_of_final_scores() {
        let numbers = folded(&[
            ("intro", None, scored(80.0)),
            ("final_statement", None, Judged::Gated),
            ("communication", None, scored(70.0)),
            ("growth", None, Judged::Unscored),
            ("responsibility", None, scored(60.01)),
        ]);
        assert_eq!(
            numbers.areas,
            [Some(points(40.0)), None, None, None, Some(points(65.01))]
        ); // 65.005 rounds up
        let competency = |id: &str| numbers.competencies[id];
        assert_eq!(competency("communication"), Some(points(50.0)));
        assert_eq!(
            (competency("responsibility"), competency("growth")),
            (Some(points(60.01)), None)
        );
        assert_eq!(numbers.coverage, 800);
    }

    #[test]
    fn means_count_the_adjustment() {
        let numbers = folded(&[
            ("skill", None, scored(50.0)),
            ("skill_followup", Some("a1"), scored(60.0)),
        ]);
        assert_eq!(
            (numbers.areas[2], numbers.competencies["technical"]),
            (Some(points(60.0)), Some(points(60.0)))
        );
        assert_eq!(numbers.overall, Some(points(60.0)));
    }

    #[test]
    fn overall_weighs_only_the_areas_that_have_a_score() {
        let numbers = folded(&[("intro", None, scored(80.0)), ("experience", None, scored(50.0))]);
        assert_eq!(numbers.overall, Some(points(60.0))); // (0.15 · 80 + 0.30 · 50) / 0.45
        assert_eq!(
            (numbers.band, numbers.pass_likelihood),
            (Some(Band::Fair), Some(PassLikelihood::Medium))
        );
    }

    #[test]
    fn bands_begin_at_the_values_shown() {
        let of = |value: f64| folded(&[("intro", None, scored(value))]).band.unwrap();
        assert_eq!(
            [85.0, 84.99, 70.0, 69.99, 50.0, 49.99].map(of),
            [
                Band::Excellent,
                Band::Good,
                Band::Good,
                Band::Fair,
                Band::Fair,
                Band::Poor
            ]
        );
        let likely = |value: f64| folded(&[("intro", None, scored(value))]).pass_likelihood.unwrap();
        use PassLikelihood::{High, Low, Medium};
        assert_eq!([75.0, 74.99, 60.0, 59.99].map(likely), [High, Medium, Medium, Low]);
    }

    #[test]
    fn too_little_coverage_says_nothing_of_passing() {
        let third = folded(&[
            ("intro", None, scored(90.0)),
            ("growth", None, Judged::Unscored),
            ("skill", None, Judged::Unscored),
        ]);
        assert_eq!(
            (third.coverage, third.band, third.pass_likelihood),
            (333, Some(Band::Excellent), None)
        );
        let two = [
            ("intro", None, scored(90.0)),
            ("growth", None, Judged::Gated),
            ("skill", None, Judged::Unscored),
        ];
        assert_eq!(folded(&two).coverage, 667);
        let half = folded(&[("intro", None, scored(90.0)), ("growth", None, Judged::Unscored)]);
        assert_eq!((half.coverage, half.pass_likelihood), (500, Some(PassLikelihood::High)));
        let nothing = folded(&[("intro", None, Judged::Unscored)]);
        assert_eq!(
            (nothing.overall, nothing.band, nothing.pass_likelihood, nothing.coverage),
            (None, None, None, 0)
        );
    }
}
