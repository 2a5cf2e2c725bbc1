//! All engines of one life of the process, without threads: real ones, with their actors and the watch over them. What they are told and what they
//! tell passes through here, and is held against what must hold.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext};

use super::exam;
use super::face::Face;
use super::member::{Hang, Held, Member, means};
use super::model::{Factory, Halt, covered_by};
use crate::actors::doors::{EngineDoors, PoolDoors};
use crate::actors::engine_thread::{Gauge, Plan};
use crate::actors::gpu::GpuActor;
use crate::actors::message::{Assign, Outage, Task};
use crate::actors::pool::{Newcomer, Setup, StartEngine};
use crate::actors::tests::chance::Chance;
use crate::actors::watch::Deadlines;
use crate::domain::ids::InterviewId;
use crate::engine::simulated::{Fault, Script, When};
use crate::engine::tests::OPTIONS;

/// Whose work it is: interview, generation, and which answer (`None`: the narrative).
pub type WorkId = (InterviewId, u64, Option<usize>);

/// Of so many turns at work, one begins to hang.
const HANGS_ONE_IN: usize = 12;
/// Of so many that load a model.
const LOADS_HANG_ONE_IN: usize = 6;
/// Looks at the world within which a plan that was given reaches the pool.
const PLAN_LOOKS: u64 = 8;
/// The watch looks once a second, if not more often, and counts twice that at most of what was before a look.
const COUNTED_MAX: Duration = Duration::from_secs(2);
/// How much later than it should the watch may do something: it looks at moments, and counts from the first look at what stands still.
const LATE_MAX: Duration = Duration::from_secs(6);

/// What went wrong with some work in one life of the process; never less than the pool knows of.
#[derive(Debug, Clone, Default)]
pub struct Blame {
    pub failures: u32,
    /// Of its engine, while nothing that anybody waited for ran beside it.
    pub deaths_alone: u32,
    /// Of its engine, whatever ran beside it.
    pub deaths: u32,
    /// What was told of it.
    pub reasons: BTreeSet<String>,
}

/// What may go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Dangers {
    pub faults: bool,
    pub hangs: bool,
}

pub struct Rig {
    members: RefCell<Vec<Rc<RefCell<Member>>>>,
    faces: RefCell<Vec<Addr<Face>>>,
    blame: RefCell<BTreeMap<WorkId, Blame>>,
    /// Work that engines were given since somebody asked, and whether it may end the process.
    given: RefCell<Vec<(WorkId, bool)>>,
    /// Answers that were written since somebody asked.
    written: RefCell<Vec<WorkId>>,
    /// Everything that was written.
    done: RefCell<BTreeSet<WorkId>>,
    /// What ran on an engine that died, which was not for want of memory.
    survivors: RefCell<BTreeSet<WorkId>>,
    /// What happened, for people, since somebody asked.
    log: RefCell<Vec<String>>,
    chance: RefCell<Chance>,
    dangers: Dangers,
    /// What may go wrong with the models of this life.
    faults: Vec<Fault>,
    /// Whether nothing goes wrong any more but what always does.
    pub is_calm: Cell<bool>,
    /// Whether anything ran that may end the process.
    had_suspects: Cell<bool>,
    /// The fewest attempts that work had.
    attempts_min: Cell<u32>,
    deadlines: OnceCell<Arc<Deadlines>>,
    /// Time in which the watch looked; and with what it may have counted while the process was stopped.
    watched: Cell<Duration>,
    watched_most: Cell<Duration>,
    looks: Cell<u64>,
    /// What plans allow all engines together, and when they were given.
    budgets: RefCell<VecDeque<(u64, u64)>>,
    /// What they hold, for who reads devices.
    held: Arc<AtomicU64>,
}

impl Rig {
    pub fn new(seed: u64, dangers: Dangers) -> Rc<Self> {
        let mut chance = Chance(seed);
        let all = vec![
            Fault::Failed,
            Fault::OutOfMemory,
            Fault::NotFinite,
            Fault::WrongShape,
            Fault::OutOfMemory,
            Fault::Panic,
        ];
        Rc::new(Self {
            members: RefCell::default(),
            faces: RefCell::default(),
            blame: RefCell::default(),
            given: RefCell::default(),
            written: RefCell::default(),
            done: RefCell::default(),
            survivors: RefCell::default(),
            log: RefCell::default(),
            faults: match chance.below(4) {
                0 => vec![Fault::OutOfMemory],
                _ => all,
            },
            chance: RefCell::new(chance),
            dangers,
            is_calm: Cell::new(false),
            had_suspects: Cell::default(),
            attempts_min: Cell::new(u32::MAX),
            deadlines: OnceCell::new(),
            watched: Cell::default(),
            watched_most: Cell::default(),
            looks: Cell::default(),
            budgets: RefCell::default(),
            held: Arc::default(),
        })
    }

