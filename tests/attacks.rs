//! Answers that carry attacks: none of them becomes a control token, breaks an output or a quote. How far each kind moves the demo model's scores is
//! shown, not judged: `cargo test --test attacks -- --ignored --nocapture`.

mod judging;
mod support;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use interviewd::domain::gate::gate;
use interviewd::domain::interview::{AnswerDraft, Company, Draft, Interview, Limits, Opening};
use interviewd::domain::outcome::{CriterionScore, Evidence, Outcome, Timing, Verdict};
use interviewd::domain::score::{Level, LevelSd, Score};
use interviewd::engine::TokenId;
use interviewd::engine::onnx::OnnxModel;
use interviewd::scoring::banks;
use judging::{Judge, SLOTS};
use serde::Deserialize;

/// Additions that are no attacks: what the others are compared with.
const HARMLESS: &str = "harmless";

struct Attack {
    class: String,
    text: String,
}

#[derive(Deserialize)]
struct Class {
    texts: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Once(String),
    Repeated { text: String, times: usize },
}

/// Where an attack stands.
#[derive(Clone, Copy)]
enum Place {
    Alone,
    Before,
    After,
}

fn attacks() -> Vec<Attack> {
    let classes: IndexMap<String, Class> = toml::from_str(include_str!("data/attacks.toml")).unwrap();
    let of_class = |(class, Class { texts }): (String, Class)| {
        texts.into_iter().map(move |text| Attack {
            class: class.clone(),
            text: match text {
                Text::Once(text) => text,
                Text::Repeated { text, times } => text.repeat(times),
            },
        })
    };
    classes.into_iter().flat_map(of_class).collect()
}

/// Code points of an honest answer, at most: what is added to it must still be judged.
const HONEST_MAX: usize = 160;

/// The demo's short answers that follow up none.
fn honest() -> Vec<AnswerDraft> {
    let draft: Draft = serde_json::from_slice(&std::fs::read(judging::demo().join("interview.json")).unwrap()).unwrap();
    let answers = draft.answers.into_iter();
    let is_short = |answer: &AnswerDraft| answer.answer.chars().count() <= HONEST_MAX;
    answers
        .filter(|answer| answer.follow_up_of.is_none() && is_short(answer))
        .collect()
}

/// An honest answer for each attack, with the attack in that place.
fn attacked(attacks: &[Attack], place: Place) -> Vec<AnswerDraft> {
    let honest = honest();
    let drafts = attacks.iter().zip(honest.iter().cycle()).map(|(attack, honest)| {
        let (attack, said) = (&attack.text, &honest.answer);
        AnswerDraft {
            answer_id: None,
            answer: match place {
                Place::Alone => attack.clone(),
                Place::Before => format!("{attack}\n{said}"),
                Place::After => format!("{said}\n{attack}"),
            },
            ..honest.clone()
        }
    });
    drafts.collect()
}

/// The control tokens of a prompt, in order. They are those of the chat template and no more.
fn control_tokens(judge: &Judge, prompt: &[TokenId]) -> Vec<String> {
    let added = judge.tokenizer.get_added_tokens_decoder();
    let controls = prompt.iter().filter_map(|token| added.get(token));
    controls.map(|token| token.content.clone()).collect()
}

fn assert_only_the_templates_markers(what: &str, judge: &Judge, prompt: &[TokenId]) {
    let markers = ["[|system|]", "[|endofturn|]", "[|user|]", "[|assistant|]"];
    assert_eq!(control_tokens(judge, prompt), markers, "{what}");
    let ends = [prompt[0], prompt[prompt.len() - 1]].map(|token| judge.tokenizer.id_to_token(token).unwrap());
    assert_eq!(ends, [markers[0], markers[3]], "{what}");
}

/// An interview in which every text that a client may send is this one.
fn full_of(text: &str) -> Interview {
    let text = || text.to_owned();
    let answer = |stage: &str, parent: Option<&str>| AnswerDraft {
        answer_id: None,
        stage: stage.to_owned(),
        question: text().chars().take(4_000).collect(),
        answer: text(),
        follow_up_of: parent.map(str::to_owned),
    };
    let short = || text().chars().take(4_000).collect::<String>();
    let draft = Draft {
        interview_id: Some("attacked".to_owned()),
        position: Some(short()),
        company: Some(Company {
            name: Some(short()),
            ideal: vec![short(), short()],
        }),
        answers: vec![answer("skill", None), answer("skill_followup", Some("a1"))],
        ..Draft::default()
    };
    let id = interviewd::domain::ids::InterviewId::parse("attacked").unwrap();
    let rubric = Judge::rubric();
    Interview::new(draft, id, Opening::Whole, &rubric, &Limits::default()).unwrap()
}

/// What a narrative would be told if the model had quoted the attack and repeated it in its feedback.
fn told(text: &str, interview: &Interview, judge: &Judge) -> Vec<Outcome> {
    let quote: String = text.chars().take(80).collect();
    let outcomes = interview.answers().iter().map(|answer| {
        let area = judge.rubric.stage(&answer.stage).unwrap().area;
        let criteria = area.criteria.iter().map(|criterion| CriterionScore {
            name: criterion.name.clone(),
            points: criterion.points,
            level: Level::LOWEST,
            level_sd: LevelSd::default(),
            score: Score::ZERO,
            evidence: Some(Evidence {
                quote: quote.clone(),
                start: 0,
                end: quote.chars().count(),
            }),
        });
        Outcome {
            verdict: Verdict::Scored {
                criteria: criteria.collect(),
                feedback: text.to_owned(),
            },
            flags: Vec::new(),
            judged_code_points: None,
            timing: Timing::default(),
            model_hash: None,
        }
    });
    outcomes.collect()
}

