//! What the pool knows of its devices' memory, and how engines give up slots where they hold too much.

use super::{MORE_MEMORY, NO_SLOT_LEFT, Seats};
use crate::actors::memory::Allowance;

const MIB: u64 = 1 << 20;

/// Where fewer slots were as much too much.
const NO_HELP: &str = "giving up slots has not lowered it enough";

/// An engine that is loaded and as it shall be.
pub(in crate::actors) struct Steady {
    pub id: usize,
    pub slots: usize,
    pub allowance: Allowance,
}

/// A reading of a device and what it is held against, in bytes.
pub(in crate::actors) struct Weight {
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

impl Seats {
    /// The engines of a device; none while any of them comes, goes or changes: a reading then says nothing, and is taken again.
    pub fn steady_on(&self, device: &str) -> Vec<Steady> {
        let here = self.planned.iter().filter(|seat| seat.plan.device == device);
        let steady = here.map(|seat| {
            let wanted = seat.plan.slots;
            let member = seat.member.as_ref().filter(|member| member.is_steady(wanted))?;
            Some(Steady {
                id: member.id,
                slots: member.plan.slots,
                allowance: seat.plan.allowance,
            })
        });
        let steady: Option<_> = steady.collect();
        steady.filter(|_| self.leaving.is_empty()).unwrap_or_default()
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
}
