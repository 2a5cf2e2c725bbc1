//! Another plan while the pool works: engines change in place, leave or come, nothing is lost, and memory is free before it is used again.

use super::engines::{BACK_OFF, World};
use super::*;

fn none() -> Vec<String> {
    Vec::new()
}

/// A pool of engines `cpu`, which belong to the setup.
async fn ready(slots: &[usize]) -> (World, Arc<Setup>) {
    let (world, setup) = (World::new(), setup("first", Arc::new(NoModel)));
    let plans: Vec<_> = slots.iter().map(|slots| planned("cpu", *slots)).collect();
    world.adopt(&setup, &plans).await;
    for index in 0..slots.len() {
        world.up(index).await;
    }
    (world, setup)
}

fn resized(world: &World, index: usize) -> Vec<usize> {
    world.engine(index).borrow().resized.clone()
}

#[actix::test]
async fn an_engine_gets_other_slots_once_its_present_ones_are_empty() {
    let (world, setup) = ready(&[2]).await;
    world.submit(1, 4).await;
    world.adopt(&setup, &[planned("cpu", 3)]).await;
    world.write(0, "iv1/a1").await;
    assert_eq!((world.runs(0), resized(&world, 0)), (vec!["iv1/a2".to_owned()], vec![]));
    world.engine(0).borrow_mut().prompt = false;
    world.write(0, "iv1/a2").await;
    assert_eq!((world.runs(0), resized(&world, 0)), (none(), vec![3]));
    // Only when it says so has it the slots.
    world.relent(0).await;
    world.submit(2, 1).await;
    assert_eq!(world.runs(0), ["iv1/a3", "iv1/a4", "iv2/a1"]);
    assert_eq!(world.described().await.actors[0].slots, 3);
    assert_eq!(world.started(), 1);
}

#[actix::test]
async fn a_narrative_goes_on_while_the_slots_for_answers_change() {
    let (world, setup) = ready(&[2]).await;
    world.narrate(1).await;
    world.adopt(&setup, &[planned("cpu", 1)]).await;
    assert_eq!(
        (world.runs(0), resized(&world, 0)),
        (vec!["iv1/narrative".to_owned()], vec![1])
    );
}

#[actix::test]
async fn a_plan_that_changes_while_engines_load_holds_when_they_are_up() {
    let (world, setup) = (World::new(), setup("first", Arc::new(NoModel)));
    world.adopt(&setup, &[planned("cpu", 2)]).await;
    world.adopt(&setup, &[planned("cpu", 1)]).await;
    world.submit(1, 2).await;
    assert!(resized(&world, 0).is_empty());
    world.up(0).await;
    assert_eq!((world.runs(0).len(), resized(&world, 0)), (1, vec![1]));
}

#[actix::test]
async fn a_second_engine_comes_when_the_first_has_made_room() {
    let (world, setup) = ready(&[4]).await;
    world.submit(1, 1).await;
    world.engine(0).borrow_mut().prompt = false;
    world.adopt(&setup, &[planned("cpu", 2), planned("cpu", 2)]).await;
    assert_eq!((world.started(), resized(&world, 0)), (1, vec![]));
    world.write(0, "iv1/a1").await;
    assert_eq!((world.started(), resized(&world, 0)), (1, vec![2]));
    world.relent(0).await;
    assert_eq!(world.started(), 2);
    world.up(1).await;
    world.submit(2, 2).await;
    assert_eq!((world.runs(0).len(), world.runs(1).len()), (1, 1));
}

#[actix::test]
async fn an_engine_too_many_ends_what_it_has_before_the_other_grows() {
    let (world, setup) = ready(&[1, 1]).await;
    world.submit(1, 3).await;
    world.engine(1).borrow_mut().prompt = false;
    world.adopt(&setup, &[planned("cpu", 2)]).await;
    world.write(0, "iv1/a1").await;
    let states: Vec<_> = world.described().await.actors.iter().map(|actor| actor.state).collect();
    assert_eq!(states, [SeatState::Ready, SeatState::Retiring]);
    assert_eq!(
        (world.runs(1), world.engine(1).borrow().retired),
        (vec!["iv1/a2".to_owned()], false)
    );
    world.write(1, "iv1/a2").await;
    assert!(world.engine(1).borrow().retired);
    assert!(resized(&world, 0).is_empty(), "the memory of the other is not free yet");
    world.relent(1).await;
    assert_eq!(
        (resized(&world, 0), world.runs(0)),
        (vec![2], vec!["iv1/a3".to_owned()])
    );
    assert_eq!(world.described().await.actors.len(), 1);
    assert_eq!(world.ended(), ["iv1/a1 scored", "iv1/a2 scored"]);
}

