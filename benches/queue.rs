//! The pool's cost of one answer that ends and the next that begins, however many wait: 200 interviews at once are 3,400 answers.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient, System};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use interviewd::actors::doors::{EngineDoors, PoolDoors};
use interviewd::actors::engine_thread::{Gauge, ModelFactory, Planned};
use interviewd::actors::gpu::{Forget, Retire, SetSlots};
use interviewd::actors::memory::Allowance;
use interviewd::actors::message::{
    AnswerScored, AnswerScorer, Assign, Case, Ended, EngineUp, Life, Making, Moments, NarrativeWritten, Outage, Written,
};
use interviewd::actors::pool::{Adopt, BackOff, GpuPool, Outlets, Setup};
use interviewd::domain::interview::Interview;
use interviewd::domain::time::Timestamp;
use interviewd::engine::Options;
use interviewd::engine::model::Model;
use interviewd::scoring::Scorer;
use support::{ANSWERS, demo, interview, provenance, rubric};
use tokio::sync::oneshot;

const SLOTS: usize = 17;

/// Ends whatever it is given as soon as it is given it.
struct Instantaneous(PoolDoors);

impl Actor for Instantaneous {
    type Context = Context<Self>;
}

impl Handler<Assign> for Instantaneous {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Self::Context) {
        let now = Instant::now();
        let written = Written::Answer {
            criteria: Vec::new(),
            feedback: String::new(),
            judged_code_points: None,
            tokens_in: 1,
            tokens_out: 1,
        };
        let moments = Moments {
            admitted_at: Some(now),
            prefilled_at: Some(now),
            ended_at: now,
        };
        self.0.ended.do_send(Ended {
            job: assign.job,
            result: Ok(written),
            moments,
        });
    }
}

macro_rules! deaf {
    ($message:ty, $result:ty, $answer:expr) => {
        impl Handler<$message> for Instantaneous {
            type Result = $result;

            fn handle(&mut self, _: $message, _: &mut Self::Context) -> $result {
                $answer
            }
        }
    };
}
deaf!(Forget, (), ());
deaf!(SetSlots, bool, true);
deaf!(Retire, (), ());

struct NoModel;

impl ModelFactory for NoModel {
    fn build(&self, _: &Planned) -> Result<Box<dyn Model>, Outage> {
        Err("there is none".to_owned().into())
    }
}

/// For every answer that has ended, asks for another at the end of the queue, until enough have ended.
struct Demand {
    pool: Rc<Cell<Option<Addr<GpuPool>>>>,
    rubric: Arc<interviewd::domain::rubric::Rubric>,
    interview: Arc<Interview>,
    case: Option<Arc<Case>>,
    asked: u64,
    left: u64,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Demand {
    type Context = Context<Self>;
}

impl Demand {
    fn ask(&mut self, pool: &Addr<GpuPool>) {
        let index = (self.asked % ANSWERS as u64) as usize;
        if index == 0 || self.case.is_none() {
            self.case = Some(Arc::new(Case {
                life: Life {
                    sequence: self.asked,
                    generation: self.asked,
                    interview_id: self.interview.id.clone(),
                },
                rubric: Arc::clone(&self.rubric),
                rubric_provenance: provenance().rubric,
                submitted_at: Timestamp::from_millis(0),
                over: AtomicBool::new(false),
            }));
        }
        self.asked += 1;
        let Some(case) = &self.case else { return };
        pool.do_send(AnswerScorer {
            case: Arc::clone(case),
            interview: Arc::clone(&self.interview),
            index,
            queued_at: Instant::now(),
            place: None,
        });
    }
}

impl Handler<AnswerScored> for Demand {
    type Result = ();

    fn handle(&mut self, _: AnswerScored, _: &mut Self::Context) {
        let Some(pool) = self.pool.take() else { return };
        self.left = self.left.saturating_sub(1);
        match self.left {
            0 => drop(self.done.take()),
            _ => self.ask(&pool),
        }
        self.pool.set(Some(pool));
    }
}

impl Handler<NarrativeWritten> for Demand {
    type Result = ();

    fn handle(&mut self, _: NarrativeWritten, _: &mut Self::Context) {}
}

/// Time for so many answers while `waiting` others queue all the time.
async fn answers(count: u64, waiting: u64, scorer: Arc<Scorer>) -> Duration {
    let own = Rc::new(Cell::new(None));
    let (done, ended) = oneshot::channel();
    let mut demand = Demand {
        pool: Rc::clone(&own),
        rubric: rubric(),
        interview: Arc::new(interview("iv")),
        case: None,
        asked: 0,
        left: count,
        done: Some(done),
    };
    let started: Rc<Cell<Option<Recipient<EngineUp>>>> = Rc::default();
    let up = Rc::clone(&started);
    let context = Context::<Demand>::new();
    let address = context.address();
    let outlets = Outlets {
        scored: address.clone().recipient(),
        narrative: address.recipient(),
    };
    let start = Box::new(move |_, _: &Arc<Setup>, doors: PoolDoors| {
        up.set(Some(doors.up.clone()));
        let engine = Instantaneous(doors).start();
        EngineDoors::of(engine, Arc::new(Gauge::default()))
    });
    let pool = GpuPool::new(start, outlets, BackOff::default(), Instant::now()).start();
    pool.send(Adopt {
        setup: setup(scorer),
        actors: vec![planned()],
        attempts_max: 1,
    })
    .await
    .unwrap();
    (0..SLOTS as u64 + waiting).for_each(|_| demand.ask(&pool));
    own.set(Some(pool));
    context.run(demand);
    let begun = Instant::now();
    if let Some(up) = started.take() {
        up.do_send(EngineUp { actor: 1, held: None });
    }
    let _ = ended.await; // the end of the channel is the answer
    let spent = begun.elapsed();
    own.take();
    spent
}

fn planned() -> Planned {
    Planned {
        device: "cpu".into(),
        device_index: 0,
        memory_bytes: 0,
        threads: 1,
        slots: SLOTS,
        narrative_takes: 0,
        allowance: Allowance::default(),
    }
}

fn setup(scorer: Arc<Scorer>) -> Arc<Setup> {
    let made = provenance();
    let making = Making {
        model: made.model,
        prompt: made.prompt,
        engine: made.engine,
    };
    Arc::new(Setup {
        scorer,
        factory: Arc::new(NoModel),
        options: Options {
            chunk_tokens: 256,
            gap: 4,
        },
        making: Arc::new(making),
        meter: Arc::new(|_| None),
    })
}

/// Through the actors as in the daemon: the answer's end, the next one's assignment, one more in the queue.
fn queue(criterion: &mut Criterion) {
    let scorer = Arc::new(Scorer::load(demo(), "chat_template.jinja", &[6], 8_192).unwrap());
    let mut group = criterion.benchmark_group("an answer through the pool");
    for waiting in [17, 340, 3_400] {
        group.bench_function(BenchmarkId::new("queued", waiting), |bencher| {
            // So many at a time that filling and emptying the queue is nothing beside them.
            const AT_A_TIME: u64 = 200;
            bencher.iter_custom(|count| {
                let all = answers(count * AT_A_TIME, waiting, Arc::clone(&scorer));
                System::new().block_on(all) / AT_A_TIME as u32
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = queue
}
criterion_main!(benches);
