//! What fails, fails alone: its neighbours go on, and it gives the same when tried again.

use super::super::job::Disposition;
use super::super::simulated::{Fault, Script, When};
use super::*;

const MARK: TokenId = 96;

/// No prompt has the mark.
fn specs() -> Vec<Spec> {
    let shared: Vec<_> = Random(8).tokens(40).into_iter().map(|token| token % 90).collect();
    let spec = |id: u64| {
        let mut prompt = shared.clone();
        prompt.extend((0..20).map(|place| (id as TokenId * 7 + place) % 90));
        let mut moves = choices(3);
        moves.extend([Move::Force(TILE + 1), Move::Weigh(all_tokens()), Move::Force(1)]);
        moves.extend(choices(2));
        Spec::new(id, prompt, moves)
    };
    (0..4).map(spec).collect()
}

fn outcome_of(spec: Spec) -> Result<Output, Failure> {
    let id = JobId(spec.id);
    let mut engine = engine(simulated(&[2]));
    let outcome = run(&mut engine, &[spec]).remove(&id).unwrap();
    let next = &specs()[0];
    assert_as_expected(
        next,
        &run(&mut engine, std::slice::from_ref(next))[&JobId(0)],
        &next.expected(),
    );
    outcome
}

#[test]
fn every_fault_at_every_call_leaves_the_rest_sound() {
    let specs = specs();
    let expected: Vec<_> = specs.iter().map(Spec::expected).collect();
    let counter = Script::default();
    run(&mut engine(simulated(&[3]).with_script(counter.clone())), &specs);
    assert!(counter.calls() > 20, "{}", counter.calls());
    let faults = [
        Fault::Failed,
        Fault::OutOfMemory,
        Fault::Terminated,
        Fault::NotFinite,
        Fault::Infinite,
        Fault::WrongShape,
    ];
    for fault in faults {
        for call in 1..=counter.calls() {
            let script = Script::default().with(When::Call(call), fault);
            let mut engine = engine(simulated(&[3]).with_script(script));
            let first = run(&mut engine, &specs);
            let failed: Vec<_> = specs
                .iter()
                .filter(|spec| first[&JobId(spec.id)].is_err())
                .cloned()
                .collect();
            assert!(failed.len() < specs.len(), "{fault:?} at {call}");
            let mut again = run(&mut engine, &failed);
            for (spec, expected) in specs.iter().zip(&expected) {
                let id = JobId(spec.id);
                let outcome = again.remove(&id).unwrap_or_else(|| first[&id].clone());
                assert_as_expected(spec, &outcome, expected);
            }
            for failure in first.values().filter_map(|outcome| outcome.as_ref().err()) {
                assert_eq!(failure.disposition(), Disposition::Retry);
                assert!(
                    !failure.to_string().contains("contract"),
                    "{fault:?} at {call}: {failure}"
                );
            }
        }
    }
}

#[test]
fn logits_of_a_wrong_number_are_no_choice() {
    let script = Script::default().with(When::From(1), Fault::WrongShape);
    let mut engine = engine(simulated(&[4]).with_script(script));
    for outcome in run(&mut engine, &specs()).values() {
        let reason = outcome.as_ref().unwrap_err().to_string();
        assert!(reason.contains("logits where") && reason.contains("belong"), "{reason}");
    }
}

#[test]
fn a_failed_prefill_ends_its_own_job_only() {
    let mut specs = specs();
    specs[1].prompt.push(MARK);
    for (fault, failure) in [
        (Fault::Terminated, Failure::Model(ModelError::Terminated)),
        (Fault::NotFinite, Failure::NotFinite),
    ] {
        let script = Script::default().with(When::Token(MARK), fault);
        let mut engine = engine(simulated(&[4]).with_script(script));
        let outcomes = run(&mut engine, &specs);
        assert_eq!(outcomes[&JobId(1)], Err(failure));
        for spec in specs.iter().filter(|spec| spec.id != 1) {
            assert_as_expected(spec, &outcomes[&JobId(spec.id)], &spec.expected());
        }
    }
}

