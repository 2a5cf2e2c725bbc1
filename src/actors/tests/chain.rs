//! All actors together, from interviews to stored reports, while engines die under them.

use std::sync::Mutex;

use actix::{Addr, AsyncContext, Context};
use tempfile::TempDir;

use super::models::Models;
use super::report::{Told, accept};
use super::*;
use crate::actors::gpu::start_engine;
use crate::actors::interview::{Doors, InterviewActor};
use crate::actors::report::{ReportActor, Watchers};
use crate::domain::event::EventKind;
use crate::domain::report::{Report, Status};
use crate::domain::state::{AnswerState, InterviewState};
use crate::engine::simulated::{Fault, Script, When};
use crate::store::{self, Store};
use crate::telemetry::Counters;

struct House {
    store: Store,
    pool: Addr<GpuPool>,
    told: Arc<Told>,
    doors: Doors,
    counters: Arc<Counters>,
    room: Arc<Room>,
    actors: Mutex<Vec<(Life, Addr<InterviewActor>)>>,
    _folder: TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = Store::open(&folder.path().join("store"), &store::Options::default(), at(0)).unwrap();
        let (told, counters) = (Arc::new(Told::default()), Arc::new(Counters::default()));
        let context = Context::new();
        let address: Addr<GpuPool> = context.address();
        let watchers = Arc::clone(&told) as Arc<dyn Watchers>;
        let narrator = address.recipient();
        let reports = ReportActor::new(opened.store.clone(), narrator, watchers, Arc::clone(&counters), || {
            at(99)
        });
        let reports = reports.start();
        reports.do_send(Provide { making: making("hash") });
        let outlets = Outlets {
            scored: reports.clone().recipient(),
            narrative: reports.clone().recipient(),
        };
        let back_off = BackOff {
            min: Duration::from_millis(1),
            max: Duration::from_millis(5),
        };
        let epoch = Instant::now();
        let start = start_engine(Arc::clone(&counters), patient(), epoch);
        let pool = context.run(GpuPool::new(start, outlets, back_off, epoch));
        let doors = Doors {
            open_report: reports.clone().recipient(),
            extend_report: reports.clone().recipient(),
            gated: reports.clone().recipient(),
            scorer: pool.clone().recipient(),
            abandon_report: reports.recipient(),
            abandon_work: pool.clone().recipient(),
        };
        Self {
            store: opened.store,
            pool,
            told,
            doors,
            counters,
            room: Room::new(1_000),
            actors: Mutex::default(),
            _folder: folder,
        }
    }

    fn adopt(&self, models: &Arc<Models>, slots: &[usize]) {
        let actors = slots.iter().map(|slots| planned("cpu", *slots)).collect();
        self.pool.do_send(Adopt {
            setup: setup("hash", Arc::clone(models) as Arc<dyn ModelFactory>),
            actors,
            attempts_max: 3,
        });
    }

    async fn submit(&self, number: u64, texts: &[&str]) {
        let interview = interview(number, texts);
        let record = self.store.accept(accept(&interview, false)).await.unwrap().record;
        let life = Life {
            sequence: record.sequence,
            generation: record.generation,
            interview_id: interview.id.clone(),
        };
        let actor = InterviewActor::new(case(life.clone()), self.doors.clone()).start();
        actor.do_send(Begin {
            interview,
            outcomes: vec![None; texts.len()],
            due: record.due_since.map(|moment| Age::of(moment, moment)),
            places: self.room.reserve(texts.len()).unwrap(),
            queued_at: Instant::now(),
        });
        self.actors.lock().unwrap().push((life, actor));
    }

    async fn until_reported(&self, reports: u64) {
        until("the reports are there", || self.counters.snapshot().reports == reports).await;
        settle().await;
    }

    fn report(&self, number: u64) -> Report {
        self.store.report(&life(number).interview_id).unwrap().unwrap()
    }

    /// The interviews, in the order in which their reports were stored.
    fn order(&self) -> Vec<String> {
        let told = self.told.0.lock().unwrap();
        let ready = told
            .iter()
            .filter(|event| matches!(event.kind, EventKind::ReportReady { .. }));
        ready.map(|event| event.interview_id.to_string()).collect()
    }

    fn check_complete(&self, number: u64, answers: usize) {
        let report = self.report(number);
        let why: Vec<_> = report
            .answers
            .iter()
            .filter_map(|answer| answer.reason.clone())
            .collect();
        assert_eq!(
            (report.status, report.narrative_reason),
            (Status::Complete, None),
            "{why:?}"
        );
        assert_eq!(report.answers.len(), answers);
        let told = self.told.lines();
        let of_this = |kind: &str| {
            let begin = format!("iv{number} {kind}");
            told.iter().filter(|line| line.starts_with(&begin)).count()
        };
        assert_eq!(
            (of_this("scored"), of_this("started"), of_this("ready")),
            (answers, 1, 1),
            "{told:?}"
        );
    }
}

