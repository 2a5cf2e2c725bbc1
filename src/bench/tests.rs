//! That the rows are what they say, on a model without weights and a clock that only its runs move.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::constraints::{Stepwise, free};
use super::drive::{How, Rig, Work};
use super::error::BenchError;
use super::memory::Gauge;
use super::product::Product;
use super::shape::{self, Shape};
use super::tables::{Case, Tables, measure};
use super::timed::Clock;
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::engine::constraint::{Constraint, ConstraintError, Next, TokenSet};
use crate::engine::model::{DecodeRow, Model, ModelError, ModelShape, SlotId};
use crate::engine::simulated::{Fault, Script, Simulated, When};
use crate::engine::{Options, TokenId};
use crate::scoring::{self, SCORING_BANK, Scorer};

const VOCABULARY: usize = 8_192;
const EOS: TokenId = 6;

/// Every run takes so long, on the clock that it moves itself.
struct Paced {
    model: Simulated,
    run: Duration,
    millis: Arc<AtomicU64>,
}

impl Paced {
    fn pass(&self) {
        self.millis.fetch_add(self.run.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Model for Paced {
    fn shape(&self) -> &ModelShape {
        self.model.shape()
    }

    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError> {
        self.pass();
        self.model.prefill(slot, past, tokens, wanted)
    }

    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
        self.pass();
        self.model.decode(bank, first, rows)
    }

    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
        self.model.copy_prefix(from, to, tokens)
    }

    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        self.model.resize(bank, slots)
    }
}

fn rig(run: Duration, script: Script) -> Rig {
    let shape = ModelShape {
        vocabulary: VOCABULARY,
        query_tile: 16,
        banks: scoring::banks(4, 1),
    };
    let millis = Arc::new(AtomicU64::new(0));
    let model = Paced {
        model: Simulated::new(shape, 7).with_script(script),
        run,
        millis: Arc::clone(&millis),
    };
    let clock: Clock = Arc::new(move || Duration::from_millis(millis.load(Ordering::Relaxed)));
    Rig::new(
        Box::new(model),
        Options {
            chunk_tokens: 256,
            gap: 1,
        },
        clock,
    )
}

fn works(count: usize, written: usize) -> Vec<Work> {
    let shape = Shape {
        shared: 2,
        own: 2,
        written,
    };
    shape::works(shape, count, VOCABULARY, &[EOS], &[EOS])
}

fn measured(answers: usize, runs: usize) -> Tables {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let scorer = Scorer::load(&demo, "chat_template.jinja", &[EOS], VOCABULARY).unwrap();
    let rubric = Arc::new(Rubric::parse(DEFAULT).unwrap());
    let case = Case {
        shape: Shape {
            shared: 64,
            own: 20,
            written: 8,
        },
        answers,
        runs,
        sizes: vec![2, 3],
        slots: 4,
        control: vec![EOS],
        eos: vec![EOS],
        kv_bytes_per_token: 10,
        product: Product::new(Arc::new(scorer), rubric, answers).unwrap(),
        gauge: Gauge::new(None),
    };
    let mut told = Vec::new();
    let mut rig = rig(Duration::from_millis(10), Script::default());
    let tables = measure(&mut rig, &case, &mut |of| {
        told.push((of.run, of.row.to_owned(), of.done))
    })
    .unwrap();
    assert_eq!(told[0], (0, "warm-up".to_owned(), 0));
    assert_eq!(told.last().unwrap(), &(runs, "its narrative".to_owned(), 1));
    tables
}

