//! From free memory, the model's shape and what the operator wants to a pool: pure arithmetic, with a sentence for every number.
//!
//! The plan reckons with memory that is free, never with all there is, and never goes beyond the budget: on every device
//! `actors · (weights + workspace + slots) ≤ min(free − reserve, pool.memory_budget_mib)`.

use serde::Serialize;

use super::devices::{Device, DeviceKind};
use super::explain;
use super::footprint::{Contexts, Costs, MIB, ModelFootprint};
use super::place::{Budget, Placed, place};
use super::wanted::{ACTORS_MAX, DeviceWanted, PoolWanted, SLOTS_MAX, Wanted};

/// Everything a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    pub cards: &'a [Device],
    pub cpu: &'a Device,
    /// Why there are no cards.
    pub cuda_problem: Option<&'a str>,
    pub model: &'a ModelFootprint,
    pub contexts: Contexts,
    pub wanted: PoolWanted,
    /// The longest prefill chunk.
    pub chunk_tokens: u32,
}

/// A pool that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub device: DeviceKind,
    /// At least one; of one device side by side.
    pub actors: Vec<ActorPlan>,
    /// Sentences for people.
    pub explanation: String,
}

/// One copy of the weights with its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActorPlan {
    /// `index` of its device.
    pub device_index: u32,
    pub device_name: String,
    /// Answers that are scored at a time.
    pub slots: u32,
    /// Tokens of each.
    pub slot_tokens: u32,
    pub narrative_slots: u32,
    pub narrative_tokens: u32,
    /// Scoring slots in whose memory the narrative is written: no answer is scored there meanwhile. 0 where it has memory of its own.
    pub narrative_takes: u32,
    pub weights_bytes: u64,
    /// Of all slots, the narrative's too.
    pub kv_bytes: u64,
    pub workspace_bytes: u64,
    /// Its share of what may be used of the device: what the three above stay within.
    pub budget_bytes: u64,
    /// One scoring slot.
    pub slot_bytes: u64,
    /// All slots of the narrative, wherever they lie.
    pub narrative_bytes: u64,
    /// What stays free on the device.
    pub reserve_bytes: u64,
    pub limited_by: SlotLimit,
}

/// Why an actor has no more slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotLimit {
    /// No more fit.
    Memory,
    /// More would not make it faster.
    Speed,
    /// The number was asked for.
    Asked,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("pool.device = \"cuda\", but {problem}")]
    NoCard { problem: String },
    #[error(
        "the model was exported for cuda, but {problem}; to run it on the CPU, export it again with --target cpu (tools/export/README.md)"
    )]
    NoCardForModel { problem: String },
    #[error(
        "pool.device = \"{wanted}\", but the model was exported for {target}: export it again with --target {wanted} (tools/export/README.md), or set pool.device = \"auto\""
    )]
    WrongTarget { wanted: DeviceKind, target: DeviceKind },
    #[error("{key} = {value}: it must be from 1 to {max}, or \"auto\"")]
    OutOfRange { key: &'static str, value: u32, max: u32 },
    /// Not even the smallest configuration fits. Numbers are MiB, for one actor.
    #[error("{device} cannot hold the model: {parts} need {} MiB, and {available}; {help}", explain::grouped(*.needed_mib))]
    TooLittleMemory {
        device: String,
        parts: String,
        needed_mib: u64,
        available: String,
        available_mib: u64,
        help: String,
    },
    /// Fewer slots than asked for fit. Numbers are MiB, for one actor.
    #[error(
        "pool.slots_per_actor = {wanted} does not fit {device}: {parts} need {} MiB, and {available}; at most {fitting} fit (\"auto\" takes what fits)",
        explain::grouped(*.needed_mib)
    )]
    TooManySlots {
        device: String,
        wanted: u32,
        fitting: u32,
        parts: String,
        needed_mib: u64,
        available: String,
        available_mib: u64,
    },
}

/// Most slots that pay on a CPU: measured throughput no longer grows beyond 17 rows, and an interview of 17 to 20 answers fits in one go.
const CPU_SLOTS_MAX: u32 = 24;

