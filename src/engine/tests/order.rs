//! Who runs when: slots in order of submission, chunks and decodes in turns, jobs that must be alone, cancelling, resizing.

use super::super::simulated::{Fault, Script, When};
use super::super::{Phase, SlotView};
use super::*;

fn spec(id: u64, prompt: usize, count: usize) -> Spec {
    Spec::new(id, Random(id + 50).tokens(prompt), choices(count))
}

fn admitted(events: &[JobEvent]) -> Vec<u64> {
    let id = |event: &JobEvent| match event {
        JobEvent::Admitted(id) => Some(id.0),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

fn ended(events: &[JobEvent]) -> Vec<u64> {
    let id = |event: &JobEvent| match event {
        JobEvent::Ended(id, outcome) => {
            assert!(outcome.is_ok(), "{id:?}: {outcome:?}");
            Some(id.0)
        }
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

#[test]
fn slots_are_given_in_order_of_submission_bank_by_bank() {
    let mut engine = engine(simulated(&[2, 1]));
    for id in 0..6 {
        let bank = usize::from(id % 3 == 2);
        engine.submit(
            Spec {
                bank,
                ..spec(id, 10, 4)
            }
            .job(),
        );
    }
    let mut events = Vec::new();
    engine.step(&mut events);
    assert_eq!(admitted(&events), [0, 1, 2], "each bank has given all it has");
    assert_eq!((engine.running(), engine.waiting()), (3, 3));
    assert_eq!(
        (engine.free_slots(0), engine.free_slots(1), engine.free_slots(2)),
        (0, 0, 0)
    );
    events.extend(drain(&mut engine));
    let of = |bank| -> Vec<_> {
        let mut all = admitted(&events);
        all.retain(|id| usize::from(id % 3 == 2) == bank);
        all
    };
    assert_eq!((of(0), of(1)), (vec![0, 1, 3, 4], vec![2, 5]));
    assert!(engine.is_idle() && engine.free_slots(0) == 2);
}

#[test]
fn events_come_in_the_order_of_a_jobs_life() {
    let mut engine = engine(simulated(&[2]));
    engine.submit(spec(1, 100, 2).job());
    let events = drain(&mut engine);
    assert!(matches!(
        events.as_slice(),
        [
            JobEvent::Admitted(JobId(1)),
            JobEvent::Prefilled(JobId(1)),
            JobEvent::Ended(JobId(1), Ok(_))
        ]
    ));
}

#[test]
fn a_new_jobs_chunks_and_the_decoding_of_others_take_turns() {
    let (model, calls) = Recorded::new(simulated(&[4]));
    let mut engine = engine(model);
    let mut events = Vec::new();
    engine.submit(spec(0, 10, 60).job());
    engine.step(&mut events);
    engine.step(&mut events);
    calls.lock().unwrap().clear();
    engine.submit(spec(1, 4 * CHUNK, 4).job());
    for rows in [1, 1, 1, 2] {
        let report = engine.step(&mut events);
        assert_eq!((report.prompt_tokens, report.rows, report.idle_rows), (CHUNK, rows, 0));
    }
    let calls = calls.lock().unwrap();
    let is_prefill: Vec<_> = calls.iter().map(|call| matches!(call, Call::Prefill { .. })).collect();
    assert_eq!(is_prefill, [true, false].repeat(4));
    assert_eq!(
        calls[7],
        decode(0, &[true, true]),
        "its prompt is through: it decodes with the other"
    );
}

fn decode(first: usize, wanted: &[bool]) -> Call {
    let wanted = wanted.to_vec();
    Call::Decode { first, wanted }
}

#[test]
fn what_is_forced_for_several_is_fed_before_they_decode_together() {
    let (model, calls) = Recorded::new(simulated(&[4]));
    let mut engine = engine(model);
    let mut events = Vec::new();
    for id in 0..4 {
        let moves = [choices(1), vec![Move::Force(9)], choices(5)].concat();
        engine.submit(Spec::new(id, Random(id).tokens(10), moves).job());
    }
    let report = engine.step(&mut events);
    assert_eq!((report.prompt_tokens, report.forced_tokens, report.rows), (40, 40, 4));
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 9, "{calls:?}");
    assert_eq!(calls[8], decode(0, &[true; 4]));
}

#[test]
fn rows_that_decode_wait_for_no_more_than_a_chunk_of_each_kind() {
    let mut engine = engine(simulated(&[9]));
    let mut events = Vec::new();
    for id in 0..9 {
        let moves = [choices(2), vec![Move::Force(20)], choices(5)].concat();
        engine.submit(Spec::new(id, Random(id).tokens(if id == 4 { 200 } else { 20 }), moves).job());
    }
    let mut fed = [0, 0];
    while {
        let report = engine.step(&mut events);
        assert!(
            report.prompt_tokens <= CHUNK && report.forced_tokens <= CHUNK,
            "{report:?}"
        );
        assert!(report.rows > 0, "those that are ready have their turn in every step");
        fed[0] += report.prompt_tokens;
        fed[1] += report.forced_tokens;
        report.work_left
    } {}
    assert_eq!((fed, ended(&events).len()), ([360, 9 * 21], 9));
}

#[test]
fn a_decode_is_split_where_too_many_slots_between_its_rows_stand_idle() {
    for (idle, runs) in [
        (2, vec![decode(0, &[true, false, false, true])]),
        (3, vec![decode(0, &[true]), decode(4, &[true])]),
    ] {
        let (model, calls) = Recorded::new(simulated(&[6]));
        let mut engine = engine(model);
        (0..idle + 2).for_each(|id| engine.submit(spec(id, 10, 20).job()));
        let mut events = Vec::new();
        while engine.step(&mut events).prompt_tokens > 0 {}
        (1..=idle).for_each(|id| assert!(engine.cancel(JobId(id))));
        calls.lock().unwrap().clear();
        let report = engine.step(&mut events);
        assert_eq!(report.rows, 2);
        assert_eq!(*calls.lock().unwrap(), runs);
    }
}

#[test]
fn one_prompt_is_through_before_the_next_begins() {
    let (model, calls) = Recorded::new(simulated(&[3]));
    let mut engine = engine(model);
    run(&mut engine, &[spec(0, 200, 2), spec(1, 200, 2), spec(2, 200, 2)]);
    let calls = calls.lock().unwrap();
    let slots: Vec<_> = calls
        .iter()
        .filter_map(|call| match call {
            Call::Prefill { slot, .. } => Some(*slot),
            _ => None,
        })
        .collect();
    assert!(slots.is_sorted() && slots.len() > 12, "{slots:?}");
}

#[test]
fn an_output_that_needs_no_logits_needs_no_run() {
    let (model, calls) = Recorded::new(simulated(&[1]));
    let mut engine = engine(model);
    let forced = Spec::new(1, vec![1, 2, 3], vec![Move::Force(20), Move::Force(1)]);
    let outcome = run(&mut engine, &[forced]).remove(&JobId(1)).unwrap().unwrap();
    assert_eq!((outcome.tokens.len(), outcome.forced), (21, 21));
    assert_eq!(
        run(&mut engine, &[Spec::new(2, vec![1, 2], vec![])])[&JobId(2)],
        Ok(Output::default())
    );
    assert!(calls.lock().unwrap().is_empty());
    let tail = Spec::new(3, vec![1, 2, 3], vec![Move::Choose(all_tokens()), Move::Force(30)]);
    run(&mut engine, &[tail]);
    assert_eq!(calls.lock().unwrap().len(), 1, "the forced tail is not fed");
}

#[test]
fn a_job_that_must_be_alone_has_no_company_and_does_not_starve() {
    let mut engine = engine(simulated(&[3, 2]));
    let specs: Vec<_> = (0..8)
        .map(|id| Spec {
            alone: id == 3 || id == 4,
            bank: usize::from(id % 2 == 1),
            ..spec(id, 10, 3 + id as usize)
        })
        .collect();
    specs.iter().for_each(|spec| engine.submit(spec.job()));
    let mut events = Vec::new();
    let mut views = Vec::new();
    while engine.step(&mut events).work_left {
        engine.snapshot(&mut views);
        let busy: Vec<_> = views.iter().filter_map(|view: &SlotView| view.job).collect();
        let alone = busy.contains(&JobId(3)) || busy.contains(&JobId(4));
        assert!(!alone || busy.len() == 1, "{busy:?}");
    }
    assert_eq!(admitted(&events), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_cancelled_job_is_never_heard_of_again() {
    let mut engine = engine(simulated(&[1]));
    let too_long = Spec {
        output_max: CONTEXT,
        ..spec(9, 10, 3)
    };
    [spec(0, 10, 9), spec(1, 10, 9), spec(2, 10, 9), too_long]
        .iter()
        .for_each(|spec| engine.submit(spec.job()));
    let mut events = Vec::new();
    assert!(engine.cancel(JobId(9)), "not even of one that could not be run");
    engine.step(&mut events);
    engine.step(&mut events);
    assert!(engine.cancel(JobId(0)) && engine.free_slots(0) == 1);
    assert!(engine.cancel(JobId(1)));
    assert!(!engine.cancel(JobId(1)) && !engine.cancel(JobId(77)));
    events.extend(drain(&mut engine));
    assert_eq!((admitted(&events), ended(&events)), (vec![0, 2], vec![2]));
}

#[test]
fn a_bank_is_resized_when_its_rows_have_ended() {
    let (model, calls) = Recorded::new(simulated(&[2, 1]));
    let mut engine = engine(model);
    let mut events = Vec::new();
    (0..4).for_each(|id| engine.submit(spec(id, 10, 5).job()));
    engine.step(&mut events);
    assert_eq!(engine.resize(0, 4), Ok(()));
    assert_eq!((engine.shape().banks[0].slots, engine.free_slots(0)), (2, 0));
    assert_eq!(engine.resize(1, 3), Ok(()), "at once: nobody is there");
    assert_eq!((engine.shape().banks[1].slots, engine.free_slots(1)), (3, 3));
    let mut resized = None;
    while resized.is_none() {
        assert!(engine.running() > 0 || engine.free_slots(0) == 0);
        assert_eq!(admitted(&events), [0, 1], "nobody comes in before");
        resized = engine.step(&mut events).resized;
    }
    assert_eq!(
        resized.map(|resized| (resized.bank, resized.outcome)),
        Some((0, Ok(())))
    );
    assert_eq!(engine.shape().banks[0].slots, 4);
    events.extend(drain(&mut engine));
    assert_eq!(ended(&events), [0, 1, 2, 3]);
    assert_eq!(engine.resize(0, 1), Ok(()));
    assert_eq!(run(&mut engine, &[spec(5, 10, 5), spec(6, 10, 5)]).len(), 2);
    let resizes = calls
        .lock()
        .unwrap()
        .iter()
        .filter(|call| matches!(call, Call::Resize { .. }))
        .count();
    assert_eq!(resizes, 3);
    assert!(engine.resize(2, 1).is_err());
}

#[test]
fn a_bank_that_lost_its_slots_fails_its_jobs_until_it_has_some() {
    let script = Script::default().with(When::Call(1), Fault::OutOfMemory);
    let mut engine = engine(simulated(&[2]).with_script(script));
    assert!(matches!(engine.resize(0, 9), Err(ModelError::OutOfMemory { .. })));
    let outcome = run(&mut engine, &[spec(1, 10, 3)]).remove(&JobId(1)).unwrap();
    assert!(outcome.unwrap_err().to_string().contains("bank 0 has no slots"));
    assert_eq!(engine.resize(0, 1), Ok(()));
    assert!(run(&mut engine, &[spec(1, 10, 3)])[&JobId(1)].is_ok());
}

#[test]
fn a_snapshot_shows_every_slot() {
    let mut engine = engine(simulated(&[3, 1]));
    let mut events = Vec::new();
    let mut views = Vec::new();
    engine.submit(spec(7, 10, 9).job());
    engine.submit(spec(8, 100, 9).job());
    (0..3).for_each(|_| drop(engine.step(&mut events)));
    engine.snapshot(&mut views);
    let seen: Vec<_> = views
        .iter()
        .map(|view| (view.slot.bank, view.slot.index, view.phase))
        .collect();
    let idle = Phase::Idle;
    assert_eq!(
        seen,
        [
            (0, 0, Phase::Decode),
            (0, 1, Phase::Prefill),
            (0, 2, idle),
            (1, 0, idle)
        ]
    );
    let done: Vec<_> = views
        .iter()
        .map(|view| (view.job.map(|id| id.0), view.tokens_done))
        .collect();
    assert_eq!(done, [(Some(7), 4), (Some(8), 96), (None, 0), (None, 0)]);
}

#[test]
fn an_engine_may_be_sent_to_its_thread() {
    let mut engine = engine(simulated(&[1]));
    engine.submit(spec(1, 10, 2).job());
    let events = std::thread::spawn(move || drain(&mut engine)).join().unwrap();
    assert_eq!(ended(&events), [1]);
}

#[test]
fn nobody_passes_a_job_that_must_be_alone_while_its_bank_is_resized() {
    let mut engine = engine(simulated(&[1, 1]));
    let in_bank = |bank, id| Spec {
        bank,
        alone: id == 2,
        ..spec(id, 10, 1)
    };
    let mut events = Vec::new();
    engine.submit(in_bank(0, 0).job());
    engine.submit(in_bank(1, 1).job());
    engine.step(&mut events);
    assert_eq!((engine.resize(0, 2), engine.resize(1, 2)), (Ok(()), Ok(())));
    engine.submit(in_bank(1, 2).job());
    engine.submit(in_bank(0, 3).job());
    events.extend(drain(&mut engine));
    assert_eq!(
        (admitted(&events), ended(&events)),
        (vec![0, 1, 2, 3], vec![0, 1, 2, 3])
    );
    assert_eq!((engine.free_slots(0), engine.free_slots(1)), (2, 2));
}

#[test]
fn of_more_rows_than_may_decode_together_those_at_the_ends_take_turns() {
    let (model, calls) = Recorded::new(simulated(&[5]).with_rows_max(4));
    let mut engine = engine(model);
    let mut events = Vec::new();
    (0..5).for_each(|id| engine.submit(spec(id, 10, 40).job()));
    engine.step(&mut events);
    calls.lock().unwrap().clear();
    for _ in 0..4 {
        assert_eq!(engine.step(&mut events).rows, 4);
    }
    let firsts: Vec<_> = calls
        .lock()
        .unwrap()
        .iter()
        .map(|call| match call {
            Call::Decode { first, wanted } => (*first, wanted.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        firsts == [(0, 4), (1, 4), (0, 4), (1, 4)] || firsts == [(1, 4), (0, 4), (1, 4), (0, 4)],
        "{firsts:?}"
    );
    events.extend(drain(&mut engine));
    assert_eq!(ended(&events).len(), 5);
}

#[test]
fn who_waits_for_the_slot_over_others_has_it_before_newcomers_have_those() {
    let mut engine = engine(simulated(&[3, 1]).overlaid());
    let mut events = Vec::new();
    let over = |id| Spec {
        bank: 1,
        ..spec(id, 10, 2)
    };
    (0..3).for_each(|id| engine.submit(spec(id, 10, 5).job()));
    engine.step(&mut events);
    engine.submit(over(3).job());
    (4..10).for_each(|id| engine.submit(spec(id, 10, 5).job()));
    let mut views = Vec::new();
    while engine.step(&mut events).work_left {
        engine.snapshot(&mut views);
        let busy: Vec<_> = views
            .iter()
            .filter(|view| view.job.is_some())
            .map(|view| view.slot)
            .collect();
        let both = [SlotId { bank: 0, index: 2 }, SlotId { bank: 1, index: 0 }];
        assert!(!both.iter().all(|slot| busy.contains(slot)), "{busy:?}");
    }
    let order = admitted(&events);
    assert!(order[..6].contains(&3), "{order:?}");
    assert_eq!(ended(&events).len(), 10);
}