#[test]
fn a_retry_meets_no_key_values_that_may_have_made_bad_logits() {
    let mut specs = specs();
    let marked = Spec {
        prompt: [&specs[2].prompt[..], &[MARK, 1]].concat(),
        ..specs.swap_remove(2)
    };
    let script = Script::default().with(When::Token(MARK), Fault::NotFinite);
    let mut engine = engine(simulated(&[2]).with_script(script));
    let before = run(&mut engine, &specs[..2]);
    assert!(before[&JobId(1)].as_ref().unwrap().reused > 0);
    assert_eq!(run(&mut engine, &[marked])[&JobId(2)], Err(Failure::NotFinite));
    let after = run(&mut engine, &specs[..1]);
    assert_eq!(after[&JobId(0)].as_ref().unwrap().reused, 0);
}

#[test]
fn a_failed_copy_leaves_nothing_to_be_reused_in_either_slot() {
    let mut before = specs();
    before.truncate(2);
    let other: Vec<_> = (0..2)
        .map(|id| {
            Spec::new(
                10 + id,
                [Random(4).tokens(50), vec![id as TokenId, 1]].concat(),
                choices(3),
            )
        })
        .collect();
    let prepared = |script: Script| {
        let (model, calls) = Recorded::new(simulated(&[2]).with_script(script));
        let mut engine = engine(model);
        run(&mut engine, &before);
        let outcomes = run(&mut engine, &other);
        (engine, outcomes, calls)
    };
    let (_, _, calls) = prepared(Script::default());
    let is_copy = |call: &Call| matches!(call, Call::Copy { .. });
    let copy = calls.lock().unwrap().iter().rposition(is_copy).unwrap();
    let script = Script::default().with(When::Call(copy as u64 + 1), Fault::Failed);
    let (mut engine, outcomes, _) = prepared(script);
    assert!(outcomes[&JobId(10)].is_err() && outcomes[&JobId(11)].is_err());
    let after = run(&mut engine, &before);
    assert_eq!(after[&JobId(0)].as_ref().map(|output| output.reused), Ok(0));
}

/// The sixth call is the first in which all three rows decode.
fn at_joint_decode(fault: Fault) -> Outcomes {
    let specs: Vec<_> = (0..3)
        .map(|id| Spec::new(id, Random(id).tokens(10), choices(20)))
        .collect();
    let script = Script::default().with(When::Call(6), fault);
    run(&mut engine(simulated(&[3]).with_script(script)), &specs)
}

#[test]
fn a_failed_decode_ends_all_of_its_rows_and_bad_logits_only_theirs() {
    let failed = at_joint_decode(Fault::Failed);
    assert!(failed.values().all(Result::is_err), "{failed:?}");
    let spoiled = at_joint_decode(Fault::NotFinite);
    assert_eq!(spoiled[&JobId(0)], Err(Failure::NotFinite));
    assert!(spoiled[&JobId(1)].is_ok() && spoiled[&JobId(2)].is_ok());
}

#[test]
fn a_prompt_between_failed_rows_begins_again() {
    let long = |id: u64, prompt: usize| Spec::new(id, Random(id).tokens(prompt), choices(30));
    let (first, second, third) = (long(0, 10), long(1, 300), long(2, 10));
    let (model, calls) =
        Recorded::new(simulated(&[3]).with_script(Script::default().with(When::Call(10), Fault::Failed)));
    let mut engine = engine(model);
    // The third is in its slot and decodes before the second comes to stand between.
    let blocker = long(5, 10);
    [&first, &blocker, &third]
        .iter()
        .for_each(|spec| engine.submit(spec.job()));
    let mut events = Vec::new();
    (0..3).for_each(|_| drop(engine.step(&mut events)));
    assert!(engine.cancel(JobId(5)));
    engine.submit(second.job());
    events.extend(drain(&mut engine));
    let outcomes = outcomes(events);
    assert!(outcomes[&JobId(0)].is_err() && outcomes[&JobId(2)].is_err());
    assert_as_expected(&second, &outcomes[&JobId(1)], &second.expected());
    let calls = calls.lock().unwrap();
    let from_the_start = |call: &&Call| {
        matches!(
            call,
            Call::Prefill {
                slot: 1,
                past: 0,
                tokens: CHUNK
            }
        )
    };
    assert_eq!(calls.iter().filter(from_the_start).count(), 2, "{calls:?}");
}