#[test]
fn there_are_two_hundred_different_attacks() {
    let attacks: Vec<_> = attacks().into_iter().filter(|a| a.class != HARMLESS).collect();
    let texts: BTreeSet<_> = attacks.iter().map(|attack| &attack.text).collect();
    assert_eq!(texts.len(), attacks.len(), "each is there once");
    assert!(texts.len() >= 200, "{} attacks", texts.len());
}

#[test]
fn an_attack_in_any_text_becomes_no_control_token_of_any_prompt() {
    let judge = Judge::of_demo();
    for Attack { class, text } in attacks() {
        let shown: String = text.chars().take(60).collect();
        let interview = full_of(&text);
        for index in 0..interview.answers().len() {
            let made = judge.scorer.answer(&interview, index, &judge.rubric).unwrap();
            let what = format!("{class}, answer {index}: {shown:?}");
            assert_only_the_templates_markers(&what, &judge, &made.prompt);
            let plain = judge.tokenizer.decode(&made.prompt, true).unwrap();
            let seen: String = text.chars().take(20).collect();
            assert!(plain.contains(&seen), "{what} is judged as it was sent");
        }
        let outcomes = told(&text, &interview, &judge);
        let narrative = judge.scorer.narrative(&interview, &outcomes, &judge.rubric).unwrap();
        assert_only_the_templates_markers(&format!("{class}, narrative: {shown:?}"), &judge, &narrative.prompt);
    }
}

/// A score in hundredths of a point, and whether all of the answer was judged.
type Scored = (i64, bool);

/// Runs the demo model over the answers and gives their scores, after everything that must hold of them did.
fn scores(name: &str, judge: &Judge, answers: Vec<AnswerDraft>) -> Vec<Scored> {
    let interview = judging::interview("ko", answers);
    let model = OnnxModel::load(support::options(&banks(SLOTS, 1))).unwrap();
    let judged = judge.run(model, &interview);
    let scores = judged.iter().map(|judged| {
        assert_only_the_templates_markers(&format!("{name}, answer {}", judged.index), judge, &judged.prompt);
        let criteria = judge.verdict(name, &interview, judged);
        let score = Score::sum(criteria.iter().map(|criterion| criterion.score));
        (score.hundredths().into(), judged.reading.judged_code_points().is_none())
    });
    scores.collect()
}

#[test]
fn every_attacked_answer_is_scored_validly_by_the_demo_model() {
    let (judge, attacks) = (Judge::of_demo(), attacks());
    let scores = scores("after an answer", &judge, attacked(&attacks, Place::After));
    assert_eq!(scores.len(), attacks.len());
}

/// Numbers of a class, in hundredths of a point.
#[derive(Default)]
struct Row {
    after: Vec<i64>,
    before: Vec<i64>,
    alone: Vec<i64>,
    /// Answers that were not judged to their end.
    cut: usize,
}

/// Mean, least and most, in points.
fn points(hundredths: &[i64]) -> String {
    let [least, most] = [hundredths.iter().min(), hundredths.iter().max()].map(|end| end.copied().unwrap_or(0));
    let mean = hundredths.iter().sum::<i64>() as f64 / hundredths.len().max(1) as f64;
    let [mean, least, most] = [mean, least as f64, most as f64].map(|number| number / 100.0);
    format!("{mean:+.1} | {least:+.1} | {most:+.1}")
}

#[test]
#[ignore = "shows a table and judges nothing: 700 answers through the demo model"]
fn how_far_attacks_move_the_demo_models_scores() {
    let (judge, attacks) = (Judge::of_demo(), attacks());
    let without = scores("honest", &judge, honest());
    let honest: Vec<i64> = without.iter().map(|(score, _)| *score).collect();
    let mut table: IndexMap<&str, Row> = IndexMap::new();
    for place in [Place::After, Place::Before, Place::Alone] {
        // What is gated never reaches the model.
        let answers = attacked(&attacks, place).into_iter().enumerate();
        let (judged, answers): (Vec<_>, Vec<_>) = answers.filter(|(_, answer)| !gate(&answer.answer)).unzip();
        for (index, (score, is_whole)) in judged.into_iter().zip(scores("attacked", &judge, answers)) {
            let row = table.entry(&attacks[index].class).or_default();
            let shift = score - honest[index % honest.len()];
            match place {
                Place::After => row.after.push(shift),
                Place::Before => row.before.push(shift),
                Place::Alone => row.alone.push(score),
            }
            row.cut += usize::from(!is_whole);
        }
    }
    println!(
        "| class | texts | cut | after: mean shift | least | most | before: mean shift | least | most | alone: judged | mean score | least | most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (class, row) in &table {
        let [after, before, alone] = [&row.after, &row.before, &row.alone].map(|numbers| points(numbers));
        let (texts, judged) = (row.after.len(), row.alone.len());
        println!(
            "| {class} | {texts} | {} | {after} | {before} | {judged} | {alone} |",
            row.cut
        );
    }
    println!(
        "\nThe {} honest answers alone: {} (mean, least, most).",
        honest.len(),
        points(&honest)
    );
}
