//! One engine of the world: what its thread would do in a turn, what it was given, what it holds of its device, and how it hangs.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::exam;
use super::model::Halt;
use super::process::taken;
use super::rig::{Rig, WorkId, work_of};
use crate::actors::engine_thread::{Gauge, Idle, Plan, Planned, Thread, Worker};
use crate::actors::gpu::Means;
use crate::actors::message::{Assign, Case, Task, Undone, Written};
use crate::actors::prompts::{Prepared, Reading};
use crate::actors::watch::Deadlines;
use crate::engine::job::{JobId, Output};

/// Steps within which an engine ends what its actor is told to forget: those that it takes before the actor has heard it.
const FORGETS_MAX: usize = 4;
/// What an engine is told within a moment, at most.
const COMMANDS_MAX: usize = 12;

type Making = (Assign, oneshot::Sender<Result<Prepared, Undone>>);

pub struct Member {
    pub id: usize,
    /// When it was started, as the watch counts at most.
    pub since_most: Duration,
    /// As it was started.
    plan: Planned,
    /// Slots for answers under the one for narratives.
    covered: usize,
    /// What it holds beyond its plan.
    more: u64,
    /// Slots for answers that it has, or is about to.
    slots: usize,
    worker: Option<Worker>,
    /// Whether its thread has ended.
    has_ended: bool,
    /// Whether its actor has said that it is gone.
    pub is_down: bool,
    /// Without a prompt yet.
    unmade: VecDeque<Making>,
    /// What it was given, has not ended, and was not told to forget.
    pub jobs: BTreeMap<JobId, Held>,
    /// Steps, and how many of the last of them had something in a slot that it was told to forget.
    steps: u64,
    in_vain: usize,
    gauge: Arc<Gauge>,
    halt: Arc<Halt>,
    pub hang: Option<Hang>,
    /// After how many steps a run last hung.
    hung_at: Option<u64>,
    /// Whether a run that hung was ended.
    pub was_ended: bool,
}

/// A run that does not go on.
pub struct Hang {
    /// Whether it is a model that is being loaded: nobody can tell that from one that takes its time.
    pub is_loading: bool,
    /// Whether it ends if it is told to.
    pub heeds: bool,
    /// Until it goes on by itself, if it ever does.
    pub until: Option<Instant>,
    /// As the watch counts: at least, and at most.
    pub since: Duration,
    pub since_most: Duration,
}

/// What an engine was given.
pub struct Held {
    pub work: WorkId,
    pub case: Arc<Case>,
    pub is_answer: bool,
    /// Whether it may end the process.
    pub is_suspect: bool,
    /// When, as the watch counts: at least, and at most.
    pub since: Duration,
    pub since_most: Duration,
}

impl Member {
    pub fn new(id: usize, plan: &Planned, covered: usize, more: u64, halt: Arc<Halt>, gauge: Arc<Gauge>) -> Self {
        Self {
            id,
            since_most: Duration::ZERO,
            plan: plan.clone(),
            covered,
            more,
            slots: plan.slots,
            worker: None,
            has_ended: false,
            is_down: false,
            unmade: VecDeque::new(),
            jobs: BTreeMap::new(),
            steps: 0,
            in_vain: 0,
            gauge,
            halt,
            hang: None,
            hung_at: None,
            was_ended: false,
        }
    }

    // ---- What it does.

    /// What its thread does next, or whoever makes its prompts. In words.
    pub fn turn(&mut self, rig: &Rig) -> String {
        match !self.unmade.is_empty() && rig.below(2) == 0 {
            true => self.make_prompt(),
            false => self.work(rig),
        }
    }

    pub fn make_prompt(&mut self) -> String {
        let Some((assign, made)) = self.unmade.pop_front() else {
            return String::new();
        };
        let (job, prompt) = (assign.job, exam::job(&assign));
        let reading: Reading = Box::new(move |output| Ok(read(&assign, output)));
        // Who waits for it may have died with the engine.
        let _ = made.send(Ok(Prepared { job: prompt, reading }));
        format!("engine {} has a prompt for {job:?}", self.id)
    }

    /// Goes on until it has taken a step, or does not go on.
    pub fn step(&mut self, rig: &Rig) {
        let steps = self.gauge.read().steps;
        for _ in 0..COMMANDS_MAX {
            let words = self.work(rig);
            if self.hang.is_some() {
                rig.note(words);
            }
            if self.hang.is_some() || self.gauge.read().steps > steps {
                return;
            }
        }
    }

