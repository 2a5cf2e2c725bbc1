//! Every kind of fault at every call of the model: each answer ends exactly once, the scores are those of a clean run, and the pool is whole again.

use std::collections::BTreeMap;

use super::models::Models;
use super::*;
use crate::actors::gpu::start_engine;
use crate::actors::watch::Deadlines;
use crate::engine::simulated::{Fault, Script, When};
use crate::telemetry::Counters;

/// What three interviews say.
const TEXTS: [&[&str]; 3] = [
    &["첫째 답변은 로그를 모은 이야기입니다.", "둘째는 장애 이야기입니다."],
    &["저는 개발자입니다.", "성능을 30% 개선했습니다."],
    &["배우는 것을 좋아합니다."],
];
const ENGINES: [usize; 2] = [2, 2];

/// What an answer came to, but for how long it took.
type Judged = BTreeMap<(u64, String), Result<(Vec<CriterionScore>, String), String>>;

/// What became of everything once.
struct Ran {
    answers: Judged,
    narratives: BTreeMap<u64, Result<Narrative, String>>,
    calls: u64,
    pool: Description,
}

/// Runs three interviews and their narratives on two engines, while this goes wrong.
async fn run(script: Script, step: Duration) -> Ran {
    let (to_scored, scored) = mailbox::<AnswerScored>();
    let (to_narratives, narratives) = mailbox::<NarrativeWritten>();
    let outlets = Outlets {
        scored: to_scored,
        narrative: to_narratives,
    };
    let back_off = BackOff {
        min: Duration::from_millis(1),
        max: Duration::from_millis(5),
    };
    let (epoch, deadlines) = (Instant::now(), Arc::new(Deadlines::new(step, PATIENCE)));
    let start = start_engine(Arc::new(Counters::default()), deadlines, epoch);
    let pool = actix::Actor::start(GpuPool::new(start, outlets, back_off, epoch));
    let models = Arc::new(Models {
        script: script.clone(),
        ..Models::default()
    });
    let room = Room::new(100);
    pool.do_send(Adopt {
        setup: setup("hash", models as Arc<dyn ModelFactory>),
        actors: ENGINES.map(|slots| planned("cpu", slots)).to_vec(),
        attempts_max: 3,
    });
    for (number, texts) in (1..).zip(TEXTS) {
        let (case, interview) = (case(life(number)), interview(number, texts));
        for (index, place) in room.reserve(texts.len()).unwrap().into_iter().enumerate() {
            pool.do_send(AnswerScorer {
                case: Arc::clone(&case),
                interview: Arc::clone(&interview),
                index,
                queued_at: Instant::now(),
                place: Some(place),
            });
        }
        pool.do_send(WriteNarrative {
            case,
            interview,
            outcomes: Arc::new(vec![super::scored("좋습니다."); texts.len()]),
        });
    }
    let answers: usize = TEXTS.iter().map(|texts| texts.len()).sum();
    let is_done = || scored.borrow().len() >= answers && narratives.borrow().len() >= TEXTS.len();
    until("everything has ended", is_done).await;
    let whole = whole_again(&pool).await;
    assert_eq!(
        (scored.borrow().len(), narratives.borrow().len()),
        (answers, TEXTS.len())
    );
    assert_eq!(room.taken(), 0);
    script.release();
    pool.send(Release).await.unwrap();
    let judged = |scored: &AnswerScored| {
        let key = (scored.life.sequence, scored.answer_id.to_string());
        let judged = match &scored.outcome.verdict {
            Verdict::Scored { criteria, feedback } => Ok((criteria.clone(), feedback.clone())),
            Verdict::Unscored { reason } => Err(reason.clone()),
            other => panic!("{other:?}"),
        };
        (key, judged)
    };
    let ran = Ran {
        answers: scored.borrow().iter().map(judged).collect(),
        narratives: narratives
            .borrow()
            .iter()
            .map(|written| (written.life.sequence, written.narrative.clone()))
            .collect(),
        calls: script.calls(),
        pool: whole,
    };
    assert_eq!(
        (ran.answers.len(), ran.narratives.len()),
        (answers, TEXTS.len()),
        "each exactly once"
    );
    ran
}

