//! A text's limit is kept by the outline where the grammar does not count: step by step the same is forced and allowed as under a grammar that does.

use std::sync::Arc;

use super::adversaries::tastes;
use super::constants::{NarrativeLimits, ScoreLimits};
use super::constraint::GrammarConstraint;
use super::outline::Outline;
use super::scorer::Scorer;
use super::tests::{rubric, scorer};
use crate::engine::constraint::{Constraint, Next};

/// Beyond what any output comes to: what its budget forbids is another matter.
const ROOM: usize = 4_000;
const COMPETENCIES: [&str; 2] = ["growth", "technical"];

/// One answer's output and one narrative's, with texts counted by the grammar or by the outline.
fn constraints(scorer: &Scorer, answer: &str, counted: bool) -> [GrammarConstraint; 2] {
    let rubric = rubric();
    let area = &rubric.areas[0];
    let names: Vec<_> = area.criteria.iter().map(|c| c.name.as_str()).collect();
    let competencies = COMPETENCIES.map(str::to_owned);
    let of_answer = scorer.prompts.score_grammar(area, answer, counted).unwrap();
    let of_narrative = scorer.prompts.narrative_grammar(&competencies, counted).unwrap();
    let (score, narrative) = limits(scorer, counted);
    let (encoder, vocabulary) = (|| Arc::clone(&scorer.encoder), &scorer.vocabulary);
    let score = Outline::score(&names, &score, encoder(), vocabulary);
    let narrative = Outline::narrative(&competencies, &narrative, encoder(), vocabulary);
    let compile = |what, lark, outline| scorer.compiler.compile(what, lark, outline, ROOM).unwrap();
    [
        compile("an answer", of_answer, score),
        compile("a narrative", of_narrative, narrative),
    ]
}

/// The outline's limits: none where the grammar counts.
fn limits(scorer: &Scorer, counted: bool) -> (ScoreLimits, NarrativeLimits) {
    let constants = scorer.constants();
    let (mut score, mut narrative) = (constants.score.limits.clone(), constants.narrative.limits.clone());
    if counted {
        (score.evidence, score.feedback) = (usize::MAX, usize::MAX);
        (narrative.summary, narrative.point, narrative.competency) = (usize::MAX, usize::MAX, usize::MAX);
    }
    (score, narrative)
}

#[test]
fn limits_are_the_same_whoever_counts() {
    let scorer = scorer();
    let rule = "-".repeat(scorer.constants().score.limits.evidence - 1);
    for answer in [
        "저는 \"로그\"를 읽고\n\\경로\\를 고쳤습니다. 😀 That took 3 weeks. ".repeat(12),
        // The last code point is an escape, and which one is open.
        format!("{rule}\n{rule}\t{rule}\\{rule}"),
    ] {
        the_same_whoever_counts(&scorer, &answer);
    }
}

fn the_same_whoever_counts(scorer: &Scorer, answer: &str) {
    for (number, (what, _)) in tastes(&scorer.vocabulary).into_iter().enumerate() {
        let pairs = constraints(scorer, answer, false)
            .into_iter()
            .zip(constraints(scorer, answer, true));
        for (mut ours, mut theirs) in pairs {
            let mut output = Vec::new();
            let (_, mut taste) = tastes(&scorer.vocabulary).swap_remove(number);
            loop {
                let (step, expected) = (ours.next().unwrap(), theirs.next().unwrap());
                let told = |next: &Next| match next {
                    Next::Forced(tokens) => String::from_utf8_lossy(&scorer.vocabulary.joined(tokens)).into_owned(),
                    other => format!("{other:?}"),
                };
                assert_eq!(
                    told(&step),
                    told(&expected),
                    "{what}, behind {}",
                    String::from_utf8_lossy(&output)
                );
                assert_eq!(step, expected, "{what}");
                if let Next::Forced(tokens) = step {
                    output.extend(scorer.vocabulary.joined(tokens));
                }
                match step {
                    Next::Forced(_) => continue,
                    Next::End => break,
                    Next::Choose | Next::Weigh => {}
                }
                let (allowed, expected) = (ours.allowed().unwrap(), theirs.allowed().unwrap());
                assert_eq!(allowed, expected, "{what}");
                let token = taste.choose(allowed);
                output.extend(scorer.vocabulary.bytes(token));
                ours.chosen(token).unwrap();
                theirs.chosen(token).unwrap();
            }
        }
    }
}
