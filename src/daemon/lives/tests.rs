//! Lives among stand-ins for the other actors: when each begins, and when it is over.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicI64;

use actix::{Context, Handler, Message, Recipient, System};
use tempfile::TempDir;

use super::*;
use crate::actors::message::{AnswerScored, AnswerScorer, Extend, OpenReport};
use crate::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::store::{Accept, Options};

type Log = Rc<RefCell<Vec<String>>>;

/// Notes the messages that an InterviewActor sends.
struct Neighbour(Log);

impl Actor for Neighbour {
    type Context = Context<Self>;
}

macro_rules! note {
    ($message:ident, $line:expr) => {
        impl Handler<$message> for Neighbour {
            type Result = ();

            fn handle(&mut self, message: $message, _: &mut Self::Context) {
                self.0.borrow_mut().push($line(message));
            }
        }
    };
}
note!(OpenReport, |open: OpenReport| format!(
    "open {}",
    open.interview.answers().len()
));
note!(Extend, |more: Extend| format!(
    "extend {}",
    more.interview.answers().len()
));
note!(AnswerScorer, |asked: AnswerScorer| format!("score {}", asked.index));
note!(AnswerScored, |_| "gated".to_owned());
note!(Abandon, |_| "abandon".to_owned());

struct World {
    lives: Lives,
    room: Arc<Room>,
    store: Store,
    log: Log,
    _folder: Option<TempDir>,
}

impl World {
    fn new() -> Self {
        Self::at(|| Timestamp::from_millis(0))
    }

    fn at(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = Store::open(&folder.path().join("store"), &Options::default(), clock()).unwrap();
        Self {
            _folder: Some(folder),
            ..Self::over(&opened.store, clock)
        }
    }

    fn over(store: &Store, clock: Clock) -> Self {
        let log = Log::default();
        let neighbour = Neighbour(Rc::clone(&log)).start();
        fn door<M>(to: &Addr<Neighbour>) -> Recipient<M>
        where
            M: Message<Result = ()> + Send + 'static,
            Neighbour: Handler<M>,
        {
            to.clone().recipient()
        }
        let doors = Doors {
            open_report: door(&neighbour),
            extend_report: door(&neighbour),
            gated: door(&neighbour),
            scorer: door(&neighbour),
            abandon_report: door(&neighbour),
            abandon_work: door(&neighbour),
        };
        let rubrics = Arc::new(Rubrics::new(store.clone()));
        let arbiter = System::current().arbiter().clone();
        let room = Room::new(ANSWERS_AHEAD + 10);
        Self {
            lives: Lives::new(
                arbiter,
                doors,
                store.clone(),
                rubrics,
                Arc::clone(&room),
                clock,
                ANSWERS_AHEAD,
            ),
            room,
            store: store.clone(),
            log,
            _folder: None,
        }
    }

    async fn open(&self) -> Record {
        self.accept("iv", true).await
    }

    async fn accept(&self, id: &str, stays_open: bool) -> Record {
        let accept = Accept {
            interview: interview(id, 1),
            stays_open,
            at: Timestamp::from_millis(0),
            rubric_hash: "cafe".into(),
            rubric_text: DEFAULT.into(),
        };
        self.store.accept(accept).await.unwrap().record
    }

    async fn engage(&self, record: &Record) -> Vec<String> {
        self.lives.engage(record.clone(), Vec::new()).unwrap();
        self.log().await
    }

    /// Begins what may; what it has begun.
    async fn turn(&self) -> Vec<String> {
        while self.lives.begin_first(|id, error| panic!("{id}: {error}")) {}
        self.log().await
    }

    async fn log(&self) -> Vec<String> {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        std::mem::take(&mut *self.log.borrow_mut())
    }
}

