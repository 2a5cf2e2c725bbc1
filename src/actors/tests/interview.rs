//! What an InterviewActor sends to whom, and when.

use actix::{Addr, AsyncContext, ResponseFuture};
use tokio::sync::Semaphore;

use super::*;
use crate::actors::interview::{Doors, InterviewActor};
use crate::domain::outcome::Flag;

/// All that the neighbours got, in order.
type Log = Rc<RefCell<Vec<String>>>;

/// Stands for the ReportActor and the pool.
struct Neighbour {
    log: Log,
    /// Reports are opened when there is a permit.
    opens: Arc<Semaphore>,
    done: Rc<RefCell<Option<actix::Recipient<ReportReady>>>>,
    places: Rc<RefCell<Vec<bool>>>,
}

impl Actor for Neighbour {
    type Context = Context<Self>;
}

impl Handler<OpenReport> for Neighbour {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, open: OpenReport, _: &mut Self::Context) -> Self::Result {
        let (log, opens) = (Rc::clone(&self.log), Arc::clone(&self.opens));
        *self.done.borrow_mut() = Some(open.done);
        Box::pin(async move {
            opens.acquire().await.unwrap().forget();
            let ended = open.outcomes.iter().flatten().count();
            let answers = open.interview.answers().len();
            log.borrow_mut()
                .push(format!("open {answers} ended {ended} due {}", open.due.is_some()));
        })
    }
}

impl Handler<Extend> for Neighbour {
    type Result = ();

    fn handle(&mut self, more: Extend, _: &mut Self::Context) {
        let line = format!("extend {} due {}", more.interview.answers().len(), more.due.is_some());
        self.log.borrow_mut().push(line);
    }
}

impl Handler<AnswerScorer> for Neighbour {
    type Result = ();

    fn handle(&mut self, asked: AnswerScorer, _: &mut Self::Context) {
        self.places.borrow_mut().push(asked.place.is_some());
        self.log
            .borrow_mut()
            .push(format!("score {}", asked.interview.answers()[asked.index].id));
    }
}

impl Handler<AnswerScored> for Neighbour {
    type Result = ();

    fn handle(&mut self, scored: AnswerScored, _: &mut Self::Context) {
        assert_eq!(scored.outcome.flags, [Flag::NoAnswer]);
        assert_eq!(scored.outcome.verdict.score().unwrap().to_string(), "0");
        self.log.borrow_mut().push(format!("gated {}", scored.answer_id));
    }
}

struct AbandonDoor(Log, &'static str);

impl Actor for AbandonDoor {
    type Context = Context<Self>;
}

impl Handler<Abandon> for AbandonDoor {
    type Result = ();

    fn handle(&mut self, _: Abandon, _: &mut Self::Context) {
        self.0.borrow_mut().push(format!("abandon {}", self.1));
    }
}

struct World {
    actor: Addr<InterviewActor>,
    log: Log,
    opens: Arc<Semaphore>,
    done: Rc<RefCell<Option<actix::Recipient<ReportReady>>>>,
    places: Rc<RefCell<Vec<bool>>>,
    room: Arc<Room>,
}

impl World {
    /// So many reports are opened at once.
    fn new(opens: usize) -> Self {
        Self::with(opens, true)
    }

    fn with(opens: usize, has_reports: bool) -> Self {
        let (log, opens) = (Log::default(), Arc::new(Semaphore::new(opens)));
        let (done, places) = (Rc::default(), Rc::default());
        let neighbour = Neighbour {
            log: Rc::clone(&log),
            opens: Arc::clone(&opens),
            done: Rc::clone(&done),
            places: Rc::clone(&places),
        };
        let neighbour = neighbour.start();
        let nobody = Context::new().address();
        let reports: &Addr<Neighbour> = if has_reports { &neighbour } else { &nobody };
        let doors = Doors {
            open_report: reports.clone().recipient(),
            extend_report: neighbour.clone().recipient(),
            gated: neighbour.clone().recipient(),
            scorer: neighbour.recipient(),
            abandon_report: AbandonDoor(Rc::clone(&log), "report").start().recipient(),
            abandon_work: AbandonDoor(Rc::clone(&log), "work").start().recipient(),
        };
        Self {
            actor: InterviewActor::new(case(life(1)), doors).start(),
            log,
            opens,
            done,
            places,
            room: Room::new(100),
        }
    }

    async fn begin(&self, texts: &[&str], outcomes: Vec<Option<Outcome>>, due: bool) {
        self.actor.do_send(Begin {
            interview: interview(1, texts),
            outcomes,
            due: due.then(|| since(20)),
            places: self.room.reserve(texts.len()).unwrap(),
            queued_at: Instant::now(),
        });
        settle().await;
    }

    async fn add(&self, texts: &[&str]) {
        self.actor.do_send(AddAnswer {
            interview: interview(1, texts),
            places: self.room.reserve(1).unwrap(),
        });
        settle().await;
    }

    async fn finish(&self, texts: &[&str]) {
        self.actor.do_send(Finish {
            interview: interview(1, texts),
            due: since(20),
        });
        settle().await;
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.borrow_mut())
    }
}

