//! The lives that are going on: starts an InterviewActor for each, and finds it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, Addr, ArbiterHandle};

use super::rubrics::{Rubrics, RubricsError};
use crate::actors::interview::{Doors, InterviewActor};
use crate::actors::message::{Abandon, AddAnswer, Begin, Case, Finish, Life};
use crate::actors::room::Place;
use crate::crash_points::CrashPoint;
use crate::domain::state::InterviewState;
use crate::store::{Record, Store, StoreError, View};

pub struct Lives {
    arbiter: ArbiterHandle,
    doors: Doors,
    store: Store,
    rubrics: Arc<Rubrics>,
    live: Mutex<HashMap<Life, Going>>,
}

struct Going {
    case: Arc<Case>,
    actor: Addr<InterviewActor>,
}

/// Why the work of an interview that is stored cannot go on now; it does at the next start.
#[derive(Debug, thiserror::Error)]
pub enum EngageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rubric(#[from] RubricsError),
}

/// The life that a record tells of.
pub fn life_of(record: &Record) -> Life {
    Life {
        sequence: record.sequence,
        generation: record.generation,
        interview_id: record.interview.id.clone(),
    }
}

impl Lives {
    pub fn new(arbiter: ArbiterHandle, doors: Doors, store: Store, rubrics: Arc<Rubrics>) -> Self {
        Self {
            arbiter,
            doors,
            store,
            rubrics,
            live: Mutex::default(),
        }
    }

    /// Sees to it that everything that `record` asks for is under way. May be repeated, and in any order: an older record changes nothing.
    pub fn engage(&self, record: Record, places: Vec<Place>) -> Result<(), EngageError> {
        let life = life_of(&record);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let going = live.get(&life).map(|going| &going.actor);
        if let Some(actor) = going.filter(|actor| actor.connected()) {
            let interview = Arc::new(record.interview);
            match record.due_since {
                Some(due_since) => actor.do_send(Finish { interview, due_since }),
                None => actor.do_send(AddAnswer { interview, places }),
            }
            return Ok(());
        }
        // The record may be overtaken by now: by another answer, by a cancellation, or by its own report.
        let view = self.store.view(&life.interview_id)?;
        let goes_on = |view: &View| {
            use InterviewState::{Open, Reporting, Scoring};
            life_of(&view.record) == life && matches!(view.state(), Open | Scoring | Reporting)
        };
        let Some(view) = view.filter(goes_on) else {
            return Ok(());
        };
        let (rubric, rubric_provenance) = self.rubrics.by_hash(&view.record.rubric_hash)?;
        let case = Arc::new(Case {
            life: life.clone(),
            rubric,
            rubric_provenance,
            submitted_at: view.record.submitted_at,
            over: AtomicBool::new(false),
        });
        let (doors, its_case) = (self.doors.clone(), Arc::clone(&case));
        let actor = InterviewActor::start_in_arbiter(&self.arbiter, move |_| InterviewActor::new(its_case, doors));
        actor.do_send(Begin {
            interview: Arc::new(view.record.interview),
            outcomes: view.outcomes,
            due_since: view.record.due_since,
            places,
        });
        CrashPoint::LifeBegun.reached();
        live.retain(|_, going| going.actor.connected());
        live.insert(life, Going { case, actor });
        Ok(())
    }

    /// Stops the work of a life, and from now on nobody is told of it.
    pub fn abandon(&self, record: &Record) {
        let life = life_of(record);
        let going = self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&life);
        if let Some(going) = going {
            going.case.over.store(true, Ordering::Relaxed);
            going.actor.do_send(Abandon { life });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use actix::{Context, Handler, Message, Recipient, System};
    use tempfile::TempDir;

    use super::*;
    use crate::actors::message::{AnswerScored, AnswerScorer, Extend, OpenReport};
    use crate::domain::ids::InterviewId;
    use crate::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
    use crate::domain::rubric::{DEFAULT, Rubric};
    use crate::domain::time::Timestamp;
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
        store: Store,
        log: Log,
        _folder: TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let now = Timestamp::from_millis(0);
            let store = Store::open(&folder.path().join("store"), &Options::default(), now)
                .unwrap()
                .store;
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
            Self {
                lives: Lives::new(arbiter, doors, store.clone(), rubrics),
                store,
                log,
                _folder: folder,
            }
        }

        async fn open(&self) -> Record {
            let accept = Accept {
                interview: interview(1),
                stays_open: true,
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

        async fn log(&self) -> Vec<String> {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            std::mem::take(&mut *self.log.borrow_mut())
        }
    }

    fn interview(answers: usize) -> Interview {
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
        let (id, rubric) = (InterviewId::parse("iv").unwrap(), Rubric::parse(DEFAULT).unwrap());
        Interview::new(draft, id, Opening::StaysOpen, &rubric, &Limits::default()).unwrap()
    }

    #[actix::test]
    async fn a_record_that_was_overtaken_begins_with_what_is_stored_and_adds_nothing_later() {
        let world = World::new();
        let opened = world.open().await;
        let two = interview(2);
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
    async fn abandoning_ends_a_life_and_another_may_begin() {
        let world = World::new();
        let record = world.open().await;
        assert_eq!(world.engage(&record).await, ["open 1", "score 0"]);
        world.store.delete(&record.interview.id).await.unwrap();
        world.lives.abandon(&record);
        assert_eq!(world.log().await, ["abandon", "abandon"]);
        let again = world.open().await;
        assert_eq!(world.engage(&again).await, ["open 1", "score 0"]);
        assert_eq!(world.lives.live.lock().unwrap().len(), 1);
    }
}
