//! An engine that fails whatever it runs, and one that does not come back: what that costs the work, and how the pool comes to itself again.

use super::engines::{BACK_OFF, World};
use super::*;
use crate::engine::job::Disposition;

/// So often work is forgiven what it failed in.
const PARDONS: usize = 3;
/// Of so many, one in company, four answers in turn have up to three alone: as many as end an answer that is not forgiven.
const DEATHS: usize = 10;

async fn fail_first(world: &World, engine: usize) -> String {
    let name = world.runs(engine)[0].clone();
    world.fail(engine, &name, Disposition::Retry).await;
    name
}

#[actix::test]
async fn an_engine_that_fails_whatever_it_runs_is_built_anew_and_nobody_has_lost_an_attempt() {
    let world = World::ready(&[1]).await;
    world.submit(1, 4).await;
    let mut failed = Vec::new();
    for engine in 0..PARDONS {
        // At the first engine the first answer uses up its attempts with company allowed; from then on it is the turn of others.
        while !world.engine(engine).borrow().retired {
            failed.push(fail_first(&world, engine).await);
        }
        let actor = &world.described().await.actors[0];
        assert_eq!(
            (actor.state, actor.restarts),
            (SeatState::Restarting, engine as u64 + 1)
        );
        let reason = actor.last_error.as_deref().unwrap();
        assert!(
            reason.contains("fails whatever it runs") && reason.ends_with("the model failed"),
            "{reason}"
        );
        until("another is started", || world.started() == engine + 2).await;
        assert!(!world.engine(0).borrow().rehearses && world.engine(engine + 1).borrow().rehearses);
        world.up(engine + 1).await;
    }
    assert_eq!(failed[..4], ["iv1/a1", "iv1/a1", "iv1/a2", "iv1/a3"]);
    assert_eq!(
        failed[4..7],
        ["iv1/a4", "iv1/a1", "iv1/a2"],
        "who was blamed longest ago comes first"
    );
    assert_eq!(world.ended(), Vec::<String>::new());
    for answer in 1..=4 {
        let name = world.runs(PARDONS)[0].clone();
        world.write(PARDONS, &name).await;
        assert_eq!(world.ended().len(), answer);
    }
    assert!(
        world.ended().iter().all(|line| line.ends_with(" scored")),
        "{:?}",
        world.ended()
    );
    assert_eq!(world.described().await.actors[0].state, SeatState::Ready);
    // It has shown what it can: whoever follows it does not have to.
    world.down(PARDONS, "it panicked").await;
    until("another is started", || world.started() == PARDONS + 2).await;
    assert!(!world.engine(PARDONS + 1).borrow().rehearses);
}

#[actix::test]
async fn a_new_plan_forgets_nothing_of_an_engine_that_failed_whatever_it_ran() {
    let world = World::ready(&[1]).await;
    world.submit(1, 4).await;
    while !world.engine(0).borrow().retired {
        fail_first(&world, 0).await;
    }
    world
        .adopt(&setup("another", Arc::new(NoModel)), &[planned("cuda:0", 1)])
        .await;
    assert_eq!(world.started(), 2);
    assert!(world.engine(1).borrow().rehearses);
}

#[actix::test]
async fn while_engines_do_not_even_show_that_they_run_nothing_is_tried_on_them() {
    let world = World::ready(&[1]).await;
    world.pool.do_send(SetAttempts(1));
    world.submit(1, 3).await;
    for _ in 0..3 {
        fail_first(&world, 0).await;
    }
    for engine in 1..=20 {
        until("another is started", || world.started() == engine + 1).await;
        assert!(world.engine(engine).borrow().rehearses);
        world
            .down(engine, "it fails whatever it runs, built anew as well")
            .await;
    }
    let actor = &world.described().await.actors[0];
    let reason = actor.last_error.as_deref().unwrap();
    assert!(
        actor.state == SeatState::Restarting && reason.contains("anew as well"),
        "{actor:?}"
    );
    until("another is started", || world.started() == 22).await;
    world.up(21).await;
    for _ in 0..3 {
        let name = world.runs(21)[0].clone();
        world.write(21, &name).await;
    }
    assert!(
        world.ended().iter().all(|line| line.ends_with(" scored")),
        "{:?}",
        world.ended()
    );
}

