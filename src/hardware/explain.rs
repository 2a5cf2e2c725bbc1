//! The sentences of a plan, and of why there is none. Every number of them is one that the arithmetic used.

use super::devices::DeviceKind;
use super::footprint::{Costs, KvType, MIB, ModelFootprint};
use super::place::{Budget, Placed};
use super::plan::{ActorPlan, PlanInput, SlotLimit};
use super::wanted::{DeviceWanted, PoolWanted, Wanted};

/// Why this device and no other, if that is not plain from what was asked for.
pub(super) fn choice(input: &PlanInput, kind: DeviceKind) -> Vec<String> {
    if input.wanted.device != DeviceWanted::Auto || kind == DeviceKind::Cuda {
        return Vec::new();
    }
    let names: Vec<&str> = input.cards.iter().map(|card| card.name.as_str()).collect();
    vec![match names.as_slice() {
        [] => "On the CPU, for which the model was exported.".to_owned(),
        [card] => {
            format!(
                "On the CPU, for which the model was exported; {card} stays unused: export with --target cuda to use it."
            )
        }
        cards => {
            let cards = cards.join(", ");
            format!(
                "On the CPU, for which the model was exported; {cards} stay unused: export with --target cuda to use them."
            )
        }
    }]
}

/// What becomes of a device's memory, in one sentence.
pub(super) fn device(
    place: &Placed,
    actor: &ActorPlan,
    costs: &Costs,
    slots_max: u32,
    model: &ModelFootprint,
) -> String {
    let left = place.share().saturating_sub(costs.fixed());
    let fitting = left / costs.slot;
    let (each, per_actor) = match place.actors {
        1 => (String::new(), ""),
        several => (
            format!("{several} actors have {} MiB each, of which ", grouped(place.share())),
            " per actor",
        ),
    };
    format!(
        "{}: {each}weights {} MiB{} leave {} MiB{per_actor}, which is {} of {} tokens ({} MiB each{}){}{}.",
        memory_of(&place.budget),
        grouped(costs.weights),
        besides(actor, costs),
        grouped(left),
        slots(fitting),
        grouped(u64::from(actor.slot_tokens)),
        grouped(costs.slot),
        match model.kv_type {
            KvType::Int8 => ", in int8",
            KvType::Float16 | KvType::Float32 => "",
        },
        limit(place, actor, costs, slots_max, model),
        sharing(actor),
    )
}

/// What there must be beside the weights, whatever the number of slots.
fn besides(actor: &ActorPlan, costs: &Costs) -> String {
    let workspace = grouped(costs.workspace);
    match costs.shared {
        true => format!(" and workspace {workspace} MiB"),
        false => format!(
            ", workspace {workspace} MiB and {} {} MiB",
            narrative(actor),
            grouped(costs.narrative)
        ),
    }
}

/// Where the narrative is written, if it has no memory of its own.
fn sharing(actor: &ActorPlan) -> String {
    match actor.narrative_takes {
        0 => String::new(),
        takes => format!(
            "; a narrative of up to {} tokens is written in the memory of {}, which score nothing meanwhile",
            grouped(u64::from(actor.narrative_tokens)),
            match takes {
                all if all == actor.slots => "all of them".to_owned(),
                some => format!("{some} of them"),
            },
        ),
    }
}

/// "NVIDIA GeForce GTX 1660 (6,144 MiB, 5,844 free, 128 kept in reserve)"
fn memory_of(budget: &Budget) -> String {
    let cap = match budget.capped {
        true => format!(", {} allowed by pool.memory_budget_mib", grouped(budget.usable)),
        false => String::new(),
    };
    format!(
        "{} ({} MiB, {} free, {} kept in reserve{cap})",
        budget.label(),
        grouped(budget.device.memory_total / MIB),
        grouped(budget.free),
        grouped(budget.reserve),
    )
}

fn narrative(actor: &ActorPlan) -> String {
    let tokens = grouped(u64::from(actor.narrative_tokens));
    match actor.narrative_slots {
        1 => format!("the narrative's slot of {tokens} tokens"),
        several => format!("{several} slots of {tokens} tokens for narratives"),
    }
}