/// Most slots that pay on a card with int4 or int8 weights: an interview of 15 to 20 answers in one go. At most 16 of them decode in one step, and the
/// others have prompts or forced text to go through.
const CUDA_QUANTISED_SLOTS_MAX: u32 = 20;

/// Most slots that pay on a card with float weights: the largest batch for which a gain was published.
const CUDA_FLOAT_SLOTS_MAX: u32 = 32;

/// Plans a pool, or says exactly what is missing.
pub fn plan(input: &PlanInput) -> Result<Plan, PlanError> {
    in_range("pool.actors", input.wanted.actors, ACTORS_MAX)?;
    in_range("pool.slots_per_actor", input.wanted.slots_per_actor, SLOTS_MAX)?;
    let kind = kind(input)?;
    let slots_max = slots_max(kind, input.model);
    let rows = match input.wanted.slots_per_actor {
        Wanted::Auto => slots_max,
        Wanted::Number(number) => number,
    };
    let rows_max = rows.max(input.contexts.narrative_slots);
    let costs = input.model.costs(&input.contexts, input.chunk_tokens, rows_max);
    let devices = match kind {
        DeviceKind::Cuda => input.cards,
        DeviceKind::Cpu => std::slice::from_ref(input.cpu),
    };
    let budgets = Budget::of_all(devices, &input.wanted);
    let slots_wanted = input.wanted.slots_per_actor;
    let placed = place(&budgets, input.wanted.actors, |mib| {
        fitting(mib, slots_wanted, slots_max, &costs).map(|fit| fit.slots)
    });

    let mut actors = Vec::new();
    let mut sentences = explain::choice(input, kind);
    for place in &placed {
        let fit = fitting(place.share(), slots_wanted, slots_max, &costs);
        let fit = fit.ok_or_else(|| refusal(place, input, &costs.sharing()))?;
        let actor = actor(place, &fit, input);
        sentences.push(explain::device(place, &actor, &fit.costs, slots_max, input.model));
        actors.extend(std::iter::repeat_n(actor, place.actors as usize));
    }
    sentences.extend(explain::left_out(&budgets, &placed, &input.wanted, &costs.sharing()));
    Ok(Plan {
        device: kind,
        actors,
        explanation: sentences.join(" "),
    })
}

fn in_range(key: &'static str, wanted: Wanted, max: u32) -> Result<(), PlanError> {
    match wanted {
        Wanted::Number(value) if value == 0 || value > max => Err(PlanError::OutOfRange { key, value, max }),
        _ => Ok(()),
    }
}

/// The device that is asked for and that the model was exported for; never the CPU in place of a card.
fn kind(input: &PlanInput) -> Result<DeviceKind, PlanError> {
    let target = input.model.target;
    let no_card = || input.cuda_problem.unwrap_or("no card was found").to_owned();
    match (input.wanted.device, target) {
        (DeviceWanted::Cuda, _) if input.cards.is_empty() => Err(PlanError::NoCard { problem: no_card() }),
        (DeviceWanted::Auto, DeviceKind::Cuda) if input.cards.is_empty() => {
            Err(PlanError::NoCardForModel { problem: no_card() })
        }
        (DeviceWanted::Cuda, DeviceKind::Cpu) => Err(PlanError::WrongTarget {
            wanted: DeviceKind::Cuda,
            target,
        }),
        (DeviceWanted::Cpu, DeviceKind::Cuda) => Err(PlanError::WrongTarget {
            wanted: DeviceKind::Cpu,
            target,
        }),
        (DeviceWanted::Auto | DeviceWanted::Cuda, DeviceKind::Cuda) => Ok(DeviceKind::Cuda),
        (DeviceWanted::Auto | DeviceWanted::Cpu, DeviceKind::Cpu) => Ok(DeviceKind::Cpu),
    }
}

