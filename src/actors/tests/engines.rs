//! A pool with engines that are only pretended: tests see what these are told and say what becomes of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::*;
use crate::actors::doors::{EngineDoors, PoolDoors};
use crate::actors::engine_thread::Gauge;
use crate::actors::gpu::{Forget, Retire, SetSlots};
use crate::actors::in_flight::Trail;
use crate::actors::room::Place;
use crate::engine::job::{Disposition, JobId};

/// Short enough for tests, long enough to see that nothing comes before.
pub const BACK_OFF: BackOff = BackOff {
    min: Duration::from_millis(20),
    max: Duration::from_millis(50),
};

/// What an engine was told and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub job: JobId,
    /// As in `iv1/a2`, or `iv1/narrative`.
    pub name: String,
    pub alone: bool,
}

pub struct Engine {
    pub id: usize,
    pub plan: Planned,
    pub model_hash: String,
    pub given: Vec<Given>,
    /// Whether it has to show that it runs.
    pub rehearses: bool,
    pub forgotten: Vec<JobId>,
    pub resized: Vec<usize>,
    pub retired: bool,
    pub loaded: bool,
    /// Whether it is dead or has left.
    pub gone: bool,
    /// Whether what is told and answered later is answered at once.
    pub prompt: bool,
    /// Whether it can have no other number of slots.
    pub is_rigid: bool,
    /// Where it is to be noted how far a job has come.
    pub trails: HashMap<JobId, Trail>,
    late: Vec<oneshot::Sender<()>>,
    doors: PoolDoors,
    pub gauge: Arc<Gauge>,
}

struct FakeActor(Rc<RefCell<Engine>>);

impl Actor for FakeActor {
    type Context = Context<Self>;
}

impl Handler<Assign> for FakeActor {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Self::Context) {
        let of = match assign.task {
            Task::Answer { index } => assign.interview.answers()[index].id.to_string(),
            Task::Narrative { .. } => "narrative".into(),
        };
        let mut engine = self.0.borrow_mut();
        engine.trails.extend(assign.trail.map(|trail| (assign.job, trail)));
        engine.given.push(Given {
            job: assign.job,
            name: format!("{}/{of}", assign.case.life.interview_id),
            alone: assign.alone,
        });
    }
}

impl Handler<Forget> for FakeActor {
    type Result = ();

    fn handle(&mut self, Forget(job): Forget, _: &mut Self::Context) {
        let mut engine = self.0.borrow_mut();
        engine.given.retain(|given| given.job != job);
        engine.forgotten.push(job);
    }
}

impl Engine {
    fn answer<T: 'static>(&mut self, answer: T) -> ResponseFuture<T> {
        let (late, answered) = oneshot::channel();
        if !self.prompt {
            self.late.push(late);
        }
        Box::pin(async move {
            let _ = answered.await;
            answer
        })
    }
}

impl Handler<SetSlots> for FakeActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, SetSlots(slots): SetSlots, _: &mut Self::Context) -> Self::Result {
        let mut engine = self.0.borrow_mut();
        engine.resized.push(slots);
        let fits = !engine.is_rigid;
        engine.answer(fits)
    }
}

impl Handler<Retire> for FakeActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, _: &mut Self::Context) -> Self::Result {
        let mut engine = self.0.borrow_mut();
        (engine.retired, engine.gone) = (true, engine.prompt);
        engine.answer(())
    }
}

/// A pool among stand-ins.
pub struct World {
    pub pool: Addr<GpuPool>,
    pub scored: Mail<AnswerScored>,
    pub narratives: Mail<NarrativeWritten>,
    pub room: Arc<Room>,
    /// All that were ever started, in order.
    engines: Rc<RefCell<Vec<Rc<RefCell<Engine>>>>>,
}

impl World {
    pub fn new() -> Self {
        Self::with(BACK_OFF)
    }

