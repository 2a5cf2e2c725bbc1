//! What becomes of an engine's seat when it dies, is out of memory, does not come back, or fails whatever it runs.

use std::collections::HashMap;

use super::{MORE_MEMORY, Member, NO_SLOT_LEFT, Seat, Seats};
use crate::actors::message::Outage;
use crate::actors::queue::{Key, Queue, Work};
use crate::actors::trial::Blame;
use crate::engine::job::JobId;

/// Engines of a device that are given up at most: each keeps a thread, which may be computing.
const LOST_MAX: usize = 8;
const MIB: u64 = 1 << 20;

/// An engine that is gone, and what it leaves behind.
pub(in crate::actors) struct Death {
    pub running: Vec<Work>,
    /// How often it has died in a row at its place; `None` if nobody shall follow it.
    pub in_a_row: Option<u32>,
    /// If engines die there whatever they run: what works were blamed for.
    pub forgiven: Option<HashMap<Key, Blame>>,
    /// Whether it had to go already, because it failed whatever it ran.
    pub was_condemned: bool,
}

/// Who is to blame for a job that has failed by itself.
pub(in crate::actors) enum Finding {
    /// The work; or that cannot be told.
    Work,
    /// That will show: there is other work enough to run before this one.
    Open,
    /// The engine, which has to go for that already.
    Condemned,
    /// The engine, which has to go.
    Sick(Sick),
}

/// An engine that fails whatever it runs.
pub(in crate::actors) struct Sick {
    pub id: usize,
    /// What works were blamed for.
    pub forgiven: HashMap<Key, Blame>,
}

/// An engine whose thread does not come back.
#[derive(Debug)]
pub(super) struct Lost {
    id: usize,
    device: String,
    /// What it may still hold of the device.
    bytes: u64,
}

impl Lost {
    fn of(member: &Member) -> Self {
        Self {
            id: member.id,
            device: member.plan.device.clone(),
            bytes: member.plan.allowance.taken(member.slots_held()),
        }
    }
}

/// What those that were given up leave an engine of their device.
struct Beside {
    lost: usize,
    lost_bytes: u64,
    slots: usize,
}

impl Beside {
    fn complaint(&self, device: &str) -> String {
        let who = match self.lost {
            1 => "the thread of an engine does".to_owned(),
            several => format!("threads of {several} engines do"),
        };
        let mib = self.lost_bytes.div_ceil(MIB);
        format!("{who} not come back and may still hold {mib} MiB of {device}")
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

    /// The engine is gone and another shall come, after a pause.
    fn falls_vacant(&mut self, id: usize, reason: String) -> u32 {
        self.deaths += 1;
        self.restarts += 1;
        self.mourned = Some(id);
        self.last_error = Some(reason);
        self.deaths
    }
}

impl Seats {
    /// What is left of a device for a seat's engine, beside the other engines there and those that were given up; `None` if none was.
    fn beside_lost(&self, index: usize) -> Option<Beside> {
        let plan = &self.planned[index].plan;
        let lost = self.lost.iter().filter(|lost| lost.device == plan.device);
        let (lost, lost_bytes) = lost.fold((0, 0_u64), |(count, bytes), lost| (count + 1, bytes + lost.bytes));
        if lost == 0 {
            return None;
        }
        let here = self.planned.iter().filter(|seat| seat.plan.device == plan.device);
        let budget: u64 = here.map(|seat| seat.plan.allowance.bytes).sum();
        let others = self.planned.iter().enumerate().filter(|(other, _)| *other != index);
        let others = others.filter_map(|(_, seat)| {
            let member = seat
                .member
                .as_ref()
                .filter(|member| member.plan.device == plan.device)?;
            Some(member.plan.allowance.taken(member.slots_held().max(seat.plan.slots)))
        });
        let left = budget.saturating_sub(others.sum::<u64>().saturating_add(lost_bytes));
        Some(Beside {
            lost,
            lost_bytes,
            slots: plan.allowance.slots_within(left.min(plan.allowance.bytes)),
        })
    }

    /// Whether an engine has room at a seat beside those that were given up, perhaps with fewer slots; if not, says so.
    pub(super) fn makes_room(&mut self, index: usize) -> bool {
        let Some(beside) = self.beside_lost(index) else {
            return true;
        };
        let seat = &mut self.planned[index];
        if beside.slots > 0 && beside.lost < LOST_MAX {
            seat.plan.slots = seat.plan.slots.min(beside.slots);
            return true;
        }
        let complaint = beside.complaint(&seat.plan.device);
        let reason = format!("{complaint}: no other engine is started beside them; restart the daemon");
        if seat.last_error.as_ref() != Some(&reason) {
            tracing::error!(reason, "there is no engine");
        }
        seat.last_error = Some(reason);
        false
    }

    /// No engine grows into what those that were given up may still hold.
    pub(super) fn curb_growth(&mut self) {
        for index in 0..self.planned.len() {
            let Some(beside) = self.beside_lost(index) else {
                continue;
            };
            let seat = &mut self.planned[index];
            let Some(now) = seat.member.as_ref().map(|member| member.plan.slots) else {
                continue;
            };
            let (wanted, most) = (seat.plan.slots, beside.slots.max(now));
            if wanted > most {
                let complaint = beside.complaint(&seat.plan.device);
                let reason = format!("{complaint}: another engine has {most} instead of {wanted} slots");
                tracing::warn!(reason, "an engine does not grow");
                seat.last_error = Some(reason);
                seat.plan.slots = most;
            }
        }
    }

