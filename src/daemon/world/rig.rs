//! Engines without threads: real ones on a simulated model, each of which takes a turn when the world says so.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix::{Actor, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::exam;
use crate::actors::engine_thread::{Gauge, Planned};
use crate::actors::gpu::{Forget, Pool, Retire, SetSlots};
use crate::actors::message::{Assign, Cause, Ended, EngineDown, EngineUp, Moments, Outage, Task, Undone, Written};
use crate::actors::pool::{EngineDoors, StartEngine};
use crate::actors::tests::chance::Chance;
use crate::domain::ids::InterviewId;
use crate::engine::Engine;
use crate::engine::job::{Failure, JobEvent, JobId, Output};
use crate::engine::model::ModelError;
use crate::engine::simulated::{Fault, Script, When};
use crate::engine::tests::{engine, simulated};
use crate::scoring::SCORING_BANK;

/// Whose work it is: interview, generation, and which answer (`None`: the narrative).
pub type WorkId = (InterviewId, u64, Option<usize>);

/// What went wrong with some work in one life of the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blame {
    pub failures: u32,
    /// Of its engine, while nothing that anybody waited for ran beside it.
    pub deaths_alone: u32,
}

/// All engines of one life of the process.
pub struct Rig {
    members: RefCell<Vec<Rc<RefCell<Member>>>>,
    blame: RefCell<BTreeMap<WorkId, Blame>>,
    /// Work that engines were given since somebody asked.
    given: RefCell<Vec<WorkId>>,
    chance: RefCell<Chance>,
    /// Whether nothing goes wrong any more but what always does.
    pub is_calm: Cell<bool>,
}

/// What an engine's thread would be told.
enum Order {
    Run(JobId),
    Cancel(JobId),
    Resize { slots: usize, done: oneshot::Sender<()> },
    Stop { _done: oneshot::Sender<()> },
}

enum State {
    Loading,
    Up(Box<Engine>),
    Gone,
}

struct Member {
    id: usize,
    slots: usize,
    pool: Pool,
    state: State,
    jobs: BTreeMap<JobId, Held>,
    /// Without a prompt yet.
    unmade: VecDeque<JobId>,
    orders: VecDeque<Order>,
}

struct Held {
    assign: Assign,
    admitted_at: Option<Instant>,
    prefilled_at: Option<Instant>,
}

impl Rig {
    pub fn new(seed: u64, is_calm: bool) -> Rc<Self> {
        Rc::new(Self {
            members: RefCell::default(),
            blame: RefCell::default(),
            given: RefCell::default(),
            chance: RefCell::new(Chance(seed)),
            is_calm: Cell::new(is_calm),
        })
    }

    pub fn start(self: &Rc<Self>) -> StartEngine {
        let rig = Rc::clone(self);
        Box::new(move |id, planned: &Planned, _, pool| {
            let member = Rc::new(RefCell::new(Member {
                id,
                slots: planned.slots,
                pool,
                state: State::Loading,
                jobs: BTreeMap::new(),
                unmade: VecDeque::new(),
                orders: VecDeque::new(),
            }));
            rig.members.borrow_mut().push(Rc::clone(&member));
            let rig = Rc::clone(&rig);
            let face = Face { rig, member }.start();
            EngineDoors {
                assign: face.clone().recipient(),
                forget: face.clone().recipient(),
                set_slots: face.clone().recipient(),
                retire: face.recipient(),
                gauge: Arc::new(Gauge::default()),
            }
        })
    }

    pub fn blame(&self, work: &WorkId) -> Blame {
        self.blame.borrow().get(work).copied().unwrap_or_default()
    }

    /// Work that engines were given since this was asked before.
    pub fn given(&self) -> Vec<WorkId> {
        self.given.take()
    }

    /// What engines have.
    pub fn running(&self) -> BTreeSet<WorkId> {
        let members = self.members.borrow();
        let jobs = |member: &Rc<RefCell<Member>>| {
            let member = member.borrow();
            let works: Vec<_> = member.jobs.values().map(|held| work_of(&held.assign)).collect();
            works
        };
        members.iter().flat_map(jobs).collect()
    }

    /// Takes note of work that an engine is given; no two may have it.
    fn note(&self, work: WorkId) {
        for member in self.members.borrow().iter() {
            let member = member.borrow();
            let is_it = |held: &Held| work_of(&held.assign) == work;
            assert!(!member.jobs.values().any(is_it), "two engines have {work:?}");
        }
        self.given.borrow_mut().push(work);
    }

    /// One of the engines that live takes a turn. What it did, for people.
    pub fn turn(&self) -> String {
        self.members
            .borrow_mut()
            .retain(|member| !matches!(member.borrow().state, State::Gone));
        let members = self.members.borrow().clone();
        if members.is_empty() {
            return "no engine".to_owned();
        }
        let index = self.chance.borrow_mut().below(members.len());
        let mut member = members[index].borrow_mut();
        let did = member.turn(self);
        format!("engine {} {did}", member.id)
    }

