//! Never more memory than there is: what is out of memory goes on with fewer slots, and so does what holds more than it may.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::engines::World;
use super::*;
use crate::engine::model::SlotId;
use crate::scoring::SCORING_BANK;

fn resized(world: &World, index: usize) -> Vec<usize> {
    world.engine(index).borrow().resized.clone()
}

fn slots_of(world: &World, index: usize) -> usize {
    world.engine(index).borrow().plan.slots
}

async fn last_error(world: &World) -> String {
    world.described().await.actors[0].last_error.clone().unwrap_or_default()
}

/// Up to 100 bytes, of which a slot takes 10 and the narrative's 5, once they are used.
fn weighed(slots: usize) -> Planned {
    Planned {
        allowance: Allowance {
            bytes: 100,
            fixed_bytes: 0,
            slot_bytes: 10,
            narrative_bytes: 5,
            is_shared: false,
            on_use: true,
        },
        ..planned("cpu", slots)
    }
}

/// What the readings of a device say.
#[derive(Default)]
struct Readings {
    held: AtomicU64,
    is_guess: AtomicBool,
    /// How often it was read.
    count: AtomicUsize,
}

impl Readings {
    /// Until a reading that was begun from now on was weighed: the next but one is begun only after the next was.
    async fn weighed(&self, world: &World) {
        let before = self.count.load(Ordering::SeqCst);
        until("it is read twice", || {
            world.pool.do_send(Weigh);
            self.count.load(Ordering::SeqCst) >= before + 2
        })
        .await;
    }
}

/// As [`setup`], with a device that is read so.
fn metered() -> (Arc<Setup>, Arc<Readings>) {
    let readings = Arc::new(Readings::default());
    let blind = setup("hash", Arc::new(NoModel));
    let read = Arc::clone(&readings);
    let setup = Arc::new(Setup {
        scorer: scorer(),
        factory: Arc::new(NoModel),
        meter: Arc::new(move |device| {
            read.count.fetch_add(1, Ordering::SeqCst);
            (device == "cpu").then(|| Held {
                bytes: read.held.load(Ordering::SeqCst),
                is_guess: read.is_guess.load(Ordering::SeqCst),
            })
        }),
        options: blind.options,
        making: making("hash"),
    });
    (setup, readings)
}

fn no_memory() -> Outage {
    Outage {
        reason: "no memory for the slots".into(),
        out_of_memory: true,
    }
}

#[actix::test]
async fn what_ran_out_of_memory_is_run_again_in_half_the_slots_and_has_not_failed() {
    let world = World::ready(&[4]).await;
    world.pool.do_send(SetAttempts(1));
    world.submit(1, 5).await;
    world.run_out(0, "iv1/a1").await;
    // Nothing new is begun before there are fewer slots, and what fails meanwhile is of the same kind.
    world.narrate(2).await;
    world.write(0, "iv1/a2").await;
    world.run_out(0, "iv1/a4").await;
    assert_eq!((world.runs(0), resized(&world, 0)), (vec!["iv1/a3".to_owned()], vec![]));
    world.write(0, "iv1/a3").await;
    assert_eq!(resized(&world, 0), [2]);
    assert_eq!(world.runs(0), ["iv1/a1", "iv1/a4", "iv2/narrative"]);
    assert_eq!(world.runs_alone(0), Vec::<String>::new());
    let actor = &world.described().await.actors[0];
    assert_eq!((actor.state, actor.slots, actor.restarts), (SeatState::Ready, 2, 0));
    let reason = last_error(&world).await;
    assert!(
        reason.contains("out of memory on cpu") && reason.contains("2 of 4 slots"),
        "{reason}"
    );
    for name in ["iv1/a1", "iv1/a4", "iv1/a5"] {
        world.write(0, name).await;
    }
    assert!(
        world.ended().iter().all(|line| line.ends_with(" scored")),
        "{:?}",
        world.ended()
    );
}

#[actix::test]
async fn a_narrative_that_runs_out_of_memory_costs_slots_as_well() {
    let world = World::ready(&[4]).await;
    world.pool.do_send(SetAttempts(1));
    world.narrate(1).await;
    world.run_out(0, "iv1/narrative").await;
    assert_eq!(
        (resized(&world, 0), world.runs(0)),
        (vec![2], vec!["iv1/narrative".to_owned()])
    );
}

#[actix::test]
async fn what_runs_out_while_slots_are_given_up_costs_none_of_those_that_are_left() {
    let world = World::ready(&[4]).await;
    world.submit(1, 1).await;
    world.narrate(2).await;
    world.engine(0).borrow_mut().prompt = false;
    world.run_out(0, "iv1/a1").await;
    world.run_out(0, "iv2/narrative").await;
    world.relent(0).await;
    assert_eq!((resized(&world, 0), world.runs(0).len()), (vec![2], 2));
}