/// The pool, once all of its engines are there and idle.
async fn whole_again(pool: &actix::Addr<GpuPool>) -> Description {
    let begun = Instant::now();
    loop {
        let now = pool.send(Describe).await.unwrap();
        let is_idle = |actor: &Seated| {
            let slots = actor.state == SeatState::Ready && (actor.busy.is_empty(), actor.waiting) == (true, 0);
            slots && actor.slots >= 1
        };
        if now.actors.len() == ENGINES.len() && now.actors.iter().all(is_idle) {
            assert_eq!((now.queued_answers, now.queued_interviews), (0, 0));
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "the pool is not whole again: {now:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A fault at one call, from which everything recovers.
async fn once(fault: Fault, call: u64, step: Duration, clean: &Ran) -> Ran {
    let ran = run(Script::default().with(When::Call(call), fault), step).await;
    assert_eq!(ran.answers, clean.answers, "{fault:?} at {call}");
    assert_eq!(ran.narratives, clean.narratives, "{fault:?} at {call}");
    ran
}

async fn clean() -> Ran {
    let clean = run(Script::default(), PATIENCE).await;
    assert!(clean.answers.values().all(Result::is_ok) && clean.narratives.values().all(Result::is_ok));
    assert!(clean.calls > 60, "{}", clean.calls);
    clean
}

/// A run for each call of a clean run, with the fault at that call; so many `together`, for faults that mostly wait. Gives those in which it came:
/// who shares what with whom depends on the moment, so at the end there may be some calls fewer.
async fn at_every_call(fault: Fault, step: Duration, together: u64) -> Vec<Ran> {
    let clean = std::rc::Rc::new(clean().await);
    let mut all = Vec::new();
    for first in (1..=clean.calls).step_by(together as usize) {
        let calls = first..(first + together).min(clean.calls + 1);
        let runs: Vec<_> = calls
            .map(|call| {
                let clean = std::rc::Rc::clone(&clean);
                tokio::task::spawn_local(async move { once(fault, call, step, &clean).await })
            })
            .collect();
        for (call, run) in (first..).zip(runs) {
            let ran = run.await.unwrap();
            all.extend((ran.calls >= call).then_some(ran));
        }
    }
    let (came, calls) = (all.len() as u64, clean.calls);
    eprintln!("{fault:?}: at {came} of {calls} calls, one in each run");
    assert!(came * 10 >= calls * 9, "{came} of {calls}");
    all
}

fn restarts(ran: &Ran) -> u64 {
    ran.pool.actors.iter().map(|actor| actor.restarts).sum()
}

#[actix::test]
async fn an_error_at_any_call_costs_nothing_but_time() {
    let all = at_every_call(Fault::Failed, PATIENCE, 1).await;
    assert!(all.iter().all(|ran| restarts(ran) == 0));
}

#[actix::test]
async fn a_panic_at_any_call_costs_nothing_but_time() {
    let all = at_every_call(Fault::Panic, PATIENCE, 1).await;
    assert!(all.iter().all(|ran| restarts(ran) == 1));
    let why = |ran: &Ran| ran.pool.actors.iter().find_map(|actor| actor.last_error.clone());
    assert!(all.iter().all(|ran| why(ran).unwrap().contains("panicked")));
}

#[actix::test]
async fn logits_that_are_no_numbers_at_any_call_are_never_a_score() {
    at_every_call(Fault::NotFinite, PATIENCE, 1).await;
    at_every_call(Fault::Infinite, PATIENCE, 1).await;
}

#[actix::test]
async fn logits_of_a_wrong_shape_at_any_call_are_never_a_score() {
    at_every_call(Fault::WrongShape, PATIENCE, 1).await;
}

#[actix::test]
async fn no_memory_at_any_call_costs_slots_and_nothing_else() {
    let all = at_every_call(Fault::OutOfMemory, PATIENCE, 1).await;
    let slots = |ran: &Ran| ran.pool.actors.iter().map(|actor| actor.slots).sum::<usize>();
    assert!(
        all.iter().all(|ran| slots(ran) == 3),
        "the engine that had none has half of its slots"
    );
}

/// What hangs in these tests is told to end so soon.
const SOON: Duration = Duration::from_secs(1);

#[actix::test]
async fn a_call_that_hangs_is_ended_at_any_place() {
    let all = at_every_call(Fault::Hang, SOON, 16).await;
    // A thread that the machine does not let run is given up, which costs an engine and nothing else.
    let spared = all.iter().filter(|ran| restarts(ran) == 0).count();
    eprintln!("of {} hangs, {spared} cost no engine", all.len());
    assert!(2 * spared > all.len());
}

#[actix::test]
async fn an_engine_that_does_not_come_back_from_any_call_is_replaced() {
    let all = at_every_call(Fault::Stuck, SOON, 16).await;
    assert!(all.iter().all(|ran| restarts(ran) >= 1));
}

#[actix::test]
async fn faults_that_come_again_and_again_leave_whole_scores_or_reasons() {
    let clean = clean().await;
    for fault in [Fault::Failed, Fault::Panic, Fault::NotFinite, Fault::WrongShape] {
        for every in [7, 40] {
            let ran = run(Script::default().with(When::Every(every), fault), PATIENCE).await;
            let mut scored = 0;
            for (key, answer) in &ran.answers {
                match answer {
                    Ok(_) => assert_eq!((answer, scored += 1), (&clean.answers[key], ()), "{fault:?} {every}"),
                    Err(reason) => assert!(!reason.is_empty(), "{fault:?} {every}"),
                }
            }
            eprintln!(
                "{fault:?} at every {every}th call: {scored} of {} scored",
                ran.answers.len()
            );
            for written in ran.narratives.values() {
                assert!(written.as_ref().err().is_none_or(|reason| !reason.is_empty()));
            }
        }
    }
}