/// Most slots that "auto" gives.
fn slots_max(kind: DeviceKind, model: &ModelFootprint) -> u32 {
    match kind {
        DeviceKind::Cpu => CPU_SLOTS_MAX,
        DeviceKind::Cuda if model.quantised() => CUDA_QUANTISED_SLOTS_MAX,
        DeviceKind::Cuda => CUDA_FLOAT_SLOTS_MAX,
    }
}

/// What an actor gets.
struct Fit {
    slots: u32,
    limited_by: SlotLimit,
    costs: Costs,
}

/// The slots of an actor with so many MiB. The narrative shares their memory where that makes them more: then no answer is scored in some of them
/// while it is written. `None` if there is not one or not as many as asked for.
fn fitting(mib: u64, wanted: Wanted, slots_max: u32, costs: &Costs) -> Option<Fit> {
    let with = |costs: Costs| {
        let (slots, limited_by) = slots_of(mib, wanted, slots_max, &costs)?;
        Some(Fit {
            slots,
            limited_by,
            costs,
        })
    };
    let (own, shared) = (with(*costs), with(costs.sharing()));
    match (&own, &shared) {
        (Some(a), Some(b)) if a.slots >= b.slots => own,
        _ => shared.or(own),
    }
}

/// Slots of an actor with so many MiB, and why no more; `None` if not one or not as many as asked for.
fn slots_of(mib: u64, wanted: Wanted, slots_max: u32, costs: &Costs) -> Option<(u32, SlotLimit)> {
    let fitting = costs.slots_in(mib)?;
    match wanted {
        Wanted::Number(number) => (fitting >= number).then_some((number, SlotLimit::Asked)),
        Wanted::Auto if fitting >= slots_max => Some((slots_max, SlotLimit::Speed)),
        Wanted::Auto => (fitting >= 1).then_some((fitting, SlotLimit::Memory)),
    }
}

/// `costs` are those of as many rows as were wanted.
fn refusal(place: &Placed, input: &PlanInput, costs: &Costs) -> PlanError {
    let device = place.budget.label();
    let (available, available_mib) = (explain::available(place), place.share());
    // Fewer slots are fewer rows, and those may need less workspace.
    let of_rows = |rows: u32| {
        let rows_max = rows.max(input.contexts.narrative_slots);
        let costs = input.model.costs(&input.contexts, input.chunk_tokens, rows_max);
        costs.sharing()
    };
    let too_little = |costs: &Costs, device: String, available: String| PlanError::TooLittleMemory {
        device,
        parts: explain::parts(costs, 1),
        needed_mib: costs.with_slots(1),
        available,
        available_mib,
        help: explain::help(place, costs),
    };
    let Wanted::Number(wanted) = input.wanted.slots_per_actor else {
        return too_little(costs, device, available);
    };
    let fits = |slots: &u32| of_rows(*slots).with_slots(*slots) <= available_mib;
    match (1..wanted).rev().find(fits) {
        Some(fitting) => PlanError::TooManySlots {
            device,
            wanted,
            fitting,
            parts: explain::parts(costs, wanted),
            needed_mib: costs.with_slots(wanted),
            available,
            available_mib,
        },
        None => too_little(&of_rows(1), device, available),
    }
}

fn actor(place: &Placed, fit: &Fit, input: &PlanInput) -> ActorPlan {
    let Fit {
        slots,
        limited_by,
        costs,
    } = *fit;
    let bytes = |mib: u64| mib.saturating_mul(MIB);
    ActorPlan {
        device_index: place.budget.device.index,
        device_name: place.budget.device.name.clone(),
        slots,
        slot_tokens: input.contexts.scoring_tokens,
        narrative_slots: input.contexts.narrative_slots,
        narrative_tokens: input.contexts.narrative_tokens,
        narrative_takes: if costs.shared { input.contexts.covered(slots) } else { 0 },
        weights_bytes: bytes(costs.weights),
        kv_bytes: bytes(costs.kv(slots)),
        workspace_bytes: bytes(costs.workspace),
        budget_bytes: bytes(place.share()),
        slot_bytes: bytes(costs.slot),
        narrative_bytes: bytes(costs.narrative),
        reserve_bytes: bytes(place.budget.reserve),
        limited_by,
    }
}