#[actix::test]
async fn with_another_model_the_old_engines_have_gone_before_the_new_ones_come() {
    let (world, _) = ready(&[2]).await;
    world.submit(1, 3).await;
    world.engine(0).borrow_mut().prompt = false;
    world
        .adopt(&setup("second", Arc::new(NoModel)), &[planned("cpu", 2)])
        .await;
    world.write(0, "iv1/a1").await;
    assert_eq!((world.started(), world.runs(0)), (1, vec!["iv1/a2".to_owned()]));
    world.write(0, "iv1/a2").await;
    assert_eq!((world.started(), world.engine(0).borrow().retired), (1, true));
    world.relent(0).await;
    assert_eq!(world.started(), 2);
    world.up(1).await;
    assert_eq!(
        (world.runs(1), world.engine(1).borrow().model_hash.clone()),
        (vec!["iv1/a3".to_owned()], "second".into())
    );
    world.write(1, "iv1/a3").await;
    let hashes: Vec<_> = world
        .scored
        .borrow()
        .iter()
        .map(|s| s.outcome.model_hash.clone().unwrap())
        .collect();
    assert_eq!(hashes, ["first", "first", "second"]);
}

#[actix::test]
async fn an_old_engine_that_dies_leaves_its_work_to_the_new_ones() {
    let (world, _) = ready(&[2]).await;
    world.submit(1, 2).await;
    world
        .adopt(&setup("second", Arc::new(NoModel)), &[planned("cpu", 2)])
        .await;
    world.down(0, "it panicked").await;
    assert_eq!(world.started(), 2);
    world.up(1).await;
    assert_eq!(world.runs_alone(1), ["iv1/a1"]);
    // Nobody follows it at its old place.
    tokio::time::sleep(BACK_OFF.max).await;
    settle().await;
    assert_eq!(world.started(), 2);
}

#[actix::test]
async fn engines_stay_with_their_devices() {
    let (world, setup) = (World::new(), setup("first", Arc::new(NoModel)));
    world.adopt(&setup, &[planned("cuda:0", 1), planned("cuda:1", 1)]).await;
    world.up(0).await;
    world.up(1).await;
    world.adopt(&setup, &[planned("cuda:1", 1), planned("cuda:2", 1)]).await;
    assert!(world.engine(0).borrow().retired && !world.engine(1).borrow().retired);
    assert_eq!(
        (world.started(), world.engine(2).borrow().plan.device.clone()),
        (3, "cuda:2".into())
    );
}

#[actix::test]
async fn a_new_plan_starts_at_once_what_was_waiting_after_a_death_and_only_once() {
    let (world, setup) = ready(&[1]).await;
    tokio::time::pause(); // the pause is not over before the new plan is there, however slow the machine
    world.down(0, "it panicked").await;
    assert_eq!(world.started(), 1);
    world.adopt(&setup, &[planned("cpu", 2)]).await;
    assert_eq!((world.started(), world.engine(1).borrow().plan.slots), (2, 2));
    tokio::time::sleep(BACK_OFF.max).await;
    settle().await;
    assert_eq!(world.started(), 2);
    assert_eq!(world.described().await.actors[0].restarts, 1);
}

