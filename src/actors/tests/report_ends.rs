//! Reports that do not come about, and the order of those that do: cancellations, a store that takes nothing, many at once.

use super::report::World;
use super::*;
use crate::domain::state::InterviewState;

#[actix::test]
async fn what_was_abandoned_is_neither_reported_nor_told() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT, TEXT]);
    let life = world.open(&interview, true).await;
    world.ended(&life, "a1", scored("하나")).await;
    world.store.cancel(&interview.id).await.unwrap();
    world.reports.send(Abandon { life: life.clone() }).await.unwrap();
    world.ended(&life, "a2", scored("둘")).await;
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(world.told.lines(), ["iv1 scored a1 1/2"]);
    assert_eq!(
        (world.state(&interview), world.report(&interview)),
        (InterviewState::Cancelled, None)
    );
    assert_eq!(world.narrator.borrow().len(), 0);
}

#[actix::test]
async fn a_last_outcome_that_is_stored_while_its_interview_is_abandoned_asks_for_no_narrative() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    world.reports.do_send(AnswerScored {
        life: life.clone(),
        answer_id: interview.answers()[0].id.clone(),
        outcome: scored("하나"),
    });
    world.reports.send(Abandon { life }).await.unwrap();
    world.settled().await;
    assert_eq!((world.narrator.borrow().len(), world.told.lines()), (0, Vec::new()));
}

#[actix::test]
async fn a_cancellation_that_overtakes_the_report_leaves_none() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    world.ended(&life, "a1", scored("하나")).await;
    world.store.cancel(&interview.id).await.unwrap();
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(
        (world.state(&interview), world.report(&interview)),
        (InterviewState::Cancelled, None)
    );
    assert_eq!(world.told.lines(), ["iv1 scored a1 1/1", "iv1 started 1/1"]);
    assert_eq!((world.done.borrow().len(), world.counters.snapshot().reports), (1, 0));
}

#[actix::test]
async fn an_outcome_that_cannot_be_stored_is_told_to_nobody_and_makes_no_report() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT, TEXT]);
    let life = world.open(&interview, true).await;
    world.ended(&life, "a1", scored("하나")).await;
    world.store.shut_down().await;
    world.ended(&life, "a2", scored("둘")).await;
    assert_eq!(world.told.lines(), ["iv1 scored a1 1/2"]);
    assert_eq!((world.narrator.borrow().len(), world.done.borrow().len()), (0, 0));
    assert_eq!(world.counters.snapshot().answers_scored, 1);
}

#[actix::test]
async fn a_report_that_cannot_be_stored_is_told_to_nobody_and_its_interview_rests_until_the_next_start() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    world.ended(&life, "a1", scored("하나")).await;
    world.store.shut_down().await;
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(world.told.lines(), ["iv1 scored a1 1/1", "iv1 started 1/1"]);
    assert_eq!((world.done.borrow().len(), world.counters.snapshot().reports), (1, 0));
}

#[actix::test]
async fn a_report_that_the_store_has_kept_without_knowing_is_told_as_any_other() {
    let other = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = other.open(&interview, true).await;
    other.ended(&life, "a1", scored("하나")).await;
    other.narrated(&life, Ok(narrative())).await;
    let report = other.report(&interview).unwrap();
    let world = World::new().await;
    let life = world.open(&interview, true).await;
    world.ended(&life, "a1", scored("하나")).await;
    // As after a disk that was full: it is there, but whoever stored it was told otherwise and comes again.
    let stored = world.store.finish(&interview.id, life.generation, report).await;
    assert_eq!(stored.unwrap(), crate::store::Finished::Stored);
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(world.told.lines().last().unwrap(), "iv1 ready complete 1/1");
    assert_eq!((world.done.borrow().len(), world.counters.snapshot().reports), (1, 1));
}

#[actix::test]
async fn settling_waits_for_the_report_that_the_last_outcome_brings() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    world.reports.do_send(AnswerScored {
        life,
        answer_id: interview.answers()[0].id.clone(),
        outcome: unscored("no engine"),
    });
    world.reports.send(Settle).await.unwrap();
    assert!(world.report(&interview).is_some());
}

#[actix::test]
async fn narratives_are_asked_for_in_the_order_in_which_the_last_outcomes_came() {
    let world = World::new().await;
    let interviews: Vec<_> = (1..=9).map(|number| interview(number, &[TEXT])).collect();
    let mut lives = Vec::new();
    for interview in &interviews {
        lives.push(world.open(interview, true).await);
    }
    // They become durable together, or in a few rounds.
    for life in &lives {
        world.reports.do_send(AnswerScored {
            life: life.clone(),
            answer_id: interviews[0].answers()[0].id.clone(),
            outcome: scored("하나"),
        });
    }
    world.settled().await;
    let asked: Vec<_> = world
        .narrator
        .borrow()
        .iter()
        .map(|asked| asked.case.life.clone())
        .collect();
    assert_eq!(asked, lives);
}
