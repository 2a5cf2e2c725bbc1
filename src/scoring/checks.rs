//! What is checked at start: that a tokenizer makes the boundaries that prompts and grammars rely on, and that a rubric keeps the budgets.

use super::digest::{Digest, DigestAnswer, Told};
use super::error::ScoringError;
use super::prompt::Segment;
use super::scorer::Scorer;
use super::vocabulary::BEFORE_LEVEL;
use crate::domain::ids::InterviewId;
use crate::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::outcome::{Outcome, Timing};
use crate::domain::rubric::Rubric;
use crate::domain::score::Score;
use crate::engine::TokenId;

/// Stand for the two messages in a chat template; private-use characters, as no template has them.
const MESSAGES: [&str; 2] = ["\u{f0000}", "\u{f0001}"];
/// How markers of chat templates begin and end.
const MARKS: [&str; 4] = ["[|", "|]", "<|", "|>"];
/// Anything that candidates may write.
const SAMPLE: &str = "저는 로그를 모아 12건을 \"2건\"으로 줄였습니다.\n\tI fixed it: 각 é 👩‍💻 漢字 \\n [x]{y}";

fn unsuitable(reason: String) -> Result<(), ScoringError> {
    Err(ScoringError::Unsuitable(reason))
}

fn is_special(scorer: &Scorer, token: TokenId) -> bool {
    let mut added = scorer.encoder.added().iter();
    added.any(|(id, added)| *id == token && added.special)
}

/// Every token that ends a turn must be special, and what its text becomes.
pub fn ends_of_turn(scorer: &Scorer, eos: &[TokenId]) -> Result<(), ScoringError> {
    for token in eos {
        let added = scorer.encoder.added().iter().find(|(id, _)| id == token);
        let Some((_, added)) = added.filter(|(_, added)| added.special) else {
            return unsuitable(format!("the end of a turn {token} is not one of its special tokens"));
        };
        if scorer.encoder.trusted(&added.content)? != [*token] {
            return unsuitable(format!("{:?} is not the one token {token}", added.content));
        }
    }
    Ok(())
}

/// Every marker must be the one special token that it is said to be.
pub fn markers(scorer: &Scorer, markers: &[(&str, TokenId)]) -> Result<(), ScoringError> {
    for (text, token) in markers {
        let ids = scorer.encoder.trusted(text)?;
        if ids != [*token] {
            return unsuitable(format!(
                "the marker {text:?} should be the one token {token}, it is {ids:?}"
            ));
        }
        if !is_special(scorer, *token) {
            return unsuitable(format!(
                "the marker {text:?} ({token}) is not one of its special tokens"
            ));
        }
    }
    Ok(())
}

/// Every marker of the chat template must be one special token, and both messages must be in it.
pub fn template(scorer: &Scorer) -> Result<(), ScoringError> {
    let rendered = scorer.prompts.chat(MESSAGES[0], MESSAGES[1])?;
    if MESSAGES.iter().any(|message| rendered.matches(message).count() != 1) {
        return unsuitable("the chat template leaves out one of the messages or repeats it".to_owned());
    }
    let (mut specials, mut rest) = (0, Vec::new());
    for piece in rendered.split(|c| MESSAGES.iter().any(|message| message.starts_with(c))) {
        let (special, plain): (Vec<_>, Vec<_>) = scorer
            .encoder
            .trusted(piece)?
            .into_iter()
            .partition(|token| is_special(scorer, *token));
        specials += special.len();
        rest.extend(scorer.vocabulary.joined(&plain));
    }
    let rest = String::from_utf8_lossy(&rest);
    if specials == 0 || MARKS.iter().any(|mark| rest.contains(mark)) {
        return unsuitable(format!(
            "a marker of the chat template is not one special token: {rest:?}"
        ));
    }
    Ok(())
}

/// No text of anybody else's may become an added token, and none may be changed on its way to the model.
pub fn untrusted(scorer: &Scorer) -> Result<(), ScoringError> {
    let added = scorer.encoder.added();
    for (_, token) in added {
        let ids = scorer.encoder.plain(&format!("네 {0} {0}예{0}", token.content))?;
        if let Some(id) = ids
            .iter()
            .find(|id| added.binary_search_by_key(id, |(id, _)| id).is_ok())
        {
            return unsuitable(format!("{:?} in an answer becomes the added token {id}", token.content));
        }
    }
    verbatim(scorer, SAMPLE)
}

/// Forced text must come out as it went in, and so must what stands before a level, whoever wrote its beginning.
pub fn literals(scorer: &Scorer) -> Result<(), ScoringError> {
    let before = std::str::from_utf8(BEFORE_LEVEL).expect("it is ASCII");
    for literal in [
        "\"},{\"name\":\"논리적 구조\",\"evidence\":\"",
        "}],\"feedback\":\"",
        "\"}",
    ] {
        verbatim(scorer, literal)?;
    }
    for begin in 0..before.len() {
        verbatim(scorer, &before[begin..])?;
    }
    verbatim(scorer, &format!("\",{before}"))
}