const TEXTS: [&str; 3] = [
    "첫째 답변은 로그를 모은 이야기입니다.",
    "",
    "셋째 답변은 협업한 이야기입니다.",
];

#[actix::test]
async fn interviews_become_reports_in_the_order_of_their_submission() {
    let (house, models) = (House::new(), Arc::new(Models::default()));
    for number in 1..=3 {
        house.submit(number, &TEXTS).await;
    }
    house.adopt(&models, &[2]);
    house.until_reported(3).await;
    assert_eq!(house.order(), ["iv1", "iv2", "iv3"]);
    for number in 1..=3 {
        house.check_complete(number, 3);
    }
    let states: Vec<_> = house.report(1).answers.iter().map(|answer| answer.state).collect();
    assert_eq!(states, [AnswerState::Scored, AnswerState::Gated, AnswerState::Scored]);
    assert_eq!((house.room.taken(), models.made()), (0, 1));
    assert!(house.actors.lock().unwrap().iter().all(|(_, actor)| !actor.connected()));
}

#[actix::test]
async fn an_engine_that_dies_at_any_moment_costs_nothing_but_time() {
    let undisturbed = House::new();
    undisturbed.submit(1, &TEXTS).await;
    let models = Arc::new(Models::default());
    undisturbed.adopt(&models, &[3]);
    undisturbed.until_reported(1).await;
    let judged = |house: &House, number| -> Vec<_> {
        let report = house.report(number);
        let answers = report.answers.into_iter();
        answers.map(|answer| (answer.criteria, answer.feedback)).collect()
    };
    for call in [1, 2, 7, 30, 60, 90] {
        let house = House::new();
        let models = Arc::new(Models {
            script: Script::default().with(When::Call(call), Fault::Panic),
            ..Models::default()
        });
        for number in 1..=3 {
            house.submit(number, &TEXTS).await;
        }
        house.adopt(&models, &[2, 2]);
        house.until_reported(3).await;
        assert!(
            models.script.calls() > call,
            "it died: {call} of {}",
            models.script.calls()
        );
        for number in 1..=3 {
            house.check_complete(number, 3);
            assert_eq!(judged(&house, number), judged(&undisturbed, 1), "call {call}");
        }
        assert_eq!(house.room.taken(), 0);
    }
}

#[actix::test]
async fn running_out_of_memory_at_any_moment_costs_slots_and_no_attempt() {
    for calls in [&[1][..], &[2], &[30], &[60], &[7, 40], &[1, 2, 3, 4]] {
        let house = House::new();
        let script = calls.iter().fold(Script::default(), |script, call| {
            script.with(When::Call(*call), Fault::OutOfMemory)
        });
        let models = Arc::new(Models {
            script,
            ..Models::default()
        });
        for number in 1..=3 {
            house.submit(number, &TEXTS).await;
        }
        house.adopt(&models, &[16]);
        house.pool.do_send(SetAttempts(1));
        house.until_reported(3).await;
        for number in 1..=3 {
            house.check_complete(number, 3);
        }
        let actors = house.pool.send(Describe).await.unwrap().actors;
        assert!(actors[0].slots <= 8, "{calls:?}: {} slots", actors[0].slots);
        assert!(actors[0].last_error.as_ref().unwrap().contains("out of memory"));
    }
}

#[actix::test]
async fn an_answer_that_is_always_out_of_memory_is_left_out_and_the_others_are_scored() {
    let hungry = "끝없이 기억을 먹는 답변 ☠ 입니다.";
    let house = House::new();
    let models = Arc::new(Models {
        script: Script::default().with(When::Token(poisonous(hungry)), Fault::OutOfMemory),
        slots_max: Some(4),
        ..Models::default()
    });
    house.submit(1, &[TEXTS[0], hungry, TEXTS[2]]).await;
    house.submit(2, &TEXTS).await;
    house.adopt(&models, &[16]);
    house.until_reported(2).await;
    let report = house.report(1);
    let reasons = report.answers.iter().filter_map(|answer| answer.reason.as_deref());
    let reasons: Vec<_> = reasons.collect();
    assert!(
        matches!(&reasons[..], [reason] if reason.starts_with("out of memory")),
        "{reasons:?}"
    );
    assert_eq!(report.status, Status::Partial);
    house.check_complete(2, 3);
    let actors = house.pool.send(Describe).await.unwrap().actors;
    assert_eq!(
        (actors[0].state, actors[0].slots, models.made()),
        (SeatState::Ready, 1, 1)
    );
}

