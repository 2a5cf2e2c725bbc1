//! An engine that fails whatever it runs, and one that does not come back: what that costs the work, and how the pool comes to itself again.

use super::engines::{BACK_OFF, World};
use super::*;
use crate::engine::job::Disposition;

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
    for engine in 0..12 {
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
        let name = world.runs(12)[0].clone();
        world.write(12, &name).await;
        assert_eq!(world.ended().len(), answer);
    }
    assert!(
        world.ended().iter().all(|line| line.ends_with(" scored")),
        "{:?}",
        world.ended()
    );
    assert_eq!(world.described().await.actors[0].state, SeatState::Ready);
}

#[actix::test]
async fn an_engine_that_dies_whatever_it_runs_is_nobodys_fault_either() {
    let world = World::ready(&[3]).await;
    world.submit(1, 4).await;
    for engine in 0..10 {
        world.down(engine, "it panicked").await;
        until("another is started", || world.started() == engine + 2).await;
        world.up(engine + 1).await;
    }
    assert_eq!(world.ended(), Vec::<String>::new());
    for _ in 0..4 {
        let name = world.runs(10)[0].clone();
        world.write(10, &name).await;
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
    assert!((10..=50).contains(&engine), "{engine} engines");
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

#[actix::test]
async fn beside_an_engine_that_does_not_come_back_another_starts_if_memory_allows() {
    let world = World::new();
    let allowance = Allowance {
        bytes: 100,
        fixed_bytes: 20,
        slot_bytes: 10,
        narrative_bytes: 0,
        on_use: false,
    };
    let plan = Planned {
        allowance,
        ..planned("cpu", 4)
    };
    world.adopt(&setup("hash", Arc::new(NoModel)), &[plan]).await;
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
