//! What each answer and each token costs beside the model, at the vocabulary of EXAONE 3.5: 102,400 tokens.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use interviewd::engine::TokenId;
use interviewd::engine::choice::greedy;
use interviewd::engine::constraint::{Constraint, Next};
use interviewd::scoring::Scorer;
use serde_json::{Map, Value};
use support::{ANSWERS, demo, interview, outcomes, rubric};

const VOCABULARY: usize = 102_400;

/// The demo's tokenizer, with pairs of its tokens as further tokens: prompts are cut as ever, but masks have the large vocabulary to go through.
fn large_tokenizer(folder: &Path) {
    let text = std::fs::read_to_string(demo().join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    let special: Vec<_> = tokenizer["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["content"].clone())
        .collect();
    let words: &mut Map<String, Value> = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let ordinary: Vec<_> = words
        .keys()
        .filter(|word| special.iter().all(|s| s != *word))
        .cloned()
        .collect();
    let pairs = (1..ordinary.len()).flat_map(|apart| ordinary.iter().zip(ordinary.iter().cycle().skip(apart)));
    for (first, second) in pairs {
        if words.len() == VOCABULARY {
            break;
        }
        let next = words.len();
        words.entry(format!("{first}{second}")).or_insert(next.into());
    }
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::copy(demo().join("chat_template.jinja"), folder.join("chat_template.jinja")).unwrap();
}

fn scorer() -> Scorer {
    let folder = tempfile::tempdir().unwrap();
    large_tokenizer(folder.path());
    Scorer::load(folder.path(), "chat_template.jinja", &[6], VOCABULARY).unwrap()
}

/// Logits without pattern; a window into them is a row, another one at every step.
struct Noise(Vec<f32>);

impl Noise {
    fn new() -> Self {
        let value = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32;
        Self((0..2 * VOCABULARY as u64).map(value).collect())
    }

    fn row(&self, step: usize) -> &[f32] {
        &self.0[step * 7_919 % VOCABULARY..][..VOCABULARY]
    }
}

/// Goes to the next choice and makes it. False at the end.
fn turn(constraint: &mut dyn Constraint, logits: &[f32]) -> bool {
    loop {
        match constraint.next().unwrap() {
            Next::Forced(_) => continue,
            Next::End => return false,
            Next::Choose | Next::Weigh => {}
        }
        let token: TokenId = greedy(logits, constraint.allowed().unwrap()).unwrap();
        constraint.chosen(token).unwrap();
        return true;
    }
}

/// Mask and choice for 17 rows: what a joint decode step costs beside the model, if nothing of it is hidden behind the model's run.
fn masks(criterion: &mut Criterion) {
    let (scorer, rubric, interview, noise) = (scorer(), rubric(), interview("iv"), Noise::new());
    let row = |index: usize| scorer.answer(&interview, index % ANSWERS, &rubric).unwrap().constraint;
    criterion.bench_function("mask and choice, 17 rows", |bencher| {
        let mut rows: Vec<_> = (0..ANSWERS).map(row).collect();
        let mut step = 0;
        bencher.iter_custom(|steps| {
            let mut spent = Duration::ZERO;
            for _ in 0..steps {
                step += 1;
                let begun = Instant::now();
                let goes_on: Vec<_> = rows
                    .iter_mut()
                    .enumerate()
                    .map(|(i, row)| turn(&mut **row, noise.row(step + i)))
                    .collect();
                spent += begun.elapsed();
                for index in (0..ANSWERS).filter(|index| !goes_on[*index]) {
                    rows[index] = row(index);
                }
            }
            spent
        });
    });
}

/// Prompt and grammar of one answer and of the narrative: made beside the decoding, but on a core that the model wants as well.
fn prompts(criterion: &mut Criterion) {
    let (scorer, rubric, interview) = (scorer(), rubric(), interview("iv"));
    let outcomes = outcomes(&interview);
    criterion.bench_function("prompt of an answer", |bencher| {
        bencher.iter(|| scorer.answer(&interview, 1, &rubric).unwrap().prompt.len());
    });
    criterion.bench_function("prompt of a narrative", |bencher| {
        bencher.iter(|| scorer.narrative(&interview, &outcomes, &rubric).unwrap().prompt.len());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = masks, prompts
}
criterion_main!(benches);
