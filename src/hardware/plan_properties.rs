//! Tests: what holds of every plan, whatever the machine, the model and the wishes.

use proptest::prelude::*;

use super::devices::{Device, DeviceKind};
use super::footprint::{MIB, ModelFootprint, Precision};
use super::plan::{Plan, PlanError, plan};
use super::samples::{card, cpu, exaone_2_4b, exaone_7_8b, input};
use super::wanted::{PoolWanted, Wanted, reserve_mib_default};

fn models() -> impl Strategy<Value = ModelFootprint> {
    let target = prop_oneof![Just(DeviceKind::Cpu), Just(DeviceKind::Cuda)];
    let precision = prop_oneof![Just(Precision::Int4), Just(Precision::Int8), Just(Precision::Fp16)];
    (target, precision, any::<bool>(), 1u64..20_000).prop_map(|(target, precision, large, weights_mib)| {
        let shape = if large {
            exaone_7_8b(target)
        } else {
            exaone_2_4b(target)
        };
        ModelFootprint {
            precision,
            weights_bytes: weights_mib * MIB,
            ..shape
        }
    })
}

fn numbers(max: u32) -> impl Strategy<Value = Wanted> {
    prop_oneof![Just(Wanted::Auto), (1..=max).prop_map(Wanted::Number)]
}

fn pools() -> impl Strategy<Value = PoolWanted> {
    let mib = || proptest::option::of(0u64..40_000);
    (numbers(5), numbers(40), mib(), mib()).prop_map(|(actors, slots_per_actor, budget, reserve)| PoolWanted {
        actors,
        slots_per_actor,
        memory_budget_mib: budget,
        memory_reserve_mib: reserve,
        ..PoolWanted::default()
    })
}

/// Free MiB of each card, at least one, and what one of them has more later.
fn machines() -> impl Strategy<Value = (Vec<u64>, usize, u64)> {
    (prop::collection::vec(0u64..100_000, 1..4), 0usize..4, 0u64..30_000)
}

fn cards(free_mib: &[u64]) -> Vec<Device> {
    let total = |free: u64| (free + 700) * MIB;
    (0..)
        .zip(free_mib)
        .map(|(index, free)| card(index, &format!("card {index}"), total(*free), free * MIB))
        .collect()
}

fn planned(free_mib: &[u64], model: &ModelFootprint, wanted: PoolWanted) -> Result<Plan, PlanError> {
    let ram = free_mib[0] * MIB;
    plan(&input(&cards(free_mib), &cpu(ram + 700 * MIB, ram), model, wanted))
}

fn total_slots(plan: &Plan) -> u32 {
    plan.actors.iter().map(|actor| actor.slots).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn more_free_memory_never_gives_fewer_slots(model in models(), pool in pools(), (free, at, more) in machines()) {
        let mut later = free.clone();
        later[at % free.len()] += more;
        if let Ok(before) = planned(&free, &model, pool) {
            let after = planned(&later, &model, pool);
            let slots = after.as_ref().map(total_slots).unwrap_or(0);
            prop_assert!(slots >= total_slots(&before), "{}\n{after:?}", before.explanation);
        }
    }

    #[test]
    fn no_plan_exceeds_what_may_be_used(model in models(), pool in pools(), (free, _, _) in machines()) {
        if let Ok(plan) = planned(&free, &model, pool) {
            let reserve = pool.memory_reserve_mib.unwrap_or(reserve_mib_default(plan.device));
            for (index, free) in (0..).zip(&free) {
                let on_device = plan.actors.iter().filter(|actor| actor.device_index == index);
                let used: u64 = on_device.map(|actor| actor.weights_bytes + actor.kv_bytes + actor.workspace_bytes).sum();
                let usable = free.saturating_sub(reserve).min(pool.memory_budget_mib.unwrap_or(u64::MAX));
                prop_assert!(used <= usable * MIB, "card {index}: {}", plan.explanation);
            }
        }
    }

    #[test]
    fn a_plan_gives_what_was_asked_and_a_refusal_its_numbers(model in models(), pool in pools(), (free, _, _) in machines()) {
        match planned(&free, &model, pool) {
            Ok(plan) => {
                if let Wanted::Number(actors) = pool.actors {
                    prop_assert_eq!(plan.actors.len(), actors as usize);
                }
                for actor in &plan.actors {
                    match pool.slots_per_actor {
                        Wanted::Number(slots) => prop_assert_eq!(actor.slots, slots),
                        Wanted::Auto => prop_assert!((1..=32).contains(&actor.slots)),
                    }
                }
            }
            Err(PlanError::TooLittleMemory { needed_mib, available_mib, .. }
                | PlanError::TooManySlots { needed_mib, available_mib, .. }) => prop_assert!(needed_mib > available_mib),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