#[actix::test]
async fn an_engine_that_dies_whatever_it_runs_is_nobodys_fault_either() {
    let world = World::ready(&[3]).await;
    world.submit(1, 4).await;
    for engine in 0..DEATHS {
        world.down(engine, "it panicked").await;
        until("another is started", || world.started() == engine + 2).await;
        world.up(engine + 1).await;
    }
    assert!(world.engine(DEATHS).borrow().rehearses);
    assert_eq!(world.ended(), Vec::<String>::new());
    for _ in 0..4 {
        let name = world.runs(DEATHS)[0].clone();
        world.write(DEATHS, &name).await;
    }
    assert!(
        world.ended().iter().all(|line| line.ends_with(" scored")),
        "{:?}",
        world.ended()
    );
}

#[actix::test]
async fn what_fails_together_once_is_no_reason_to_build_an_engine_anew() {
    let world = World::ready(&[4]).await;
    world.submit(1, 4).await;
    for name in world.runs(0) {
        world.fail(0, &name, Disposition::Retry).await;
    }
    assert_eq!(world.runs(0).len(), 4);
    for name in world.runs(0) {
        world.write(0, &name).await;
    }
    assert_eq!((world.started(), world.described().await.actors[0].restarts), (1, 0));
}

#[actix::test]
async fn if_all_that_there_is_cannot_be_run_that_comes_to_an_end() {
    let world = World::with(BackOff {
        min: Duration::from_millis(1),
        max: Duration::from_millis(1),
    });
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[planned("cpu", 2)])
        .await;
    world.up(0).await;
    world.submit(1, 4).await;
    let mut engine = 0;
    until_ended(&world, &mut engine, 4).await;
    let why = "unscored: the model failed";
    assert!(
        world.ended().iter().all(|line| line.ends_with(why)),
        "{:?}",
        world.ended()
    );
    assert!((PARDONS..=12).contains(&engine), "{engine} engines");
}

async fn until_ended(world: &World, engine: &mut usize, answers: usize) {
    let begun = Instant::now();
    while world.ended().len() < answers {
        assert!(begun.elapsed() < PATIENCE, "{:?}", world.ended());
        match world.runs(*engine).first() {
            Some(name) => world.fail(*engine, name, Disposition::Retry).await,
            None => {
                until("another is started", || world.started() == *engine + 2).await;
                *engine += 1;
                world.up(*engine).await;
            }
        }
    }
}

/// A pool with as few attempts as there can be, whose engine has to go, since it failed whatever it ran, but for `iv1/a1`, which still runs on it.
async fn condemned_with_one_at_work() -> World {
    let world = World::ready(&[2]).await;
    world.pool.do_send(SetAttempts(9));
    world.submit(1, 1).await;
    for number in 2..=4 {
        world.submit(number, 1).await;
        world.fail(0, &format!("iv{number}/a1"), Disposition::Retry).await;
        world.abandon(number).await;
    }
    world.pool.do_send(SetAttempts(1));
    let states: Vec<_> = world.described().await.actors.iter().map(|actor| actor.state).collect();
    assert_eq!(states, [SeatState::Restarting, SeatState::Retiring]);
    assert_eq!(world.runs(0), ["iv1/a1"]);
    world
}

#[actix::test]
async fn what_fails_on_an_engine_that_has_to_go_is_not_to_blame() {
    let world = condemned_with_one_at_work().await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    assert_eq!(world.ended(), Vec::<String>::new());
    until("another is started", || world.started() == 2).await;
    world.up(1).await;
    world.write(1, "iv1/a1").await;
    assert_eq!(world.ended(), ["iv1/a1 scored"]);
}

