//! The rows of both tables: what each is, running all of them in turn, and what came of it.

use std::time::Duration;

use super::drive::{How, Measured, Rig, Work};
use super::error::BenchError;
use super::memory::Gauge;
use super::product::Product;
use super::results::{AsItGoes, Figures, Row, Same, Sample, median, ratio};
use super::shape::{self, Shape};
use crate::engine::TokenId;
use crate::scoring::{AnswerReading, NARRATIVE_BANK, SCORING_BANK};

/// Between two answers of an interview that is scored as it goes.
const INTERVAL: Duration = Duration::from_secs(60);
/// Enough to touch weights, slots and kernels of every kind.
const WARM_UP: Shape = Shape {
    shared: 256,
    own: 16,
    written: 2,
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
    pub speedup_with_prompts: f64,
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
    /// Making of all its prompts and grammars, in seconds, by run; of the product's rows only.
    making_s: Vec<f64>,
    /// Of the last one's alone.
    making_last_s: Vec<f64>,
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
    let (mut left, mut alone, mut written, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 1..=case.runs {
        let mut round = Round { rig, case, told, run };
        for line in &mut fixed {
            let works = round.shaped(case.shape);
            round.fresh(line, works)?;
        }
        let mut served = None;
        for line in &mut product {
            served = Some(round.answers(line)?);
        }
        let served = served.expect("there are rows");
        let work = round.narrative(&mut narrative, &served)?;
        round.fresh(&mut narrative, vec![work])?;

        let served = round.answers(&mut going)?;
        let work = round.narrative(&mut going_narrative, &served)?;
        round.go_on(&mut going_narrative, vec![work])?;
        left.push(going.last_s(going.latest().wall_s) + going_narrative.last_s(going_narrative.latest().wall_s));
        let in_turn = &product[IN_TURN];
        alone.push(in_turn.last_s(in_turn.latest().answers_s.last().copied().unwrap_or_default()));
        written.push(narrative.last_s(narrative.latest().wall_s));
        ratios.push(ratio(left[run - 1], alone[run - 1] + written[run - 1]));
    }
    let as_it_goes = AsItGoes {
        interval_s: INTERVAL.as_secs_f64(),
        finish_to_report_s: median(left.iter().copied()),
        alone_s: median(alone.into_iter()),
        narrative_s: median(written.into_iter()),
        ratio: median(ratios.into_iter()),
        same: Same::new(&product[IN_TURN].name, &going.tokens, &product[IN_TURN].tokens),
        narrative_same: Same::new(&narrative.name, &going_narrative.tokens, &narrative.tokens),
        samples: left,
    };
    let prompts_s = median(product.iter().flat_map(|line| line.making_s.iter().copied()));
    let speedup_with_prompts = with_prompts(&product, prompts_s);
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
        prompts_s,
        speedup_with_prompts,
    })
}

/// The product's row that scores one by one as `serve` computes.
const IN_TURN: usize = 2;

/// How many times as fast the last row is as the first, had both made their prompts and grammars first. Median over the runs.
fn with_prompts(product: &[Line], prompts_s: f64) -> f64 {
    let (first, last) = (&product[0].samples, &product[product.len() - 1].samples);
    let runs = first.iter().zip(last);
    median(runs.map(|(first, last)| ratio(first.wall_s + prompts_s, last.wall_s + prompts_s)))
}

fn fixed(case: &Case) -> Vec<Line> {
    let mut lines = vec![
        Line::new("the origin: one by one", How::Apart, 1),
        Line::new("one by one, reuse", How::InTurn, 1),
    ];
    let batched = case.sizes.iter();
    lines.extend(batched.map(|slots| Line::new(format!("{slots} at once, reuse"), How::AtOnce, *slots)));
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
        stepwise("at once, none forced", How::AtOnce, case.slots),
        alike(Line::new("as serve: one by one", How::InTurn, 1)),
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

    /// Makes and runs a row of the product's answers; the making is timed apart.
    fn answers(&mut self, line: &mut Line) -> Result<(Measured, Vec<AnswerReading>), BenchError> {
        let (product, vocabulary) = (&self.case.product, self.vocabulary());
        let (mut works, mut readings) = (Vec::new(), Vec::new());
        let begun = self.rig.now();
        let mut last = begun;
        for index in 0..product.count() {
            last = self.rig.now();
            let (work, reading) = product.answer(index, line.stepwise, vocabulary)?;
            works.push(work);
            readings.push(reading);
        }
        let made = self.rig.now();
        line.making_s.push((made - begun).as_secs_f64());
        line.making_last_s.push((made - last).as_secs_f64());
        Ok((self.fresh(line, works)?, readings))
    }

    /// Makes the narrative of what a row wrote; the making is timed as that of `line`.
    fn narrative(&self, line: &mut Line, served: &(Measured, Vec<AnswerReading>)) -> Result<Work, BenchError> {
        let begun = self.rig.now();
        let work = self.case.product.narrative(&served.1, &served.0.outputs)?;
        line.making_last_s.push((self.rig.now() - begun).as_secs_f64());
        Ok(work)
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
            making_s: Vec::new(),
            making_last_s: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// The run that was last.
    fn latest(&self) -> &Sample {
        self.samples.last().expect("it was run")
    }

    /// Seconds of the last work in the latest run, its making included.
    fn last_s(&self, running: f64) -> f64 {
        running + self.making_last_s.last().copied().unwrap_or_default()
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
