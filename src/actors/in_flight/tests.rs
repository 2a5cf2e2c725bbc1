//! One process after the other, each with what the one before has left in the file.

use tempfile::TempDir;

use super::*;
use crate::domain::ids::InterviewId;

fn life(number: u64) -> Life {
    Life {
        sequence: number,
        generation: number + 100,
        interview_id: InterviewId::parse(&format!("iv{number}")).unwrap(),
    }
}

fn answer(index: usize) -> Task {
    Task::Answer { index }
}

/// One process after the other.
struct World(TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn start(&self) -> InFlight {
        InFlight::open(&self.0.path().join("running")).unwrap()
    }

    /// A process that dies while these answers of `iv1` run; alone, if there is one and it is a suspect, having come to `place`. Gives what
    /// was known of the first.
    fn dies_with(&self, answers: &[usize], place: Place) -> Past {
        let mut in_flight = self.start();
        let pasts: Vec<_> = answers
            .iter()
            .map(|answer_index| in_flight.past(&life(1), &answer(*answer_index)))
            .collect();
        let alone = pasts.len() == 1 && pasts[0].is_suspect();
        for (index, past) in answers.iter().zip(&pasts) {
            let row = in_flight.begin(&life(1), &answer(*index), *past, alone).unwrap();
            if alone {
                row.trail().mark(Place::Reading(1));
                row.trail().mark(place);
            }
            std::mem::forget(row);
        }
        pasts[0]
    }
}

#[test]
fn after_a_note_that_failed_noting_begins_anew_once_it_is_opened_again() {
    let world = World::new();
    world.dies_with(&[5, 6], Place::default());
    let mut in_flight = InFlight::default();
    in_flight.take_over(world.start());
    assert!(in_flight.is_open());
    // A file that may only be read is as good as a disk that is full.
    let records = Records {
        file: File::open(world.0.path().join("running")).unwrap(),
        taken: Mutex::default(),
        closed: AtomicBool::new(false),
        failed: AtomicBool::new(false),
    };
    in_flight.file = Some(Arc::new(records));
    let unnoted = in_flight.begin(&life(2), &answer(0), Past::default(), false);
    assert!(!in_flight.is_open());
    in_flight.take_over(world.start());
    let noted = in_flight.begin(&life(3), &answer(0), Past::default(), false);
    drop(unnoted);
    assert_eq!(
        in_flight.past(&life(1), &answer(5)).company,
        1,
        "what the process before left is known still"
    );
    std::mem::forget(noted);
    assert_eq!(world.start().past(&life(3), &answer(0)).company, 1);
    in_flight.close();
    assert!(in_flight.is_open(), "told to end, it begins nothing anew");
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let record = Record {
        whose: Whose::of(&life(7), &answer(3)),
        past: Past {
            company: 1,
            alone: 2,
            anywhere: 3,
            place: Place::Writing(44),
        },
        alone: true,
        place: Place::Reading(512),
    };
    assert_eq!(Record::decode(&record.encode()), Some(record));
    assert_eq!(Record::decode(&[0; RECORD]), None);
    let other = Whose::of(&life(7), &answer(4));
    assert_ne!(record.whose, other);
}

#[test]
fn what_ended_left_no_trace_and_neither_did_a_process_that_was_told_to_end() {
    let world = World::new();
    let in_flight = world.start();
    let row = in_flight.begin(&life(1), &answer(0), Past::default(), false);
    let second = in_flight.begin(&life(1), &answer(1), Past::default(), false);
    drop(row);
    std::mem::forget(second);
    let mut next = world.start();
    assert_eq!(next.past(&life(1), &answer(0)), Past::default());
    assert_eq!(next.past(&life(1), &answer(1)).company, 1);
    let row = next.begin(&life(1), &answer(1), Past::default(), false);
    next.close();
    drop(row);
    assert_eq!(world.start().past(&life(1), &answer(1)), Past::default());
}

#[test]
fn once_something_could_not_be_written_nobody_is_blamed_for_what_was() {
    let world = World::new();
    let in_flight = world.start();
    std::mem::forget(in_flight.begin(&life(1), &answer(0), Past::default(), false));
    let ends_later = in_flight.begin(&life(1), &answer(1), Past::default(), false);
    let records = in_flight.file.as_ref().unwrap();
    records.write(&[1], usize::MAX / 2); // no file is so long
    assert_eq!(records.file.metadata().unwrap().len(), 0);
    drop(ends_later);
    drop(in_flight.begin(&life(1), &answer(2), Past::default(), false));
    assert_eq!(records.file.metadata().unwrap().len(), 0);
    assert!(world.start().past.is_empty());
}

