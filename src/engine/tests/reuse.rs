//! What is computed once: prefixes of openings, from busy slots and from those that others have left.

use super::*;

const SHARED: usize = 500;
const OWN: usize = 40;

fn answers(count: u64) -> Vec<Spec> {
    let shared = Random(5).tokens(SHARED);
    let spec = |id: u64| {
        let mut prompt = shared.clone();
        prompt.push(id as TokenId);
        prompt.extend(Random(id).tokens(OWN - 1));
        Spec::new(id, prompt, choices(5))
    };
    (0..count).map(spec).collect()
}

/// Prompt tokens computed, and reused.
fn counted(engine: &mut Engine, specs: &[Spec]) -> (usize, usize) {
    specs.iter().for_each(|spec| engine.submit(spec.job()));
    let (mut computed, mut reused) = (0, 0);
    let mut events = Vec::new();
    while {
        let report = engine.step(&mut events);
        computed += report.prompt_tokens;
        reused += report.reused_tokens;
        report.work_left
    } {}
    let outputs = outcomes(events).into_values().map(|outcome| outcome.unwrap().reused);
    assert_eq!(outputs.sum::<usize>(), reused);
    (computed, reused)
}

#[test]
fn seventeen_jobs_at_once_compute_what_they_share_once() {
    let mut engine = engine(simulated(&[17]));
    let (computed, reused) = counted(&mut engine, &answers(17));
    assert_eq!((computed, reused), (SHARED + 17 * OWN, 16 * SHARED));
}

#[test]
fn what_is_forgotten_is_computed_again() {
    let mut engine = engine(simulated(&[2]));
    let specs = answers(2);
    counted(&mut engine, &specs[..1]);
    engine.forget_prefixes();
    assert_eq!(counted(&mut engine, &specs[1..]), (SHARED + OWN, 0));
}

#[test]
fn a_later_job_finds_what_an_ended_one_has_left() {
    let specs = answers(6);
    let mut engine = engine(simulated(&[2]));
    for (index, spec) in specs.iter().enumerate() {
        let (computed, reused) = counted(&mut engine, std::slice::from_ref(spec));
        let expected = if index == 0 { (SHARED + OWN, 0) } else { (OWN, SHARED) };
        assert_eq!((computed, reused), expected);
    }
    let again = counted(&mut engine, &specs[5..]);
    assert_eq!(again, (2, SHARED + OWN - 2), "all but the two that a chunk needs");
}

#[test]
fn a_prefix_in_the_own_slot_needs_no_copy() {
    let (model, calls) = Recorded::new(simulated(&[3]));
    let mut engine = engine(model);
    for spec in &answers(3) {
        counted(&mut engine, std::slice::from_ref(spec));
    }
    let calls = calls.lock().unwrap();
    assert!(!calls.iter().any(|call| matches!(call, Call::Copy { .. })), "{calls:?}");
    assert!(
        calls
            .iter()
            .all(|call| matches!(call, Call::Prefill { slot: 0, .. } | Call::Decode { first: 0, .. }))
    );
}

#[test]
fn what_was_decoded_or_forced_later_is_computed_again() {
    let moves = vec![
        Move::Force(3),
        Move::Choose(all_tokens()),
        Move::Force(30),
        Move::Choose(all_tokens()),
    ];
    let first = Spec::new(1, Random(9).tokens(60), moves);
    let mut engine = engine(simulated(&[1]));
    let written = run(&mut engine, std::slice::from_ref(&first))[&JobId(1)]
        .clone()
        .unwrap()
        .tokens;
    let mut longer = first.prompt.clone();
    longer.extend(&written);
    let second = Spec::new(2, longer, choices(3));
    let outcome = run(&mut engine, std::slice::from_ref(&second))
        .remove(&JobId(2))
        .unwrap();
    assert_eq!(
        outcome.clone().unwrap().reused,
        63,
        "the prompt and what was forced behind it"
    );
    assert_as_expected(&second, &outcome, &second.expected());
}

#[test]
fn idle_rows_leave_retained_prefixes_alone() {
    let specs = answers(3);
    let mut engine = engine(simulated(&[3]));
    run(&mut engine, &specs);
    // The lowest and the highest slot decode; the one between them stands idle.
    let ends = [specs[0].clone(), specs[2].clone()].map(|spec| Spec {
        moves: choices(20),
        ..spec
    });
    ends.iter().for_each(|spec| engine.submit(spec.job()));
    let mut events = Vec::new();
    let mut idle = 0;
    while {
        let report = engine.step(&mut events);
        idle += report.idle_rows;
        report.work_left
    } {}
    assert!(idle > 10, "{idle}");
    let outcome = run(&mut engine, &specs[1..2]).remove(&JobId(1)).unwrap();
    assert_as_expected(&specs[1], &outcome, &specs[1].expected());
    assert!(outcome.unwrap().reused >= SHARED);
}

#[test]
fn a_cancelled_job_leaves_what_it_had_computed() {
    let specs = answers(2);
    let mut engine = engine(simulated(&[1]));
    engine.submit(specs[0].job());
    let mut events = Vec::new();
    let computed: usize = (0..4).map(|_| engine.step(&mut events).prompt_tokens).sum();
    assert!(engine.cancel(JobId(0)));
    let outcome = run(&mut engine, &specs[1..]).remove(&JobId(1)).unwrap();
    assert_as_expected(&specs[1], &outcome, &specs[1].expected());
    assert_eq!(outcome.unwrap().reused, computed);
}
