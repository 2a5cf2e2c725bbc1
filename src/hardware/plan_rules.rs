//! Tests: every rule of the planner, and its sentences.

use super::devices::{Device, DeviceKind};
use super::footprint::{MIB, ModelFootprint, Precision};
use super::plan::{Plan, PlanError, SlotLimit, plan};
use super::samples::{GIB, NO_CARD, card, cpu, exaone_2_4b, exaone_7_8b, exaone_7_8b_coarse, input, rounded};
use super::wanted::{DeviceWanted, PoolWanted, Wanted};

fn gtx() -> Device {
    gtx_at(0)
}

fn gtx_at(index: u32) -> Device {
    card(index, "NVIDIA GeForce GTX 1660", 6 * GIB, 6 * GIB - 300 * MIB)
}

fn rtx(index: u32) -> Device {
    card(index, "NVIDIA GeForce RTX 4090", 24 * GIB, 24 * GIB - 300 * MIB)
}

fn planned(cards: &[Device], model: &ModelFootprint, wanted: PoolWanted) -> Result<Plan, PlanError> {
    plan(&input(cards, &cpu(32 * GIB, 28 * GIB), model, wanted))
}

fn pool(actors: Wanted, slots_per_actor: Wanted) -> PoolWanted {
    PoolWanted {
        actors,
        slots_per_actor,
        ..PoolWanted::default()
    }
}

fn on(device: DeviceWanted) -> PoolWanted {
    PoolWanted {
        device,
        ..PoolWanted::default()
    }
}

fn slots(plan: &Plan) -> Vec<(u32, u32)> {
    let actors = plan.actors.iter();
    actors.map(|actor| (actor.device_index, actor.slots)).collect()
}

#[test]
fn the_7_8b_model_on_a_6_gib_card_explains_itself_in_one_sentence() {
    let plan = planned(&[gtx()], &exaone_7_8b(DeviceKind::Cuda), PoolWanted::default()).unwrap();
    assert_eq!(
        plan.explanation,
        "NVIDIA GeForce GTX 1660 (6,144 MiB, 5,844 free, 128 kept in reserve): weights 4,199 MiB and workspace 677 MiB leave 840 MiB, which is \
         6 slots of 1,024 tokens (128 MiB each); 20 would need 1,720 MiB more, so an export with --kv int8, a smaller model, a larger card or \
         memory that other programs give back brings more answers at once; a narrative of up to 2,176 tokens is written in the memory of 3 of \
         them, which score nothing meanwhile."
    );
    let actor = &plan.actors[0];
    assert_eq!((actor.slots, actor.limited_by), (6, SlotLimit::Memory));
    assert_eq!((actor.kv_bytes, actor.narrative_bytes), (6 * 128 * MIB, 272 * MIB));
    assert_eq!(actor.budget_bytes, (5_844 - 128) * MIB);
    assert_eq!((actor.slots, actor.slot_tokens), (6, 1_024));
    assert_eq!(
        (actor.narrative_slots, actor.narrative_tokens, actor.narrative_takes),
        (1, 2_176, 3)
    );
}

#[test]
fn int8_keys_and_values_in_coarse_blocks_let_all_17_answers_of_the_7_8b_model_run_on_a_6_gib_card() {
    let slots_of = |model: ModelFootprint| slots(&planned(&[gtx()], &model, PoolWanted::default()).unwrap())[0].1;
    assert_eq!(slots_of(rounded(exaone_7_8b(DeviceKind::Cuda))), 12);
    assert_eq!(slots_of(rounded(exaone_7_8b_coarse())), 17);
}

#[test]
fn the_narrative_has_memory_of_its_own_where_that_costs_no_slot() {
    let model = exaone_7_8b(DeviceKind::Cuda);
    let takes = |cards: &[Device], wanted| planned(cards, &model, wanted).unwrap().actors[0].narrative_takes;
    assert_eq!(takes(&[rtx(0)], PoolWanted::default()), 0);
    assert_eq!(takes(&[gtx()], pool(Wanted::Auto, Wanted::Number(4))), 0);
    assert_eq!(takes(&[gtx()], pool(Wanted::Auto, Wanted::Number(5))), 3);
}

