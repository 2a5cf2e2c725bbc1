//! What the pool makes of failures: of work that failed by itself, and of engines that died with it.

use super::engines::{BACK_OFF, World, answer_written, names};
use super::*;
use crate::actors::queue::Work;
use crate::actors::seats::{Seats, Step};
use crate::engine::job::{Disposition, JobId};
use crate::scoring::SCORING_BANK;

const FAILED: &str = "the model failed";

#[actix::test]
async fn a_failure_is_tried_again_until_the_attempts_are_used_up() {
    let world = World::ready(&[2]).await;
    world.submit(1, 2).await;
    for alone in [false, false, true] {
        if alone {
            world.write(0, "iv1/a2").await;
        }
        assert_eq!(world.runs_alone(0).contains(&"iv1/a1".to_owned()), alone);
        world.fail(0, "iv1/a1", Disposition::Retry).await;
    }
    assert_eq!(world.runs(0), Vec::<String>::new());
    assert_eq!(
        world.ended(),
        ["iv1/a2 scored".to_owned(), format!("iv1/a1 unscored: {FAILED}")]
    );
    assert_eq!(world.scored.borrow()[1].outcome.timing.attempts, 3);
}

#[actix::test]
async fn what_fails_the_same_way_every_time_is_not_tried_again() {
    let world = World::ready(&[1]).await;
    world.submit(1, 1).await;
    world.narrate(2).await;
    world.fail(0, "iv1/a1", Disposition::Fail).await;
    world.fail(0, "iv2/narrative", Disposition::Fail).await;
    assert_eq!(world.ended(), [format!("iv1/a1 unscored: {FAILED}")]);
    let narratives = world.narratives.borrow();
    assert!(matches!(&narratives[..], [NarrativeWritten { narrative: Err(reason), .. }] if reason == FAILED));
}

#[actix::test]
async fn how_often_is_tried_follows_the_newest_plan() {
    let world = World::ready(&[1]).await;
    world.submit(1, 1).await;
    world.pool.do_send(Adopt {
        setup: setup("hash", Arc::new(NoModel)),
        actors: vec![planned("cuda:0", 1)],
        attempts_max: 1,
    });
    settle().await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    assert_eq!(world.ended(), [format!("iv1/a1 unscored: {FAILED}")]);
}

#[actix::test]
async fn what_the_engine_wrote_without_being_asked_is_no_score() {
    let world = World::ready(&[1]).await;
    world.narrate(1).await;
    world.end(0, "iv1/narrative", Ok(answer_written())).await;
    assert_eq!(world.ended(), Vec::<String>::new());
    assert!(
        world.narratives.borrow()[0]
            .narrative
            .as_ref()
            .unwrap_err()
            .contains("something else")
    );
}

#[actix::test]
async fn flags_and_the_model_are_noted_with_a_score() {
    let world = World::ready(&[1]).await;
    world.submit(1, 1).await;
    let Written::Answer { criteria, feedback, .. } = answer_written() else {
        panic!("it is an answer")
    };
    let cut = Written::Answer {
        criteria,
        feedback,
        judged_code_points: Some(5),
        tokens_in: 100,
        tokens_out: 20,
    };
    world.end(0, "iv1/a1", Ok(cut)).await;
    let scored = world.scored.borrow();
    let outcome = &scored[0].outcome;
    assert_eq!(outcome.flags, [crate::domain::outcome::Flag::Truncated]);
    assert_eq!(
        (outcome.judged_code_points, outcome.model_hash.as_deref()),
        (Some(5), Some("hash"))
    );
    assert_eq!((outcome.timing.tokens_in, outcome.timing.tokens_out), (100, 20));
}

#[actix::test]
async fn a_death_in_company_counts_for_nobody_but_all_run_alone_afterwards() {
    let world = World::ready(&[3]).await;
    world.submit(1, 3).await;
    world.narrate(2).await;
    world.down(0, "it panicked").await;
    until("the engine is started again", || world.started() == 2).await;
    world.up(1).await;
    for name in ["iv1/a1", "iv1/a2", "iv1/a3", "iv2/narrative"] {
        assert_eq!(world.runs(1), [name]);
        assert_eq!(world.runs_alone(1), [name]);
        world.write(1, name).await;
    }
    assert_eq!(world.ended(), ["iv1/a1 scored", "iv1/a2 scored", "iv1/a3 scored"]);
    assert!(world.narratives.borrow()[0].narrative.is_ok());
    assert_eq!(world.scored.borrow()[0].outcome.timing.attempts, 2);
}

