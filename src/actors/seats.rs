//! The planned engines and what each of them runs: who may have work, who has to go and who may come. Knows no actor.

mod failing;
mod relief;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::engine_thread::{ModelFactory, Planned};
use super::memory::Meter;
use super::message::{Life, Making, Task};
use super::queue::Work;
use super::trial::Trial;
use crate::engine::Options;
use crate::engine::job::JobId;
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK, Scorer};
use failing::Lost;
pub(super) use failing::{Death, Finding, Sick};
pub(super) use relief::Weight;

/// What engines are made of; a new one for every model that is loaded.
pub struct Setup {
    pub scorer: Arc<Scorer>,
    pub factory: Arc<dyn ModelFactory>,
    /// What the engines' devices are read with.
    pub meter: Meter,
    pub options: Options,
    /// What the scores come from.
    pub making: Arc<Making>,
}

/// All engines of a pool.
#[derive(Default)]
pub(super) struct Seats {
    planned: Vec<Seat>,
    /// Engines that end what they have and then stop.
    leaving: Vec<Member>,
    /// Engines that were given up with what they hold, wherever they had their seats.
    lost: Vec<Lost>,
    last_id: usize,
    /// Whether memory was ever given back: an engine left, died or was given another number of slots.
    has_given_back: bool,
    /// By device: what a reading must come down to, in bytes, before its engines give up slots again.
    relief: HashMap<String, u64>,
}

/// A planned engine, whether it lives or not.
pub(super) struct Seat {
    /// As adopted; with fewer slots once memory did not hold so many. They come back with the next plan only.
    pub plan: Planned,
    pub member: Option<Member>,
    pub restarts: u64,
    pub last_error: Option<String>,
    /// Deaths since the last work that was done.
    deaths: u32,
    trial: Trial,
    /// The engine that died here, until its successor may start.
    mourned: Option<usize>,
    /// Whether it was said that it holds too much and gives up no slot for that.
    overweight: bool,
}

/// An engine.
pub(super) struct Member {
    pub id: usize,
    pub ready: bool,
    /// As it was started, or last given another number of slots.
    pub plan: Planned,
    /// Why it is not ready yet, if loading its model takes too long.
    pub late: Option<String>,
    /// In the order in which it was given.
    pub running: BTreeMap<JobId, Work>,
    /// Whether the last that was heard of it is something that it wrote.
    is_proven: bool,
    setup: Arc<Setup>,
    /// The slots that it had, while it is being given another number.
    resizing: Option<usize>,
    retiring: bool,
    /// Whether it has to go because it fails whatever it runs. What still runs on it is not to blame for what happens there.
    is_condemned: bool,
}

/// An engine that may have work.
pub(super) struct Free {
    pub id: usize,
    /// Whether the last that was heard of it is something that it wrote.
    pub is_proven: bool,
}

/// What is to be done to bring the engines into line with the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Retire { id: usize },
    Resize { id: usize, slots: usize },
    Start(Newcomer),
}

/// An engine that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    pub id: usize,
    pub plan: Planned,
    /// Whether it has to show that it runs before it is given work: those before it failed whatever they ran.
    pub rehearses: bool,
}

/// Where one slot is too much.
const NO_SLOT_LEFT: &str = "there is no slot left to give up";
/// What helps there.
const MORE_MEMORY: &str = "use a smaller model, or give it more memory (pool.memory_budget_mib, other programs)";

/// The bank of slots that a task needs.
pub(super) fn bank_of(task: &Task) -> usize {
    match task {
        Task::Answer { .. } => SCORING_BANK,
        Task::Narrative { .. } => NARRATIVE_BANK,
    }
}

impl Member {
    fn busy(&self, bank: usize) -> usize {
        self.running.values().filter(|work| bank_of(&work.task) == bank).count()
    }

    /// Whether it has the slots that the plan gives it.
    fn is_steady(&self, wanted_slots: usize) -> bool {
        self.ready && self.resizing.is_none() && self.plan.slots == wanted_slots
    }

    /// For how many slots it may have memory: until it says that it has the new ones, for the old ones too.
    fn slots_held(&self) -> usize {
        self.resizing.map_or(self.plan.slots, |had| had.max(self.plan.slots))
    }

    /// Whether it cannot become what is wanted: it has another model, the narrative's memory lies elsewhere, or it computes with too many threads beside
    /// others, or too few without them.
    fn is_outdated(&self, wanted: &Planned, setup: &Arc<Setup>) -> bool {
        let made_with = |plan: &Planned| (plan.narrative_takes > 0, plan.threads);
        !Arc::ptr_eq(&self.setup, setup) || made_with(&self.plan) != made_with(wanted)
    }