#[actix::test]
async fn the_death_of_an_engine_that_has_to_go_counts_for_nobody() {
    let world = condemned_with_one_at_work().await;
    for death in 0..=3 {
        assert_eq!(
            (world.ended(), world.runs(death)),
            (Vec::new(), vec!["iv1/a1".to_owned()])
        );
        world.down(death, "it panicked").await;
        until("another is started", || world.started() == death + 2).await;
        world.up(death + 1).await;
    }
    assert!(world.ended()[0].starts_with("iv1/a1 unscored: it stopped the engine 3 times"));
}

#[actix::test]
async fn however_few_attempts_there_are_an_engine_that_fails_whatever_it_runs_costs_none() {
    for (slots, attempts_max) in [(1, 1), (1, 2), (4, 1), (4, 2)] {
        let world = World::ready(&[slots]).await;
        world.pool.do_send(SetAttempts(attempts_max));
        world.submit(1, 4).await;
        for engine in 0..PARDONS {
            while !world.engine(engine).borrow().retired {
                fail_first(&world, engine).await;
            }
            until("another is started", || world.started() == engine + 2).await;
            world.up(engine + 1).await;
        }
        assert_eq!(
            world.ended(),
            Vec::<String>::new(),
            "{slots} slots, {attempts_max} attempts"
        );
        for _ in 0..4 {
            let name = world.runs(PARDONS)[0].clone();
            world.write(PARDONS, &name).await;
        }
        let ended = world.ended();
        assert!(ended.iter().all(|line| line.ends_with(" scored")), "{ended:?}");
    }
}

#[actix::test]
async fn what_has_used_up_its_attempts_is_given_up_once_another_shows_that_the_engine_is_sound() {
    let world = World::ready(&[1]).await;
    world.pool.do_send(SetAttempts(1));
    world.submit(1, 4).await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    assert_eq!((world.ended(), world.runs(0)), (Vec::new(), vec!["iv1/a2".to_owned()]));
    world.write(0, "iv1/a2").await;
    assert_eq!(world.ended(), ["iv1/a2 scored", "iv1/a1 unscored: the model failed"]);
    assert_eq!(world.scored.borrow()[1].outcome.timing.attempts, 1);
    // The one that is left after this could not show that it is the engine.
    world.fail(0, "iv1/a3", Disposition::Retry).await;
    assert_eq!(world.ended()[2..], ["iv1/a3 unscored: the model failed"]);
    assert_eq!(world.runs(0), ["iv1/a4"]);
}

#[actix::test]
async fn a_narrative_shows_as_well_as_an_answer_that_the_engine_is_sound() {
    let world = World::ready(&[1]).await;
    world.pool.do_send(SetAttempts(1));
    world.submit(1, 3).await;
    world.narrate(2).await;
    world.write(0, "iv2/narrative").await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    world.narrate(3).await;
    for name in ["iv1/a2", "iv1/a3"] {
        assert_eq!(world.runs_alone(0), [name]);
        world.fail(0, name, Disposition::Retry).await;
    }
    // By now the engine is taken to be sick, and on the next one it is the turn of what has not failed yet.
    assert!(world.engine(0).borrow().retired);
    until("another is started", || world.started() == 2).await;
    world.up(1).await;
    assert_eq!(world.runs(1), ["iv3/narrative"]);
    world.write(1, "iv3/narrative").await;
    for name in ["iv1/a1", "iv1/a2", "iv1/a3"] {
        assert_eq!((world.ended().len(), world.runs_alone(1)), (0, vec![name.to_owned()]));
        world.write(1, name).await;
        world.scored.borrow_mut().clear();
    }
}

/// An engine that may hold so many bytes, of which the weights take 20 and a slot 10.
fn within(bytes: u64, slots: usize) -> Planned {
    Planned {
        allowance: Allowance {
            bytes,
            fixed_bytes: 20,
            slot_bytes: 10,
            ..Allowance::default()
        },
        ..planned("cpu", slots)
    }
}

