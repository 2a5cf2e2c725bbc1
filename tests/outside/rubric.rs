//! A rubric: what is accepted adds up, is the same when it is written anew, and its numbers stay numbers.

use std::sync::LazyLock;

use interviewd::domain::fold::{Judged, fold};
use interviewd::domain::ids::InterviewId;
use interviewd::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use interviewd::domain::rubric::{Rubric, WEIGHT_UNIT};
use interviewd::domain::score::{Level, Score};

use super::answer::SCORER;

/// The text of a rubric.
pub fn rubric(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(rubric) = Rubric::parse(text) else {
        return false;
    };
    assert_eq!(rubric.areas.iter().map(|area| area.weight).sum::<u32>(), WEIGHT_UNIT);
    for area in &rubric.areas {
        let points: u32 = area.criteria.iter().map(|criterion| criterion.points).sum();
        assert_eq!(points, 100);
    }
    for stage in rubric.stage_ids() {
        let found = rubric.stage(&stage).expect("it is one of the rubric's");
        assert!(found.competency.is_none_or(|id| rubric.competencies.contains_key(id)));
    }
    let table: toml::Table = text.parse().expect("a rubric is TOML");
    let again = Rubric::parse(&toml::to_string(&table).expect("a table is TOML")).expect("the same values");
    assert_eq!(format!("{again:?}"), format!("{rubric:?}"), "written anew");
    check_numbers(&rubric);
    // It may be too long for the model's budgets, which is said and no more.
    let _ = LazyLock::force(&SCORER).check_rubric(&rubric);
    true
}

/// The best and the worst interview with an answer of every stage.
fn check_numbers(rubric: &Rubric) {
    let interview = every_stage(rubric);
    let best = Level::from_distribution([0.0, 0.0, 0.0, 0.0, 1.0])
        .expect("a distribution")
        .0;
    let count = interview.answers().len();
    for level in [Level::LOWEST, best] {
        let scores = interview.answers().iter().map(|answer| {
            let area = rubric.stage(&answer.stage).expect("a stage of the rubric").area;
            Judged::Scored(Score::sum(
                area.criteria.iter().map(|criterion| level.score(criterion.points)),
            ))
        });
        let numbers = fold(&interview, &scores.collect::<Vec<_>>(), rubric).expect("stages of the rubric");
        assert_eq!(numbers.answers.len(), count);
        let whole = if level == best { Score::FULL } else { Score::ZERO };
        let areas = numbers.areas.iter().flatten();
        assert!(
            areas.chain(&numbers.overall).all(|score| *score == whole),
            "{numbers:?}"
        );
    }
}

fn every_stage(rubric: &Rubric) -> Interview {
    let stages = rubric.stage_ids();
    let answer = |stage: &String| {
        let found = rubric.stage(stage).expect("a stage of the rubric");
        let parent = stages.iter().position(|id| id == found.base);
        AnswerDraft {
            stage: stage.clone(),
            question: String::new(),
            answer: String::new(),
            follow_up_of: parent
                .filter(|_| found.is_follow_up)
                .map(|index| format!("a{}", index + 1)),
            answer_id: None,
        }
    };
    let draft = Draft {
        answers: stages.iter().map(answer).collect(),
        ..Draft::default()
    };
    let id = InterviewId::parse("all").expect("it is an id");
    Interview::new(draft, id, Opening::StaysOpen, rubric, &Limits::NONE).expect("stages of the rubric")
}