    pub fn start(self: &Rc<Self>, deadlines: Arc<Deadlines>, epoch: Instant) -> StartEngine {
        assert!(self.deadlines.set(deadlines).is_ok(), "a rig is one pool's");
        let rig = Rc::clone(self);
        Box::new(move |newcomer, setup, pool| rig.engine(newcomer, setup, pool, epoch))
    }

    fn engine(self: &Rc<Self>, newcomer: Newcomer, setup: &Arc<Setup>, pool: PoolDoors, epoch: Instant) -> EngineDoors {
        let (gauge, halt) = (Arc::new(Gauge::default()), Arc::new(Halt::default()));
        let (id, planned) = (newcomer.id, newcomer.plan.clone());
        let plan = Plan {
            newcomer,
            factory: Arc::new(self.factory(&setup.making.model.hash, &halt)),
            meter: Arc::clone(&setup.meter),
            options: OPTIONS,
            gauge: Arc::clone(&gauge),
            pulse: Arc::default(),
            counters: Arc::default(),
            epoch,
        };
        let covered = match planned.narrative_takes {
            0 => 0,
            _ => covered_by(&setup.making.model.hash),
        };
        let more = if self.happens(12) { 30 } else { 0 };
        let mut member = Member::new(id, &planned, covered, more, halt, Arc::clone(&gauge));
        member.since_most = self.watched_most();
        let member = Rc::new(RefCell::new(member));
        self.members.borrow_mut().push(Rc::clone(&member));
        self.check_memory(&format!("engine {id} is started"));
        let means = means(&member, plan, Arc::clone(self.deadlines()));
        let face = Face::create(|context| {
            let address = context.address();
            let told = PoolDoors::of(address);
            Face {
                rig: Rc::clone(self),
                member,
                pool,
                engine: GpuActor::new(id, told, means).start(),
            }
        });
        self.faces.borrow_mut().push(face.clone());
        EngineDoors::of(face, gauge)
    }

    fn factory(&self, model: &str, halt: &Arc<Halt>) -> Factory {
        let cannot = self.happens(10);
        Factory {
            covered: covered_by(model),
            script: self.script(),
            outage: cannot.then(|| Outage {
                reason: "it could not be loaded".to_owned(),
                out_of_memory: self.below(2) == 0,
            }),
            halt: Arc::clone(halt),
        }
    }

    /// What will go wrong with a model.
    fn script(&self) -> Script {
        let script = Script::default()
            .with(When::Token(exam::DEADLY), Fault::Panic)
            .with(When::Token(exam::FAILING), Fault::Failed);
        if self.is_calm.get() || !self.dangers.faults {
            return script;
        }
        let faults = [0, 0, 1, 3, 20][self.below(5)];
        (0..faults).fold(script, |script, _| {
            let call = 1 + self.below(150) as u64;
            script.with(When::Call(call), self.faults[self.below(self.faults.len())])
        })
    }

    // ---- What the world does.

    /// One of the engines that live takes a turn. What it did, for people.
    pub fn turn(&self) -> String {
        self.members.borrow_mut().retain(|member| !member.borrow().is_gone());
        let members = self.members.borrow().clone();
        if members.is_empty() {
            return "no engine".to_owned();
        }
        let index = self.below(members.len());
        let did = members[index].borrow_mut().turn(self);
        self.read_memory();
        did
    }

    /// All engines that do not hang go on, as they do while time passes.
    pub fn go_on(&self) {
        let members = self.members.borrow().clone();
        for member in members.iter().filter(|member| !member.borrow().is_gone()) {
            let mut member = member.borrow_mut();
            member.make_prompt();
            member.step(self);
        }
        self.read_memory();
    }