#[actix::test]
async fn after_a_death_in_company_all_attempts_are_still_there() {
    let world = World::ready(&[2]).await;
    world.submit(1, 2).await;
    world.down(0, "it panicked").await;
    until("the engine is started again", || world.started() == 2).await;
    world.up(1).await;
    for _ in 0..2 {
        world.fail(1, "iv1/a1", Disposition::Retry).await;
        // Whether it is the engine is for the other to show.
        if world.runs(1) == ["iv1/a2"] {
            world.write(1, "iv1/a2").await;
        }
    }
    world.write(1, "iv1/a1").await;
    assert_eq!(world.ended(), ["iv1/a2 scored", "iv1/a1 scored"]);
    assert_eq!(world.scored.borrow()[1].outcome.timing.attempts, 4);
}

#[actix::test]
async fn an_answer_that_kills_the_engine_three_times_alone_is_given_up_and_the_others_are_scored() {
    let world = World::ready(&[4]).await;
    world.submit(1, 4).await;
    world.down(0, "first").await;
    for death in 1..=3 {
        until("the engine is started again", || world.started() == death + 1).await;
        world.up(death).await;
        if death > 1 {
            // Whether it is the work or the engine: another shows that it is not the engine.
            let witness = format!("iv1/a{death}");
            assert_eq!(
                (world.runs(death), world.runs_alone(death).len()),
                (vec![witness.clone()], 1)
            );
            world.write(death, &witness).await;
        }
        assert_eq!(world.runs(death), ["iv1/a1"], "alone, and first in line");
        world.down(death, &format!("death {death}")).await;
    }
    let reason = "it stopped the engine 3 times with nothing beside it; the last time: death 3";
    let ended = ["iv1/a2 scored", "iv1/a3 scored", &format!("iv1/a1 unscored: {reason}")];
    assert_eq!(world.ended(), ended);
    until("the engine is started again", || world.started() == 5).await;
    world.up(4).await;
    assert_eq!(world.runs(4), ["iv1/a4"]);
}

#[actix::test]
async fn an_answer_that_kills_the_engine_three_times_and_has_no_other_beside_it_is_given_up_as_well() {
    let world = World::ready(&[2]).await;
    world.submit(1, 1).await;
    for death in 0..3 {
        assert_eq!(world.runs(death), ["iv1/a1"]);
        world.down(death, "it panicked").await;
        until("the engine is started again", || world.started() == death + 2).await;
        world.up(death + 1).await;
    }
    assert!(world.ended()[0].starts_with("iv1/a1 unscored: it stopped the engine 3 times"));
}

#[actix::test]
async fn an_engine_that_dies_while_it_loads_takes_nothing_with_it() {
    let world = World::new();
    world.submit(1, 1).await;
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[planned("cpu", 1)])
        .await;
    for start in 0..4 {
        until("it is started", || world.started() == start + 1).await;
        world.down(start, "no memory").await;
    }
    let description = world.described().await;
    let actor = &description.actors[0];
    assert_eq!((actor.state, actor.restarts), (SeatState::Restarting, 4));
    assert_eq!(actor.last_error.as_deref(), Some("no memory"));
    assert_eq!(description.queued_answers, 1);
    until("it is started", || world.started() == 5).await;
    world.up(4).await;
    assert_eq!(world.runs(4), ["iv1/a1"]);
    assert_eq!(world.runs_alone(4), Vec::<String>::new());
}

#[actix::test]
async fn why_nothing_is_scored_is_told_while_an_engine_takes_too_long_to_load_and_no_longer() {
    let why = "the disk does not answer";
    let world = World::new();
    world.submit(1, 1).await;
    world
        .adopt(&setup("first", Arc::new(NoModel)), &[planned("cpu", 1)])
        .await;
    world.late(0, why).await;
    let told = |description: Description| {
        let actors = description.actors.into_iter();
        actors.map(|actor| (actor.state, actor.last_error)).collect::<Vec<_>>()
    };
    let late = Some(why.to_owned());
    assert_eq!(told(world.described().await), [(SeatState::Starting, late.clone())]);
    // With another plan it is still what is waited for.
    world.engine(0).borrow_mut().prompt = false;
    world
        .adopt(&setup("second", Arc::new(NoModel)), &[planned("cpu", 1)])
        .await;
    assert_eq!(
        (told(world.described().await), world.started()),
        (vec![(SeatState::Starting, None), (SeatState::Retiring, late)], 1)
    );
    world.up(0).await;
    world.relent(0).await;
    world.late(1, why).await;
    world.up(1).await;
    assert_eq!(told(world.described().await), [(SeatState::Ready, None)]);
    assert_eq!(world.runs(1), ["iv1/a1"]);
}