#[test]
fn both_tables_are_what_they_say() {
    let tables = measured(3, 2);
    let rows = || tables.fixed.iter().chain(&tables.product).chain([&tables.narrative]);
    for row in rows() {
        assert_eq!(row.samples.len(), 2, "{}", row.name);
        assert_eq!(
            row.samples[0].wall_s, row.samples[1].wall_s,
            "{}: the same work",
            row.name
        );
        assert_eq!(row.median.model_share, 1.0, "{}: only runs take time", row.name);
        let same = row.same.as_ref().unwrap();
        assert_eq!((same.equal, &same.first_difference), (same.of, &None), "{}", row.name);
    }

    let fixed = |row: usize| &tables.fixed[row].samples[0];
    let reused: Vec<_> = (0..4).map(|row| fixed(row).reused_tokens).collect();
    assert_eq!(
        reused,
        [0, 2 * 64, 2 * 64, 2 * 64],
        "the shared tokens of all but the first"
    );
    assert_eq!(fixed(0).chunk_tokens, 3 * (64 + 20));
    assert_eq!(fixed(0).prompt_tokens, fixed(1).chunk_tokens + fixed(1).reused_tokens);
    assert!((0..4).all(|row| fixed(row).written_tokens == 3 * 8 && fixed(row).forced_tokens == 0));
    let slots: Vec<_> = tables.fixed.iter().map(|row| (row.slots, row.kv_bytes)).collect();
    assert_eq!(slots, [(1, 10_240), (1, 10_240), (2, 20_480), (3, 30_720)]);
    // One by one every run has one row; three at once decode together once all are read.
    assert_eq!(tables.fixed[0].median.rows_per_decode, 1.0);
    assert!(tables.fixed[3].median.rows_per_decode > 1.5);
    let faster: Vec<_> = tables.fixed.iter().map(|row| row.median.speedup).collect();
    assert!(
        faster[0] == 1.0 && faster[3] > faster[2] && faster[2] > 1.0,
        "{faster:?}"
    );

    let product = |row: usize| &tables.product[row].samples[0];
    let origin = product(0);
    assert_eq!((origin.reused_tokens, origin.forced_tokens), (0, 0));
    assert_eq!(
        origin.chunk_tokens, origin.prompt_tokens,
        "nothing but prompts goes as a chunk"
    );
    assert_eq!(origin.decodes, origin.written_tokens - 3, "a decode each but the first");
    assert_eq!(product(1).forced_tokens, 0);
    assert!(product(1).reused_tokens > 0 && product(1).decodes < origin.decodes);
    assert!(product(2).forced_tokens > 0 && product(3).forced_tokens == product(2).forced_tokens);
    assert!(product(3).wall_s < product(2).wall_s && product(2).wall_s < origin.wall_s);
    assert_eq!(tables.narrative.kv_bytes, 2_176 * 10);

    let going = &tables.as_it_goes;
    assert_eq!((going.same.equal, going.narrative_same.equal), (3, 1));
    assert_eq!(going.alone_s, *product(2).answers_s.last().unwrap());
    // Every answer but the last was done long before the last came, and what they left in the slots is used by it.
    assert!(going.ratio > 0.0 && going.ratio <= 1.0, "{}", going.ratio);
    let sum = going.alone_s + going.narrative_s;
    assert!((going.finish_to_report_s / sum - going.ratio).abs() < 1e-9);
}

#[test]
fn answers_that_come_slower_than_they_are_scored_wait_for_nothing() {
    let mut rig = rig(Duration::from_secs(5), Script::default());
    let every = Duration::from_secs(60);
    let measured = rig.run("row", How::Arriving(every), works(3, 2), &mut |_| ()).unwrap();
    // A prefill, which gives the first token, and a decode.
    assert_eq!(measured.took, [Duration::from_secs(10); 3]);
    assert_eq!(measured.wall, Duration::from_secs(10));
    assert_eq!((measured.usage.prefills, measured.usage.decodes), (3, 3));
}