    /// The engine has died; `None` if there is no such engine. Where there was no memory for its slots, its successor has half as many.
    /// `is_stuck`: its thread was given up and holds what it held. `begun`: the newest job that there is.
    pub fn died(&mut self, id: usize, outage: &Outage, is_stuck: bool, begun: JobId) -> Option<Death> {
        self.has_given_back = true;
        if let Some(index) = self.leaving.iter().position(|member| member.id == id) {
            let member = self.leaving.remove(index);
            self.lost.extend(is_stuck.then(|| Lost::of(&member)));
            return Some(Death {
                running: member.running.into_values().collect(),
                in_a_row: None,
                forgiven: None,
                was_condemned: member.is_condemned,
            });
        }
        let is_it = |member: &mut Member| member.id == id;
        let mut seats = self.planned.iter_mut();
        let (member, seat) = seats.find_map(|seat| Some((seat.member.take_if(is_it)?, seat)))?;
        let in_a_row = Some(seat.falls_vacant(id, outage.reason.clone()));
        self.lost.extend(is_stuck.then(|| Lost::of(&member)));
        if outage.out_of_memory {
            seat.halve(seat.plan.slots, &outage.reason);
        } else if member.running.len() == 1 {
            let only = member.running.iter();
            only.for_each(|(job, work)| seat.trial.died(*job, begun, work.key()));
        }
        Some(Death {
            running: member.running.into_values().collect(),
            in_a_row,
            forgiven: seat.trial.is_sick().then(|| seat.trial.forgive()),
            was_condemned: false,
        })
    }

    /// The engine that is gone may be followed by another now.
    pub fn mourned(&mut self, id: usize) {
        let seats = self.planned.iter_mut().filter(|seat| seat.mourned == Some(id));
        seats.for_each(|seat| seat.mourned = None);
    }

    /// The thread of an engine that was given up has come back, and has given back what it held. `false` if it is none of those.
    pub fn came_back(&mut self, id: usize) -> bool {
        self.lost.extract_if(.., |lost| lost.id == id).count() > 0
    }

    /// The engine that runs a job has written it: it is sound, and what has failed there before is to blame for that itself. Gives those works.
    pub fn prove_sound(&mut self, job: JobId) -> Vec<Key> {
        let Some(seat) = self.seat_that_runs(job) else {
            return Vec::new();
        };
        seat.deaths = 0;
        seat.member.iter_mut().for_each(|member| member.is_proven = true);
        seat.trial.acquit()
    }

    /// A job has failed by itself, as it may another time. `begun`: the newest job that there is; `lines`: what waits.
    pub fn blame(&mut self, job: JobId, begun: JobId, lines: [&Queue; 2]) -> Finding {
        let condemned = |member: &Member| member.is_condemned && member.running.contains_key(&job);
        if self.leaving.iter().any(condemned) {
            return Finding::Condemned;
        }
        let Some(seat) = self.seat_that_runs(job) else {
            return Finding::Work;
        };
        let (trial, Some(member)) = (&mut seat.trial, &mut seat.member) else {
            return Finding::Work;
        };
        let Some(work) = member.running.get(&job) else {
            return Finding::Work;
        };
        member.is_proven = false;
        trial.failed(job, begun, work.key());
        if trial.is_sick() {
            return Finding::Sick(Sick {
                id: member.id,
                forgiven: trial.forgive(),
            });
        }
        let missing = trial.suspects_missing();
        let beside = member.running.values().filter(|work| !trial.blames(&work.key()));
        let waiting = lines.into_iter().flat_map(Queue::keys);
        let waiting = waiting.filter(|key| !trial.blames(key)).take(missing);
        match beside.count() + waiting.count() >= missing {
            true => Finding::Open,
            false => Finding::Work,
        }
    }

    /// An engine that fails whatever it runs goes, and another comes after a pause. Gives how many went in a row.
    pub fn condemn(&mut self, id: usize, reason: &str) -> Option<u32> {
        let seat = self.seat_of(id)?;
        let leaving = seat.member.take().map(|member| Member {
            is_condemned: true,
            ..member
        });
        let reason = format!("the engine fails whatever it runs and is built anew; the last time: {reason}");
        tracing::error!(engine = id, reason, "an engine is sick");
        let in_a_row = seat.falls_vacant(id, reason);
        self.leaving.extend(leaving);
        Some(in_a_row)
    }

    /// When a work was last blamed for what failed on an engine that has written nothing since; `None`: it is no suspect anywhere.
    pub fn blamed_at(&self, key: &Key) -> Option<u64> {
        self.planned.iter().filter_map(|seat| seat.trial.blamed_at(key)).max()
    }

    /// The model had no memory to run a job. Its engine gives up half of its slots; `false` if it has but one, so that running the job again will
    /// hardly go better.
    pub fn ran_out(&mut self, job: JobId, reason: &str) -> bool {
        let Some(seat) = self.seat_that_runs(job) else {
            return true; // one that leaves makes room by that
        };
        // Other runs may fail as well before it has the slots that it shall have by now.
        let member = seat.member.as_ref();
        let Some((now, resizing)) = member.map(|member| (member.plan.slots, member.resizing.is_some())) else {
            return true;
        };
        resizing || seat.plan.slots < now || seat.halve(now, reason)
    }
}