#[test]
fn a_card_with_room_is_held_at_an_interviews_answers() {
    let plan = planned(&[rtx(0)], &exaone_7_8b(DeviceKind::Cuda), PoolWanted::default()).unwrap();
    assert_eq!(
        (plan.device, slots(&plan), plan.actors[0].limited_by),
        (DeviceKind::Cuda, vec![(0, 20)], SlotLimit::Speed)
    );
    assert!(
        plan.explanation
            .contains("held at 20: ONNX Runtime's fast kernels take 16 rows"),
        "{}",
        plan.explanation
    );
}

#[test]
fn float_weights_on_a_card_know_no_fast_kernels_to_stay_within() {
    let model = ModelFootprint {
        precision: Precision::Fp16,
        block_size: None,
        weights_bytes: 5 * GIB,
        ..exaone_2_4b(DeviceKind::Cuda)
    };
    let plan = planned(&[rtx(0)], &model, PoolWanted::default()).unwrap();
    assert_eq!(slots(&plan), [(0, 32)]);
}

#[test]
fn a_cpu_is_held_at_what_its_speed_gains_from() {
    let plan = planned(&[], &exaone_2_4b(DeviceKind::Cpu), PoolWanted::default()).unwrap();
    assert_eq!((plan.device, slots(&plan)), (DeviceKind::Cpu, vec![(0, 24)]));
    assert_eq!(plan.actors[0].reserve_bytes, GIB);
    let expected =
        "On the CPU, for which the model was exported. CPU (32,768 MiB, 28,672 free, 1,024 kept in reserve): weights";
    assert!(plan.explanation.starts_with(expected), "{}", plan.explanation);
    assert!(
        plan.explanation
            .contains("held at 24: a CPU gains nothing from more than 17 at once")
    );
}

#[test]
fn a_card_beside_a_model_for_the_cpu_is_named_as_unused() {
    let plan = planned(&[gtx()], &exaone_2_4b(DeviceKind::Cpu), PoolWanted::default()).unwrap();
    assert_eq!(plan.device, DeviceKind::Cpu);
    let expected = "On the CPU, for which the model was exported; NVIDIA GeForce GTX 1660 stays unused: export with --target cuda to use it.";
    assert!(plan.explanation.starts_with(expected), "{}", plan.explanation);
}

#[test]
fn a_cpu_that_was_asked_for_needs_no_excuse() {
    let plan = planned(&[gtx()], &exaone_2_4b(DeviceKind::Cpu), on(DeviceWanted::Cpu)).unwrap();
    assert!(plan.explanation.starts_with("CPU ("), "{}", plan.explanation);
}

#[test]
fn without_a_card_nothing_falls_back_to_the_cpu_in_silence() {
    let wanted_cuda = planned(&[], &exaone_2_4b(DeviceKind::Cpu), on(DeviceWanted::Cuda)).unwrap_err();
    assert_eq!(
        wanted_cuda.to_string(),
        format!("pool.device = \"cuda\", but {NO_CARD}")
    );
    let made_for_cuda = planned(&[], &exaone_2_4b(DeviceKind::Cuda), PoolWanted::default()).unwrap_err();
    assert_eq!(
        made_for_cuda.to_string(),
        format!(
            "the model was exported for cuda, but {NO_CARD}; to run it on the CPU, export it again with --target cpu (tools/export/README.md)"
        )
    );
}

