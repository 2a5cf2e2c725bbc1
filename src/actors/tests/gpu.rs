//! A GpuActor with its engine thread, a simulated model and the real prompts and grammars.

use std::sync::atomic::Ordering;

use actix::Addr;

use super::models::Models;
use super::*;
use crate::actors::doors::PoolDoors;
use crate::actors::engine_thread::{Gauge, Plan};
use crate::actors::gpu::{Forget, GpuActor, Means, Retire, SetSlots};
use crate::domain::rubric::Rubric;
use crate::engine::Phase;
use crate::engine::job::{Disposition, JobId};
use crate::engine::simulated::{Fault, Script, When};
use crate::telemetry::Counters;

struct World {
    actor: Addr<GpuActor>,
    models: Arc<Models>,
    gauge: Arc<Gauge>,
    up: Mail<EngineUp>,
    late: Mail<EngineLate>,
    down: Mail<EngineDown>,
    ended: Mail<Ended>,
}

impl World {
    /// An engine with so many slots.
    fn new(slots: usize, models: Models) -> Self {
        Self::within(slots, models, patient())
    }

    fn within(slots: usize, models: Models, deadlines: Arc<Deadlines>) -> Self {
        let newcomer = Newcomer {
            id: 4,
            plan: planned("cpu", slots),
            rehearses: false,
        };
        Self::of(newcomer, models, deadlines)
    }

    /// An engine that has to show first that it runs.
    fn rehearsing(models: Models, deadlines: &Arc<Deadlines>) -> Self {
        let newcomer = Newcomer {
            id: 4,
            plan: planned("cpu", 1),
            rehearses: true,
        };
        Self::of(newcomer, models, Arc::clone(deadlines))
    }

    fn of(newcomer: Newcomer, models: Models, deadlines: Arc<Deadlines>) -> Self {
        let models = Arc::new(models);
        let gauge = Arc::new(Gauge::default());
        let plan = Plan {
            newcomer,
            factory: Arc::clone(&models) as Arc<dyn ModelFactory>,
            meter: Arc::new(|device| {
                let is_guess = true;
                (device == "cpu").then_some(Held { bytes: 77, is_guess })
            }),
            options: Options {
                chunk_tokens: 256,
                gap: 2,
            },
            gauge: Arc::clone(&gauge),
            pulse: Arc::default(),
            counters: Arc::new(Counters::default()),
            epoch: Instant::now(),
        };
        let ((to_up, up), (to_late, late)) = (mailbox(), mailbox());
        let ((to_down, down), (to_ended, ended)) = (mailbox(), mailbox());
        let doors = PoolDoors {
            up: to_up,
            late: to_late,
            down: to_down,
            ended: to_ended,
        };
        Self {
            actor: GpuActor::new(4, doors, Means::ordinary(scorer(), plan, deadlines)).start(),
            models,
            gauge,
            up,
            late,
            down,
            ended,
        }
    }

    fn score(&self, job: u64) {
        self.assign(job, Task::Answer { index: 0 }, rubric());
    }

    fn assign(&self, job: u64, task: Task, rubric: Arc<Rubric>) {
        let text = format!("{TEXT} {job}");
        let case = case(life(1));
        self.actor.do_send(Assign {
            job: JobId(job),
            case: Arc::new(Case {
                rubric,
                life: case.life.clone(),
                rubric_provenance: case.rubric_provenance.clone(),
                submitted_at: case.submitted_at,
                over: std::sync::atomic::AtomicBool::new(false),
            }),
            interview: interview(1, &[&text]),
            task,
            alone: false,
            trail: None,
        });
    }

    async fn until_ended(&self, jobs: usize) {
        until("the jobs end", || self.ended.borrow().len() == jobs).await;
    }

    async fn until_runs(&self, job: u64) {
        let runs = || self.gauge.read().slots.iter().any(|slot| slot.job == Some(JobId(job)));
        until("the job has a slot", runs).await;
    }