    pub fn with(back_off: BackOff) -> Self {
        let (to_scored, scored) = mailbox();
        let (to_narratives, narratives) = mailbox();
        let engines: Rc<RefCell<Vec<_>>> = Rc::default();
        let all = Rc::clone(&engines);
        let start = move |newcomer: Newcomer, setup: &Arc<Setup>, doors: PoolDoors| {
            let gauge = Arc::new(Gauge::default());
            let engine = Rc::new(RefCell::new(Engine {
                id: newcomer.id,
                plan: newcomer.plan,
                rehearses: newcomer.rehearses,
                model_hash: setup.making.model.hash.clone(),
                given: Vec::new(),
                forgotten: Vec::new(),
                resized: Vec::new(),
                retired: false,
                loaded: false,
                gone: false,
                prompt: true,
                is_rigid: false,
                trails: HashMap::new(),
                late: Vec::new(),
                doors,
                gauge: Arc::clone(&gauge),
            }));
            all.borrow_mut().push(Rc::clone(&engine));
            let actor = FakeActor(engine).start();
            EngineDoors::of(actor, gauge)
        };
        let outlets = Outlets {
            scored: to_scored,
            narrative: to_narratives,
        };
        Self {
            pool: GpuPool::new(Box::new(start), outlets, back_off, Instant::now()).start(),
            scored,
            narratives,
            room: Room::new(10_000),
            engines,
        }
    }

    /// A pool whose engines, with so many slots each, are loaded.
    pub async fn ready(slots: &[usize]) -> Self {
        let world = Self::new();
        let plans = slots.iter().enumerate();
        let plans: Vec<_> = plans
            .map(|(index, slots)| planned(&format!("cuda:{index}"), *slots))
            .collect();
        world.adopt(&setup("hash", Arc::new(NoModel)), &plans).await;
        for index in 0..slots.len() {
            world.up(index).await;
        }
        world
    }

    pub async fn adopt(&self, setup: &Arc<Setup>, plans: &[Planned]) {
        self.pool.do_send(Adopt {
            setup: Arc::clone(setup),
            actors: plans.to_vec(),
            attempts_max: 3,
        });
        settle().await;
    }

    /// Asks for all answers of an interview.
    pub async fn submit(&self, number: u64, answers: usize) {
        self.submit_at(number, answers, self.room.recover(answers)).await;
    }

    pub async fn submit_at(&self, number: u64, answers: usize, places: Vec<Place>) {
        let (case, interview) = (case(life(number)), interview(number, &vec![TEXT; answers]));
        for (index, place) in places.into_iter().enumerate() {
            self.pool.do_send(AnswerScorer {
                case: Arc::clone(&case),
                interview: Arc::clone(&interview),
                index,
                queued_at: Instant::now(),
                place: Some(place),
            });
        }
        settle().await;
    }

    pub async fn narrate(&self, number: u64) {
        self.pool.do_send(WriteNarrative {
            case: case(life(number)),
            interview: interview(number, &[TEXT]),
            outcomes: Arc::new(vec![scored("")]),
        });
        settle().await;
    }

    pub async fn abandon(&self, number: u64) {
        self.pool.do_send(Abandon { life: life(number) });
        settle().await;
    }

    /// How many engines were ever started.
    pub fn started(&self) -> usize {
        self.engines.borrow().len()
    }

    /// The engine that was started as the `index`th.
    pub fn engine(&self, index: usize) -> Rc<RefCell<Engine>> {
        Rc::clone(&self.engines.borrow()[index])
    }

    fn doors(&self, index: usize) -> (usize, PoolDoors) {
        let engine = self.engine(index);
        let engine = engine.borrow();
        (engine.id, engine.doors.clone())
    }

    pub async fn up(&self, index: usize) {
        self.up_holding(index, None).await;
    }

    /// It is up, and this process then holds so many bytes of its device.
    pub async fn up_holding(&self, index: usize, held: Option<u64>) {
        let (actor, doors) = self.doors(index);
        self.engine(index).borrow_mut().loaded = true;
        doors.up.do_send(EngineUp { actor, held });
        settle().await;
    }

    /// Loading its model takes too long.
    pub async fn late(&self, index: usize, reason: &str) {
        let (actor, doors) = self.doors(index);
        let reason = reason.to_owned();
        doors.late.do_send(EngineLate { actor, reason });
        settle().await;
    }

    pub async fn down(&self, index: usize, reason: &str) {
        self.outage(index, reason.to_owned().into()).await;
    }

