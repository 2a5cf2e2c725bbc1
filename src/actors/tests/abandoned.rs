//! Interviews that were cancelled or deleted: their work leaves the pool, and what still comes of it is nobody's.

use super::engines::{World, answer_written};
use super::*;

#[actix::test]
async fn what_waits_is_gone_and_what_runs_is_forgotten() {
    let world = World::ready(&[2]).await;
    world.submit(1, 4).await;
    world.narrate(1).await;
    world.submit(2, 1).await;
    let jobs: Vec<_> = world.engine(0).borrow().given.iter().map(|given| given.job).collect();
    assert_eq!(jobs.len(), 3);
    world.abandon(1).await;
    let mut forgotten = world.engine(0).borrow().forgotten.clone();
    forgotten.sort();
    assert_eq!(forgotten, jobs);
    assert_eq!(world.runs(0), ["iv2/a1"]);
    assert_eq!(world.described().await.queued_answers, 0);
    assert_eq!(world.room.taken(), 0);
}

#[actix::test]
async fn a_narrative_that_waits_is_gone_as_well() {
    let world = World::ready(&[1]).await;
    world.narrate(1).await;
    world.narrate(2).await;
    world.abandon(2).await;
    world.write(0, "iv1/narrative").await;
    assert_eq!(world.runs(0), Vec::<String>::new());
}

#[actix::test]
async fn a_result_that_comes_too_late_is_nobodys() {
    let world = World::ready(&[1]).await;
    world.submit(1, 1).await;
    let job = world.engine(0).borrow().given[0].job;
    world.abandon(1).await;
    world.submit(2, 1).await;
    world.end_job(0, job, Ok(answer_written())).await;
    assert_eq!((world.ended(), world.runs(0)), (Vec::new(), vec!["iv2/a1".to_owned()]));
}

#[actix::test]
async fn another_life_of_the_same_interview_is_not_touched() {
    let world = World::ready(&[3]).await;
    world.submit(1, 1).await;
    let retried = Life {
        generation: 9,
        ..life(1)
    };
    world.pool.do_send(AnswerScorer {
        case: case(retried.clone()),
        interview: interview(1, &[TEXT]),
        index: 0,
        queued_at: Instant::now(),
        place: None,
    });
    world.abandon(1).await;
    assert_eq!(world.runs(0), ["iv1/a1"]);
    world.write(0, "iv1/a1").await;
    assert_eq!(world.scored.borrow()[0].life, retried);
}

#[actix::test]
async fn abandoning_what_blocked_the_line_lets_the_others_pass() {
    let world = World::ready(&[2]).await;
    world.submit(1, 1).await;
    world.submit(2, 1).await;
    world.down(0, "it panicked").await;
    until("the engine is started again", || world.started() == 2).await;
    world.submit(3, 2).await;
    world.up(1).await;
    assert_eq!(world.runs(1), ["iv1/a1"]);
    world.abandon(1).await;
    assert_eq!(world.runs(1), ["iv2/a1"]);
    world.abandon(2).await;
    assert_eq!(world.runs(1), ["iv3/a1", "iv3/a2"]);
}

#[actix::test]
async fn a_draining_pool_does_not_wait_for_what_was_abandoned() {
    let world = World::ready(&[1]).await;
    world.submit(1, 1).await;
    let drained = tokio::task::spawn_local(world.pool.send(Drain));
    settle().await;
    world.abandon(1).await;
    assert!(drained.is_finished());
}
