//! The engine on a simulated model: what all of its tests use, and an oracle that knows no scheduling.

mod failures;
mod order;
mod reuse;
mod same;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::constraint::{Constraint, ConstraintError, Next, TokenSet};
use super::job::{Failure, Job, JobEvent, JobId, Output};
use super::model::{BankShape, DecodeRow, Model, ModelError, ModelShape, OVER, SlotId};
use super::scheduler::Cutting;
use super::simulated::Simulated;
use super::{Engine, Options, TokenId, choice};

pub(crate) const VOCABULARY: usize = 97;
const TILE: usize = 16;
const CHUNK: usize = 48;
const CONTEXT: usize = 1_600;
const SEED: u64 = 11;

type Outcomes = BTreeMap<JobId, Result<Output, Failure>>;

/// One move of a grammar.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    /// So many tokens, which follow from what was chosen before.
    Force(usize),
    Choose(TokenSet),
    Weigh(TokenSet),
    /// The grammar can't go on.
    Break,
}

/// A grammar that plays its moves, then ends; and insists on being asked and told in turns.
pub(crate) struct Grammar {
    moves: std::vec::IntoIter<Move>,
    now: Option<Move>,
    /// Whether it was asked what the move allows.
    asked: bool,
    forced: Vec<TokenId>,
    state: u32,
}

impl Constraint for Grammar {
    fn next(&mut self) -> Result<Next<'_>, ConstraintError> {
        assert!(self.now.is_none(), "it waits to be told what was chosen");
        match self.moves.next() {
            None => Ok(Next::End),
            Some(Move::Break) => Err(ConstraintError("broken".into())),
            Some(Move::Force(tokens)) => {
                let token = |place| (self.state + 7 * place) % VOCABULARY as u32;
                self.forced.clear();
                self.forced.extend((0..tokens as u32).map(token));
                Ok(Next::Forced(&self.forced))
            }
            Some(choice) => match self.now.insert(choice) {
                Move::Weigh(_) => Ok(Next::Weigh),
                Move::Choose(_) => Ok(Next::Choose),
                Move::Force(_) | Move::Break => unreachable!("neither is a choice"),
            },
        }
    }

    fn allowed(&mut self) -> Result<&TokenSet, ConstraintError> {
        assert!(!std::mem::replace(&mut self.asked, true), "it was asked before");
        match &self.now {
            Some(Move::Choose(set) | Move::Weigh(set)) => Ok(set),
            _ => panic!("nothing is to be chosen"),
        }
    }

    fn chosen(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        assert!(std::mem::take(&mut self.asked), "it was not asked what is allowed");
        let (Some(Move::Choose(set)) | Some(Move::Weigh(set))) = self.now.take() else {
            panic!("nothing was to be chosen");
        };
        assert!(set.contains(token));
        self.state = (self.state * 31 + token) % 9_973;
        Ok(())
    }
}

/// A job that can be built again and again.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    id: u64,
    bank: usize,
    pub prompt: Vec<TokenId>,
    moves: Vec<Move>,
    output_max: usize,
    alone: bool,
}

impl Spec {
    pub fn new(id: u64, prompt: Vec<TokenId>, moves: Vec<Move>) -> Self {
        Self {
            id,
            bank: 0,
            prompt,
            moves,
            output_max: 700,
            alone: false,
        }
    }

    fn grammar(&self) -> Grammar {
        Grammar {
            moves: self.moves.clone().into_iter(),
            now: None,
            asked: false,
            forced: Vec::new(),
            state: self.id as u32,
        }
    }

    pub fn job(&self) -> Job {
        Job {
            id: JobId(self.id),
            bank: self.bank,
            prompt: self.prompt.clone(),
            constraint: Box::new(self.grammar()),
            output_max: self.output_max,
            alone: self.alone,
        }
    }

    /// What the job must give: its stretches go straight through a model of one slot.
    pub fn expected(&self) -> Output {
        let mut model = Simulated::new(shape(&[1]), SEED);
        let slot = SlotId { bank: 0, index: 0 };
        let cutting = Cutting::new(CHUNK, TILE);
        let mut grammar = self.grammar();
        let mut tokens = self.prompt.clone();
        let mut output = Output::default();
        let mut fed = 0;
        loop {
            let weighed = match grammar.next().unwrap() {
                Next::End => break,
                Next::Forced(forced) => {
                    output.forced += forced.len();
                    tokens.extend_from_slice(forced);
                    continue;
                }
                Next::Choose => false,
                Next::Weigh => true,
            };
            let allowed = grammar.allowed().unwrap().clone();
            while tokens.len() - fed > 1 {
                let size = cutting.next(tokens.len() - fed);
                model.prefill(slot, fed, &tokens[fed..fed + size], true).unwrap();
                fed += size;
            }
            let logits = if fed < tokens.len() {
                let row = [DecodeRow {
                    token: tokens[fed],
                    past: fed,
                    wanted: true,
                }];
                fed += 1;
                model.decode(0, 0, &row).unwrap()
            } else {
                model.last_logits()
            };
            if weighed {
                output
                    .distributions
                    .push(choice::distribution(logits, &allowed).unwrap());
            }
            let token = choice::greedy(logits, &allowed).unwrap();
            grammar.chosen(token).unwrap();
            tokens.push(token);
        }
        output.tokens = tokens.split_off(self.prompt.len());
        output
    }
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn tokens(&mut self, length: usize) -> Vec<TokenId> {
        (0..length).map(|_| self.below(VOCABULARY) as TokenId).collect()
    }