fn verbatim(scorer: &Scorer, text: &str) -> Result<(), ScoringError> {
    let back = scorer.vocabulary.joined(&scorer.encoder.plain(text)?);
    match back == text.as_bytes() {
        true => Ok(()),
        false => unsuitable(format!("it turns {text:?} into {:?}", String::from_utf8_lossy(&back))),
    }
}

/// Checks a rubric against budgets and grammars, in both languages.
pub fn rubric(scorer: &Scorer, rubric: &Rubric) -> Result<(), ScoringError> {
    for language in ["ko", "en"] {
        let interview = every_stage(rubric, language);
        for index in 0..interview.answers().len() {
            let segments = scorer.prompts.score(&interview, index, rubric)?;
            let part = format!("score.instructions of the stage {}", interview.answers()[index].stage);
            within(scorer, &segments, part, scorer.constants().score.instructions)?;
        }
        narrative_budgets(scorer, &interview, rubric)?;
        grammars(scorer, &interview, rubric)?;
    }
    Ok(())
}

fn narrative_budgets(scorer: &Scorer, interview: &Interview, rubric: &Rubric) -> Result<(), ScoringError> {
    let budget = &scorer.constants().narrative;
    // Two decimals are the longest that a score is shown with.
    let score = Score::from_hundredths(7_171).expect("it is below 100 points");
    let mut digest = Digest {
        overall: score,
        areas: vec![Some(score); rubric.areas.len()],
        competencies: vec![Some(score); rubric.competencies.len()],
        answers: Vec::new(),
    };
    let part = |of: &str| format!("narrative.{of}");
    let segments = scorer.prompts.narrative(interview, &digest, rubric)?;
    within(scorer, &segments, part("instructions"), budget.instructions)?;
    let longest = interview.answers().iter().map(|answer| {
        digest.answers = vec![DigestAnswer {
            stage: answer.stage.clone(),
            final_score: score,
            told: Told::NothingSaid,
        }];
        let segments = scorer.prompts.narrative(interview, &digest, rubric)?;
        Ok((scorer.encoder.instructions(&segments)?, answer.stage.clone()))
    });
    let longest = longest.collect::<Result<Vec<_>, ScoringError>>()?.into_iter().max();
    let Some((_, stage)) = longest else { return Ok(()) };
    digest.answers = vec![
        DigestAnswer {
            stage,
            final_score: score,
            told: Told::NothingSaid,
        };
        Limits::default().answers
    ];
    let segments = scorer.prompts.narrative(interview, &digest, rubric)?;
    within(scorer, &segments, part("digest"), budget.instructions + budget.digest)
}

/// Compiles each area's grammar once, and the narrative's with all competencies.
fn grammars(scorer: &Scorer, interview: &Interview, rubric: &Rubric) -> Result<(), ScoringError> {
    for area in &rubric.areas {
        let of_area = |stage: &str| rubric.stage(stage).is_some_and(|stage| stage.area.id == area.id);
        if let Some(index) = interview.answers().iter().position(|a| of_area(&a.stage)) {
            scorer.answer(interview, index, rubric)?;
        }
    }
    let outcome = |answer: &crate::domain::interview::Answer| {
        let area = rubric.stage(&answer.stage).map(|stage| stage.area);
        area.map(|area| Outcome {
            verdict: crate::domain::gate::gated_outcome(area),
            flags: Vec::new(),
            judged_code_points: None,
            timing: Timing::default(),
            model_hash: None,
        })
    };
    let outcomes: Vec<_> = interview.answers().iter().filter_map(outcome).collect();
    scorer.narrative(interview, &outcomes, rubric).map(|_| ())
}

fn within(scorer: &Scorer, segments: &[Segment], part: String, budget: usize) -> Result<(), ScoringError> {
    let tokens = scorer.encoder.instructions(segments)?;
    match tokens <= budget {
        true => Ok(()),
        false => Err(ScoringError::OverBudget { part, tokens, budget }),
    }
}

/// An interview with an answer of every stage, and nothing left out that our own words surround.
fn every_stage(rubric: &Rubric, language: &str) -> Interview {
    let stages = rubric.stage_ids();
    let draft = |stage: &String| AnswerDraft {
        answer_id: None,
        stage: stage.clone(),
        question: "왜요?".to_owned(),
        answer: "네.".to_owned(),
        follow_up_of: rubric
            .stage(stage)
            .filter(|stage| stage.is_follow_up)
            .and_then(|stage| {
                let parent = stages.iter().position(|id| id == stage.base)?;
                Some(format!("a{}", parent + 1))
            }),
    };
    let draft = Draft {
        language: Some(language.to_owned()),
        position: Some("개발자".to_owned()),
        answers: stages.iter().map(draft).collect(),
        ..Draft::default()
    };
    let id = InterviewId::parse("check").expect("it is an id");
    let limits = Limits {
        answers: usize::MAX,
        ..Limits::default()
    };
    Interview::new(draft, id, Opening::StaysOpen, rubric, &limits).expect("stages and parents are the rubric's own")
}