    fn below(&self, end: usize) -> usize {
        self.chance.borrow_mut().below(end)
    }

    fn accuse(&self, held: &Held, by: Blame) {
        let mut all = self.blame.borrow_mut();
        let blame = all.entry(work_of(&held.assign)).or_default();
        blame.failures += by.failures;
        blame.deaths_alone += by.deaths_alone;
    }

    /// What will go wrong with a model.
    fn script(&self) -> Script {
        let script = Script::default()
            .with(When::Token(exam::DEADLY), Fault::Panic)
            .with(When::Token(exam::FAILING), Fault::Failed);
        if self.is_calm.get() {
            return script;
        }
        const FAULTS: [Fault; 6] = [
            Fault::Failed,
            Fault::OutOfMemory,
            Fault::Terminated,
            Fault::NotFinite,
            Fault::OutOfMemory,
            Fault::Panic,
        ];
        let faults = [0, 0, 1, 3, 20][self.below(5)];
        (0..faults).fold(script, |script, _| {
            let call = 1 + self.below(150) as u64;
            script.with(When::Call(call), FAULTS[self.below(FAULTS.len())])
        })
    }
}

fn work_of(assign: &Assign) -> WorkId {
    let life = &assign.case.life;
    let index = match assign.task {
        Task::Answer { index } => Some(index),
        Task::Narrative { .. } => None,
    };
    (life.interview_id.clone(), life.generation, index)
}

impl Member {
    fn turn(&mut self, rig: &Rig) -> String {
        if matches!(self.state, State::Loading) {
            return self.load(rig);
        }
        if !self.unmade.is_empty() && rig.below(2) == 0 {
            let job = self.unmade.pop_front().unwrap();
            if self.jobs.contains_key(&job) {
                self.orders.push_back(Order::Run(job));
            }
            return format!("has a prompt for {job:?}");
        }
        match self.orders.pop_front() {
            Some(order) => self.obey(order, rig),
            None => self.step(rig),
        }
    }

    fn load(&mut self, rig: &Rig) -> String {
        if !rig.is_calm.get() && rig.below(10) == 0 {
            let out_of_memory = rig.below(2) == 0;
            return self.die("it could not be loaded", out_of_memory, rig);
        }
        let model = simulated(&[self.slots, 1]).with_script(rig.script());
        self.state = State::Up(Box::new(engine(model)));
        self.pool.up.do_send(EngineUp {
            actor: self.id,
            held: None,
        });
        format!("is up with {} slots", self.slots)
    }

    fn obey(&mut self, order: Order, rig: &Rig) -> String {
        let State::Up(engine) = &mut self.state else {
            return "is gone".to_owned();
        };
        match order {
            Order::Run(job) => {
                let Some(held) = self.jobs.get(&job) else {
                    return format!("was told to forget {job:?}");
                };
                engine.submit(exam::job(&held.assign));
                format!("has {job:?}")
            }
            Order::Cancel(job) => {
                engine.cancel(job);
                format!("forgets {job:?}")
            }
            Order::Resize { slots, done } => {
                match catch_unwind(AssertUnwindSafe(|| engine.resize(SCORING_BANK, slots))) {
                    Ok(Ok(())) => {
                        let _ = done.send(());
                        self.slots = slots;
                        format!("has {slots} slots")
                    }
                    Ok(Err(error)) => {
                        let out_of_memory = matches!(error, ModelError::OutOfMemory { .. });
                        self.die("the slots could not be resized", out_of_memory, rig)
                    }
                    Err(_) => self.die("the engine panicked", false, rig),
                }
            }
            Order::Stop { .. } => {
                self.state = State::Gone;
                "stops".to_owned()
            }
        }
    }

    fn step(&mut self, rig: &Rig) -> String {
        let State::Up(engine) = &mut self.state else {
            return "is gone".to_owned();
        };
        if engine.is_idle() {
            return "sleeps".to_owned();
        }
        let mut events = Vec::new();
        let Ok(report) = catch_unwind(AssertUnwindSafe(|| engine.step(&mut events))) else {
            return self.die("the engine panicked", false, rig);
        };
        if let Some(Err(error)) = report.resized.map(|resized| resized.outcome) {
            let out_of_memory = matches!(error, ModelError::OutOfMemory { .. });
            return self.die("the slots could not be resized", out_of_memory, rig);
        }
        let mut did = String::from("steps");
        for event in events {
            match event {
                JobEvent::Admitted(job) => {
                    if let Some(held) = self.jobs.get_mut(&job) {
                        held.admitted_at = Some(Instant::now());
                    }
                }
                JobEvent::Prefilled(job) => {
                    if let Some(held) = self.jobs.get_mut(&job) {
                        held.prefilled_at = Some(Instant::now());
                    }
                }
                JobEvent::Ended(job, result) => {
                    did.push_str(&format!(", {job:?} ended: {}", result.is_ok()));
                    self.ended(job, result, rig);
                }
            }
        }
        did
    }