#[actix::test]
async fn an_answer_that_kills_every_engine_is_left_out_and_the_others_are_scored() {
    let poison = "독이 든 답변 ☠ 입니다.";
    let token = poisonous(poison);
    let house = House::new();
    let models = Arc::new(Models {
        script: Script::default().with(When::Token(token), Fault::Panic),
        ..Models::default()
    });
    house.submit(1, &[TEXTS[0], poison, TEXTS[2]]).await;
    house.submit(2, &TEXTS).await;
    house.adopt(&models, &[4]);
    house.until_reported(2).await;
    let report = house.report(1);
    let states: Vec<_> = report.answers.iter().map(|answer| answer.state).collect();
    assert_eq!(
        states,
        [AnswerState::Scored, AnswerState::Unscored, AnswerState::Scored]
    );
    let reason = report.answers[1].reason.as_deref().unwrap();
    assert!(reason.starts_with("it stopped the engine 3 times"), "{reason}");
    assert_eq!((report.status, report.narrative_reason), (Status::Partial, None));
    house.check_complete(2, 3);
}

/// A token that only the prompt of this answer has.
fn poisonous(text: &str) -> u32 {
    let prompt = |text: &str| scorer().answer(&interview(1, &[text]), 0, &rubric()).unwrap().prompt;
    let others: Vec<_> = TEXTS
        .iter()
        .filter(|text| !text.is_empty())
        .flat_map(|text| prompt(text))
        .collect();
    let mine = prompt(text).into_iter();
    let own = mine.filter(|token| !others.contains(token));
    own.max().expect("it has a token of its own")
}

#[actix::test]
async fn a_cancelled_interview_makes_room_for_the_next() {
    let house = House::new();
    let slow = Arc::new(Models {
        delay: Duration::from_millis(10),
        ..Models::default()
    });
    house.adopt(&slow, &[1]);
    house.submit(1, &[TEXT; 6]).await;
    house.submit(2, &TEXTS).await;
    until("the first runs", || house.counters.snapshot().tokens_in > 0).await;
    house.store.cancel(&life(1).interview_id).await.unwrap();
    let (first, actor) = house.actors.lock().unwrap()[0].clone();
    actor.do_send(Abandon { life: first });
    house.until_reported(1).await;
    house.check_complete(2, 3);
    let view = house.store.view(&life(1).interview_id).unwrap().unwrap();
    assert_eq!((view.state(), view.report), (InterviewState::Cancelled, None));
    assert_eq!(house.room.taken(), 0);
}

#[actix::test]
async fn another_plan_in_the_middle_of_the_work_loses_nothing() {
    let (house, first, second) = (House::new(), Arc::new(Models::default()), Arc::new(Models::default()));
    house.adopt(&first, &[1]);
    for number in 1..=3 {
        house.submit(number, &TEXTS).await;
    }
    until("it works", || house.counters.snapshot().answers_scored > 3).await;
    house.adopt(&second, &[2, 1]);
    house.until_reported(3).await;
    for number in 1..=3 {
        house.check_complete(number, 3);
    }
    until("the old engine has gone", || first.living() == 0).await;
    assert_eq!(second.made(), 2);
}

/// The daemon ends when it sees this, and goes on at its next start.
#[actix::test]
async fn an_actor_that_panicked_is_seen_to_be_gone() {
    let start: StartEngine = Box::new(|_, _, _| panic!("no engine can be started"));
    let (scored, narrative) = (mailbox().0, mailbox().0);
    let pool = GpuPool::new(start, Outlets { scored, narrative }, BackOff::default(), Instant::now()).start();
    assert!(pool.connected());
    let adopt = Adopt {
        setup: setup("hash", Arc::new(NoModel)),
        actors: vec![planned("cpu", 1)],
        attempts_max: 1,
    };
    assert!(pool.send(adopt).await.is_err());
    assert!(!pool.connected());
}
