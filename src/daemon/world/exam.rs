//! What is judged in the world: interviews, the jobs that their answers become, and what a run without any trouble makes of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::actors::message::{Assign, Task};
use crate::actors::tests::chance::Chance;
use crate::actors::tests::rubric;
use crate::domain::interview::{AnswerDraft, Draft, Interview};
use crate::domain::outcome::{CriterionScore, Outcome, Verdict};
use crate::domain::report::Narrative;
use crate::domain::score::{Level, Score};
use crate::engine::TokenId;
use crate::engine::constraint::TokenSet;
use crate::engine::job::{Job, Output};
use crate::engine::tests::{Move, Spec, VOCABULARY};
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK};

/// No model survives it.
pub const DEADLY: TokenId = 95;
/// No run gets past it.
pub const FAILING: TokenId = 96;
const DEADLY_WORD: &str = "독";
const FAILING_WORD: &str = "별";
/// Words of prompts and outputs, behind the digits of the levels.
const WORDS: std::ops::Range<TokenId> = 6..90;

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Whether an answer cannot be scored by any model.
pub fn is_poison(text: &str) -> bool {
    text.contains(DEADLY_WORD) || text.contains(FAILING_WORD)
}

/// The `index`th answer of an interview's `variant`, given the answers before it.
pub fn answer(id: &str, variant: usize, index: usize, poison: bool) -> AnswerDraft {
    let mut chance = Chance(hash((id, variant, index)));
    let stage = ["intro", "skill", "skill_followup", "experience", "growth"][index % 5];
    let text = match chance.below(12) {
        0 => "...".to_owned(),
        1 if poison => format!("{variant}번 {DEADLY_WORD} 이야기"),
        2 if poison => format!("{variant}번 {FAILING_WORD} 이야기"),
        _ => format!("{id}의 {variant}번째 이야기 {}", chance.below(1_000_000)),
    };
    AnswerDraft {
        answer_id: Some(format!("a{}", index + 1)),
        stage: stage.to_owned(),
        question: "말씀해 주세요.".to_owned(),
        answer: text,
        follow_up_of: (index % 5 == 2).then(|| format!("a{index}")),
    }
}

/// An interview; different variants of an id have different content.
pub fn draft(id: &str, variant: usize, answers: usize, poison: bool) -> Draft {
    Draft {
        interview_id: Some(id.to_owned()),
        position: Some(format!("{variant}")),
        answers: (0..answers).map(|index| answer(id, variant, index, poison)).collect(),
        ..Draft::default()
    }
}

fn words() -> TokenSet {
    let mut set = TokenSet::new(VOCABULARY);
    WORDS.for_each(|token| set.insert(token));
    set
}

fn levels() -> TokenSet {
    let mut set = TokenSet::new(VOCABULARY);
    (1..=5).for_each(|token| set.insert(token));
    set
}

fn prompt(opening: &str, rest: u64) -> Vec<TokenId> {
    let word = |chance: &mut Chance| WORDS.start + chance.below(WORDS.len()) as TokenId;
    let (mut shared, mut own) = (Chance(hash(opening)), Chance(rest));
    let length = 3 + own.below(30);
    let mut tokens: Vec<_> = (0..21).map(|_| word(&mut shared)).collect();
    tokens.extend((0..length).map(|_| word(&mut own)));
    tokens
}

fn answer_spec(interview: &Interview, index: usize) -> Spec {
    let answer = &interview.answers()[index];
    let parent = answer.follow_up_of.as_ref().and_then(|id| interview.answer(id));
    let content = hash((&answer.stage, &answer.text, parent.map(|parent| &parent.text)));
    let mut tokens = prompt(&answer.stage, content);
    if answer.text.contains(DEADLY_WORD) {
        tokens.push(DEADLY);
    }
    if answer.text.contains(FAILING_WORD) {
        tokens.push(FAILING);
    }
    let rubric = rubric();
    let area = rubric.stage(&answer.stage).unwrap().area;
    let mut moves = Vec::new();
    for _ in &area.criteria {
        moves.extend([Move::Force(2), Move::Weigh(levels())]);
    }
    moves.extend(vec![Move::Choose(words()); 1 + (content % 4) as usize]);
    Spec::new(content % 1_000, tokens, moves)
}

fn narrative_spec(interview: &Interview, outcomes: &[Outcome]) -> Spec {
    let mut hasher = DefaultHasher::new();
    interview.id.as_str().hash(&mut hasher);
    for outcome in outcomes {
        outcome.verdict.score().map(Score::hundredths).hash(&mut hasher);
    }
    let content = hasher.finish();
    let moves = vec![Move::Choose(words()); 5];
    Spec::new(content % 1_000, prompt("narrative", content), moves)
}

/// What an engine is asked.
pub fn job(assign: &Assign) -> Job {
    let (spec, bank) = match &assign.task {
        Task::Answer { index } => (answer_spec(&assign.interview, *index), SCORING_BANK),
        Task::Narrative { outcomes } => (narrative_spec(&assign.interview, outcomes), NARRATIVE_BANK),
    };
    Job {
        id: assign.job,
        bank,
        alone: assign.alone,
        ..spec.job()
    }
}

/// The verdict that an output is.
pub fn read(interview: &Interview, index: usize, output: &Output) -> (Vec<CriterionScore>, String) {
    let rubric = rubric();
    let area = rubric.stage(&interview.answers()[index].stage).unwrap().area;
    let criteria = area.criteria.iter().zip(&output.distributions);
    let criteria = criteria.map(|(criterion, distribution)| {
        let mut levels = [0.0; 5];
        for (token, share) in &distribution.0 {
            levels[*token as usize - 1] = *share;
        }
        let (level, level_sd) = Level::from_distribution(levels).unwrap();
        CriterionScore {
            name: criterion.name.clone(),
            points: criterion.points,
            level,
            level_sd,
            score: level.score(criterion.points),
            evidence: None,
        }
    });
    (criteria.collect(), text(output))
}

pub fn narrative(output: &Output) -> Narrative {
    Narrative {
        summary: text(output),
        strengths: vec!["하나".to_owned()],
        improvements: vec!["둘".to_owned()],
        competencies: IndexMap::new(),
    }
}

fn text(output: &Output) -> String {
    let words: Vec<_> = output.tokens.iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// What a model of one slot writes that nobody disturbs.
fn undisturbed(spec: &Spec) -> Arc<Output> {
    thread_local! {
        static KNOWN: RefCell<HashMap<Vec<TokenId>, Arc<Output>>> = RefCell::default();
    }
    let known = KNOWN.with_borrow(|known| known.get(&spec.prompt).cloned());
    known.unwrap_or_else(|| {
        let output = Arc::new(spec.expected());
        KNOWN.with_borrow_mut(|known| known.insert(spec.prompt.clone(), Arc::clone(&output)));
        output
    })
}

/// The verdict of an answer that can be scored.
pub fn due_verdict(interview: &Interview, index: usize) -> Verdict {
    let output = undisturbed(&answer_spec(interview, index));
    let (criteria, feedback) = read(interview, index, &output);
    Verdict::Scored { criteria, feedback }
}

pub fn due_narrative(interview: &Interview, outcomes: &[Outcome]) -> Narrative {
    narrative(&undisturbed(&narrative_spec(interview, outcomes)))
}