fn interview(id: &str, answers: usize) -> Interview {
    let answer = AnswerDraft {
        stage: "intro".into(),
        question: "자기소개를 해 주세요.".into(),
        answer: "저는 개발자입니다.".into(),
        ..AnswerDraft::default()
    };
    let draft = Draft {
        answers: vec![answer; answers],
        ..Draft::default()
    };
    let (id, rubric) = (InterviewId::parse(id).unwrap(), Rubric::parse(DEFAULT).unwrap());
    Interview::new(draft, id, Opening::StaysOpen, &rubric, &Limits::default()).unwrap()
}

#[actix::test]
async fn a_record_that_was_overtaken_begins_with_what_is_stored_and_adds_nothing_later() {
    let world = World::new();
    let opened = world.open().await;
    let two = interview("iv", 2);
    let answer = two.answers()[1].clone();
    let added = world.store.add_answer(&two.id, answer, 1).await.unwrap().record;
    assert_eq!(world.engage(&opened).await, ["open 2", "score 0", "score 1"]);
    assert_eq!(world.engage(&added).await, ["extend 2"]);
    assert!(world.engage(&opened).await.is_empty());
}

#[actix::test]
async fn what_was_cancelled_or_deleted_meanwhile_is_not_set_to_work() {
    let world = World::new();
    let record = world.open().await;
    world.store.cancel(&record.interview.id).await.unwrap();
    world.lives.abandon(&record);
    assert!(world.engage(&record).await.is_empty());
    world.store.delete(&record.interview.id).await.unwrap();
    assert!(world.engage(&record).await.is_empty());
    // Nor is it, if its id has another life by now.
    world.open().await;
    assert!(world.engage(&record).await.is_empty());
}

#[actix::test]
async fn what_cannot_be_read_any_more_is_abandoned_by_its_id() {
    let world = World::new();
    let going_on = world.open().await;
    let other = world.accept("other", true).await;
    world.engage(&going_on).await;
    world.engage(&other).await;
    let _enough = world.room.reserve(ANSWERS_AHEAD).unwrap();
    let in_line = world.accept("in-line", false).await;
    assert_eq!(world.engage(&in_line).await, [""; 0]);
    assert_eq!(world.lives.line().interviews, 1);
    world.lives.abandon_others(&in_line.interview.id, None);
    assert_eq!((world.lives.line(), world.log().await), (Length::default(), Vec::new()));
    world
        .lives
        .abandon_others(&going_on.interview.id, Some(&life_of(&going_on)));
    assert_eq!(world.log().await, [""; 0], "the one that goes on");
    world.lives.abandon_others(&going_on.interview.id, None);
    assert_eq!(world.log().await, ["abandon", "abandon"], "its report and its work");
    let lives = world.lives.open_for(Duration::ZERO);
    assert_eq!(lives, [life_of(&other)]);
}

#[actix::test]
async fn how_long_an_interview_is_open_is_told_by_no_clock_that_can_be_set() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let world = World::at(|| Timestamp::from_millis(NOW.load(Ordering::Relaxed)));
    let record = world.open().await;
    world.engage(&record).await;
    NOW.store(10 * YEAR.as_millis() as i64, Ordering::Relaxed);
    assert_eq!(world.lives.open_for(YEAR), []);
    assert_eq!(world.lives.open_for(Duration::ZERO), [life_of(&record)]);
    // A daemon that starts has nothing but the wall clock.
    let started = World::over(&world.store, || Timestamp::from_millis(NOW.load(Ordering::Relaxed)));
    started.engage(&record).await;
    assert_eq!(started.lives.open_for(YEAR), [life_of(&record)]);
    NOW.store(-10 * YEAR.as_millis() as i64, Ordering::Relaxed);
    let started = World::over(&world.store, || Timestamp::from_millis(NOW.load(Ordering::Relaxed)));
    started.engage(&record).await;
    assert_eq!(started.lives.open_for(YEAR), []);
    let closed = world
        .store
        .close(&record.interview.id, Timestamp::from_millis(0))
        .await
        .unwrap();
    started.engage(&closed.record).await;
    assert_eq!(started.lives.open_for(Duration::ZERO), []);
}