#[actix::test]
async fn the_dead_come_back_after_a_pause_that_doubles() {
    let world = World::with(BackOff {
        min: Duration::from_millis(50),
        max: Duration::from_secs(3_600),
    });
    let setup = setup("hash", Arc::new(NoModel));
    world.adopt(&setup, &[planned("cpu", 1)]).await;
    tokio::time::pause();
    for (start, pause_ms) in [(0, 50), (1, 100), (2, 200)] {
        let died = tokio::time::Instant::now();
        world.down(start, "no memory").await;
        assert_eq!(world.started(), start + 1);
        until("it is started", || world.started() == start + 2).await;
        let pause = died.elapsed();
        assert!(pause >= Duration::from_millis(pause_ms), "{pause:?}");
    }
}

#[test]
fn deaths_in_a_row_are_counted_until_work_ends() {
    let setup = setup("hash", Arc::new(NoModel));
    let mut seats = Seats::default();
    seats.adopt(vec![planned("cpu", 1)]);
    let outage = |reason: &str| Outage::from(reason.to_owned());
    let start = |seats: &mut Seats| match seats.steps(&setup, true)[..] {
        [Step::Start(ref newcomer)] => newcomer.id,
        ref other => panic!("{other:?}"),
    };
    for deaths in 1..=3 {
        let id = start(&mut seats);
        assert_eq!(
            seats
                .died(id, &outage("it panicked"), false, JobId(0))
                .unwrap()
                .in_a_row,
            Some(deaths)
        );
        assert_eq!(seats.steps(&setup, true), []);
        seats.mourned(id);
    }
    let id = start(&mut seats);
    seats.up(id);
    let (task, queued_at) = (Task::Answer { index: 0 }, Instant::now());
    let work = Work::new(case(life(1)), interview(1, &[TEXT]), task, queued_at, None);
    assert_eq!(seats.least_busy(SCORING_BANK, false).unwrap().id, id);
    seats.assign(id, JobId(1), work);
    assert_eq!(seats.prove_sound(JobId(1)), []);
    assert_eq!(seats.take(JobId(1)).unwrap().1.model.hash, "hash");
    assert_eq!(
        seats.died(id, &outage("again"), false, JobId(1)).unwrap().in_a_row,
        Some(1)
    );
    assert!(seats.died(id, &outage("a second time"), false, JobId(1)).is_none());
}

#[test]
fn a_pause_has_an_upper_bound() {
    let after = |deaths| BACK_OFF.after(deaths);
    assert_eq!([after(1), after(2)], [BACK_OFF.min, BACK_OFF.min * 2]);
    assert_eq!([after(3), after(u32::MAX)], [BACK_OFF.max; 2]);
}

#[actix::test]
async fn the_death_of_one_engine_is_nothing_to_the_other() {
    let world = World::ready(&[1, 1]).await;
    world.submit(1, 3).await;
    world.down(0, "it panicked").await;
    assert_eq!(world.runs(1), ["iv1/a2"]);
    world.write(1, "iv1/a2").await;
    assert_eq!(
        (world.runs(1), world.runs_alone(1)),
        (names(["iv1/a1"]), names(["iv1/a1"]))
    );
    let states: Vec<_> = world.described().await.actors.iter().map(|actor| actor.state).collect();
    assert_eq!(states, [SeatState::Restarting, SeatState::Ready]);
}

#[actix::test]
async fn a_draining_pool_starts_no_engines_and_is_idle_once_they_are_dead() {
    let world = World::ready(&[1]).await;
    world.submit(1, 1).await;
    let drained = tokio::task::spawn_local(world.pool.send(Drain));
    settle().await;
    world.down(0, "it panicked").await;
    assert!(drained.is_finished());
    tokio::time::sleep(BACK_OFF.max).await;
    settle().await;
    assert_eq!((world.started(), world.ended()), (1, Vec::new()));
}