#[test]
fn answers_that_come_faster_than_they_are_scored_share_the_steps() {
    let mut rig = rig(Duration::from_secs(50), Script::default());
    let every = Duration::from_secs(60);
    let measured = rig.run("row", How::Arriving(every), works(3, 3), &mut |_| ()).unwrap();
    // At 100 s the first has two tokens and the second comes in; in the step to 200 s it is read, and both decode together. The third comes in
    // then, is read and decodes together with the second, and ends alone at 350 s.
    let usage = measured.usage;
    assert_eq!((usage.prefills, usage.decodes, usage.rows), (3, 4, 6));
    assert_eq!(usage.inside, Duration::from_secs(350));
    assert_eq!(measured.wall, Duration::from_secs(350 - 120));
    // Each is timed from its arrival at 0 s, 60 s and 120 s, though the engine was in a step then.
    assert_eq!(measured.took[2], measured.wall);
}

#[test]
fn an_answer_that_fails_ends_it_with_row_answer_and_reason() {
    let script = Script::default().with(When::Call(3), Fault::Failed);
    let mut rig = rig(Duration::ZERO, script);
    let failed = rig.run("some row", How::InTurn, works(2, 2), &mut |_| ()).unwrap_err();
    assert_eq!(failed.to_string(), "some row: answer 2 was not written");
    let BenchError::Answer { source, .. } = failed else {
        panic!("{failed}");
    };
    assert!(source.to_string().contains("scripted at call 3"));
}

#[test]
fn the_second_of_equal_answers_computes_two_tokens_unless_they_are_apart() {
    let reused = |how| {
        let mut rig = rig(Duration::ZERO, Script::default());
        rig.prepare(1).unwrap();
        let twice = works(1, 2).into_iter().chain(works(1, 2)).collect();
        let measured = rig.run("row", how, twice, &mut |_| ()).unwrap();
        assert_eq!(measured.outputs[0].tokens, measured.outputs[1].tokens);
        measured.outputs[1].reused
    };
    assert_eq!((reused(How::InTurn), reused(How::Apart)), (2, 0));
}

/// Forces two tokens, offers two, forces one.
struct Sandwich {
    stage: usize,
    offered: TokenSet,
    chosen: Option<TokenId>,
}

impl Constraint for Sandwich {
    fn next(&mut self) -> Result<Next<'_>, ConstraintError> {
        self.stage += 1;
        Ok(match (self.stage, self.chosen) {
            (1, _) => Next::Forced(&[10, 11]),
            (_, None) => Next::Choose,
            (_, Some(_)) if self.stage < 5 => Next::Forced(&[12]),
            _ => Next::End,
        })
    }

    fn allowed(&mut self) -> Result<&TokenSet, ConstraintError> {
        Ok(&self.offered)
    }

    fn chosen(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        self.stage = 3;
        self.chosen = Some(token);
        Ok(())
    }
}

#[test]
fn forced_tokens_are_choices_among_one_where_they_are_decoded_one_by_one() {
    let mut offered = TokenSet::new(VOCABULARY);
    [20, 21].into_iter().for_each(|token| offered.insert(token));
    let sandwich = Sandwich {
        stage: 0,
        offered,
        chosen: None,
    };
    let work = Work {
        constraint: Box::new(Stepwise::new(Box::new(sandwich), VOCABULARY)),
        output_max: 10,
        ..works(1, 1).remove(0)
    };
    let mut rig = rig(Duration::ZERO, Script::default());
    let output = rig
        .run("row", How::AtOnce, vec![work], &mut |_| ())
        .unwrap()
        .outputs
        .remove(0);
    assert_eq!(output.forced, 0);
    let [10, 11, 20 | 21, 12] = output.tokens[..] else {
        panic!("{:?}", output.tokens);
    };
}

#[test]
fn a_free_choice_is_never_of_a_token_that_ends_a_turn() {
    let mut free = free(70, &[EOS], 1);
    assert_eq!(free.next(), Ok(Next::Choose));
    let allowed = free.allowed().unwrap();
    assert_eq!(allowed.iter().count(), 69);
    assert!(!allowed.contains(EOS));
    free.chosen(3).unwrap();
    assert_eq!(free.next(), Ok(Next::End));
    assert_eq!(works(1, 2)[0].bank, SCORING_BANK);
}
