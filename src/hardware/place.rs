//! How many actors go to which device, and what each may use of it. Whole MiB, memory rounded down.

use std::cmp::Reverse;

use super::devices::Device;
use super::footprint::MIB;
use super::wanted::{PoolWanted, Wanted, reserve_mib_default};

/// What of a device may be used, in MiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget<'a> {
    pub device: &'a Device,
    pub free: u64,
    pub reserve: u64,
    /// What is free without the reserve, or `pool.memory_budget_mib` where that is less.
    pub usable: u64,
    /// Whether `pool.memory_budget_mib` is what bounds it.
    pub capped: bool,
    /// Whether there are others of its kind, which may bear the same name.
    pub numbered: bool,
}

/// A device with its actors, who share its budget evenly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    pub budget: Budget<'a>,
    pub actors: u32,
}

impl<'a> Budget<'a> {
    pub fn of_all(devices: &'a [Device], wanted: &PoolWanted) -> Vec<Self> {
        let numbered = devices.len() > 1;
        devices
            .iter()
            .map(|device| Self::of(device, wanted, numbered))
            .collect()
    }

    fn of(device: &'a Device, wanted: &PoolWanted, numbered: bool) -> Self {
        let free = device.memory_free.min(device.memory_total) / MIB;
        let reserve = wanted.memory_reserve_mib.unwrap_or(reserve_mib_default(device.kind));
        let unreserved = free.saturating_sub(reserve);
        let cap = wanted.memory_budget_mib.unwrap_or(u64::MAX);
        Self {
            device,
            free,
            reserve,
            usable: unreserved.min(cap),
            capped: cap < unreserved,
            numbered,
        }
    }

    /// What people call the device.
    pub fn label(&self) -> String {
        match self.numbered {
            true => format!("card {}, {}", self.device.index, self.device.name),
            false => self.device.name.clone(),
        }
    }
}

impl Placed<'_> {
    /// MiB for each actor.
    pub fn share(&self) -> u64 {
        self.budget.usable / u64::from(self.actors)
    }
}

/// Puts actors on devices: one on each that holds one, or as many as are wanted where together they have the most slots. `slots` tells how many
/// an actor with so many MiB gets; `None` if it cannot be. In the order of `budgets`; devices without an actor are left out. Where the actors don't
/// fit, they are spread nevertheless, for an error to speak of: at least one of them then gets no slots.
pub(super) fn place<'a>(budgets: &[Budget<'a>], wanted: Wanted, slots: impl Fn(u64) -> Option<u32>) -> Vec<Placed<'a>> {
    let holding: Vec<u32> = budgets
        .iter()
        .map(|budget| u32::from(slots(budget.usable).is_some()))
        .collect();
    let counts = match wanted {
        Wanted::Auto if holding.contains(&1) => holding,
        Wanted::Auto => spread(budgets, 1),
        Wanted::Number(number) => most_slots(budgets, number, slots).unwrap_or_else(|| spread(budgets, number)),
    };
    let placed = budgets.iter().zip(counts).map(|(budget, actors)| Placed {
        budget: *budget,
        actors,
    });
    placed.filter(|place| place.actors > 0).collect()
}

/// The more the better: slots; of equal slots, devices at work; then room on them; then evenness. Adds up over devices.
type Merit = (u64, u32, u64, Reverse<u64>);

/// The best of all ways to put `number` actors on the devices, all of them with slots. As the best of many, each of which only gains from more
/// memory, it has never fewer slots with more memory.
fn most_slots(budgets: &[Budget], number: u32, slots: impl Fn(u64) -> Option<u32>) -> Option<Vec<u32>> {
    // The best way to put 0, 1, 2 … actors on the devices looked at so far.
    let mut best: Vec<Option<(Merit, Vec<u32>)>> = vec![None; number as usize + 1];
    best[0] = Some(((0, 0, 0, Reverse(0)), Vec::new()));
    for budget in budgets {
        let mut next = vec![None; best.len()];
        // From the end, so that of equal ways the one with more on earlier devices is met first and stays.
        for (before, way) in best.iter().enumerate().rev() {
            let Some((merit, counts)) = way else { continue };
            for here in 0..=number - before as u32 {
                let Some(gain) = merit_of(budget, here, &slots) else {
                    continue;
                };
                let merit = sum(*merit, gain);
                let entry: &mut Option<(Merit, Vec<u32>)> = &mut next[before + here as usize];
                if entry.as_ref().is_none_or(|(other, _)| merit > *other) {
                    let mut counts = counts.clone();
                    counts.push(here);
                    *entry = Some((merit, counts));
                }
            }
        }
        best = next;
    }
    best.pop().flatten().map(|(_, counts)| counts)
}

fn merit_of(budget: &Budget, actors: u32, slots: impl Fn(u64) -> Option<u32>) -> Option<Merit> {
    let count = u64::from(actors);
    if actors == 0 {
        return Some((0, 0, 0, Reverse(0)));
    }
    let each = slots(budget.usable / count)?;
    Some((count * u64::from(each), 1, budget.usable, Reverse(count * count)))
}

fn sum(a: Merit, b: Merit) -> Merit {
    (a.0 + b.0, a.1 + b.1, a.2.saturating_add(b.2), Reverse(a.3.0 + b.3.0))
}

/// One after the other to the device that gives the next one the largest share; of equals the first.
fn spread(budgets: &[Budget], number: u32) -> Vec<u32> {
    let mut counts = vec![0; budgets.len()];
    for _ in 0..number {
        let share = |at: &usize| budgets[*at].usable / u64::from(counts[*at] + 1);
        if let Some(at) = (0..counts.len()).rev().max_by_key(share) {
            counts[at] += 1;
        }
    }
    counts
}
