//! Whether the engines of a device hold more of it than they may, and how many slots that costs. Pure arithmetic, on readings that others take.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::doors::EngineDoors;
use super::seats::{Seats, Weight};
use crate::engine::model::SlotId;
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK};

/// Tells what of a device (as in `cuda:0`) this process holds now; `None` if nobody can say.
pub type Meter = Arc<dyn Fn(&str) -> Option<Held> + Send + Sync>;

/// What a process holds of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub bytes: u64,
    /// Whether other processes' memory may be among it. Then it is good for the check of a plan that was just made, and not at work.
    pub is_guess: bool,
}

/// What an engine may hold of its device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// Weights, workspace and slots together: its share of the budget that it was planned with.
    pub bytes: u64,
    /// Of these, weights and workspace.
    pub fixed_bytes: u64,
    /// Of these, one slot for answers.
    pub slot_bytes: u64,
    /// Of these, the narrative's slots together.
    pub narrative_bytes: u64,
    /// Whether the narrative's slots lie in the memory of those for answers, which is never less than they need.
    pub is_shared: bool,
    /// Whether slots take memory only once they are used, as on a CPU, where pages that nobody wrote to are none. A reading then shows too
    /// little, and what will be taken is added to it. That may be more than will be: measuring a small model's query tile has used a slot of each kind.
    pub on_use: bool,
}

impl Allowance {
    /// What an engine with so many slots for answers takes.
    pub(super) fn taken(&self, slots: usize) -> u64 {
        self.fixed_bytes
            .saturating_add(self.narrative_beside(slots))
            .saturating_add(self.answers(slots))
    }

    fn answers(&self, slots: usize) -> u64 {
        self.slot_bytes.saturating_mul(slots as u64)
    }

    /// What the narrative's slots take on top of so many for answers.
    fn narrative_beside(&self, slots: usize) -> u64 {
        match self.is_shared {
            true => self.narrative_bytes.saturating_sub(self.answers(slots)),
            false => self.narrative_bytes,
        }
    }

    /// For how many slots for answers so many bytes are enough.
    pub(super) fn slots_within(&self, bytes: u64) -> usize {
        let shared = if self.is_shared { self.narrative_bytes } else { 0 };
        let left = bytes.checked_sub(self.taken(0)).map(|left| left.saturating_add(shared));
        let slots = left.map_or(0, |left| left.checked_div(self.slot_bytes).unwrap_or(u64::MAX));
        usize::try_from(slots).unwrap_or(usize::MAX)
    }

    /// What an engine with so many slots will take beyond what is read, once all are used. What runs add to the workspace shows in later readings.
    pub fn still_to_take(&self, slots: usize, touched: &BTreeSet<SlotId>) -> u64 {
        if !self.on_use {
            return 0;
        }
        let used = touched.iter().filter(|slot| slot.bank == SCORING_BANK).count();
        let answers = self.answers(slots.saturating_sub(used));
        match touched.iter().any(|slot| slot.bank == NARRATIVE_BANK) {
            true => answers,
            false => answers.saturating_add(self.narrative_beside(slots)),
        }
    }
}

/// Holds a reading of a device against what its engines may hold, and has those that hold too much give up slots: if it is more than a slot's
/// memory too much, since a model is loaded anew for it, and not again where that did not lower the reading.
pub(super) fn weigh(seats: &mut Seats, doors: &HashMap<usize, EngineDoors>, device: &str, held: u64) {
    let engines = seats.steady_on(device);
    let Some(slot_bytes) = engines.iter().map(|engine| engine.allowance.slot_bytes).min() else {
        return;
    };
    // Once memory was given back, only what is there counts: the allocator may have kept it, so it is still resident, and together with what will
    // be taken, one engine after the other would be found too large. Measured: 578 MiB where a first model was loaded, 1,243 where one had gone.
    let fresh = engines.iter().filter(|_| !seats.has_given_back());
    let to_take = fresh.map(|engine| {
        let gauge = doors.get(&engine.id).map(|doors| doors.gauge.read());
        gauge.map_or(0, |gauge| engine.allowance.still_to_take(engine.slots, &gauge.touched))
    });
    let weight = Weight {
        held,
        to_take: to_take.sum(),
        budget: engines.iter().map(|engine| engine.allowance.bytes).sum(),
    };
    let excess = weight.all().saturating_sub(weight.budget);
    if excess <= slot_bytes {
        return;
    }
    let slots: Vec<_> = engines.iter().map(|engine| engine.slots).collect();
    let left = match seats.has_helped(device, &weight) {
        true => relieved(&slots, excess.div_ceil(slot_bytes.max(1))),
        false => slots.clone(),
    };
    let given_up = (slots.iter().sum::<usize>() - left.iter().sum::<usize>()) as u64;
    if given_up == 0 {
        engines.iter().for_each(|engine| seats.bear(engine.id, &weight));
        return;
    }
    seats.begin_relief(device, &weight, given_up * slot_bytes);
    for (engine, left) in engines.iter().zip(left).filter(|(engine, left)| *left < engine.slots) {
        seats.relieve(engine.id, left, &weight);
    }
}