#[actix::test]
async fn with_one_slot_left_it_is_a_failure_that_says_what_to_do() {
    let world = World::ready(&[2]).await;
    world.submit(1, 1).await;
    for _ in 0..4 {
        assert_eq!(world.ended(), Vec::<String>::new());
        world.run_out(0, "iv1/a1").await;
    }
    assert_eq!(resized(&world, 0), [1]);
    assert_eq!(
        world.ended(),
        ["iv1/a1 unscored: out of memory on cpu: a block of 9 bytes"]
    );
    let reason = last_error(&world).await;
    assert!(
        reason.contains("smaller model") && reason.contains("pool.memory_budget_mib"),
        "{reason}"
    );
    world.submit(2, 1).await;
    assert_eq!(world.runs(0), ["iv2/a1"], "the engine lives");
}

#[actix::test]
async fn slots_come_back_with_the_next_plan_only() {
    let world = World::ready(&[4]).await;
    world.submit(1, 1).await;
    world.run_out(0, "iv1/a1").await;
    world.write(0, "iv1/a1").await;
    assert_eq!(resized(&world, 0), [2]);
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[planned("cuda:0", 4)])
        .await;
    assert_eq!((world.started(), slots_of(&world, 1)), (2, 4));
    assert_eq!(last_error(&world).await, "");
}

#[actix::test]
async fn slots_that_cannot_be_had_when_the_model_is_loaded_are_half_as_many_the_next_time() {
    let world = World::new();
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[planned("cpu", 9)])
        .await;
    for (start, slots) in [(0, 9), (1, 4), (2, 2), (3, 1), (4, 1)] {
        until("it is started", || world.started() == start + 1).await;
        assert_eq!(slots_of(&world, start), slots);
        world.outage(start, no_memory()).await;
    }
    let reason = last_error(&world).await;
    assert!(
        reason.starts_with("no memory for the slots; there is no slot left"),
        "{reason}"
    );
}

#[actix::test]
async fn a_plan_with_more_slots_than_memory_holds_ends_with_fewer_and_blames_no_work() {
    let (world, setup) = (World::new(), setup("hash", Arc::new(NoModel)));
    world.adopt(&setup, &[planned("cpu", 2)]).await;
    world.up(0).await;
    world.narrate(1).await;
    world.engine(0).borrow_mut().is_rigid = true;
    world.adopt(&setup, &[planned("cpu", 9)]).await;
    assert_eq!(resized(&world, 0), [9]);
    world.outage(0, no_memory()).await;
    until("it is started", || world.started() == 2).await;
    world.up(1).await;
    assert_eq!(
        (slots_of(&world, 1), world.runs(1), world.runs_alone(1)),
        (4, vec!["iv1/narrative".to_owned()], vec![])
    );
}

#[actix::test]
async fn an_engine_that_holds_too_much_when_it_is_loaded_makes_place_for_one_with_fewer_slots() {
    let world = World::new();
    world.submit(1, 9).await;
    world.adopt(&setup("hash", Arc::new(NoModel)), &[weighed(8)]).await;
    // 30 and what nobody has used yet, 8 · 10 + 5, are 15 too much.
    world.up_holding(0, Some(30)).await;
    assert!(world.engine(0).borrow().retired && world.runs(0).is_empty());
    assert_eq!((world.started(), slots_of(&world, 1)), (2, 6));
    let reason = last_error(&world).await;
    assert!(reason.contains("6 instead of 8 slots"), "{reason}");
    // What the first has left behind is not counted as its successor's growth, but what is over the budget by itself is.
    world.up_holding(1, Some(100)).await;
    assert_eq!((world.started(), world.runs(1).len()), (2, 6));
    assert_eq!(world.described().await.actors[0].slots, 6);
}

#[actix::test]
async fn up_to_a_slots_memory_too_much_is_no_new_load_worth() {
    for (held, started) in [(25, 1), (26, 2)] {
        let world = World::new();
        world.adopt(&setup("hash", Arc::new(NoModel)), &[weighed(8)]).await;
        world.up_holding(0, Some(held)).await;
        assert_eq!(world.started(), started, "{held} and 8 · 10 + 5");
    }
}

#[actix::test]
async fn slots_that_were_given_another_number_are_not_counted_twice() {
    let world = World::new();
    let setup = setup("hash", Arc::new(NoModel));
    world.adopt(&setup, &[weighed(4)]).await;
    world.up_holding(0, Some(20)).await;
    world.adopt(&setup, &[weighed(6), weighed(1)]).await;
    assert_eq!(resized(&world, 0), [6]);
    // With what six and one will take, 150 would be 230.
    world.up_holding(1, Some(150)).await;
    assert_eq!(world.started(), 2);
    assert!(!world.engine(0).borrow().retired);
}