    pub async fn outage(&self, index: usize, outage: Outage) {
        self.gone(index, outage, false).await;
    }

    /// Its thread does not come back.
    pub async fn stuck(&self, index: usize) {
        self.gone(index, "it made no progress".to_owned().into(), true).await;
    }

    async fn gone(&self, index: usize, outage: Outage, is_stuck: bool) {
        let (actor, doors) = self.doors(index);
        {
            let engine = self.engine(index);
            let mut engine = engine.borrow_mut();
            engine.given.clear();
            engine.gone = true;
        }
        doors.down.do_send(EngineDown {
            actor,
            outage,
            is_stuck,
        });
        settle().await;
    }

    /// Answers what a hesitant engine was told.
    pub async fn relent(&self, index: usize) {
        {
            let engine = self.engine(index);
            let mut engine = engine.borrow_mut();
            engine.late.clear();
            engine.gone |= engine.retired;
        }
        settle().await;
    }

    /// The names of what an engine was given and has not ended.
    pub fn runs(&self, index: usize) -> Vec<String> {
        let engine = self.engine(index);
        let engine = engine.borrow();
        engine.given.iter().map(|given| given.name.clone()).collect()
    }

    /// As [`Self::runs`], but only what must run with nothing beside it.
    pub fn runs_alone(&self, index: usize) -> Vec<String> {
        let engine = self.engine(index);
        let engine = engine.borrow();
        let alone = engine.given.iter().filter(|given| given.alone);
        alone.map(|given| given.name.clone()).collect()
    }

    /// An engine ends what it was given under this name.
    pub async fn end(&self, index: usize, name: &str, result: Result<Written, Undone>) {
        let engine = self.engine(index);
        let job = {
            let given = &mut engine.borrow_mut().given;
            let place = given.iter().position(|given| given.name == name);
            let place = place.unwrap_or_else(|| panic!("{name} does not run, but {given:?}"));
            given.remove(place).job
        };
        self.end_job(index, job, result).await;
    }

    pub async fn end_job(&self, index: usize, job: JobId, result: Result<Written, Undone>) {
        let (_, doors) = self.doors(index);
        let moments = Moments {
            admitted_at: None,
            prefilled_at: None,
            ended_at: Instant::now(),
        };
        doors.ended.do_send(Ended { job, result, moments });
        settle().await;
    }

    pub async fn write(&self, index: usize, name: &str) {
        let written = match name.ends_with("/narrative") {
            true => Written::Narrative {
                narrative: narrative(),
                tokens_in: 1,
                tokens_out: 1,
            },
            false => answer_written(),
        };
        self.end(index, name, Ok(written)).await;
    }

    pub async fn fail(&self, index: usize, name: &str, disposition: Disposition) {
        let reason = "the model failed".to_owned();
        let undone = Undone {
            reason,
            disposition,
            cause: Cause::Failure,
        };
        self.end(index, name, Err(undone)).await;
    }

    /// The model had no memory to run it.
    pub async fn run_out(&self, index: usize, name: &str) {
        let undone = Undone {
            reason: "out of memory on cpu: a block of 9 bytes".to_owned(),
            disposition: Disposition::Retry,
            cause: Cause::Memory,
        };
        self.end(index, name, Err(undone)).await;
    }

    /// How answers ended so far, in order: `iv1/a1 scored` or `iv1/a1 unscored: reason`.
    pub fn ended(&self) -> Vec<String> {
        let line = |scored: &AnswerScored| {
            let Outcome { verdict, .. } = &scored.outcome;
            let reason = verdict.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
            let state = format!("{:?}", verdict.state()).to_lowercase();
            format!("{}/{} {state}{reason}", scored.life.interview_id, scored.answer_id)
        };
        self.scored.borrow().iter().map(line).collect()
    }

    pub async fn described(&self) -> Description {
        self.pool.send(Describe).await.unwrap()
    }
}

pub fn answer_written() -> Written {
    Written::Answer {
        criteria: criteria(),
        feedback: "좋습니다.".into(),
        judged_code_points: None,
        tokens_in: 100,
        tokens_out: 20,
    }
}

pub fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}