/// What is left of `slots` when `fewer` are given up: always by the engine that has most, and none gives up its last.
fn relieved(slots: &[usize], fewer: u64) -> Vec<usize> {
    let mut left = slots.to_vec();
    for _ in 0..fewer {
        match left.iter_mut().max() {
            Some(most) if *most > 1 => *most -= 1,
            _ => break,
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_up_by_who_has_most_and_never_the_last() {
        assert_eq!(relieved(&[16], 3), [13]);
        assert_eq!(relieved(&[8, 5], 4), [5, 4]);
        assert_eq!(relieved(&[2, 2], u64::MAX), [1, 1]);
        assert_eq!(relieved(&[4], 0), [4]);
        assert_eq!(relieved(&[], 4), [0_usize; 0]);
    }

    #[test]
    fn slots_that_were_never_used_are_still_to_take_where_memory_is_taken_on_use() {
        let lazy = Allowance {
            bytes: 100,
            fixed_bytes: 15,
            slot_bytes: 10,
            narrative_bytes: 25,
            is_shared: false,
            on_use: true,
        };
        let slot = |bank, index| SlotId { bank, index };
        let touched = |slots: &[SlotId]| slots.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(lazy.still_to_take(4, &touched(&[])), 65);
        let some = touched(&[slot(SCORING_BANK, 0), slot(SCORING_BANK, 3)]);
        assert_eq!(lazy.still_to_take(4, &some), 45);
        let all = touched(&[slot(SCORING_BANK, 0), slot(NARRATIVE_BANK, 0)]);
        assert_eq!(lazy.still_to_take(1, &all), 0);
        let eager = Allowance { on_use: false, ..lazy };
        assert_eq!(eager.still_to_take(4, &touched(&[])), 0);
    }

    #[test]
    fn beside_what_is_lost_there_is_room_for_as_many_slots_as_fit() {
        let allowance = Allowance {
            bytes: 100,
            fixed_bytes: 15,
            slot_bytes: 10,
            narrative_bytes: 25,
            is_shared: false,
            on_use: false,
        };
        assert_eq!(allowance.taken(3), 70);
        let slots = [39, 49, 50, 70, 100].map(|bytes| allowance.slots_within(bytes));
        assert_eq!(slots, [0, 0, 1, 3, 6]);
        assert_eq!(
            Allowance::default().slots_within(0),
            usize::MAX,
            "who takes nothing always fits"
        );
    }

    #[test]
    fn memory_that_is_shared_with_the_narrative_is_never_less_than_that_needs() {
        let shared = Allowance {
            bytes: 100,
            fixed_bytes: 15,
            slot_bytes: 10,
            narrative_bytes: 25,
            is_shared: true,
            on_use: true,
        };
        assert_eq!([0, 1, 2, 3, 4].map(|slots| shared.taken(slots)), [40, 40, 40, 45, 55]);
        let slots = [15, 39, 40, 44, 45, 100].map(|bytes| shared.slots_within(bytes));
        assert_eq!(slots, [0, 0, 2, 2, 3, 8]);
        let narrative = SlotId {
            bank: NARRATIVE_BANK,
            index: 0,
        };
        let to_take = |slots, touched: &[SlotId]| shared.still_to_take(slots, &touched.iter().copied().collect());
        assert_eq!([to_take(1, &[]), to_take(4, &[])], [25, 40]);
        assert_eq!([to_take(1, &[narrative]), to_take(4, &[narrative])], [10, 40]);
    }
}