    pub fn work(&mut self, rig: &Rig) -> String {
        let id = self.id;
        let Some(worker) = &mut self.worker else {
            return format!("engine {id} is not there");
        };
        match &self.hang {
            Some(hang) if hang.heeds && self.halt.is_terminated() => {
                self.hang = None;
                self.was_ended = true;
                self.halt.set_ends_run(true);
            }
            Some(hang) if hang.until.is_some_and(|until| until <= Instant::now()) => self.hang = None,
            Some(_) => return format!("engine {id} hangs"),
            None if worker.is_loaded() && !worker.is_at_work() => {}
            // Between two runs that hang the first one ends, and the watch sees that.
            None if worker.is_loaded() && self.hung_at == Some(self.gauge.read().steps) => {}
            None => {
                if let Some(hang) = rig.hang(!worker.is_loaded()) {
                    self.halt.begin();
                    self.hung_at = worker.is_loaded().then(|| self.gauge.read().steps);
                    let words = format!(
                        "engine {id} hangs, heeds: {}, ends: {}",
                        hang.heeds,
                        hang.until.is_some()
                    );
                    self.hang = Some(hang);
                    return words;
                }
            }
        }
        let goes_on = worker.turn(Idle::Returns);
        self.halt.set_ends_run(false);
        if !goes_on {
            (self.worker, self.has_ended) = (None, true);
            return format!("engine {id} ends");
        }
        self.check_slots();
        format!("engine {id} turns")
    }

    /// It does not go on for long with what it was told to forget.
    fn check_slots(&mut self) {
        let reading = self.gauge.read();
        if std::mem::replace(&mut self.steps, reading.steps) == reading.steps {
            return;
        }
        let mut jobs = reading.slots.iter().filter_map(|slot| slot.job);
        self.in_vain = match !self.is_down && jobs.any(|job| !self.jobs.contains_key(&job)) {
            true => self.in_vain + 1,
            false => 0,
        };
        drop(reading);
        assert!(self.in_vain < FORGETS_MAX, "it works for nobody: {}", self.described());
    }

    // ---- What it is told.

    pub fn takes(&mut self, job: JobId, held: Held) {
        let is_answer = held.is_answer;
        assert!(self.jobs.insert(job, held).is_none(), "{job:?} was given twice");
        let answers = self.jobs.values().filter(|held| held.is_answer).count();
        let narratives = self.jobs.len() - answers;
        let in_use = answers + narratives * self.covered;
        assert!(
            narratives <= 1 && (!is_answer || in_use <= self.slots),
            "it is given {job:?}: {}",
            self.described()
        );
    }

    /// Gives whether that are more than before.
    pub fn resizes(&mut self, slots: usize) -> bool {
        std::mem::replace(&mut self.slots, slots) < slots
    }

    pub fn has_one_slot(&self) -> bool {
        self.slots == 1
    }

    pub fn is_terminated(&self) -> bool {
        self.halt.is_terminated()
    }

    // ---- What is known of it.

    /// Whether nothing will come of it any more.
    pub fn is_gone(&self) -> bool {
        self.has_ended && self.jobs.is_empty()
    }

    pub fn works(&self) -> Vec<WorkId> {
        self.jobs.values().map(|held| held.work.clone()).collect()
    }

    /// For how long it has had what it has longest.
    pub fn longest(&self, watched: Duration) -> Option<Duration> {
        let since = self.jobs.values().map(|held| held.since).min()?;
        Some(watched - since).filter(|_| self.worker.is_some())
    }

    /// Bytes of its device that it was planned to have.
    pub fn planned(&self) -> u64 {
        match self.has_ended {
            true => 0,
            false => taken(&self.plan.allowance, self.slots),
        }
    }

    /// Bytes that it has.
    pub fn holds(&self) -> u64 {
        match self.has_ended {
            true => 0,
            false => self.planned() + self.more,
        }
    }

    pub fn described(&self) -> String {
        let jobs: Vec<_> = self.jobs.iter().map(|(job, held)| (job, &held.work)).collect();
        format!(
            "engine {} with {} slots, {} of them under a narrative, {} bytes, down: {}, hangs: {}, has {jobs:?}",
            self.id,
            self.slots,
            self.covered,
            self.planned(),
            self.is_down,
            self.hang.is_some()
        )
    }
}

impl Held {
    pub fn of(assign: &Assign, rig: &Rig) -> Self {
        Self {
            work: work_of(assign),
            case: Arc::clone(&assign.case),
            is_answer: matches!(assign.task, Task::Answer { .. }),
            is_suspect: assign.trail.is_some(),
            since: rig.watched(),
            since_most: rig.watched_most(),
        }
    }

    /// Whether anybody waits for it.
    pub fn is_waited_for(&self) -> bool {
        !self.case.over.load(Ordering::Relaxed)
    }
}

/// What an engine's actor works with: prompts and a thread that take their turns here.
pub fn means(member: &Rc<RefCell<Member>>, plan: Plan, deadlines: Arc<Deadlines>) -> Means {
    let (asked, launched) = (Rc::clone(member), Rc::clone(member));
    Means {
        pulse: Arc::clone(&plan.pulse),
        deadlines,
        prepare: Box::new(move |assign, _| {
            let (made, making) = oneshot::channel();
            asked.borrow_mut().unmade.push_back((assign, made));
            Box::pin(async move { making.await.expect("a prompt is made as long as there is a world") })
        }),
        launch: Box::new(move |events| {
            let (commands, worker) = Worker::new(plan, events);
            launched.borrow_mut().worker = Some(worker);
            Ok(Thread { commands, handle: None })
        }),
    }
}

/// What the model wrote for an assignment.
fn read(assign: &Assign, output: &Output) -> Written {
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