#[actix::test]
async fn abandoning_ends_a_life_and_another_may_begin() {
    let world = World::new();
    let record = world.open().await;
    assert_eq!(world.engage(&record).await, ["open 1", "score 0"]);
    let case = Arc::clone(&world.lives.going().live[&life_of(&record)].case);
    world.store.delete(&record.interview.id).await.unwrap();
    world.lives.abandon(&record);
    assert!(case.over.load(Ordering::Relaxed), "nobody is told any more");
    assert_eq!(world.log().await, ["abandon", "abandon"]);
    let again = world.open().await;
    assert_eq!(world.engage(&again).await, ["open 1", "score 0"]);
    assert_eq!(world.lives.going().live.len(), 1);
}

#[actix::test]
async fn while_the_pool_has_enough_to_do_finished_interviews_wait_in_the_store_in_their_order() {
    let world = World::new();
    let ahead = world.room.reserve(ANSWERS_AHEAD).unwrap();
    let (first, second) = (world.accept("first", false).await, world.accept("second", false).await);
    for record in [&second, &first] {
        let places = world.room.reserve(1).unwrap();
        world.lives.engage(record.clone(), places).unwrap();
    }
    assert!(world.turn().await.is_empty());
    assert!(world.engage(&first).await.is_empty(), "it stands in line once");
    assert_eq!((world.lives.line().interviews, world.lives.line().answers), (2, 2));
    drop(ahead);
    assert!(world.lives.begin_first(|id, error| panic!("{id}: {error}")));
    assert_eq!(world.log().await, ["open 1", "score 0"]);
    let begun: Vec<_> = world.lives.going().live.keys().cloned().collect();
    assert_eq!(begun, [life_of(&first)]);
    assert_eq!(world.turn().await, ["open 1", "score 0"]);
    assert_eq!(world.lives.line(), Length::default());
    assert_eq!(world.room.taken(), 0, "what has begun was given its places");
}

#[actix::test]
async fn what_was_reserved_for_others_that_stand_in_line_too_holds_nobody_up() {
    let world = World::new();
    let (first, second) = (world.accept("first", false).await, world.accept("second", false).await);
    let (many, one) = (
        world.room.reserve(ANSWERS_AHEAD).unwrap(),
        world.room.reserve(1).unwrap(),
    );
    world.lives.engage(first, one).unwrap();
    world.lives.engage(second, many).unwrap();
    assert_eq!(world.lives.line().interviews, 2);
    // Nobody gives a place back; still there is a turn.
    tokio::time::timeout(std::time::Duration::from_secs(10), world.room.freed())
        .await
        .unwrap();
    assert_eq!(world.turn().await, ["open 1", "open 1", "score 0", "score 0"]);
}

#[actix::test]
async fn an_open_interview_and_one_from_before_do_not_stand_in_line() {
    let world = World::new();
    let _ahead = world.room.reserve(ANSWERS_AHEAD).unwrap();
    let before = world.accept("before", false).await;
    let open = world.open().await;
    let after = world.accept("after", false).await;
    assert!(world.engage(&after).await.is_empty());
    assert_eq!(world.engage(&open).await, ["open 1", "score 0"]);
    assert_eq!(world.engage(&before).await, ["open 1", "score 0"]);
    assert_eq!(world.lives.line().interviews, 1);
}

#[actix::test]
async fn what_is_cancelled_in_line_leaves_it() {
    let world = World::new();
    let ahead = world.room.reserve(ANSWERS_AHEAD).unwrap();
    let record = world.accept("iv", false).await;
    assert!(world.engage(&record).await.is_empty());
    world.store.cancel(&record.interview.id).await.unwrap();
    world.lives.abandon(&record);
    assert_eq!(world.lives.line(), Length::default());
    drop(ahead);
    assert!(world.turn().await.is_empty());
}
