//! What becomes of an engine's seat when it dies, is out of memory, does not come back, or fails whatever it runs.

use std::collections::HashMap;

use super::{Lost, MORE_MEMORY, Member, NO_SLOT_LEFT, Seat, Seats};
use crate::actors::message::Outage;
use crate::actors::queue::{Key, Work};
use crate::actors::trial::Blame;
use crate::engine::job::JobId;

/// Engines of a seat that are given up at most: each keeps a thread, which may be computing.
const LOST_MAX: usize = 8;
const MIB: u64 = 1 << 20;

/// An engine that is gone, and what it leaves behind.
pub(in crate::actors) struct Death {
    pub running: Vec<Work>,
    /// How often it has died in a row at its place; `None` if nobody shall follow it.
    pub in_a_row: Option<u32>,
    /// If engines die there whatever they run: what works were blamed for.
    pub forgiven: Option<HashMap<Key, Blame>>,
}

/// An engine that fails whatever it runs.
pub(in crate::actors) struct Sick {
    pub id: usize,
    /// What works were blamed for.
    pub forgiven: HashMap<Key, Blame>,
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

    /// Its engine has done some work.
    pub(super) fn proves_sound(&mut self) {
        self.deaths = 0;
        self.trial.clear();
        self.member.iter_mut().for_each(|member| member.is_proven = true);
    }

    /// The engine is gone and another shall come, after a pause.
    fn falls_vacant(&mut self, id: usize, reason: String) -> u32 {
        self.deaths += 1;
        self.restarts += 1;
        self.mourned = Some(id);
        self.last_error = Some(reason);
        self.deaths
    }

    /// Whether an engine has room beside those that were given up, perhaps with fewer slots; if not, says so.
    pub(super) fn makes_room(&mut self) -> bool {
        if self.lost.is_empty() {
            return true;
        }
        let lost: u64 = self.lost.iter().map(|lost| lost.bytes).sum();
        let left = self.plan.allowance.bytes.saturating_sub(lost);
        let slots = match self.lost.len() {
            0..LOST_MAX => self.plan.allowance.slots_within(left),
            _ => 0,
        };
        if slots > 0 {
            self.plan.slots = self.plan.slots.min(slots);
            return true;
        }
        let (count, device) = (self.lost.len(), &self.plan.device);
        let reason = format!(
            "threads of {count} engines do not come back and may still hold {} MiB of {device}: no other engine is started beside them; restart \
             the daemon",
            lost.div_ceil(MIB)
        );
        if self.last_error.as_ref() != Some(&reason) {
            tracing::error!(reason, "there is no engine");
        }
        self.last_error = Some(reason);
        false
    }
}

impl Seats {
    /// The engine has died; `None` if there is no such engine. Where there was no memory for its slots, its successor has half as many.
    /// `is_stuck`: its thread was given up and holds what it held. `begun`: the newest job that there is.
    pub fn died(&mut self, id: usize, outage: &Outage, is_stuck: bool, begun: JobId) -> Option<Death> {
        self.has_given_back = true;
        if let Some(index) = self.leaving.iter().position(|member| member.id == id) {
            let running = self.leaving.remove(index).running;
            return Some(Death {
                running: running.into_values().collect(),
                in_a_row: None,
                forgiven: None,
            });
        }
        let is_it = |member: &mut Member| member.id == id;
        let mut seats = self.planned.iter_mut();
        let (member, seat) = seats.find_map(|seat| Some((seat.member.take_if(is_it)?, seat)))?;
        let in_a_row = Some(seat.falls_vacant(id, outage.reason.clone()));
        if is_stuck {
            let bytes = seat.plan.allowance.taken(member.slots);
            seat.lost.push(Lost { id, bytes });
        }
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
        })
    }

    /// The engine that is gone may be followed by another now.
    pub fn mourned(&mut self, id: usize) {
        let seats = self.planned.iter_mut().filter(|seat| seat.mourned == Some(id));
        seats.for_each(|seat| seat.mourned = None);
    }

    /// The thread of an engine that was given up has come back, and has given back what it held. `false` if it is none of those.
    pub fn came_back(&mut self, id: usize) -> bool {
        let mut seats = self.planned.iter_mut();
        seats.any(|seat| seat.lost.extract_if(.., |lost| lost.id == id).count() > 0)
    }

    /// A job has failed by itself, as it may another time. Tells of the engine if it is that which fails, whatever it runs.
    pub fn blame(&mut self, job: JobId, begun: JobId) -> Option<Sick> {
        let seat = self.seat_that_runs(job)?;
        let member = seat.member.as_mut()?;
        member.is_proven = false;
        seat.trial.failed(job, begun, member.running.get(&job)?.key());
        seat.trial.is_sick().then(|| Sick {
            id: member.id,
            forgiven: seat.trial.forgive(),
        })
    }

    /// An engine that fails whatever it runs goes, and another comes after a pause. Gives how many went in a row.
    pub fn condemn(&mut self, id: usize, reason: &str) -> Option<u32> {
        let seat = self.seat_of(id)?;
        let leaving = seat.member.take();
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
        let Some((now, resizing)) = member.map(|member| (member.slots, member.resizing)) else {
            return true;
        };
        resizing || seat.plan.slots < now || seat.halve(now, reason)
    }
}
