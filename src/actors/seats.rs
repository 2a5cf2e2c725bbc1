//! The planned engines and what each of them runs: who may have work, who has to go and who may come. Knows no actor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::engine_thread::{ModelFactory, Planned};
use super::memory::{Allowance, Meter};
use super::message::{Life, Making, Outage, Task};
use super::queue::Work;
use crate::engine::Options;
use crate::engine::job::JobId;
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK, Scorer};

const MIB: u64 = 1 << 20;

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
    /// Deaths since the last work that ended.
    deaths: u32,
    /// The engine that died here, until its successor may start.
    mourned: Option<usize>,
    /// Whether it was said that it holds too much and gives up no slot for that.
    overweight: bool,
}

/// An engine.
pub(super) struct Member {
    pub id: usize,
    pub ready: bool,
    /// Scoring slots that it has.
    pub slots: usize,
    /// In the order in which it was given.
    pub running: BTreeMap<JobId, Work>,
    setup: Arc<Setup>,
    resizing: bool,
    retiring: bool,
}

/// What is to be done to bring the engines into line with the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Retire { id: usize },
    Resize { id: usize, slots: usize },
    Start { id: usize, plan: Planned },
}

/// An engine that is gone, and what it leaves behind.
pub(super) struct Death {
    pub running: Vec<Work>,
    /// How often it has died in a row at its place; `None` if nobody shall follow it.
    pub in_a_row: Option<u32>,
}

/// An engine that is loaded and as it shall be.
pub(super) struct Steady {
    pub id: usize,
    pub slots: usize,
    pub allowance: Allowance,
}

/// A reading of a device and what it is held against, in bytes.
pub(super) struct Weight {
    pub held: u64,
    /// What slots that were not used yet will take on top.
    pub to_take: u64,
    pub budget: u64,
}

impl Weight {
    pub fn all(&self) -> u64 {
        self.held.saturating_add(self.to_take)
    }

    /// What is wrong, for the operator.
    fn complaint(&self, device: &str) -> String {
        let [held, to_take, budget] = [self.held, self.to_take, self.budget].map(|bytes| bytes.div_ceil(MIB));
        let soon = match to_take {
            0 => String::new(),
            _ => format!(" and unused slots will take {to_take} more"),
        };
        format!("{held} MiB of {device} are in use{soon}, but {budget} MiB may be")
    }
}

/// Where one slot is too much.
const NO_SLOT_LEFT: &str = "there is no slot left to give up";
/// Where fewer slots were as much too much.
const NO_HELP: &str = "giving up slots has not lowered it enough";
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
        self.ready && !self.resizing && self.slots == wanted_slots
    }

    /// Whether it may have such work now. Until it has the slots that the plan gives it, nothing is begun: it may be out of memory.
    fn takes(&self, bank: usize, alone: bool, plan: &Planned) -> bool {
        let wanted_slots = plan.slots;
        let narratives = self.busy(NARRATIVE_BANK);
        let free = match bank {
            SCORING_BANK => self.busy(bank) + narratives * plan.narrative_takes < self.slots,
            _ => narratives == 0,
        };
        let quiet = !self.running.values().any(|work| work.alone) && (!alone || self.running.is_empty());
        self.is_steady(wanted_slots) && free && quiet
    }
}