    /// How often the model was called, once it is called no more.
    async fn calls_at_rest(&self) -> u64 {
        let mut calls = 0;
        while calls != self.models.script.calls() {
            calls = self.models.script.calls();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        calls
    }

    async fn until_down(&self) -> String {
        until("the engine is down", || !self.down.borrow().is_empty()).await;
        assert_eq!(self.down.borrow()[0].actor, 4);
        self.down.borrow()[0].outage.reason.clone()
    }

    /// The jobs that have ended, in the order of their numbers.
    fn jobs(&self) -> Vec<u64> {
        let mut jobs: Vec<_> = self.ended.borrow().iter().map(|ended| ended.job.0).collect();
        jobs.sort();
        jobs
    }
}

/// Slow enough to be caught at work.
fn slow() -> Models {
    Models {
        delay: Duration::from_millis(20),
        ..Models::default()
    }
}

fn scripted(when: When, fault: Fault) -> Models {
    Models {
        script: Script::default().with(when, fault),
        ..Models::default()
    }
}

#[actix::test]
async fn answers_are_scored_and_narratives_written_side_by_side() {
    let world = World::new(2, Models::default());
    let asked_at = Instant::now();
    world.score(1);
    world.score(2);
    let outcomes = Arc::new(vec![scored("구체적인 답변입니다.")]);
    world.assign(3, Task::Narrative { outcomes }, rubric());
    world.until_ended(3).await;
    assert_eq!((world.up.borrow().len(), world.up.borrow()[0].actor), (1, 4));
    assert_eq!(world.up.borrow()[0].held, Some(77));
    for ended in world.ended.borrow().iter() {
        let moments = &ended.moments;
        let (admitted, prefilled) = (moments.admitted_at.unwrap(), moments.prefilled_at.unwrap());
        assert!(asked_at <= admitted && admitted <= prefilled && prefilled <= moments.ended_at);
        match ended.result.as_ref().unwrap() {
            Written::Answer {
                criteria,
                feedback,
                judged_code_points,
                tokens_in,
                tokens_out,
            } => {
                assert!(ended.job.0 < 3 && *tokens_in > 100 && *tokens_out > 10);
                assert_eq!((criteria.len(), *judged_code_points), (3, None));
                assert!(!feedback.contains('\u{fffd}'));
            }
            Written::Narrative { narrative, .. } => {
                assert_eq!(ended.job.0, 3);
                assert!(narrative.competencies.contains_key("communication"));
            }
        }
    }
}

#[actix::test]
async fn a_panic_in_the_model_is_the_end_of_the_engine_and_of_nothing_else() {
    let world = World::new(2, scripted(When::Call(4), Fault::Panic));
    world.score(1);
    world.score(2);
    assert_eq!(
        world.until_down().await,
        "the engine panicked: see the log for its place"
    );
    assert_eq!(world.models.living(), 0, "its memory is free by now");
    assert!(world.gauge.read().slots.is_empty());
    settle().await;
    assert!(!world.actor.connected());
    assert!(world.jobs().is_empty());
}

#[actix::test]
async fn an_engine_that_has_to_show_that_it_runs_is_gone_before_it_is_given_work_if_it_does_not() {
    let faults = [
        (Fault::Failed, "scripted at call"),
        (Fault::NotFinite, "not finite numbers"),
        (Fault::Infinite, "not finite numbers"),
        (Fault::WrongShape, "logits where"),
        (Fault::OutOfMemory, "out of memory"),
    ];
    for (fault, text) in faults {
        for call in 1..=2 {
            let world = World::rehearsing(scripted(When::Call(call), fault), &patient());
            let reason = world.until_down().await;
            assert!(
                reason.contains("fails whatever it runs") && reason.contains(text),
                "{fault:?} at {call}: {reason}"
            );
            let is_memory = world.down.borrow()[0].outage.out_of_memory;
            assert_eq!(is_memory, fault == Fault::OutOfMemory);
            assert!(world.up.borrow().is_empty() && world.models.living() == 0);
        }
    }
    let world = World::rehearsing(scripted(When::Call(1), Fault::Panic), &patient());
    assert!(world.until_down().await.contains("panicked"));
}

#[actix::test]
async fn runs_that_show_whether_an_engine_runs_are_watched_as_those_of_work_are() {
    for (fault, text) in [
        (Fault::Hang, "the run was ended before it was complete"),
        (Fault::Stuck, "its thread is given up"),
    ] {
        let deadlines = patient();
        let world = World::rehearsing(scripted(When::Call(2), fault), &deadlines);
        until_held_up(&world, 2, &deadlines).await;
        let reason = world.until_down().await;
        assert!(reason.contains(text), "{reason}");
        assert!(world.up.borrow().is_empty());
        world.models.script.release();
    }
}

#[actix::test]
async fn having_shown_that_it_runs_changes_nothing() {
    let judged = async |world: World| {
        world.score(1);
        world.until_ended(1).await;
        let ended = world.ended.borrow_mut().remove(0);
        match ended.result.unwrap() {
            Written::Answer { criteria, feedback, .. } => (criteria, feedback, world.models.script.calls()),
            narrative => panic!("{narrative:?}"),
        }
    };
    let plain = judged(World::new(1, Models::default())).await;
    let shown = judged(World::rehearsing(Models::default(), &patient())).await;
    assert_eq!((&plain.0, &plain.1, plain.2 + 2), (&shown.0, &shown.1, shown.2));
}

#[actix::test]
async fn a_model_that_cannot_be_made_is_the_reason_of_the_engines_death() {
    let models = Models {
        fault: Some("model.onnx is missing; export it again"),
        ..Models::default()
    };
    let world = World::new(1, models);
    world.score(1);
    assert_eq!(world.until_down().await, "model.onnx is missing; export it again");
    settle().await;
    assert_eq!((world.up.borrow().len(), world.actor.connected()), (0, false));
}

#[actix::test]
async fn a_run_that_failed_ends_its_job_and_leaves_the_engine_alive() {
    let world = World::new(1, scripted(When::Call(2), Fault::OutOfMemory));
    world.score(1);
    world.until_ended(1).await;
    let undone = world.ended.borrow()[0].result.clone().unwrap_err();
    assert_eq!(undone.disposition, Disposition::Retry);
    assert!(undone.reason.contains("out of memory"), "{}", undone.reason);
    assert_eq!(undone.cause, Cause::Memory);
    world.score(2);
    world.until_ended(2).await;
    assert!(world.ended.borrow()[1].result.is_ok());
}

#[actix::test]
async fn an_answer_without_a_prompt_ends_before_it_reaches_the_engine() {
    let world = World::new(1, Models::default());
    let other = DEFAULT.replacen("intro           =", "greeting        =", 1);
    world.assign(1, Task::Answer { index: 0 }, Arc::new(Rubric::parse(&other).unwrap()));
    world.assign(2, Task::Answer { index: 9 }, rubric());
    world.until_ended(2).await;
    for ended in world.ended.borrow().iter() {
        let undone = ended.result.clone().unwrap_err();
        assert_eq!(
            (undone.disposition, ended.moments.admitted_at),
            (Disposition::Fail, None)
        );
    }
    assert_eq!(world.models.script.calls(), 0);
}

#[actix::test]
async fn what_is_forgotten_while_its_prompt_is_made_never_runs() {
    let world = World::new(1, Models::default());
    world.score(1);
    world.actor.do_send(Forget(JobId(1)));
    world.score(2);
    world.until_ended(1).await;
    world.score(3);
    world.until_ended(2).await;
    assert_eq!(world.jobs(), [2, 3]);
}

#[actix::test]
async fn what_is_forgotten_while_it_runs_frees_its_slot_and_is_not_heard_of_again() {
    let world = World::new(1, slow());
    world.score(1);
    world.until_runs(1).await;
    world.score(2);
    world.actor.do_send(Forget(JobId(1)));
    world.until_runs(2).await;
    world.until_ended(1).await;
    assert_eq!(world.jobs(), [2]);
    // One that has ended, or that there never was, is no trouble.
    world.actor.do_send(Forget(JobId(2)));
    world.actor.do_send(Forget(JobId(9)));
    settle().await;
    assert!(world.actor.connected());
}

#[actix::test]
async fn who_retires_has_given_its_memory_back_when_it_answers() {
    let world = World::new(1, slow());
    world.score(1);
    world.until_runs(1).await;
    assert_eq!(world.models.living(), 1);
    world.actor.send(Retire).await.unwrap();
    assert_eq!(world.models.living(), 0);
    settle().await;
    assert!(!world.actor.connected());
    assert_eq!((world.jobs(), world.down.borrow().len()), (vec![], 0));
}

#[actix::test]
async fn one_that_retires_while_it_loads_is_gone_as_well() {
    let world = World::new(1, Models::default());
    world.actor.send(Retire).await.unwrap();
    assert_eq!((world.models.made(), world.models.living()), (1, 0));
}

#[actix::test]
async fn slots_change_and_the_answer_says_when() {
    let world = World::new(1, slow());
    assert!(world.actor.send(SetSlots(3)).await.unwrap());
    (1..=3).for_each(|job| world.score(job));
    let busy = || {
        let reading = world.gauge.read();
        let busy = reading.slots.iter().filter(|slot| slot.phase != Phase::Idle);
        busy.count() == 3
    };
    until("all three run", busy).await;
    world.actor.send(Retire).await.unwrap();
}

#[actix::test]
async fn that_there_are_other_slots_is_told_once_there_are_and_not_when_they_are_asked_for() {
    let world = World::new(1, slow());
    world.score(1);
    world.until_runs(1).await;
    assert!(world.actor.send(SetSlots(3)).await.unwrap());
    settle().await;
    assert_eq!((world.jobs(), world.gauge.read().slots.len()), (vec![1], 4));
}

#[actix::test]
async fn slots_that_cannot_be_had_are_the_end_of_the_engine() {
    let world = World::new(1, scripted(When::Call(1), Fault::OutOfMemory));
    assert!(!world.actor.send(SetSlots(3)).await.unwrap());
    let reason = world.until_down().await;
    assert!(
        reason.starts_with("the slots could not be resized: out of memory"),
        "{reason}"
    );
    assert!(world.down.borrow()[0].outage.out_of_memory);
    assert!(!matches!(world.actor.send(SetSlots(3)).await, Ok(true)));
}

#[actix::test]
async fn no_prompt_is_made_for_what_was_ended_meanwhile() {
    let prepare = crate::actors::prompts::beside(scorer());
    let assign = |over: bool| {
        let case = case(life(1));
        case.over.store(over, Ordering::SeqCst);
        Assign {
            job: JobId(1),
            case,
            interview: interview(1, &[TEXT]),
            task: Task::Answer { index: 0 },
            alone: false,
            trail: None,
        }
    };
    assert!(prepare(assign(false), tracing::Span::none()).await.is_ok());
    let undone = prepare(assign(true), tracing::Span::none()).await.err().unwrap();
    assert!(undone.reason.contains("ended meanwhile"), "{}", undone.reason);
}

/// An engine whose second call does that, once it is in that call.
async fn held_up(fault: Fault) -> (World, Arc<Deadlines>) {
    let deadlines = patient();
    let world = World::within(1, scripted(When::Call(2), fault), Arc::clone(&deadlines));
    world.score(1);
    until_held_up(&world, 2, &deadlines).await;
    (world, deadlines)
}

/// Until it is in that call a step may take as long as it likes, on whatever machine; from then on five seconds, so that one who is told to end it has a
/// second for that.
async fn until_held_up(world: &World, call: u64, deadlines: &Deadlines) {
    until("it is held up", || world.models.script.calls() == call).await;
    deadlines.follow(&Deadlines::new(Duration::from_secs(5), PATIENCE));
}

#[actix::test]
async fn a_step_that_hangs_is_ended_and_the_engine_goes_on() {
    let (world, deadlines) = held_up(Fault::Hang).await;
    world.until_ended(1).await;
    deadlines.follow(&patient());
    let undone = world.ended.borrow()[0].result.clone().unwrap_err();
    assert!(undone.reason.contains("runtime.step_timeout_s"), "{}", undone.reason);
    assert_eq!((undone.disposition, undone.cause), (Disposition::Retry, Cause::Failure));
    world.score(2);
    world.until_ended(2).await;
    assert!(world.ended.borrow()[1].result.is_ok());
    assert_eq!((world.models.made(), world.down.borrow().len()), (1, 0));
}

#[actix::test]
async fn an_engine_that_does_not_end_its_step_is_given_up_and_told_of_when_it_comes_back() {
    let (world, _) = held_up(Fault::Stuck).await;
    let reason = world.until_down().await;
    assert!(reason.contains("its thread is given up"), "{reason}");
    assert!(world.down.borrow()[0].is_stuck);
    assert_eq!((world.models.living(), world.jobs()), (1, vec![]));
    world.models.script.release();
    until("it has come back", || world.down.borrow().len() == 2).await;
    assert!(!world.down.borrow()[1].is_stuck);
    assert_eq!((world.models.living(), world.jobs()), (0, vec![]));
    settle().await;
    assert!(!world.actor.connected());
}

#[actix::test]
async fn who_is_to_retire_and_is_stuck_is_given_up_and_has_retired_when_it_comes_back() {
    let (world, _) = held_up(Fault::Stuck).await;
    let retired = tokio::task::spawn_local(world.actor.send(Retire));
    world.until_down().await;
    settle().await;
    assert!(
        world.down.borrow()[0].is_stuck && !retired.is_finished(),
        "its memory is not free"
    );
    world.models.script.release();
    until("it has come back", || retired.is_finished()).await;
    assert_eq!(world.models.living(), 0);
}

#[actix::test]
async fn an_engine_that_takes_too_long_to_load_is_told_of_once_and_waited_for() {
    let deadlines = Arc::new(Deadlines::new(Duration::from_millis(50), PATIENCE));
    let held = Models {
        is_held: true.into(),
        ..Models::default()
    };
    let world = World::within(1, held, Arc::clone(&deadlines));
    world.score(1);
    until("it is late", || !world.late.borrow().is_empty()).await;
    let reason = world.late.borrow()[0].reason.clone();
    assert!(
        reason.contains("more than 0.1 s (twice runtime.step_timeout_s)"),
        "{reason}"
    );
    assert_eq!((world.late.borrow()[0].actor, world.up.borrow().len()), (4, 0));
    tokio::time::sleep(Duration::from_millis(100)).await;
    deadlines.follow(&patient());
    world.models.is_held.store(false, Ordering::SeqCst);
    world.until_ended(1).await;
    assert!(world.ended.borrow()[0].result.is_ok());
    assert_eq!((world.late.borrow().len(), world.down.borrow().len()), (1, 0));
}

#[actix::test]
async fn an_engine_that_is_loaded_in_time_is_not_complained_of() {
    let deadlines = patient();
    let world = World::within(1, Models::default(), Arc::clone(&deadlines));
    until("it is up", || !world.up.borrow().is_empty()).await;
    deadlines.follow(&Deadlines::new(Duration::from_millis(250), PATIENCE));
    // The first look comes after a second, and those that follow more often.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((world.late.borrow().len(), world.down.borrow().len()), (0, 0));
}

#[actix::test]
async fn an_answer_that_takes_too_long_has_failed_and_its_slot_is_free() {
    let deadlines = Arc::new(Deadlines::new(PATIENCE, Duration::from_millis(100)));
    let world = World::within(1, slow(), Arc::clone(&deadlines));
    world.score(1);
    world.until_ended(1).await;
    let undone = world.ended.borrow()[0].result.clone().unwrap_err();
    let expected = "it was not done in 0.1 s (scoring.answer_timeout_s)";
    assert_eq!(
        (undone.reason.as_str(), undone.disposition, undone.cause),
        (expected, Disposition::Retry, Cause::Time)
    );
    deadlines.follow(&patient());
    world.score(2);
    world.until_ended(2).await;
    assert!(world.ended.borrow()[1].result.is_ok());
}

#[actix::test]
async fn what_is_forgotten_or_late_is_not_run_to_its_end() {
    let deadlines = Arc::new(Deadlines::new(PATIENCE, Duration::from_millis(200)));
    let slow = Models {
        delay: Duration::from_millis(50),
        ..Models::default()
    };
    let world = World::within(1, slow, Arc::clone(&deadlines));
    world.score(1);
    world.until_runs(1).await;
    world.actor.do_send(Forget(JobId(1)));
    let forgotten = world.calls_at_rest().await;
    world.score(2);
    until("it is late", || world.jobs().contains(&2)).await;
    let late = world.calls_at_rest().await - forgotten;
    deadlines.follow(&patient());
    world.score(3);
    until("it is done", || world.jobs().contains(&3)).await;
    let whole = world.calls_at_rest().await - late - forgotten;
    assert!(
        forgotten < whole && late < whole,
        "{forgotten} and {late} of some {whole} calls"
    );
}