#[test]
fn a_model_for_the_other_device_is_to_be_exported_again() {
    for (wanted, target, named) in [
        (DeviceWanted::Cuda, DeviceKind::Cpu, "--target cuda"),
        (DeviceWanted::Cpu, DeviceKind::Cuda, "--target cpu"),
    ] {
        let error = planned(&[gtx()], &exaone_2_4b(target), on(wanted)).unwrap_err();
        assert!(matches!(error, PlanError::WrongTarget { .. }), "{error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn every_card_gets_its_own_copy() {
    let cards = [rtx(0), gtx_at(1), rtx(2)];
    let plan = planned(&cards, &exaone_7_8b(DeviceKind::Cuda), PoolWanted::default()).unwrap();
    assert_eq!(slots(&plan), [(0, 20), (1, 6), (2, 20)]);
    assert_eq!(plan.explanation.matches(" leave ").count(), 3);
}

#[test]
fn a_card_that_holds_no_slot_is_left_out_and_said_so() {
    let small = card(1, "NVIDIA T400", 4 * GIB, 4 * GIB - 300 * MIB);
    let plan = planned(&[rtx(0), small], &exaone_7_8b(DeviceKind::Cuda), PoolWanted::default()).unwrap();
    assert_eq!(slots(&plan), [(0, 20)]);
    assert!(
        plan.explanation.ends_with(
            "card 1, NVIDIA T400 (4,096 MiB, 3,796 free, 128 kept in reserve) is left out: an actor with 1 slot needs 5,148 MiB there."
        ),
        "{}",
        plan.explanation
    );
}

#[test]
fn fewer_actors_than_cards_go_to_the_roomiest() {
    let cards = [gtx(), rtx(1), rtx(2)];
    let two = planned(
        &cards,
        &exaone_2_4b(DeviceKind::Cuda),
        pool(Wanted::Number(2), Wanted::Auto),
    )
    .unwrap();
    assert_eq!(slots(&two), [(1, 20), (2, 20)]);
    assert!(
        two.explanation
            .ends_with("card 0, NVIDIA GeForce GTX 1660 stays unused: pool.actors = 2.")
    );
    let one = planned(
        &cards,
        &exaone_2_4b(DeviceKind::Cuda),
        pool(Wanted::Number(1), Wanted::Auto),
    )
    .unwrap();
    assert_eq!(slots(&one), [(1, 20)]);
}

#[test]
fn more_actors_than_cards_share_the_memory_of_one_each_with_its_own_weights() {
    let plan = planned(
        &[gtx(), rtx(1)],
        &exaone_7_8b(DeviceKind::Cuda),
        pool(Wanted::Number(4), Wanted::Auto),
    )
    .unwrap();
    assert_eq!(slots(&plan), [(0, 6), (1, 20), (1, 20), (1, 20)]);
    assert_eq!(plan.actors[1].budget_bytes, (24_576 - 300 - 128) / 3 * MIB);
    assert!(
        plan.explanation
            .contains("3 actors have 8,049 MiB each, of which weights 4,199 MiB"),
        "{}",
        plan.explanation
    );
}

#[test]
fn actors_that_do_not_fit_side_by_side_are_refused_with_the_numbers() {
    let error = planned(
        &[gtx()],
        &exaone_7_8b(DeviceKind::Cuda),
        pool(Wanted::Number(2), Wanted::Auto),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "NVIDIA GeForce GTX 1660 cannot hold the model: weights (4,199 MiB), workspace (677) and 1 slot with the narrative in its memory (272) \
         need 5,148 MiB, and 5,716 may be used (5,844 free, 128 kept in reserve), which is 2,858 for each of 2 actors; ask for fewer pool.actors"
    );
}

#[test]
fn asked_for_slots_are_given_if_they_fit_and_refused_with_the_number_that_does() {
    let model = exaone_7_8b(DeviceKind::Cuda);
    let plan = planned(&[gtx()], &model, pool(Wanted::Auto, Wanted::Number(2))).unwrap();
    assert_eq!((plan.actors[0].slots, plan.actors[0].limited_by), (2, SlotLimit::Asked));
    assert!(plan.explanation.ends_with("of which pool.slots_per_actor takes 2."));
    let error = planned(&[gtx()], &model, pool(Wanted::Auto, Wanted::Number(7))).unwrap_err();
    assert!(
        matches!(
            error,
            PlanError::TooManySlots {
                wanted: 7,
                fitting: 6,
                needed_mib: 5_765,
                available_mib: 5_716,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().ends_with("at most 6 fit (\"auto\" takes what fits)"),
        "{error}"
    );
}

#[test]
fn a_refusal_names_what_fits_with_the_workspace_of_so_few_and_not_of_those_asked_for() {
    let whole = card(0, "X", 6 * GIB, 6 * GIB);
    let model = exaone_7_8b(DeviceKind::Cuda);
    let auto = planned(std::slice::from_ref(&whole), &model, PoolWanted::default()).unwrap();
    let error = planned(&[whole], &model, pool(Wanted::Auto, Wanted::Number(17))).unwrap_err();
    assert!(
        matches!(error, PlanError::TooManySlots { fitting, .. } if fitting == auto.actors[0].slots),
        "{error}"
    );
}

#[test]
fn a_card_that_holds_fewer_slots_than_asked_for_is_left_out_and_said_so() {
    let model = exaone_7_8b(DeviceKind::Cuda);
    let plan = planned(&[gtx(), rtx(1)], &model, pool(Wanted::Auto, Wanted::Number(8))).unwrap();
    assert_eq!(slots(&plan), [(1, 8)]);
    assert!(
        plan.explanation
            .ends_with("is left out: an actor with 8 slots needs 5,894 MiB there."),
        "{}",
        plan.explanation
    );
}

#[test]
fn actors_go_where_together_they_have_the_most_slots() {
    let model = exaone_7_8b(DeviceKind::Cuda);
    let two = |cards: &[Device]| slots(&planned(cards, &model, pool(Wanted::Number(2), Wanted::Auto)).unwrap());
    assert_eq!(two(&[gtx(), rtx(1)]), [(1, 20), (1, 20)]);
    assert_eq!(two(&[rtx(0), rtx(1)]), [(0, 20), (1, 20)]);
}

#[test]
fn numbers_out_of_range_name_their_key() {
    let model = exaone_2_4b(DeviceKind::Cuda);
    for (wanted, key) in [
        (pool(Wanted::Number(0), Wanted::Auto), "pool.actors = 0"),
        (pool(Wanted::Number(65), Wanted::Auto), "pool.actors = 65"),
        (pool(Wanted::Auto, Wanted::Number(0)), "pool.slots_per_actor = 0"),
        (pool(Wanted::Auto, Wanted::Number(257)), "pool.slots_per_actor = 257"),
    ] {
        let error = planned(&[rtx(0)], &model, wanted).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}

#[test]
fn what_is_free_counts_and_not_what_there_is() {
    let busy = card(0, "NVIDIA GeForce RTX 4090", 24 * GIB, 6 * GIB);
    let plan = planned(&[busy], &exaone_7_8b(DeviceKind::Cuda), PoolWanted::default()).unwrap();
    assert_eq!(slots(&plan), [(0, 8)]);
}

#[test]
fn the_budget_and_the_reserve_are_kept() {
    let model = exaone_7_8b(DeviceKind::Cuda);
    let budget = PoolWanted {
        memory_budget_mib: Some(6_000),
        ..PoolWanted::default()
    };
    let plan = planned(&[rtx(0)], &model, budget).unwrap();
    assert_eq!(slots(&plan), [(0, 8)]);
    assert!(
        plan.explanation.contains("6,000 allowed by pool.memory_budget_mib)")
            && plan.explanation.contains("a higher pool.memory_budget_mib brings"),
        "{}",
        plan.explanation
    );
    let reserve = PoolWanted {
        memory_reserve_mib: Some(24_276 - 5_148),
        ..PoolWanted::default()
    };
    assert_eq!(slots(&planned(&[rtx(0)], &model, reserve).unwrap()), [(0, 2)]);
}

#[test]
fn the_error_says_what_would_make_one_slot_fit() {
    let model = exaone_7_8b(DeviceKind::Cuda);
    let small = card(0, "X", 4 * GIB, 4 * GIB - 300 * MIB);
    let busy = card(0, "X", 24 * GIB, 4 * GIB);
    let wanted = |budget, reserve| PoolWanted {
        memory_budget_mib: budget,
        memory_reserve_mib: reserve,
        ..PoolWanted::default()
    };
    for (card, wanted, help) in [
        (
            rtx(0),
            wanted(Some(3_000), None),
            "set pool.memory_budget_mib to 5148 or more",
        ),
        (
            gtx(),
            wanted(None, Some(1_000)),
            "set pool.memory_reserve_mib to 696 or less",
        ),
        (
            busy,
            wanted(None, None),
            "other programs hold 20,480 MiB: end some of them",
        ),
        (
            small,
            wanted(None, None),
            "take a smaller model, a lower precision or a larger card",
        ),
    ] {
        let error = planned(&[card], &model, wanted).unwrap_err();
        assert!(matches!(error, PlanError::TooLittleMemory { .. }), "{error:?}");
        assert!(error.to_string().ends_with(help), "{error}");
    }
}

#[test]
fn a_plan_can_be_written_as_json() {
    let plan = planned(&[gtx()], &exaone_7_8b(DeviceKind::Cuda), PoolWanted::default()).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(
        (
            &json["device"],
            &json["actors"][0]["slots"],
            &json["actors"][0]["limited_by"]
        ),
        (&"cuda".into(), &6.into(), &"memory".into())
    );
}