#[actix::test]
async fn what_an_engine_holds_that_does_not_come_back_is_counted_though_it_was_to_leave() {
    let world = World::new();
    world.adopt(&setup("first", Arc::new(NoModel)), &[within(100, 4)]).await;
    world.up(0).await;
    world.submit(1, 1).await;
    let second = setup("second", Arc::new(NoModel));
    world.adopt(&second, &[within(100, 4)]).await;
    world.stuck(0).await;
    // It holds 60 of 100.
    assert_eq!((world.started(), world.engine(1).borrow().plan.slots), (2, 2));
    world.up(1).await;
    world.write(1, "iv1/a1").await;
    world.adopt(&second, &[within(100, 4)]).await;
    assert!(world.engine(1).borrow().resized.is_empty());
    world.down(0, "it has ended").await;
    world.adopt(&second, &[within(100, 4)]).await;
    assert_eq!(world.engine(1).borrow().resized, [4]);
}

#[actix::test]
async fn who_does_not_come_back_while_it_gives_up_slots_is_counted_with_all_that_it_had() {
    let (world, setup) = (World::new(), setup("hash", Arc::new(NoModel)));
    world.adopt(&setup, &[within(100, 8)]).await;
    world.up(0).await;
    world.engine(0).borrow_mut().prompt = false;
    world.adopt(&setup, &[within(100, 2)]).await;
    assert_eq!(world.engine(0).borrow().resized, [2]);
    world.stuck(0).await;
    tokio::time::sleep(3 * BACK_OFF.max).await;
    settle().await;
    // With two slots it would hold 40 of 100, but it has never said that it has no more.
    assert_eq!(world.started(), 1, "nothing is left");
    world.down(0, "it has ended").await;
    until("another is started", || world.started() == 2).await;
    assert_eq!(world.engine(1).borrow().plan.slots, 2);
}

#[actix::test]
async fn no_engine_grows_into_what_another_holds_that_does_not_come_back_and_has_no_seat_any_more() {
    let (world, setup) = (World::new(), setup("hash", Arc::new(NoModel)));
    world.adopt(&setup, &[within(60, 4), within(60, 4)]).await;
    world.up(0).await;
    world.up(1).await;
    world.stuck(1).await;
    world.adopt(&setup, &[within(130, 9)]).await;
    // Of 130 it holds 60: what is left is enough for five.
    assert_eq!(
        (world.started(), world.engine(0).borrow().resized.clone()),
        (2, vec![5])
    );
    let reason = world.described().await.actors.remove(0).last_error.unwrap();
    assert!(
        reason.contains("does not come back") && reason.contains("5 instead of 9 slots"),
        "{reason}"
    );
}

#[actix::test]
async fn beside_an_engine_that_does_not_come_back_another_starts_if_memory_allows() {
    let world = World::new();
    world.adopt(&setup("hash", Arc::new(NoModel)), &[within(100, 4)]).await;
    world.up(0).await;
    world.submit(1, 2).await;
    // It holds 60 of 100: 40 are left, enough for two slots.
    world.stuck(0).await;
    until("another is started", || world.started() == 2).await;
    assert_eq!(world.engine(1).borrow().plan.slots, 2);
    world.up(1).await;
    assert_eq!(world.runs_alone(1), ["iv1/a1"], "it may have been that");
    world.stuck(1).await;
    tokio::time::sleep(3 * BACK_OFF.max).await;
    settle().await;
    assert_eq!(world.started(), 2, "nothing is left");
    let actor = world.described().await.actors.remove(0);
    let reason = actor.last_error.unwrap();
    assert!(
        reason.contains("2 engines do not come back") && reason.contains("restart the daemon"),
        "{reason}"
    );
    assert_eq!((actor.state, world.ended()), (SeatState::Restarting, Vec::new()));
    // One of them has come back after all.
    world.down(0, "it has ended").await;
    until("another is started", || world.started() == 3).await;
    world.up(2).await;
    for _ in 0..2 {
        let name = world.runs(2)[0].clone();
        world.write(2, &name).await;
    }
    assert_eq!(world.ended().len(), 2);
}