impl Seat {
    /// For want of memory: half of the slots that there are. `false` if that is none fewer.
    fn halve(&mut self, now: usize, reason: &str) -> bool {
        let fewer = (now / 2).max(1);
        self.plan.slots = fewer;
        let then = match fewer < now {
            true => format!("it goes on with {fewer} of {now} slots"),
            false => format!("{NO_SLOT_LEFT}: {MORE_MEMORY}"),
        };
        let device = &self.plan.device;
        tracing::warn!(device, slots = fewer, were = now, reason, "an engine is out of memory");
        self.last_error = Some(format!("{reason}; {then}"));
        fewer < now
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

    /// Takes a new plan. Engines stay where the device is the same; whether they may is seen in [`Self::steps`].
    pub fn adopt(&mut self, plans: Vec<Planned>) {
        let mut old = std::mem::take(&mut self.planned);
        let seat = |plan: Planned| {
            let kept = old.iter().position(|seat| seat.plan.device == plan.device);
            let (member, restarts) = match kept.map(|index| old.remove(index)) {
                Some(seat) => (seat.member, seat.restarts),
                None => (None, 0),
            };
            Seat {
                plan,
                member,
                restarts,
                last_error: None,
                deaths: 0,
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
            let outdated = |member: &mut Member| !Arc::ptr_eq(&member.setup, setup);
            self.leaving.extend(seat.member.take_if(outdated));
        }
        let mut steps = self.retirements(|member| member.running.is_empty());
        // Memory that is not free yet must not be counted on: first who leaves or shrinks, then who grows or comes.
        steps.extend(self.resizes(|now, wanted| wanted < now));
        let settled = |seat: &Seat| {
            let member = seat.member.as_ref();
            member.is_none_or(|member| !member.resizing && member.slots <= seat.plan.slots)
        };
        if self.leaving.is_empty() && self.planned.iter().all(settled) {
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
                && !member.resizing
                && due(member.slots, seat.plan.slots)
                && member.busy(SCORING_BANK) == 0
                && (seat.plan.narrative_takes == 0 || member.busy(NARRATIVE_BANK) == 0)
            {
                (member.resizing, member.slots) = (true, seat.plan.slots);
                steps.push(Step::Resize {
                    id: member.id,
                    slots: member.slots,
                });
            }
        }
        steps
    }

    fn starts(&mut self, setup: &Arc<Setup>) -> Vec<Step> {
        let mut steps = Vec::new();
        let vacant = |seat: &&mut Seat| seat.member.is_none() && seat.mourned.is_none();
        for seat in self.planned.iter_mut().filter(vacant) {
            self.last_id += 1;
            seat.member = Some(Member {
                id: self.last_id,
                ready: false,
                slots: seat.plan.slots,
                running: BTreeMap::new(),
                setup: Arc::clone(setup),
                resizing: false,
                retiring: false,
            });
            steps.push(Step::Start {
                id: self.last_id,
                plan: seat.plan.clone(),
            });
        }
        steps
    }

    /// The engine has loaded its model. Gives the device that it is planned for.
    pub fn up(&mut self, id: usize) -> Option<String> {
        self.members_mut().find(|member| member.id == id)?.ready = true;
        let is_its = |seat: &&Seat| seat.member.as_ref().is_some_and(|member| member.id == id);
        self.planned.iter().find(is_its).map(|seat| seat.plan.device.clone())
    }

    /// The engine has as many slots as it was told to have.
    pub fn resized(&mut self, id: usize) {
        self.has_given_back = true;
        let member = self.members_mut().find(|member| member.id == id);
        member.into_iter().for_each(|member| member.resizing = false);
    }

    /// The engine has stopped, as it was told to. What it still ran is nobody's.
    pub fn left(&mut self, id: usize) {
        self.has_given_back = true;
        self.leaving.retain(|member| member.id != id);
    }

    /// The engine has died; `None` if there is no such engine. Where there was no memory for its slots, its successor has half as many.
    pub fn died(&mut self, id: usize, outage: &Outage) -> Option<Death> {
        self.has_given_back = true;
        let (member, in_a_row) = match self.leaving.iter().position(|member| member.id == id) {
            Some(index) => (self.leaving.remove(index), None),
            None => {
                let is_it = |member: &mut Member| member.id == id;
                let mut seats = self.planned.iter_mut();
                let (member, seat) = seats.find_map(|seat| Some((seat.member.take_if(is_it)?, seat)))?;
                seat.deaths += 1;
                seat.restarts += 1;
                seat.mourned = Some(id);
                seat.last_error = Some(outage.reason.clone());
                if outage.out_of_memory {
                    seat.halve(seat.plan.slots, &outage.reason);
                }
                (member, Some(seat.deaths))
            }
        };
        Some(Death {
            running: member.running.into_values().collect(),
            in_a_row,
        })
    }

    /// The engine that died may be followed by another now.
    pub fn mourned(&mut self, id: usize) {
        let seats = self.planned.iter_mut().filter(|seat| seat.mourned == Some(id));
        seats.for_each(|seat| seat.mourned = None);
    }

    /// Of the engines that may have such work now, the one that has least to do.
    pub fn least_busy(&mut self, bank: usize, alone: bool) -> Option<&mut Member> {
        let free = self.planned.iter_mut().filter_map(|seat| {
            let plan = &seat.plan;
            seat.member.as_mut().filter(|member| member.takes(bank, alone, plan))
        });
        free.min_by_key(|member| (member.running.len(), member.id))
    }

    /// The model had no memory to run a job. Its engine gives up half of its slots; `false` if it has but one, so that running the job again will
    /// hardly go better.
    pub fn ran_out(&mut self, job: JobId, reason: &str) -> bool {
        for seat in &mut self.planned {
            let Some(member) = seat.member.as_ref().filter(|member| member.running.contains_key(&job)) else {
                continue;
            };
            // Other runs may fail as well before it has the slots that it shall have by now.
            let now = member.slots;
            return member.resizing || seat.plan.slots < now || seat.halve(now, reason);
        }
        true // one that leaves makes room by that
    }

    /// The engines of a device; none while any of them comes, goes or changes: a reading then says nothing, and is taken again.
    pub fn steady_on(&self, device: &str) -> Vec<Steady> {
        let here = self.planned.iter().filter(|seat| seat.plan.device == device);
        let steady = here.map(|seat| {
            let wanted = seat.plan.slots;
            let member = seat.member.as_ref().filter(|member| member.is_steady(wanted))?;
            Some(Steady {
                id: member.id,
                slots: member.slots,
                allowance: seat.plan.allowance,
            })
        });
        let steady: Option<_> = steady.collect();
        steady.filter(|_| self.leaving.is_empty()).unwrap_or_default()
    }

    /// Devices that engines run on.
    pub fn devices_at_work(&self) -> BTreeSet<String> {
        let at_work = |seat: &&Seat| seat.member.as_ref().is_some_and(|member| !member.running.is_empty());
        let seats = self.planned.iter().filter(at_work);
        seats.map(|seat| seat.plan.device.clone()).collect()
    }

    /// Whether memory was ever given back, which may still be resident.
    pub fn has_given_back(&self) -> bool {
        self.has_given_back
    }

    /// Whether what the device's engines gave up last has lowered the reading; `true` if they gave up nothing yet.
    pub fn has_helped(&self, device: &str, weight: &Weight) -> bool {
        self.relief.get(device).is_none_or(|most| weight.all() <= *most)
    }

    /// Engines of the device will give up so many bytes. Unless the reading falls by half of them, they are not what is too much.
    pub fn begin_relief(&mut self, device: &str, weight: &Weight, given_up: u64) {
        let most = weight.all().saturating_sub(given_up / 2);
        self.relief.insert(device.to_owned(), most);
    }

    fn seat_of(&mut self, id: usize) -> Option<&mut Seat> {
        let of = |seat: &&mut Seat| seat.member.as_ref().is_some_and(|member| member.id == id);
        self.planned.iter_mut().find(of)
    }

    /// An engine of a device that holds too much: it ends what it has and goes, and one with `slots` slots comes in its place. Giving it other
    /// slots would not do: what it frees, ONNX Runtime's arena on a card or the allocator on a CPU may keep.
    pub fn relieve(&mut self, id: usize, slots: usize, weight: &Weight) {
        let Some(seat) = self.seat_of(id) else { return };
        let (was, complaint) = (seat.plan.slots, weight.complaint(&seat.plan.device));
        let reason = format!("{complaint}: the engine is built anew with {slots} instead of {was} slots");
        tracing::warn!(engine = id, reason, "over the memory budget");
        seat.last_error = Some(reason);
        seat.overweight = false;
        seat.plan.slots = slots;
        let leaving = seat.member.take();
        self.leaving.extend(leaving);
    }

    /// An engine of a device that holds too much goes on as it is, and that is said once.
    pub fn bear(&mut self, id: usize, weight: &Weight) {
        let Some(seat) = self.seat_of(id).filter(|seat| !seat.overweight) else {
            return;
        };
        let why = match seat.plan.slots {
            1 => NO_SLOT_LEFT,
            _ => NO_HELP,
        };
        let reason = format!("{}: {why}: {MORE_MEMORY}", weight.complaint(&seat.plan.device));
        tracing::warn!(engine = id, reason, "over the memory budget");
        seat.last_error = Some(reason);
        seat.overweight = true;
    }

    /// Takes out a job that has ended, with the hash of the model that it ran on; `None` if nobody waits for it any more.
    pub fn take(&mut self, job: JobId) -> Option<(Work, Arc<Making>)> {
        for seat in &mut self.planned {
            if seat
                .member
                .as_ref()
                .is_some_and(|member| member.running.contains_key(&job))
            {
                seat.deaths = 0;
            }
        }
        self.members_mut().find_map(|member| {
            let work = member.running.remove(&job)?;
            Some((work, Arc::clone(&member.setup.making)))
        })
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