#[actix::test]
async fn a_pause_of_before_the_new_plan_does_not_shorten_one_of_after_it() {
    let (world, setup) = (
        World::with(BackOff {
            min: Duration::from_millis(150),
            max: Duration::from_secs(9),
        }),
        setup("first", Arc::new(NoModel)),
    );
    world.adopt(&setup, &[planned("cpu", 1)]).await;
    world.down(0, "it panicked").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.adopt(&setup, &[planned("cpu", 1)]).await;
    let died = Instant::now();
    world.down(1, "it panicked").await;
    until("it is started", || world.started() == 3).await;
    assert!(died.elapsed() >= Duration::from_millis(150), "{:?}", died.elapsed());
}

#[actix::test]
async fn an_engine_that_cannot_be_resized_gets_no_work_until_it_is_back() {
    let (world, setup) = ready(&[2]).await;
    world.engine(0).borrow_mut().is_rigid = true;
    world.adopt(&setup, &[planned("cpu", 9)]).await;
    world.submit(1, 1).await;
    assert_eq!(world.runs(0), none());
    world.down(0, "the slots could not be resized").await;
    until("it is started", || world.started() == 2).await;
    world.up(1).await;
    assert_eq!(
        (world.engine(1).borrow().plan.slots, world.runs(1)),
        (9, vec!["iv1/a1".to_owned()])
    );
    assert_eq!(world.runs_alone(1), none());
}

#[actix::test]
async fn two_plans_in_a_row_lose_nothing() {
    let (world, first) = ready(&[1]).await;
    world.submit(1, 3).await;
    world
        .adopt(&setup("second", Arc::new(NoModel)), &[planned("cpu", 1)])
        .await;
    world.adopt(&first, &[planned("cpu", 2)]).await;
    world.write(0, "iv1/a1").await;
    assert_eq!(
        (world.started(), world.engine(1).borrow().model_hash.clone()),
        (2, "first".into())
    );
    world.up(1).await;
    world.write(1, "iv1/a2").await;
    world.write(1, "iv1/a3").await;
    assert_eq!(world.ended(), ["iv1/a1 scored", "iv1/a2 scored", "iv1/a3 scored"]);
}

#[actix::test]
async fn where_the_narrative_comes_to_share_memory_or_to_have_its_own_the_engine_is_built_anew() {
    let sharing = |slots, narrative_takes| Planned {
        narrative_takes,
        ..planned("cpu", slots)
    };
    let (world, setup) = ready(&[2]).await;
    world.submit(1, 3).await;
    world.adopt(&setup, &[sharing(4, 3)]).await;
    world.write(0, "iv1/a1").await;
    assert_eq!((world.started(), world.runs(0)), (1, vec!["iv1/a2".to_owned()]));
    world.write(0, "iv1/a2").await;
    assert!(world.engine(0).borrow().retired && resized(&world, 0).is_empty());
    assert_eq!((world.started(), world.engine(1).borrow().plan.slots), (2, 4));
    world.up(1).await;
    assert_eq!(world.runs(1), ["iv1/a3"]);
    world.write(1, "iv1/a3").await;
    // Other slots in memory that is shared all the same are had in place.
    world.adopt(&setup, &[sharing(2, 2)]).await;
    assert_eq!((world.started(), resized(&world, 1)), (2, vec![2]));
    world.adopt(&setup, &[sharing(2, 0)]).await;
    assert_eq!((world.started(), resized(&world, 1)), (3, vec![2]));
}

#[actix::test]
async fn where_a_narrative_is_written_in_the_memory_of_answers_fewer_of_them_run_beside_it() {
    let world = World::new();
    let plan = Planned {
        narrative_takes: 3,
        ..planned("cuda:0", 4)
    };
    world.adopt(&setup("hash", Arc::new(NoModel)), &[plan]).await;
    world.up(0).await;
    world.narrate(1).await;
    world.submit(2, 5).await;
    assert_eq!(world.runs(0), ["iv1/narrative", "iv2/a1"]);
    world.write(0, "iv1/narrative").await;
    assert_eq!(world.runs(0), ["iv2/a1", "iv2/a2", "iv2/a3", "iv2/a4"]);
    world.narrate(3).await;
    world.write(0, "iv2/a2").await;
    let given = ["iv2/a1", "iv2/a3", "iv2/a4", "iv3/narrative"];
    assert_eq!(world.runs(0), given, "it waits for slots, and the fifth answer for it");
}