    fn set(&mut self) -> TokenSet {
        let mut set = TokenSet::new(VOCABULARY);
        for _ in 0..=self.below(20) {
            set.insert(self.below(VOCABULARY) as TokenId);
        }
        set
    }

    fn moves(&mut self) -> Vec<Move> {
        let lengths = [1, 1, 2, 3, TILE - 1, TILE, TILE + 1, CHUNK + 1, 300];
        let mut forced = 0;
        let mut one = |random: &mut Self| match random.below(4) {
            0 => {
                let length = random.of(&lengths).min(500 - forced);
                forced += length;
                if length == 0 {
                    Move::Choose(random.set())
                } else {
                    Move::Force(length)
                }
            }
            1 => Move::Weigh(random.set()),
            _ => Move::Choose(random.set()),
        };
        (0..self.below(14)).map(|_| one(self)).collect()
    }
}

fn shape(slots: &[usize]) -> ModelShape {
    let bank = |slots: &usize| BankShape {
        slots: *slots,
        context: CONTEXT,
    };
    ModelShape {
        vocabulary: VOCABULARY,
        query_tile: TILE,
        banks: slots.iter().map(bank).collect(),
    }
}

pub(crate) const OPTIONS: Options = Options {
    chunk_tokens: CHUNK,
    gap: 2,
};

pub(crate) fn simulated(slots: &[usize]) -> Simulated {
    Simulated::new(shape(slots), SEED)
}

/// With a second bank, whose one slot lies over so many of the first.
pub(crate) fn overlaid(slots: usize, covered: usize) -> Simulated {
    let mut shape = shape(&[slots, 1]);
    shape.banks[OVER].context = covered * CONTEXT;
    Simulated::new(shape, SEED).overlaid()
}

fn engine(model: impl Model + 'static) -> Engine {
    Engine::new(Box::new(model), OPTIONS)
}

fn all_tokens() -> TokenSet {
    let mut set = TokenSet::new(VOCABULARY);
    (0..VOCABULARY as TokenId).for_each(|token| set.insert(token));
    set
}

/// A grammar of some free choices.
fn choices(count: usize) -> Vec<Move> {
    vec![Move::Choose(all_tokens()); count]
}

/// Steps until nothing is left to do.
fn drain(engine: &mut Engine) -> Vec<JobEvent> {
    let mut events = Vec::new();
    for _ in 0..20_000 {
        if !engine.step(&mut events).work_left {
            return events;
        }
    }
    panic!("the engine does not come to an end");
}

fn outcomes(events: Vec<JobEvent>) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for event in events {
        if let JobEvent::Ended(id, outcome) = event {
            let before = outcomes.insert(id, outcome);
            assert!(before.is_none(), "{id:?} ended twice");
        }
    }
    outcomes
}

fn run(engine: &mut Engine, specs: &[Spec]) -> Outcomes {
    specs.iter().for_each(|spec| engine.submit(spec.job()));
    outcomes(drain(engine))
}

/// Reuse depends on company; what is written must not.
fn assert_as_expected(spec: &Spec, outcome: &Result<Output, Failure>, expected: &Output) {
    let mut output = outcome
        .clone()
        .unwrap_or_else(|failure| panic!("{}: {failure}", spec.id));
    output.reused = 0;
    assert_eq!(&output, expected, "job {}", spec.id);
}

/// A call of a model, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Prefill { slot: usize, past: usize, tokens: usize },
    Decode { first: usize, wanted: Vec<bool> },
    Copy { from: usize, to: usize, tokens: usize },
    Resize { slots: usize },
}

/// A simulated model that writes down what it is asked.
struct Recorded {
    inner: Simulated,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorded {
    fn new(inner: Simulated) -> (Self, Arc<Mutex<Vec<Call>>>) {
        let calls = Arc::default();
        let recorded = Self {
            inner,
            calls: Arc::clone(&calls),
        };
        (recorded, calls)
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Model for Recorded {
    fn shape(&self) -> &ModelShape {
        self.inner.shape()
    }

    fn rows_max(&self) -> usize {
        self.inner.rows_max()
    }

    fn is_overlaid(&self) -> bool {
        self.inner.is_overlaid()
    }

    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError> {
        self.note(Call::Prefill {
            slot: slot.index,
            past,
            tokens: tokens.len(),
        });
        self.inner.prefill(slot, past, tokens, wanted)
    }

    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
        self.note(Call::Decode {
            first,
            wanted: rows.iter().map(|row| row.wanted).collect(),
        });
        self.inner.decode(bank, first, rows)
    }

    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
        self.note(Call::Copy {
            from: from.index,
            to: to.index,
            tokens,
        });
        self.inner.copy_prefix(from, to, tokens)
    }

    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        self.note(Call::Resize { slots });
        self.inner.resize(bank, slots)
    }
}
