//! In which order the pool gives work to which engine, and when places in the queue are free again.

use std::time::Duration;

use super::engines::{World, names};
use super::*;
use crate::actors::room::Full;
use crate::engine::job::Disposition;

#[actix::test]
async fn slots_go_to_the_earliest_interview_however_late_its_answers_come() {
    let world = World::ready(&[1]).await;
    world.submit(5, 1).await;
    world.submit(7, 1).await;
    world.submit(6, 2).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        let [running] = &world.runs(0)[..] else {
            panic!("{:?}", world.runs(0))
        };
        order.push(running.clone());
        world.write(0, running).await;
    }
    assert_eq!(order, ["iv5/a1", "iv6/a1", "iv6/a2", "iv7/a1"]);
}

#[actix::test]
async fn two_hundred_interviews_at_once_are_served_one_after_the_other() {
    let world = World::ready(&[17]).await;
    for number in (1..=200).rev() {
        world.submit(number, 17).await;
    }
    // The last one came first, and had the slots to itself.
    while let Some(name) = world.runs(0).first().cloned() {
        world.write(0, &name).await;
    }
    let served: Vec<_> = world
        .scored
        .borrow()
        .iter()
        .map(|scored| scored.life.sequence)
        .collect();
    let expected = [200].into_iter().chain(1..=199).flat_map(|number| [number; 17]);
    assert!(served.into_iter().eq(expected));
    assert_eq!(world.room.taken(), 0);
}

#[actix::test]
async fn all_slots_are_in_use_together_and_the_narrative_has_one_of_its_own() {
    let world = World::ready(&[3]).await;
    world.submit(1, 5).await;
    world.narrate(2).await;
    world.narrate(3).await;
    assert_eq!(world.runs(0), ["iv1/a1", "iv1/a2", "iv1/a3", "iv2/narrative"]);
    world.write(0, "iv1/a2").await;
    assert_eq!(world.runs(0), ["iv1/a1", "iv1/a3", "iv2/narrative", "iv1/a4"]);
    world.write(0, "iv2/narrative").await;
    assert_eq!(world.runs(0)[3], "iv3/narrative");
    assert!(matches!(
        world.narratives.borrow()[..],
        [NarrativeWritten { narrative: Ok(_), .. }]
    ));
}

#[actix::test]
async fn the_engine_with_least_to_do_gets_the_work() {
    let world = World::ready(&[2, 2]).await;
    world.submit(1, 3).await;
    assert_eq!(world.runs(0), ["iv1/a1", "iv1/a3"]);
    assert_eq!(world.runs(1), ["iv1/a2"]);
    world.write(0, "iv1/a1").await;
    world.write(0, "iv1/a3").await;
    world.submit(2, 1).await;
    assert_eq!(world.runs(0), ["iv2/a1"]);
    assert_eq!(world.runs(1), ["iv1/a2"]);
}

#[actix::test]
async fn nothing_is_given_to_an_engine_that_is_not_loaded() {
    let world = World::new();
    world.submit(1, 1).await;
    world
        .adopt(&setup("hash", Arc::new(NoModel)), &[planned("cpu", 2)])
        .await;
    assert_eq!((world.started(), world.runs(0)), (1, Vec::new()));
    world.up(0).await;
    assert_eq!(world.runs(0), ["iv1/a1"]);
}

#[actix::test]
async fn a_place_is_free_as_soon_as_its_answer_has_a_slot() {
    let world = World::ready(&[2]).await;
    let room = Room::new(3);
    world.submit_at(1, 3, room.reserve(3).unwrap()).await;
    assert_eq!(room.taken(), 1);
    world.write(0, "iv1/a1").await;
    assert_eq!(room.taken(), 0);
    // A second attempt needs no place: it was accepted long ago.
    world.fail(0, "iv1/a2", Disposition::Retry).await;
    assert_eq!(room.taken(), 0);
    assert_eq!(world.runs(0), ["iv1/a3", "iv1/a2"]);
    world.submit_at(2, 3, room.reserve(3).unwrap()).await;
    assert_eq!(room.reserve(1).unwrap_err(), Full { taken: 3, max: 3 });
    world.abandon(2).await;
    assert_eq!(room.taken(), 0);
}

#[actix::test]
async fn work_that_comes_back_takes_its_old_place_in_the_order() {
    let world = World::ready(&[1]).await;
    world.submit(1, 2).await;
    world.submit(2, 1).await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    assert_eq!(world.runs(0), ["iv1/a1"]);
}

#[actix::test]
async fn behind_work_that_must_be_alone_nobody_passes() {
    let world = World::ready(&[2]).await;
    world.submit(1, 2).await;
    world.submit(2, 2).await;
    world.narrate(3).await;
    // The last of three attempts is made alone.
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    assert_eq!(world.runs(0), ["iv1/a2", "iv3/narrative"]);
    world.narrate(4).await;
    world.write(0, "iv3/narrative").await;
    assert_eq!(world.runs(0), ["iv1/a2"]);
    world.write(0, "iv1/a2").await;
    assert_eq!(world.runs(0), ["iv1/a1"]);
    assert_eq!(world.runs_alone(0), ["iv1/a1"]);
    world.write(0, "iv1/a1").await;
    assert_eq!(world.runs(0), ["iv2/a1", "iv2/a2", "iv4/narrative"]);
}

