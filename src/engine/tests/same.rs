//! An output is the same alone, in any company, order and slot, and whatever was in the slots before.

use super::super::simulated::{Fault, Script, When};
use super::*;

/// Jobs of a few areas: each begins with its area's instructions.
fn specs(random: &mut Random, count: usize) -> Vec<Spec> {
    let areas = [20, 130, 400].map(|length| random.tokens(length));
    let spec = |id: usize| {
        let mut prompt = areas[random.below(areas.len())].clone();
        let own = 2 + random.below(90);
        prompt.extend(random.tokens(own));
        Spec::new(id as u64, prompt, random.moves())
    };
    (0..count).map(spec).collect()
}

fn assert_all(specs: &[Spec], expected: &[Output], outcomes: &Outcomes) {
    assert_eq!(outcomes.len(), specs.len());
    for (spec, expected) in specs.iter().zip(expected) {
        assert_as_expected(spec, &outcomes[&JobId(spec.id)], expected);
    }
}

#[test]
fn alone_among_sixteen_others_and_in_another_order() {
    let specs = specs(&mut Random(1), 17);
    let expected: Vec<_> = specs.iter().map(Spec::expected).collect();
    for (spec, expected) in specs.iter().zip(&expected) {
        let alone = run(&mut engine(simulated(&[1])), std::slice::from_ref(spec));
        assert_as_expected(spec, &alone[&JobId(spec.id)], expected);
    }
    assert_all(&specs, &expected, &run(&mut engine(simulated(&[17])), &specs));
    let mut backwards = specs.clone();
    backwards.reverse();
    let mut used = engine(simulated(&[17]));
    for _ in 0..2 {
        assert_all(&specs, &expected, &run(&mut used, &backwards));
        assert_all(&specs, &expected, &run(&mut used, &specs));
    }
}

#[test]
fn in_every_slot_and_whatever_was_there_before() {
    let mut random = Random(2);
    let specs = specs(&mut random, 12);
    let wanted = &specs[0];
    let expected = wanted.expected();
    for slot in 0..5 {
        let mut engine = engine(simulated(&[5]));
        let before = &specs[1 + random.below(6)..];
        run(&mut engine, before);
        let blockers: Vec<_> = (0..slot)
            .map(|id| Spec::new(100 + id, random.tokens(2), choices(400)))
            .collect();
        let mut all = blockers;
        all.push(wanted.clone());
        assert_as_expected(wanted, &run(&mut engine, &all)[&JobId(wanted.id)], &expected);
    }
}

#[test]
fn forced_stretches_of_every_length_go_the_same_way() {
    let specs: Vec<_> = [1, 2, TILE, TILE + 1, 2 * TILE + 1, CHUNK, CHUNK + 1, 300]
        .into_iter()
        .enumerate()
        .map(|(id, length)| {
            let mut moves = vec![Move::Force(length)];
            moves.extend(choices(2));
            // A chosen token and one less are a stretch of the same length.
            moves.extend([Move::Force(length), Move::Weigh(all_tokens())]);
            moves.extend([
                Move::Force(length.max(2) - 1),
                Move::Choose(all_tokens()),
                Move::Force(length),
            ]);
            Spec::new(id as u64, Random(id as u64).tokens(TILE + 1), moves)
        })
        .map(|spec| Spec {
            output_max: 1_500,
            ..spec
        })
        .collect();
    let expected: Vec<_> = specs.iter().map(Spec::expected).collect();
    assert_all(&specs, &expected, &run(&mut engine(simulated(&[3])), &specs));
}

/// Four hundred lives of an engine: jobs come and are cancelled, banks are resized and may share their memory, few rows may decode at a time, models
/// fail; what ends well is as it must be, and what failed is tried again.
#[test]
fn through_random_interleavings_faults_and_cancellations() {
    let mut random = Random(3);
    let specs = specs(&mut random, 24);
    let expected: Vec<_> = specs.iter().map(Spec::expected).collect();
    let faults = [Fault::Failed, Fault::OutOfMemory, Fault::Terminated, Fault::NotFinite];
    for life in 0..400 {
        let mut script = Script::default();
        for _ in 0..random.below(4) {
            script = script.with(When::Call(1 + random.below(150) as u64), random.of(&faults));
        }
        let slots = [1 + random.below(8), 1 + random.below(3)];
        let mut model = simulated(&slots).with_script(script);
        if random.one_in(2) {
            model = model.overlaid();
        }
        if random.one_in(2) {
            model = model.with_rows_max(1 + random.below(4));
        }
        let mut engine = engine(model);
        let mut left: Vec<_> = (0..1 + random.below(10)).map(|_| random.below(specs.len())).collect();
        left.sort_unstable();
        left.dedup();
        live(&mut engine, &mut random, &specs, &expected, left, life);
    }
}

fn live(
    engine: &mut Engine,
    random: &mut Random,
    specs: &[Spec],
    expected: &[Output],
    mut left: Vec<usize>,
    life: usize,
) {
    let mut events = Vec::new();
    for step in 0.. {
        assert!(step < 20_000, "life {life} does not end");
        while !left.is_empty() && random.one_in(3) {
            let spec = &specs[left.swap_remove(random.below(left.len()))];
            let (bank, alone) = (random.below(2), random.one_in(10));
            engine.submit(
                Spec {
                    bank,
                    alone,
                    ..spec.clone()
                }
                .job(),
            );
        }
        if random.one_in(40) {
            let id = random.below(specs.len());
            if engine.cancel(JobId(id as u64)) && random.one_in(2) {
                left.push(id);
            }
        }
        if random.one_in(60) {
            let bank = random.below(2);
            // A scripted fault leaves the bank without slots: it is asked for again.
            let _ = engine.resize(bank, 1 + random.below(6));
        }
        let work_left = engine.step(&mut events).work_left;
        for event in events.drain(..) {
            let JobEvent::Ended(id, outcome) = event else { continue };
            match outcome {
                Ok(_) => assert_as_expected(&specs[id.0 as usize], &outcome, &expected[id.0 as usize]),
                Err(failure) if failure.to_string().contains("contract") => panic!("life {life}: {failure}"),
                Err(Failure::Model(_) | Failure::NotFinite) => left.push(id.0 as usize),
                Err(failure) => panic!("life {life}: {failure}"),
            }
        }
        if !work_left && left.is_empty() {
            return;
        }
    }
}