    /// Whether a turn at work, or one that loads the model, is one that hangs, and how.
    pub fn hang(&self, is_loading: bool) -> Option<Hang> {
        let one_in = if is_loading { LOADS_HANG_ONE_IN } else { HANGS_ONE_IN };
        if self.is_calm.get() || !self.dangers.hangs || self.below(one_in) > 0 {
            return None;
        }
        let step = self.deadlines().step();
        let heeds = !is_loading && self.below(2) == 0;
        let ends = is_loading || self.below(3) > 0;
        let after = step / 4 * self.below(12) as u32;
        Some(Hang {
            is_loading,
            heeds,
            until: ends.then(|| tokio::time::Instant::now() + after),
            since: self.watched.get(),
            since_most: self.watched_most.get(),
        })
    }

    /// Those that hang come back, or none of them that heeds nobody ever does.
    pub fn resolve(&self, ever: bool) {
        for member in self.members.borrow().iter() {
            let mut member = member.borrow_mut();
            if let Some(hang) = &mut member.hang {
                let comes_back = ever || hang.heeds || hang.is_loading;
                hang.until = comes_back.then(tokio::time::Instant::now);
            }
        }
    }

    /// Whether an engine hangs that will come back.
    pub fn is_held_up(&self) -> bool {
        let members = self.members.borrow();
        members.iter().any(|member| {
            let member = member.borrow();
            member.hang.as_ref().is_some_and(|hang| hang.until.is_some())
        })
    }

    /// Whether an engine hangs, and the watch has something to do.
    pub fn is_watching(&self) -> bool {
        let members = self.members.borrow();
        members
            .iter()
            .any(|member| member.borrow().hang.is_some() && !member.borrow().is_down)
    }

    /// Whether there is no engine that could do anything.
    pub fn is_deserted(&self) -> bool {
        let members = self.members.borrow();
        members
            .iter()
            .all(|member| member.borrow().is_gone() || member.borrow().hang.is_some())
    }

    /// What engines hold that will never come back.
    pub fn lost(&self) -> u64 {
        let members = self.members.borrow();
        let lost = members.iter().filter(|member| member.borrow().hang.is_some());
        lost.map(|member| member.borrow().holds()).sum()
    }

    /// Time has passed in which the watch could look; or at most two of its looks of it, if the process stood still.
    pub fn passed(&self, time: Duration, stood_still: bool) {
        if !stood_still {
            self.watched.set(self.watched.get() + time);
        }
        self.watched_most.set(self.watched_most.get() + time.min(COUNTED_MAX));
    }

    /// From now on all engines together may hold so much, and work has so many attempts.
    pub fn allow(&self, bytes: u64, attempts_max: u32) {
        self.budgets.borrow_mut().push_back((self.looks.get(), bytes));
        self.allow_attempts(attempts_max);
    }

    pub fn allow_attempts(&self, attempts_max: u32) {
        self.attempts_min.set(self.attempts_min.get().min(attempts_max));
    }