#[actix::test]
async fn a_narrative_that_must_be_alone_is_not_starved_by_the_answers_of_later_interviews() {
    let world = World::ready(&[2]).await;
    world.narrate(1).await;
    world.submit(2, 9).await;
    world.fail(0, "iv1/narrative", Disposition::Retry).await;
    world.fail(0, "iv1/narrative", Disposition::Retry).await;
    assert_eq!(world.runs(0), ["iv2/a1", "iv2/a2"]);
    world.write(0, "iv2/a1").await;
    world.write(0, "iv2/a2").await;
    assert_eq!(world.runs(0), ["iv1/narrative"]);
    assert_eq!(world.runs_alone(0), ["iv1/narrative"]);
    world.write(0, "iv1/narrative").await;
    assert_eq!(world.runs(0), ["iv2/a3", "iv2/a4"]);
}

#[actix::test]
async fn while_one_engine_runs_something_alone_the_other_serves_who_comes_next() {
    let world = World::ready(&[1, 1]).await;
    world.submit(1, 4).await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    world.fail(0, "iv1/a1", Disposition::Retry).await;
    let run = |alone, beside| (names([alone]), names([beside]));
    // Something else first: whether it is the engine.
    assert_eq!((world.runs_alone(0), world.runs(1)), run("iv1/a3", "iv1/a2"));
    world.write(0, "iv1/a3").await;
    assert_eq!((world.runs_alone(0), world.runs(1)), run("iv1/a1", "iv1/a2"));
    world.write(1, "iv1/a2").await;
    assert_eq!((world.runs_alone(0), world.runs(1)), run("iv1/a1", "iv1/a4"));
}

#[actix::test]
async fn draining_is_over_when_nothing_runs_and_begins_nothing_more() {
    let world = World::ready(&[1]).await;
    world.submit(1, 2).await;
    let drained = tokio::task::spawn_local(world.pool.send(Drain));
    settle().await;
    assert!(!drained.is_finished());
    world.write(0, "iv1/a1").await;
    assert!(drained.is_finished());
    world.submit(2, 1).await;
    world.narrate(3).await;
    assert_eq!(world.runs(0), Vec::<String>::new());
    assert_eq!(world.ended(), ["iv1/a1 scored"]);
    world.pool.send(Drain).await.unwrap();
}

#[actix::test]
async fn released_engines_stop_whatever_they_run() {
    let world = World::ready(&[1, 1]).await;
    world
        .adopt(
            &setup("hash", Arc::new(NoModel)),
            &[planned("cuda:0", 1), planned("cuda:1", 1)],
        )
        .await;
    // Two of the first setup leave; the new ones come when these have gone.
    assert_eq!(world.started(), 4);
    world.up(2).await;
    world.submit(1, 1).await;
    world.engine(2).borrow_mut().prompt = false;
    world.engine(3).borrow_mut().prompt = false;
    let released = tokio::task::spawn_local(world.pool.send(Release));
    settle().await;
    assert!(!released.is_finished());
    assert!(world.engine(2).borrow().retired && world.engine(3).borrow().retired);
    // One that still loads is not waited for.
    world.relent(2).await;
    assert!(released.is_finished());
    assert_eq!(world.ended(), Vec::<String>::new());
}

#[actix::test]
async fn a_description_tells_who_waits_and_what_runs_where() {
    let world = World::ready(&[2]).await;
    world.submit(1, 3).await;
    world.submit(2, 2).await;
    world.narrate(3).await;
    let shown = |bank, index, job| crate::engine::SlotView {
        slot: crate::engine::model::SlotId { bank, index },
        job,
        phase: crate::engine::Phase::Decode,
        tokens_done: 7,
    };
    let jobs: Vec<_> = world.engine(0).borrow().given.iter().map(|given| given.job).collect();
    {
        let engine = world.engine(0);
        let gauge = Arc::clone(&engine.borrow().gauge);
        let mut reading = gauge.read();
        reading.steps = 12;
        reading.slots = vec![
            shown(0, 0, None),
            shown(0, 1, Some(jobs[0])),
            shown(1, 0, Some(jobs[2])),
        ];
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let description = world.described().await;
    assert_eq!((description.queued_interviews, description.queued_answers), (2, 3));
    assert!(description.oldest_wait >= Duration::from_millis(5));
    let [actor] = &description.actors[..] else {
        panic!("{description:?}")
    };
    assert_eq!(
        (actor.device.as_str(), actor.state, actor.slots),
        ("cuda:0", SeatState::Ready, 2)
    );
    assert_eq!((actor.steps, actor.waiting), (12, 1));
    let busy: Vec<_> = actor
        .busy
        .iter()
        .map(|busy| {
            (
                busy.slot,
                busy.interview_id.to_string(),
                busy.answer_id.as_ref().map(|id| id.as_str()),
            )
        })
        .collect();
    assert_eq!(busy, [(1, "iv1".to_owned(), Some("a1")), (2, "iv3".to_owned(), None)]);
    let standing = |index, running, attempts| Standing {
        index,
        running,
        attempts,
    };
    let mut of_first = world.pool.send(DescribeLife(life(1))).await.unwrap();
    of_first.sort_by_key(|standing| standing.index);
    assert_eq!(
        of_first,
        [standing(0, true, 1), standing(1, true, 1), standing(2, false, 0)]
    );
    assert_eq!(world.pool.send(DescribeLife(life(3))).await.unwrap(), []);
}