#[test]
fn a_grammar_that_cannot_go_on_ends_its_job_only() {
    let broken = |moves: Vec<Move>| outcome_of(Spec::new(9, vec![1, 2, 3], moves)).unwrap_err();
    let mut later = choices(2);
    later.push(Move::Break);
    for moves in [
        vec![Move::Break],
        later,
        vec![Move::Force(0)],
        vec![Move::Choose(TokenSet::new(VOCABULARY))],
    ] {
        let failure = broken(moves);
        assert!(matches!(failure, Failure::Constraint(_)), "{failure}");
        assert_eq!(failure.disposition(), Disposition::Fail);
    }
    let mut beyond = TokenSet::new(VOCABULARY + 40);
    beyond.insert(1);
    assert!(outcome_of(Spec::new(9, vec![1, 2, 3], vec![Move::Choose(beyond.clone())])).is_ok());
    beyond.insert(VOCABULARY as TokenId + 39);
    assert!(matches!(broken(vec![Move::Choose(beyond)]), Failure::Constraint(_)));
    let mut shorter = TokenSet::new(20);
    shorter.insert(4);
    let outcome = outcome_of(Spec::new(
        9,
        vec![1, 2, 3],
        vec![Move::Choose(all_tokens()), Move::Choose(shorter)],
    ));
    assert_eq!(outcome.unwrap().tokens[1], 4);
}

#[test]
fn an_output_may_fill_its_budget_but_not_exceed_it() {
    let of = |output_max: usize, moves: Vec<Move>| {
        outcome_of(Spec {
            output_max,
            ..Spec::new(9, vec![1, 2, 3], moves)
        })
    };
    assert_eq!(of(3, choices(3)).unwrap().tokens.len(), 3);
    assert_eq!(of(2, choices(3)), Err(Failure::Endless(2)));
    assert_eq!(of(2, vec![Move::Force(3)]), Err(Failure::Endless(2)));
    assert_eq!(of(3, vec![Move::Force(3)]).unwrap().tokens.len(), 3);
    assert_eq!(of(0, vec![]).unwrap().tokens.len(), 0);
    let mut late = choices(2);
    late.push(Move::Force(2));
    assert_eq!(of(3, late), Err(Failure::Endless(3)));
}

#[test]
fn a_job_that_fills_its_slot_to_the_last_token_runs() {
    let spec = Spec {
        output_max: 10,
        ..Spec::new(1, Random(1).tokens(CONTEXT - 10), choices(10))
    };
    let neighbour = Spec::new(2, Random(2).tokens(4), choices(60));
    let outcomes = run(&mut engine(simulated(&[2])), &[spec.clone(), neighbour.clone()]);
    for spec in [spec, neighbour] {
        assert_as_expected(&spec, &outcomes[&JobId(spec.id)], &spec.expected());
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_the_reason() {
    let spec = Spec::new(9, vec![1, 2, 3], choices(1));
    let too_long = Failure::TooLong {
        tokens: CONTEXT + 1,
        context: CONTEXT,
    };
    let refused = |spec: Spec| {
        let failure = outcome_of(spec).unwrap_err();
        assert_eq!(failure.disposition(), Disposition::Fail);
        failure
    };
    let output_max = CONTEXT - 2;
    assert_eq!(
        refused(Spec {
            output_max,
            ..spec.clone()
        }),
        too_long
    );
    for (unfit, reason) in [
        (
            Spec {
                prompt: vec![1],
                ..spec.clone()
            },
            "1 tokens",
        ),
        (
            Spec {
                prompt: vec![1, 97],
                ..spec.clone()
            },
            "token 97",
        ),
        (
            Spec {
                bank: 1,
                ..spec.clone()
            },
            "bank 1",
        ),
    ] {
        let failure = refused(unfit);
        assert!(
            matches!(failure, Failure::Unfit(_)) && failure.to_string().contains(reason),
            "{failure}"
        );
    }
}

#[test]
#[should_panic(expected = "scripted at call 2")]
fn a_panic_of_the_model_is_not_caught_here() {
    let script = Script::default().with(When::Call(2), Fault::Panic);
    run(&mut engine(simulated(&[1]).with_script(script)), &specs());
}