    pub fn held(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.held)
    }

    pub fn below(&self, end: usize) -> usize {
        self.chance.borrow_mut().below(end)
    }

    /// Once in so many cases, while things go wrong.
    fn happens(&self, one_in: usize) -> bool {
        self.dangers.faults && !self.is_calm.get() && self.below(one_in) == 0
    }

    // ---- What is known.

    pub fn deadlines(&self) -> &Arc<Deadlines> {
        self.deadlines.get().expect("a pool was started")
    }

    pub fn watched(&self) -> Duration {
        self.watched.get()
    }

    pub fn watched_most(&self) -> Duration {
        self.watched_most.get()
    }

    /// How long something may have lasted that began then, as the watch counts.
    pub fn lasted(&self, since_most: Duration) -> Duration {
        self.watched_most.get() - since_most + COUNTED_MAX
    }

    pub fn blame(&self, work: &WorkId) -> Blame {
        self.blame.borrow().get(work).cloned().unwrap_or_default()
    }

    pub fn given(&self) -> Vec<(WorkId, bool)> {
        self.given.take()
    }

    pub fn written(&self) -> Vec<WorkId> {
        self.written.take()
    }

    pub fn log(&self) -> Vec<String> {
        self.log.take()
    }

    /// What engines have.
    pub fn running(&self) -> BTreeSet<WorkId> {
        let members = self.members.borrow();
        let works = |member: &Rc<RefCell<Member>>| member.borrow().works();
        members.iter().flat_map(works).collect()
    }

    // ---- What is noted, and must hold.

    pub fn note(&self, line: String) {
        self.log.borrow_mut().push(line);
    }

    pub fn accuse(&self, work: &WorkId, of: impl FnOnce(&mut Blame)) {
        of(self.blame.borrow_mut().entry(work.clone()).or_default());
    }

    /// An engine that was not short of memory has died while this was its.
    pub fn survives(&self, work: &WorkId) {
        self.survivors.borrow_mut().insert(work.clone());
    }

    /// An engine is given work.
    pub fn give(&self, held: &Held, alone: bool) {
        let (work, is_suspect) = (&held.work, held.is_suspect);
        for member in self.members.borrow().iter() {
            let member = member.borrow();
            assert!(!member.works().contains(work), "two engines have {work:?}");
            // What may end the process has it to itself.
            let mut others = member.jobs.values().filter(|other| other.is_waited_for());
            let shares = others.any(|other| is_suspect || other.is_suspect);
            assert!(
                !shares,
                "{work:?}, a suspect: {is_suspect}, beside {}",
                member.described()
            );
        }
        assert!(!self.done.borrow().contains(work), "{work:?} was written before");
        let survives = self.survivors.borrow().contains(work);
        assert!(
            alone || !survives,
            "{work:?} was on an engine that died, and has company"
        );
        // What may be to blame has another one run before it: then that one is alone as well.
        let last = |blame: &Blame| blame.failures + 1 >= self.attempts_min.get() || blame.deaths > 0;
        self.had_suspects.set(self.had_suspects.get() || is_suspect);
        let somebody = self.had_suspects.get() || self.blame.borrow().values().any(last);
        let always = self.attempts_min.get() <= 1;
        assert!(
            !alone || somebody || always,
            "nothing is to blame, and {work:?} is alone"
        );
        self.given.borrow_mut().push((work.clone(), is_suspect));
    }

    pub fn wrote(&self, work: &WorkId) {
        assert!(
            self.done.borrow_mut().insert(work.clone()),
            "{work:?} was written twice"
        );
        if work.2.is_some() {
            self.written.borrow_mut().push(work.clone());
        }
    }

    /// Where memory is taken, all engines together stay within what plans allow.
    pub fn check_memory(&self, when: &str) {
        let members = self.members.borrow();
        let planned: u64 = members.iter().map(|member| member.borrow().planned()).sum();
        let allowed = self.budgets.borrow().iter().map(|(_, bytes)| *bytes).max();
        let each: Vec<_> = members.iter().map(|member| member.borrow().described()).collect();
        assert!(
            planned <= allowed.unwrap_or(0),
            "{when}: {planned} bytes are taken, {allowed:?} are allowed: {each:?}"
        );
        drop(members);
        self.read_memory();
    }

    fn read_memory(&self) {
        let members = self.members.borrow();
        let held = members.iter().map(|member| member.borrow().holds()).sum();
        self.held.store(held, Ordering::Relaxed);
    }

    /// Nothing takes longer than it may: not an answer, nor an engine that hangs.
    pub fn look(&self) {
        self.looks.set(self.looks.get() + 1);
        // An actor that panics is gone, and nobody is told.
        let mut faces = self.faces.borrow().clone().into_iter();
        assert!(
            faces.all(|face| face.connected()),
            "what must hold of an engine did not"
        );
        let mut budgets = self.budgets.borrow_mut();
        while budgets
            .get(1)
            .is_some_and(|(look, _)| look + PLAN_LOOKS < self.looks.get())
        {
            budgets.pop_front();
        }
        let (step, answer) = (self.deadlines().step(), self.deadlines().answer());
        for member in self.members.borrow().iter() {
            let member = member.borrow();
            if let Some(longest) = member.longest(self.watched.get()) {
                assert!(longest < answer + LATE_MAX, "for {longest:?}: {}", member.described());
            }
            let is_watched = |hang: &&Hang| !member.is_down && !hang.is_loading;
            let Some(hang) = member.hang.as_ref().filter(is_watched) else {
                continue;
            };
            let still = self.watched.get() - hang.since;
            assert!(
                still < step + step / 5 + LATE_MAX,
                "it hangs for {still:?}: {}",
                member.described()
            );
            assert!(
                still < step + LATE_MAX || member.is_terminated(),
                "it hangs for {still:?} and nobody ends it: {}",
                member.described()
            );
        }
    }
}

pub fn work_of(assign: &Assign) -> WorkId {
    let life = &assign.case.life;
    let index = match assign.task {
        Task::Answer { index } => Some(index),
        Task::Narrative { .. } => None,
    };
    (life.interview_id.clone(), life.generation, index)
}