#[actix::test]
async fn what_is_over_the_budget_by_itself_costs_slots_a_second_time() {
    let world = World::new();
    world.adopt(&setup("hash", Arc::new(NoModel)), &[weighed(20)]).await;
    // 245 are 15 slots too much; without half of these it is at most 170.
    world.up_holding(0, Some(40)).await;
    assert_eq!((world.started(), slots_of(&world, 1)), (2, 5));
    world.up_holding(1, Some(111)).await;
    assert_eq!((world.started(), slots_of(&world, 2)), (3, 3));
}

#[actix::test]
async fn where_fewer_slots_do_not_lower_the_reading_no_more_are_given_up() {
    let world = World::new();
    world.submit(1, 9).await;
    world.adopt(&setup("hash", Arc::new(NoModel)), &[weighed(8)]).await;
    // 115 cost two slots.
    world.up_holding(0, Some(30)).await;
    world.up_holding(1, Some(115)).await;
    assert_eq!((world.started(), world.runs(1).len()), (2, 6));
    let reason = last_error(&world).await;
    assert!(
        reason.contains("has not lowered it") && reason.contains("smaller model"),
        "{reason}"
    );
}

#[actix::test]
async fn an_engine_that_holds_too_much_with_its_last_slot_goes_on_and_says_so() {
    let world = World::new();
    world.submit(1, 1).await;
    world.adopt(&setup("hash", Arc::new(NoModel)), &[weighed(2)]).await;
    world.up_holding(0, Some(500)).await;
    assert_eq!((world.started(), slots_of(&world, 1)), (2, 1));
    world.up_holding(1, Some(500)).await;
    assert_eq!((world.started(), world.runs(1)), (2, vec!["iv1/a1".to_owned()]));
    let reason = last_error(&world).await;
    assert!(reason.contains("no slot left to give up"), "{reason}");
}

#[actix::test]
async fn at_work_an_engine_that_comes_to_hold_too_much_ends_what_it_has_first() {
    let (world, (setup, readings)) = (World::new(), metered());
    world.adopt(&setup, &[weighed(4)]).await;
    world.up_holding(0, Some(20)).await;
    world.pool.send(Weigh).await.unwrap();
    world.submit(1, 5).await;
    // Two of its slots are in use by now: 85 and 2 · 10 + 5 are a slot's memory more than it may.
    let touch = |index| {
        let slot = SlotId {
            bank: SCORING_BANK,
            index,
        };
        world.engine(0).borrow().gauge.read().touched.insert(slot)
    };
    assert!(touch(0) && touch(1));
    readings.held.store(85, Ordering::SeqCst);
    readings.weighed(&world).await;
    assert_eq!(world.described().await.actors.len(), 1);
    // A neighbour may have taken it.
    readings.held.store(86, Ordering::SeqCst);
    readings.is_guess.store(true, Ordering::SeqCst);
    readings.weighed(&world).await;
    assert_eq!(world.described().await.actors.len(), 1);
    readings.is_guess.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    while world.described().await.actors.len() == 1 {
        assert!(begun.elapsed() < PATIENCE, "nobody leaves");
        world.pool.do_send(Weigh);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for name in ["iv1/a1", "iv1/a2", "iv1/a3", "iv1/a4"] {
        assert_eq!(world.started(), 1);
        world.write(0, name).await;
    }
    assert!(world.engine(0).borrow().retired);
    assert_eq!((world.started(), slots_of(&world, 1)), (2, 2));
    world.up_holding(1, Some(20)).await;
    assert_eq!(world.runs(1), ["iv1/a5"]);
}

#[actix::test]
async fn a_pool_without_work_reads_nothing() {
    let (world, (setup, readings)) = (World::new(), metered());
    world.adopt(&setup, &[weighed(4)]).await;
    world.up(0).await;
    world.pool.send(Weigh).await.unwrap();
    settle().await;
    assert_eq!(readings.count.load(Ordering::SeqCst), 0);
}

#[actix::test]
async fn engines_of_one_device_are_weighed_together_once_all_are_there() {
    let world = World::new();
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[weighed(6), weighed(4)])
        .await;
    world.up_holding(0, Some(500)).await;
    assert!(!world.engine(0).borrow().retired, "the other is still loading");
    // 100 and 65 and 45 are a slot's memory more than 200; with 101 it is the one with most slots that gives two up.
    world.up_holding(1, Some(100)).await;
    assert_eq!(world.started(), 2);
    let world = World::new();
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[weighed(6), weighed(4)])
        .await;
    world.up(0).await;
    world.up_holding(1, Some(101)).await;
    assert!(world.engine(0).borrow().retired && !world.engine(1).borrow().retired);
    assert_eq!((world.started(), slots_of(&world, 2)), (3, 4));
}

#[actix::test]
async fn an_engine_with_its_last_slot_says_nothing_where_another_can_give_one_up() {
    let world = World::new();
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[weighed(1), weighed(5)])
        .await;
    world.up(0).await;
    // 145 and 15 and 55.
    world.up_holding(1, Some(145)).await;
    assert_eq!((world.started(), slots_of(&world, 2)), (3, 3));
    assert_eq!(last_error(&world).await, "");
}