#[test]
fn a_place_is_that_of_the_work_that_has_come_to_it() {
    let world = World::new();
    let mut in_flight = world.start();
    let rows = [0, 1, 2].map(|index| {
        in_flight
            .begin(&life(1), &answer(index), Past::default(), true)
            .unwrap()
    });
    rows[0].trail().mark(Place::Reading(512));
    rows[1].trail().mark(Place::Writing(44));
    let [first, second, third] = rows;
    drop(third);
    std::mem::forget(second);
    drop(first);
    in_flight = world.start();
    let expected = Past {
        company: 0,
        alone: 1,
        anywhere: 1,
        place: Place::Writing(44),
    };
    assert_eq!(in_flight.past(&life(1), &answer(1)), expected);
    assert!(in_flight.past.is_empty(), "what ended has left a trace");
    // The next to run there begins at the beginning, and not where the one before had come to.
    std::mem::forget(in_flight.begin(&life(1), &answer(1), expected, true));
    let moved_on = world.start().past(&life(1), &answer(1));
    assert_eq!(
        (moved_on.alone, moved_on.anywhere, moved_on.place),
        (0, 2, Place::Between)
    );
}

#[test]
fn deaths_count_for_one_place_only_in_the_same_step_of_the_engine() {
    let world = World::new();
    for _ in 0..2 {
        world.dies_with(&[1], Place::Between);
    }
    // Writing behind as many tokens as were read before is another place; so is having come further, or being in no step.
    for (place, alone) in [
        (Place::Reading(7), 0),
        (Place::Writing(7), 1),
        (Place::Writing(8), 1),
        (Place::Between, 1),
        (Place::Writing(8), 0),
        (Place::Writing(8), 1),
        (Place::Writing(8), 2),
    ] {
        assert_eq!(world.dies_with(&[1], place).alone, alone, "{place:?}");
    }
    assert!(
        world
            .start()
            .past(&life(1), &answer(1))
            .verdict()
            .unwrap()
            .contains("same step")
    );
}

#[test]
fn records_are_used_again() {
    let world = World::new();
    let in_flight = world.start();
    for _ in 0..100 {
        let rows = [0, 1].map(|index| in_flight.begin(&life(1), &answer(index), Past::default(), false));
        drop(rows);
    }
    assert_eq!(std::fs::metadata(world.0.path().join("running")).unwrap().len(), 128);
}

#[test]
fn what_runs_in_two_deaths_is_a_suspect_and_three_alone_in_one_step_are_the_end() {
    let world = World::new();
    world.dies_with(&[4, 5, 6], Place::Between);
    let once = world.dies_with(&[4, 6], Place::Between);
    assert!(once.company == 1 && !once.is_suspect());
    for deaths in 0..3 {
        let past = world.dies_with(&[6], Place::Reading(512));
        assert!(
            past.is_suspect() && past.alone == deaths && past.verdict().is_none(),
            "{past:?}"
        );
    }
    let verdict = world.start().past(&life(1), &answer(6)).verdict().unwrap();
    assert!(
        verdict.contains("3 times") && verdict.contains("same step"),
        "{verdict}"
    );
}

#[test]
fn what_was_not_running_is_forgotten() {
    let world = World::new();
    for _ in 0..2 {
        world.dies_with(&[1, 2], Place::Between);
    }
    assert!(world.dies_with(&[1], Place::Writing(8)).is_suspect());
    assert!(!world.start().past(&life(1), &answer(2)).is_suspect());
    // Nothing ran: that death was not its doing, and its count begins anew.
    assert_eq!(world.start().past(&life(1), &answer(1)), Past::default());
}

#[test]
fn what_happens_in_no_step_is_not_to_blame_on_the_work_before_twenty_deaths() {
    let world = World::new();
    for _ in 0..22 {
        let past = world.dies_with(&[1], Place::Between);
        assert!(past.verdict().is_none(), "{past:?}");
    }
    let verdict = world.start().past(&life(1), &answer(1)).verdict().unwrap();
    assert!(verdict.contains("20 times in a row"), "{verdict}");
}

#[test]
fn progress_lets_the_count_begin_anew_but_not_for_ever() {
    let world = World::new();
    for _ in 0..2 {
        world.dies_with(&[1], Place::Between);
    }
    for tokens in 0..20 {
        let past = world.dies_with(&[1], Place::Writing(tokens));
        assert!(past.alone <= 1 && past.verdict().is_none(), "{past:?}");
    }
    let verdict = world.start().past(&life(1), &answer(1)).verdict().unwrap();
    assert!(verdict.contains("20 times in a row"), "{verdict}");
}

#[test]
fn two_that_ran_alone_each_on_an_engine_of_its_own_were_in_company() {
    let world = World::new();
    let in_flight = world.start();
    for index in [1, 2] {
        std::mem::forget(in_flight.begin(&life(1), &answer(index), Past::default(), true));
    }
    assert_eq!(world.start().past(&life(1), &answer(1)).anywhere, 0);
}

#[test]
fn a_file_that_is_none_of_ours_is_nothing() {
    let world = World::new();
    std::fs::write(world.0.path().join("running"), [7; 1_000]).unwrap();
    assert!(world.start().past.is_empty());
    let mut half = Record {
        whose: Whose::of(&life(1), &answer(0)),
        past: Past::default(),
        alone: false,
        place: Place::Between,
    }
    .encode()
    .to_vec();
    half.truncate(40);
    std::fs::write(world.0.path().join("running"), half).unwrap();
    assert!(world.start().past.is_empty());
    assert!(InFlight::open(world.0.path()).is_err(), "a folder");
}
