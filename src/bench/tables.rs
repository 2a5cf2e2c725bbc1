//! The rows of both tables: what each is, running all of them in turn, and what came of it.

use std::time::Duration;

use super::drive::{How, Measured, Rig, Work};
use super::error::BenchError;
use super::memory::Gauge;
use super::product::Product;
use super::results::{AsItGoes, Figures, Row, Same, Sample, median, ratio};
use super::shape::{self, Shape};
use crate::engine::TokenId;
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK};

/// Between two answers of an interview that is scored as it goes.
const INTERVAL: Duration = Duration::from_secs(60);
/// Enough to touch weights, slots and kernels of every kind.
const WARM_UP: Shape = Shape {
    shared: 256,
    own: 32,
    written: 4,
};

/// Everything that the tables depend on, besides the engine.
pub struct Case {
    pub shape: Shape,
    pub answers: usize,
    pub runs: usize,
    /// Slots of the batched rows of the fixed shape, in ascending order.
    pub sizes: Vec<usize>,
    /// Slots of the plan.
    pub slots: usize,
    /// Tokens that stand in no prompt, and that are never written.
    pub control: Vec<TokenId>,
    pub eos: Vec<TokenId>,
    pub kv_bytes_per_token: u64,
    pub product: Product,
    pub gauge: Gauge,
}

/// What is being run, as progress is shown.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// From 1; 0 is the warm-up.
    pub run: usize,
    pub row: &'a str,
    /// Answers that have ended, of so many.
    pub done: usize,
    pub of: usize,
}

/// What the rows came to.
pub struct Tables {
    pub fixed: Vec<Row>,
    pub product: Vec<Row>,
    pub narrative: Row,
    pub as_it_goes: AsItGoes,
    pub prompts_s: f64,
}

/// A row with what was measured so far.
struct Line {
    name: String,
    how: How,
    slots: usize,
    /// Whether forced tokens are decoded one by one.
    stepwise: bool,
    /// Which row of its table must have written the same.
    alike: usize,
    samples: Vec<Sample>,
    /// By run and answer.
    tokens: Vec<Vec<Vec<TokenId>>>,
}

/// Runs every row `runs` times, round by round, so that a machine that grows slower does so for all alike.
pub fn measure(rig: &mut Rig, case: &Case, told: &mut dyn FnMut(Told)) -> Result<Tables, BenchError> {
    warm_up(rig, case, told)?;
    let (mut fixed, mut product) = (fixed(case), product(case));
    let mut narrative = Line::new("narrative", How::AtOnce, case.slots);
    let mut going = Line::new("score as you go", How::Arriving(INTERVAL), case.slots);
    let mut going_narrative = Line::new("its narrative", How::AtOnce, case.slots);
    let (mut prompts, mut left, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=case.runs {
        let mut round = Round { rig, case, told, run };
        for line in &mut fixed {
            let works = round.shaped(case.shape);
            round.fresh(line, works)?;
        }
        let mut served = None;
        for line in &mut product {
            let begun = round.rig.now();
            let (works, readings) = case.product.answers(line.stepwise, round.vocabulary())?;
            prompts.push((round.rig.now() - begun).as_secs_f64());
            served = Some((round.fresh(line, works)?, readings));
        }
        let (measured, readings) = served.expect("there are rows");
        let work = case.product.narrative(&readings, &measured.outputs)?;
        round.fresh(&mut narrative, vec![work])?;

        let (works, readings) = case.product.answers(false, round.vocabulary())?;
        let measured = round.fresh(&mut going, works)?;
        let begun = round.rig.now();
        let work = case.product.narrative(&readings, &measured.outputs)?;
        let making = round.rig.now() - begun;
        let last = round.go_on(&mut going_narrative, vec![work])?;
        let total = (measured.wall + making + last.wall).as_secs_f64();
        left.push(total);
        ratios.push(ratio(total, alone(&product, run) + narrative.samples[run - 1].wall_s));
    }
    let as_it_goes = AsItGoes {
        interval_s: INTERVAL.as_secs_f64(),
        finish_to_report_s: median(left.iter().copied()),
        alone_s: median((1..=case.runs).map(|run| alone(&product, run))),
        narrative_s: median(narrative.samples.iter().map(|sample| sample.wall_s)),
        ratio: median(ratios.into_iter()),
        same: Same::new(&product[IN_TURN].name, &going.tokens, &product[IN_TURN].tokens),
        narrative_same: Same::new(&narrative.name, &going_narrative.tokens, &narrative.tokens),
        samples: left,
    };
    let context = |bank: usize| rig.shape().banks[bank].context;
    let bytes = |slots: usize, context: usize| (slots * context) as u64 * case.kv_bytes_per_token;
    let scoring = context(SCORING_BANK);
    let scored = |slots: usize| bytes(slots, scoring);
    let narrative_slots = rig.shape().banks[NARRATIVE_BANK].slots;
    narrative.slots = narrative_slots;
    let narrative_kv = bytes(narrative_slots, context(NARRATIVE_BANK));
    Ok(Tables {
        fixed: rows(&fixed, scored),
        product: rows(&product, scored),
        narrative: rows(&[narrative], |_| narrative_kv).remove(0),
        as_it_goes,
        prompts_s: median(prompts.into_iter()),
    })
}

/// The product's row that scores one by one as `serve` computes.
const IN_TURN: usize = 2;

/// How long the last answer took there.
fn alone(product: &[Line], run: usize) -> f64 {
    product[IN_TURN].samples[run - 1]
        .answers_s
        .last()
        .copied()
        .unwrap_or_default()
}

fn fixed(case: &Case) -> Vec<Line> {
    let mut lines = vec![
        Line::new("the origin: one by one", How::Apart, 1),
        Line::new("one by one, prefix reused", How::InTurn, 1),
    ];
    let batched = case.sizes.iter();
    lines.extend(batched.map(|slots| Line::new(format!("{slots} at once, prefix reused"), How::AtOnce, *slots)));
    lines
}

fn product(case: &Case) -> Vec<Line> {
    let stepwise = |name, how, slots| Line {
        stepwise: true,
        ..Line::new(name, how, slots)
    };
    let alike = |line| Line { alike: IN_TURN, ..line };
    vec![
        stepwise("the origin: one by one", How::Apart, 1),
        stepwise("at once, no forced chunks", How::AtOnce, case.slots),
        alike(Line::new("one by one, reuse, forced", How::InTurn, 1)),
        alike(Line::new("as serve: all at once", How::AtOnce, case.slots)),
    ]
}

fn warm_up(rig: &mut Rig, case: &Case, told: &mut dyn FnMut(Told)) -> Result<(), BenchError> {
    let slots = case.sizes.iter().copied().max().unwrap_or(1).max(case.slots);
    let mut line = Line::new("warm-up", How::AtOnce, slots);
    let mut round = Round {
        rig,
        case,
        told,
        run: 0,
    };
    let works = round.shaped(WARM_UP);
    round.fresh(&mut line, works)?;
    Ok(())
}

/// One run of all rows.
struct Round<'a> {
    rig: &'a mut Rig,
    case: &'a Case,
    told: &'a mut dyn FnMut(Told<'_>),
    run: usize,
}