    fn ended(&mut self, job: JobId, result: Result<Output, Failure>, rig: &Rig) {
        let Some(held) = self.jobs.remove(&job) else { return };
        let result = match result {
            Ok(output) => Ok(written(&held.assign, &output)),
            Err(failure) => {
                let (reason, out_of_memory) = (
                    failure.to_string(),
                    matches!(failure, Failure::Model(ModelError::OutOfMemory { .. })),
                );
                assert!(!reason.contains("contract"), "{reason}");
                // Where there are slots to give up, want of memory is nobody's fault.
                let by = Blame {
                    failures: u32::from(!out_of_memory || self.slots == 1),
                    deaths_alone: 0,
                };
                rig.accuse(&held, by);
                Err(Undone {
                    disposition: failure.disposition(),
                    cause: match out_of_memory {
                        true => Cause::Memory,
                        false => Cause::Failure,
                    },
                    reason,
                })
            }
        };
        let moments = Moments {
            admitted_at: held.admitted_at,
            prefilled_at: held.prefilled_at,
            ended_at: Instant::now(),
        };
        self.pool.ended.do_send(Ended { job, result, moments });
    }

    fn die(&mut self, reason: &str, out_of_memory: bool, rig: &Rig) -> String {
        let waited_for = |held: &&Held| !held.assign.case.over.load(Ordering::Relaxed);
        let company: Vec<_> = self.jobs.values().filter(waited_for).collect();
        if let [held] = company[..] {
            let by = Blame {
                failures: 0,
                deaths_alone: 1,
            };
            rig.accuse(held, by);
        }
        self.jobs.clear();
        self.orders.clear();
        self.state = State::Gone;
        let outage = Outage {
            reason: reason.to_owned(),
            out_of_memory,
        };
        self.pool.down.do_send(EngineDown {
            actor: self.id,
            outage,
            is_stuck: false,
        });
        format!("dies: {reason}")
    }
}

/// What the model wrote for an assignment.
fn written(assign: &Assign, output: &Output) -> Written {
    let (tokens_in, tokens_out) = (1, output.tokens.len());
    match &assign.task {
        Task::Answer { index } => {
            let (criteria, feedback) = exam::read(&assign.interview, *index, output);
            Written::Answer {
                criteria,
                feedback,
                judged_code_points: None,
                tokens_in,
                tokens_out,
            }
        }
        Task::Narrative { .. } => Written::Narrative {
            narrative: exam::narrative(output),
            tokens_in,
            tokens_out,
        },
    }
}

/// The actor in front of an engine.
struct Face {
    rig: Rc<Rig>,
    member: Rc<RefCell<Member>>,
}

impl Actor for Face {
    type Context = Context<Self>;
}

impl Handler<Assign> for Face {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Self::Context) {
        if matches!(self.member.borrow().state, State::Gone) {
            return;
        }
        self.rig.note(work_of(&assign));
        let mut member = self.member.borrow_mut();
        let job = assign.job;
        let held = Held {
            assign,
            admitted_at: None,
            prefilled_at: None,
        };
        assert!(member.jobs.insert(job, held).is_none(), "{job:?} was given twice");
        let is_answer = |held: &&Held| matches!(held.assign.task, Task::Answer { .. });
        let answers = member.jobs.values().filter(is_answer).count();
        assert!(
            answers <= member.slots && member.jobs.len() - answers <= 1,
            "{answers} answers for {} slots, {} jobs in all",
            member.slots,
            member.jobs.len()
        );
        member.unmade.push_back(job);
    }
}

impl Handler<Forget> for Face {
    type Result = ();

    fn handle(&mut self, Forget(job): Forget, _: &mut Self::Context) {
        let mut member = self.member.borrow_mut();
        if member.jobs.remove(&job).is_some() {
            member.orders.push_back(Order::Cancel(job));
        }
    }
}

impl Handler<SetSlots> for Face {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, SetSlots(slots): SetSlots, _: &mut Self::Context) -> Self::Result {
        let (done, resized) = oneshot::channel();
        let mut member = self.member.borrow_mut();
        if !matches!(member.state, State::Gone) {
            member.orders.push_back(Order::Resize { slots, done });
        }
        Box::pin(async move { resized.await.is_ok() })
    }
}

impl Handler<Retire> for Face {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, _: &mut Self::Context) -> Self::Result {
        let (done, stopped) = oneshot::channel();
        let mut member = self.member.borrow_mut();
        if !matches!(member.state, State::Gone) {
            member.orders.push_back(Order::Stop { _done: done });
        }
        Box::pin(async move {
            let _ = stopped.await; // the end of the channel is the answer
        })
    }
}
