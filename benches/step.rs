//! Our own share of a step, with a model that costs next to nothing; and the copy of a prefix from slot to slot.

#[path = "../tests/support/mod.rs"]
mod onnx;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use interviewd::bench::constraints::free;
use interviewd::engine::job::{Job, JobEvent, JobId};
use interviewd::engine::model::{BankShape, Model, ModelShape, SlotId};
use interviewd::engine::onnx::OnnxModel;
use interviewd::engine::simulated::Simulated;
use interviewd::engine::{Engine, Options, TokenId};

const SLOTS: usize = 17;
const VOCABULARY: usize = 64;
const WRITTEN: usize = 200;

/// An engine that is never out of work: for each job that ends another comes.
struct Busy {
    engine: Engine,
    events: Vec<JobEvent>,
    last: u64,
}

impl Busy {
    fn new(waiting: usize) -> Self {
        let bank = BankShape {
            slots: SLOTS,
            context: 2 * WRITTEN,
        };
        let shape = ModelShape {
            vocabulary: VOCABULARY,
            query_tile: 4,
            banks: vec![bank],
        };
        let model = Box::new(Simulated::new(shape, 7));
        let mut busy = Self {
            engine: Engine::new(
                model,
                Options {
                    chunk_tokens: 64,
                    gap: 4,
                },
            ),
            events: Vec::new(),
            last: 0,
        };
        (0..SLOTS + waiting).for_each(|_| busy.submit());
        busy
    }

    fn submit(&mut self) {
        self.last += 1;
        self.engine.submit(Job {
            id: JobId(self.last),
            bank: 0,
            prompt: vec![1, 2, 3, 4, 5, 6, 7, (self.last % 50) as TokenId],
            constraint: Box::new(free(VOCABULARY, &[], WRITTEN)),
            output_max: WRITTEN,
            alone: false,
        });
    }

    fn step(&mut self) {
        self.engine.step(&mut self.events);
        let ended = self
            .events
            .drain(..)
            .filter(|event| matches!(event, JobEvent::Ended(..)))
            .count();
        (0..ended).for_each(|_| self.submit());
    }
}

/// Plan, rows, choices, events: what the engine itself adds to every run of the model, and what jobs that wait in it add to that. In the product no
/// more wait here than there are slots: the pool's queue holds the others.
fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step of 17 rows");
    for waiting in [0, 17, 3_400] {
        let mut busy = Busy::new(waiting);
        (0..2 * WRITTEN).for_each(|_| busy.step());
        group.bench_function(BenchmarkId::new("jobs waiting", waiting), |bencher| {
            bencher.iter(|| busy.step())
        });
    }
    group.finish();
}

/// A prefix that another slot holds is copied instead of computed: this has to be far below a prefill of as many tokens.
fn copy(criterion: &mut Criterion) {
    let context = 2_048;
    let mut model = OnnxModel::load(onnx::options(&[BankShape { slots: 2, context }])).unwrap();
    let tokens: Vec<TokenId> = (0..context as TokenId).map(|n| 100 + n % 8_000).collect();
    let slot = |index| SlotId { bank: 0, index };
    model.prefill(slot(0), 0, &tokens, false).unwrap();
    let mut group = criterion.benchmark_group("slot copy");
    for prefix in [500, context] {
        group.bench_function(BenchmarkId::new("tokens", prefix), |bencher| {
            bencher.iter(|| model.copy_prefix(slot(0), slot(1), prefix).unwrap());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = step, copy
}
criterion_main!(benches);