#[actix::test]
async fn no_work_is_sent_before_the_report_is_open() {
    let world = World::new(0);
    world.begin(&[TEXT, "", TEXT], vec![None, None, None], true).await;
    assert_eq!(world.log(), Vec::<String>::new());
    world.opens.add_permits(1);
    settle().await;
    assert_eq!(
        world.log(),
        ["open 3 ended 0 due true", "score a1", "gated a2", "score a3"]
    );
    assert_eq!(*world.places.borrow(), [true, true]);
    assert_eq!(world.room.taken(), 0, "the stand-in has dropped those that it got");
}

#[actix::test]
async fn what_has_ended_already_is_not_done_again() {
    let world = World::new(1);
    let outcomes = vec![Some(scored("")), None, Some(unscored("no engine"))];
    world.begin(&[TEXT, TEXT, ""], outcomes, true).await;
    assert_eq!(world.log(), ["open 3 ended 2 due true", "score a2"]);
    assert_eq!(world.room.taken(), 0);
}

#[actix::test]
async fn answers_are_sent_as_they_come_and_each_once() {
    let world = World::new(1);
    world.begin(&[], vec![], false).await;
    world.add(&[TEXT]).await;
    world.add(&[TEXT]).await;
    world.add(&[TEXT, "...", TEXT]).await;
    world.finish(&[TEXT, "...", TEXT]).await;
    let log = [
        "open 0 ended 0 due false",
        "extend 1 due false",
        "score a1",
        "extend 1 due false",
        "extend 3 due false",
        "gated a2",
        "score a3",
        "extend 3 due true",
    ];
    assert_eq!(world.log(), log);
    assert_eq!(world.room.taken(), 0);
}

#[actix::test]
async fn messages_that_were_overtaken_change_nothing() {
    let world = World::new(1);
    world.begin(&[TEXT], vec![None], false).await;
    world.finish(&[TEXT, TEXT]).await;
    assert_eq!(
        world.log(),
        ["open 1 ended 0 due false", "score a1", "extend 2 due true", "score a2"]
    );
    world.add(&[TEXT]).await;
    assert_eq!(world.log(), Vec::<String>::new());
    assert_eq!(world.room.taken(), 0);
    // Finishing again is told again, and scores nothing again.
    world.finish(&[TEXT, TEXT]).await;
    assert_eq!(world.log(), ["extend 2 due true"]);
}

#[actix::test]
async fn what_comes_while_the_report_is_opened_waits_for_it() {
    let world = World::new(0);
    world.begin(&[TEXT], vec![None], false).await;
    world.add(&[TEXT, TEXT]).await;
    world.finish(&[TEXT, TEXT]).await;
    world.opens.add_permits(1);
    settle().await;
    let log = [
        "open 1 ended 0 due false",
        "score a1",
        "extend 2 due false",
        "score a2",
        "extend 2 due true",
    ];
    assert_eq!(world.log(), log);
}

#[actix::test]
async fn it_is_over_with_the_report() {
    let world = World::new(1);
    world.begin(&[TEXT], vec![None], true).await;
    world.done.borrow().as_ref().unwrap().do_send(ReportReady);
    settle().await;
    assert!(!world.actor.connected());
}

#[actix::test]
async fn abandoned_work_is_called_off_at_the_report_first() {
    let world = World::new(0);
    world.begin(&[TEXT], vec![None], true).await;
    world.actor.do_send(Abandon { life: life(1) });
    settle().await;
    assert_eq!(world.log(), Vec::<String>::new(), "the report is not open yet");
    world.opens.add_permits(1);
    settle().await;
    assert_eq!(
        world.log(),
        ["open 1 ended 0 due true", "score a1", "abandon report", "abandon work"]
    );
    assert!(!world.actor.connected());
}

#[actix::test]
async fn without_a_report_actor_nothing_is_begun() {
    let world = World::with(0, false);
    world.begin(&[TEXT], vec![None], true).await;
    assert_eq!(world.log(), Vec::<String>::new());
    assert!(!world.actor.connected());
    assert_eq!(world.room.taken(), 0);
}