/// Why there are no more slots.
fn limit(place: &Placed, actor: &ActorPlan, costs: &Costs, slots_max: u32, model: &ModelFootprint) -> String {
    match actor.limited_by {
        SlotLimit::Memory => {
            let short = costs.with_slots(slots_max) - place.share();
            let means = match (place.budget.capped, model.target) {
                (true, _) => "a higher pool.memory_budget_mib",
                (false, DeviceKind::Cuda) => "a smaller model, a larger card or memory that other programs give back",
                (false, DeviceKind::Cpu) => "a smaller model, more RAM or memory that other programs give back",
            };
            let rounded = match model.kv_type {
                KvType::Int8 => "",
                KvType::Float16 | KvType::Float32 => "an export with --kv int8, ",
            };
            format!(
                "; {slots_max} would need {} MiB more, so {rounded}{means} brings more answers at once",
                grouped(short)
            )
        }
        SlotLimit::Speed => format!(", held at {slots_max}: {}", speed(model)),
        SlotLimit::Asked => format!(", of which pool.slots_per_actor takes {}", actor.slots),
    }
}

fn speed(model: &ModelFootprint) -> &'static str {
    match model.target {
        DeviceKind::Cpu => {
            "a CPU gains nothing from more than 17 at once, and 24 take an interview of 20 answers in one go"
        }
        DeviceKind::Cuda if model.quantised() => {
            "ONNX Runtime's fast kernels take 16 rows at a time, and 20 slots take a whole interview"
        }
        DeviceKind::Cuda => "no gain is known from more rows",
    }
}

/// The devices without an actor.
pub(super) fn left_out(budgets: &[Budget], placed: &[Placed], wanted: &PoolWanted, costs: &Costs) -> Vec<String> {
    let count = match wanted.slots_per_actor {
        Wanted::Auto => 1,
        Wanted::Number(number) => number,
    };
    let needed = costs.with_slots(count);
    let idle = budgets
        .iter()
        .filter(|budget| placed.iter().all(|place| place.budget.device != budget.device));
    idle.map(|budget| match needed <= budget.usable {
        true => format!("{} stays unused: pool.actors = {}.", budget.label(), wanted.actors),
        false => format!(
            "{} is left out: an actor with {} needs {} MiB there.",
            memory_of(budget),
            slots(u64::from(count)),
            grouped(needed)
        ),
    })
    .collect()
}

/// What an actor with so many slots consists of.
pub(super) fn parts(costs: &Costs, count: u32) -> String {
    format!(
        "weights ({} MiB), workspace ({}) and {} with the narrative in {} memory ({})",
        grouped(costs.weights),
        grouped(costs.workspace),
        slots(u64::from(count)),
        if count == 1 { "its" } else { "their" },
        grouped(costs.kv(count)),
    )
}

/// What there is for one actor.
pub(super) fn available(place: &Placed) -> String {
    let Budget {
        free,
        reserve,
        usable,
        capped,
        ..
    } = place.budget;
    let whole = match capped {
        true => format!("pool.memory_budget_mib allows {}", grouped(usable)),
        false => format!(
            "{} may be used ({} free, {} kept in reserve)",
            grouped(usable),
            grouped(free),
            grouped(reserve)
        ),
    };
    match place.actors {
        1 => whole,
        several => format!(
            "{whole}, which is {} for each of {several} actors",
            grouped(place.share())
        ),
    }
}

/// What would make one slot fit.
pub(super) fn help(place: &Placed, costs: &Costs) -> String {
    let Placed { budget, actors } = place;
    let needed = costs.with_slots(1);
    let total = budget.device.memory_total / MIB;
    if *actors > 1 {
        "ask for fewer pool.actors".to_owned()
    } else if budget.capped && needed <= budget.free.saturating_sub(budget.reserve) {
        format!("set pool.memory_budget_mib to {needed} or more")
    } else if needed <= budget.free {
        format!("set pool.memory_reserve_mib to {} or less", budget.free - needed)
    } else if needed <= total.saturating_sub(budget.reserve) {
        format!(
            "other programs hold {} MiB: end some of them",
            grouped(total - budget.free)
        )
    } else {
        let place = match budget.device.kind {
            DeviceKind::Cuda => "a larger card",
            DeviceKind::Cpu => "a machine with more memory",
        };
        format!("take a smaller model, a lower precision or {place}")
    }
}

fn slots(count: u64) -> String {
    match count {
        1 => "1 slot".to_owned(),
        _ => format!("{} slots", grouped(count)),
    }
}

/// With a comma between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