impl Round<'_> {
    fn vocabulary(&self) -> usize {
        self.rig.shape().vocabulary
    }

    fn shaped(&self, shape: Shape) -> Vec<Work> {
        let case = self.case;
        shape::works(shape, case.answers, self.vocabulary(), &case.control, &case.eos)
    }

    /// Runs a row in as many slots as it has, with nothing in them.
    fn fresh(&mut self, line: &mut Line, works: Vec<Work>) -> Result<Measured, BenchError> {
        self.rig.prepare(line.slots)?;
        self.go_on(line, works)
    }

    /// Runs a row in the slots as they are.
    fn go_on(&mut self, line: &mut Line, works: Vec<Work>) -> Result<Measured, BenchError> {
        let (run, row, of) = (self.run, line.name.as_str(), works.len());
        (self.told)(Told { run, row, done: 0, of });
        let gauge = &self.case.gauge;
        gauge.begin();
        let mut ended = |done| (self.told)(Told { run, row, done, of });
        let measured = self.rig.run(row, line.how, works, &mut ended)?;
        line.samples.push(Sample::new(&measured, gauge.peak(), gauge.card()));
        let tokens = measured.outputs.iter().map(|output| output.tokens.clone());
        line.tokens.push(tokens.collect());
        Ok(measured)
    }
}

impl Line {
    fn new(name: impl Into<String>, how: How, slots: usize) -> Self {
        Self {
            name: name.into(),
            how,
            slots,
            stepwise: false,
            alike: 0,
            samples: Vec::new(),
            tokens: Vec::new(),
        }
    }

    fn row(&self, first: &Self, kv_bytes: u64, same: Option<Same>) -> Row {
        Row {
            name: self.name.clone(),
            slots: self.slots,
            kv_bytes,
            median: Figures::of(&self.samples, &first.samples),
            same,
            samples: self.samples.clone(),
        }
    }
}

/// `kv_bytes`: of so many slots.
fn rows(lines: &[Line], kv_bytes: impl Fn(usize) -> u64) -> Vec<Row> {
    let row = |(index, line): (usize, &Line)| {
        let other = &lines[line.alike];
        // A row is held against itself, too, where there are several runs of it.
        let same = (line.alike != index || line.samples.len() > 1)
            .then(|| Same::new(&other.name, &line.tokens, &other.tokens));
        line.row(&lines[0], kv_bytes(line.slots), same)
    };
    lines.iter().enumerate().map(row).collect()
}