    /// Whether it may have such work now. Until it has the slots that the plan gives it, nothing is begun: it may be out of memory.
    fn takes(&self, bank: usize, alone: bool, plan: &Planned) -> bool {
        let wanted_slots = plan.slots;
        let narratives = self.busy(NARRATIVE_BANK);
        let free = match bank {
            SCORING_BANK => self.busy(bank) + narratives * plan.narrative_takes < self.plan.slots,
            _ => narratives == 0,
        };
        let quiet = !self.running.values().any(|work| work.alone) && (!alone || self.running.is_empty());
        self.is_steady(wanted_slots) && free && quiet
    }
}

impl Seats {
    pub fn planned(&self) -> &[Seat] {
        &self.planned
    }

    pub fn leaving(&self) -> &[Member] {
        &self.leaving
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        let seated = self.planned.iter().filter_map(|seat| seat.member.as_ref());
        seated.chain(&self.leaving)
    }

    fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let seated = self.planned.iter_mut().filter_map(|seat| seat.member.as_mut());
        seated.chain(&mut self.leaving)
    }

    pub fn running(&self) -> impl Iterator<Item = &Work> {
        self.members().flat_map(|member| member.running.values())
    }

    pub fn running_mut(&mut self) -> impl Iterator<Item = &mut Work> {
        self.members_mut().flat_map(|member| member.running.values_mut())
    }

    /// Takes a new plan. Engines stay where the device is the same; whether they may is seen in [`Self::steps`].
    pub fn adopt(&mut self, plans: Vec<Planned>) {
        let mut old = std::mem::take(&mut self.planned);
        let seat = |plan: Planned| {
            let kept = old.iter().position(|seat| seat.plan.device == plan.device);
            let (member, restarts, trial) = match kept.map(|index| old.remove(index)) {
                Some(seat) => (seat.member, seat.restarts, seat.trial.anew()),
                None => (None, 0, Trial::default()),
            };
            Seat {
                plan,
                member,
                restarts,
                last_error: None,
                deaths: 0,
                trial,
                mourned: None,
                overweight: false,
            }
        };
        self.planned = plans.into_iter().map(seat).collect();
        self.relief.clear();
        self.leaving.extend(old.into_iter().filter_map(|seat| seat.member));
    }

    /// Everybody leaves, and nobody follows.
    pub fn dismiss(&mut self) {
        let seats = std::mem::take(&mut self.planned);
        self.leaving.extend(seats.into_iter().filter_map(|seat| seat.member));
    }

    /// What can be done now towards the plan. It counts as begun; `may_start`: whether engines may start.
    pub fn steps(&mut self, setup: &Arc<Setup>, may_start: bool) -> Vec<Step> {
        for seat in &mut self.planned {
            let outdated = |member: &mut Member| member.is_outdated(&seat.plan, setup);
            self.leaving.extend(seat.member.take_if(outdated));
        }
        let mut steps = self.retirements(|member| member.running.is_empty());
        // Memory that is not free yet must not be counted on: first who leaves or shrinks, then who grows or comes.
        steps.extend(self.resizes(|now, wanted| wanted < now));
        let settled = |seat: &Seat| {
            let member = seat.member.as_ref();
            member.is_none_or(|member| member.resizing.is_none() && member.plan.slots <= seat.plan.slots)
        };
        if self.leaving.is_empty() && self.planned.iter().all(settled) {
            self.curb_growth();
            steps.extend(self.resizes(|now, wanted| wanted > now));
            if may_start {
                steps.extend(self.starts(setup));
            }
        }
        steps
    }

    /// Tells those who leave, and of whom `may` holds, to go.
    pub fn retirements(&mut self, may: impl Fn(&Member) -> bool) -> Vec<Step> {
        let going = self.leaving.iter_mut().filter(|member| !member.retiring && may(member));
        going
            .map(|member| {
                member.retiring = true;
                Step::Retire { id: member.id }
            })
            .collect()
    }

    fn resizes(&mut self, due: impl Fn(usize, usize) -> bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for seat in &mut self.planned {
            if let Some(member) = &mut seat.member
                && member.ready
                && member.resizing.is_none()
                && due(member.plan.slots, seat.plan.slots)
                && member.busy(SCORING_BANK) == 0
                && (seat.plan.narrative_takes == 0 || member.busy(NARRATIVE_BANK) == 0)
            {
                (member.resizing, member.plan) = (Some(member.plan.slots), seat.plan.clone());
                steps.push(Step::Resize {
                    id: member.id,
                    slots: member.plan.slots,
                });
            }
        }
        steps
    }

    fn starts(&mut self, setup: &Arc<Setup>) -> Vec<Step> {
        let mut steps = Vec::new();
        for index in 0..self.planned.len() {
            let seat = &self.planned[index];
            if seat.member.is_some() || seat.mourned.is_some() || !self.makes_room(index) {
                continue;
            }
            self.last_id += 1;
            let seat = &mut self.planned[index];
            seat.member = Some(Member {
                id: self.last_id,
                ready: false,
                plan: seat.plan.clone(),
                late: None,
                running: BTreeMap::new(),
                is_proven: false,
                setup: Arc::clone(setup),
                resizing: None,
                retiring: false,
                is_condemned: false,
            });
            steps.push(Step::Start(Newcomer {
                id: self.last_id,
                plan: seat.plan.clone(),
                rehearses: seat.trial.is_doubted(),
            }));
        }
        steps
    }

    /// The engine has loaded its model. Gives the device that it is planned for.
    pub fn up(&mut self, id: usize) -> Option<String> {
        let member = self.members_mut().find(|member| member.id == id)?;
        (member.ready, member.late) = (true, None);
        let is_its = |seat: &&Seat| seat.member.as_ref().is_some_and(|member| member.id == id);
        self.planned.iter().find(is_its).map(|seat| seat.plan.device.clone())
    }

    /// The engine has as many slots as it was told to have.
    pub fn resized(&mut self, id: usize) {
        self.has_given_back = true;
        let member = self.members_mut().find(|member| member.id == id);
        member.into_iter().for_each(|member| member.resizing = None);
    }

    /// The engine has stopped, as it was told to. What it still ran is nobody's.
    pub fn left(&mut self, id: usize) {
        self.has_given_back = true;
        self.leaving.retain(|member| member.id != id);
    }

    /// Of the engines that may have such work now, the one that has least to do.
    pub fn least_busy(&self, bank: usize, alone: bool) -> Option<Free> {
        let free = self.planned.iter().filter_map(|seat| {
            let takes = |member: &&Member| member.takes(bank, alone, &seat.plan);
            seat.member.as_ref().filter(takes)
        });
        let least = free.min_by_key(|member| (member.running.len(), member.id))?;
        Some(Free {
            id: least.id,
            is_proven: least.is_proven,
        })
    }

    /// An engine has been given work.
    pub fn assign(&mut self, id: usize, job: JobId, work: Work) {
        if let Some(member) = self.members_mut().find(|member| member.id == id) {
            member.running.insert(job, work);
        }
    }

    /// Devices that engines run on.
    pub fn devices_at_work(&self) -> BTreeSet<String> {
        let at_work = |seat: &&Seat| seat.member.as_ref().is_some_and(|member| !member.running.is_empty());
        let seats = self.planned.iter().filter(at_work);
        seats.map(|seat| seat.plan.device.clone()).collect()
    }

    /// Loading the model of an engine takes too long.
    pub fn comes_late(&mut self, id: usize, reason: &str) {
        let member = self.members_mut().find(|member| member.id == id && !member.ready);
        member
            .into_iter()
            .for_each(|member| member.late = Some(reason.to_owned()));
    }

    /// Takes out a job that has ended, with what it ran on; `None` if nobody waits for it any more.
    pub fn take(&mut self, job: JobId) -> Option<(Work, Arc<Making>)> {
        self.members_mut().find_map(|member| {
            let work = member.running.remove(&job)?;
            Some((work, Arc::clone(&member.setup.making)))
        })
    }

    fn seat_that_runs(&mut self, job: JobId) -> Option<&mut Seat> {
        let runs = |member: &Member| member.running.contains_key(&job);
        self.planned
            .iter_mut()
            .find(|seat| seat.member.as_ref().is_some_and(runs))
    }

    fn seat_of(&mut self, id: usize) -> Option<&mut Seat> {
        let of = |seat: &&mut Seat| seat.member.as_ref().is_some_and(|member| member.id == id);
        self.planned.iter_mut().find(of)
    }

    /// Takes out all that runs for a life. Gives the engines and their jobs.
    pub fn forget(&mut self, life: &Life) -> Vec<(usize, JobId)> {
        let mut forgotten = Vec::new();
        for member in self.members_mut() {
            let id = member.id;
            let mine = member.running.extract_if(.., |_, work| work.case.life == *life);
            forgotten.extend(mine.map(|(job, _)| (id, job)));
        }
        forgotten
    }

    /// Whether nothing runs.
    pub fn is_idle(&self) -> bool {
        self.running().next().is_none()
    }
}
