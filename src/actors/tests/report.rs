//! What the ReportActor stores, asks for and tells, with a real store and a narrator that is only pretended.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use actix::Addr;
use tempfile::TempDir;

use super::*;
use crate::actors::report::{Clock, ReportActor, Watchers};
use crate::domain::event::{Event, EventKind};
use crate::domain::report::{Report, Status};
use crate::domain::state::InterviewState;
use crate::store::{self, Accept, Store};
use crate::telemetry::Counters;

/// Keeps what it is told.
#[derive(Default)]
pub struct Told(pub Mutex<Vec<Event>>);

impl Watchers for Told {
    fn tell(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Told {
    /// As in `iv1 answer_scored a1 1/2`.
    pub fn lines(&self) -> Vec<String> {
        let line = |event: &Event| {
            let kind = match &event.kind {
                EventKind::AnswerScored { answer_id, .. } => format!("scored {answer_id}"),
                EventKind::AnswerUnscored { answer_id, reason } => format!("unscored {answer_id} ({reason})"),
                EventKind::ReportStarted => "started".into(),
                EventKind::ReportReady { status, .. } => format!("ready {status:?}").to_lowercase(),
                other => format!("{other:?}"),
            };
            format!("{} {kind} {}/{}", event.interview_id, event.done, event.total)
        };
        self.0.lock().unwrap().iter().map(line).collect()
    }
}

/// A ReportActor among stand-ins.
pub struct World {
    pub store: Store,
    pub reports: Addr<ReportActor>,
    pub told: Arc<Told>,
    pub counters: Arc<Counters>,
    pub narrator: Mail<WriteNarrative>,
    pub done: Mail<ReportReady>,
    to_done: actix::Recipient<ReportReady>,
    _folder: TempDir,
}

pub fn accept(interview: &Interview, stays_open: bool) -> Accept {
    Accept {
        interview: interview.clone(),
        stays_open,
        at: at(10),
        rubric_hash: "cafe".into(),
        rubric_text: Arc::from(DEFAULT),
    }
}

impl World {
    pub async fn new() -> Self {
        let world = Self::without_model();
        world.provide("hash").await;
        world
    }

    pub fn without_model() -> Self {
        Self::with_clock(|| at(99))
    }

    fn with_clock(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = Store::open(&folder.path().join("store"), &store::Options::default(), at(0)).unwrap();
        let (told, counters) = (Arc::new(Told::default()), Arc::new(Counters::default()));
        let (to_narrator, narrator) = mailbox();
        let (to_done, done) = mailbox();
        let watchers = Arc::clone(&told) as Arc<dyn Watchers>;
        let reports = ReportActor::new(
            opened.store.clone(),
            to_narrator,
            watchers,
            Arc::clone(&counters),
            clock,
        );
        Self {
            store: opened.store,
            reports: reports.start(),
            told,
            counters,
            narrator,
            done,
            to_done,
            _folder: folder,
        }
    }

    pub async fn provide(&self, hash: &str) {
        self.reports.do_send(Provide { making: making(hash) });
        self.settled().await;
    }

    /// Accepts an interview and opens its report. Gives its life.
    pub async fn open(&self, interview: &Arc<Interview>, due: bool) -> Life {
        let accepted = self.store.accept(accept(interview, !due)).await.unwrap();
        self.reopen(
            interview,
            accepted.record.sequence,
            accepted.record.generation,
            vec![],
            due,
        )
        .await
    }

    pub async fn reopen(
        &self,
        interview: &Arc<Interview>,
        sequence: u64,
        generation: u64,
        outcomes: Vec<Option<Outcome>>,
        due: bool,
    ) -> Life {
        let life = Life {
            sequence,
            generation,
            interview_id: interview.id.clone(),
        };
        let open = OpenReport {
            case: case(life.clone()),
            interview: Arc::clone(interview),
            outcomes,
            due: due.then(|| since(20)),
            done: self.to_done.clone(),
        };
        self.reports.send(open).await.unwrap();
        life
    }

    pub async fn ended(&self, life: &Life, answer: &str, outcome: Outcome) {
        self.reports.do_send(AnswerScored {
            life: life.clone(),
            answer_id: crate::domain::ids::AnswerId::parse(answer).unwrap(),
            outcome,
        });
        self.settled().await;
    }

    pub async fn narrated(&self, life: &Life, narrative: Result<Narrative, String>) {
        self.reports.do_send(NarrativeWritten {
            life: life.clone(),
            narrative,
            making: None,
        });
        self.settled().await;
    }

    /// Everything that has arrived is stored, and what follows from it has been sent.
    pub async fn settled(&self) {
        for _ in 0..3 {
            self.reports.send(Settle).await.unwrap();
            settle().await;
        }
    }

    pub fn report(&self, interview: &Interview) -> Option<crate::domain::report::Report> {
        self.store.report(&interview.id).unwrap()
    }

    pub fn state(&self, interview: &Interview) -> InterviewState {
        self.store.view(&interview.id).unwrap().unwrap().state()
    }
}

#[actix::test]
async fn the_narrative_is_asked_for_once_and_after_the_last_outcome() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT, TEXT, TEXT]);
    let life = world.open(&interview, true).await;
    world.ended(&life, "a2", scored("둘")).await;
    world.ended(&life, "a1", unscored("no engine")).await;
    assert_eq!(world.narrator.borrow().len(), 0);
    world.ended(&life, "a3", scored("셋")).await;
    world.ended(&life, "a3", scored("넷")).await;
    {
        let asked = world.narrator.borrow();
        let [asked] = &asked[..] else { panic!("{}", asked.len()) };
        assert_eq!(*asked.outcomes, [unscored("no engine"), scored("둘"), scored("셋")]);
        assert_eq!(asked.case.life, life);
    }
    assert_eq!(
        (world.state(&interview), world.report(&interview)),
        (InterviewState::Reporting, None)
    );
    world.narrated(&life, Ok(narrative())).await;
    let report = world.report(&interview).unwrap();
    assert_eq!((report.submitted_at, report.finished_at), (at(10), at(99)));
    assert_took(&report, 79_000);
    assert_eq!((report.status, report.narrative), (Status::Partial, Some(narrative())));
    let events = [
        "iv1 scored a2 1/3",
        "iv1 unscored a1 (no engine) 2/3",
        "iv1 scored a3 3/3",
        "iv1 started 3/3",
        "iv1 ready partial 3/3",
    ];
    assert_eq!(world.told.lines(), events);
    assert_eq!(world.done.borrow().len(), 1);
    let totals = world.counters.snapshot();
    assert_eq!(
        (totals.answers_scored, totals.answers_unscored, totals.reports),
        (2, 1, 1)
    );
}

#[actix::test]
async fn an_open_interview_is_not_reported_before_it_is_finished() {
    let world = World::new().await;
    let short = interview(1, &[TEXT]);
    let life = world.open(&short, false).await;
    world.ended(&life, "a1", scored("하나")).await;
    let long = interview(1, &[TEXT, TEXT]);
    let extend = |interview: &Arc<Interview>, due| Extend {
        life: life.clone(),
        interview: Arc::clone(interview),
        due,
    };
    world
        .store
        .add_answer(&long.id, long.answers()[1].clone(), 1)
        .await
        .unwrap();
    world.reports.do_send(extend(&long, None));
    world.reports.do_send(extend(&short, None));
    world.ended(&life, "a2", scored("둘")).await;
    assert_eq!(world.narrator.borrow().len(), 0);
    world.store.close(&long.id, at(30)).await.unwrap();
    world.reports.do_send(extend(&long, Some(since(30))));
    world.reports.do_send(extend(&long, Some(since(40))));
    world.settled().await;
    assert_eq!(world.narrator.borrow().len(), 1);
    world.narrated(&life, Ok(narrative())).await;
    assert_took(&world.report(&long).unwrap(), 69_000);
    assert_eq!(world.told.lines()[1], "iv1 scored a2 2/2");
}

/// So long by the wall clock before the interview was heard of, and what this test has taken since.
fn assert_took(report: &Report, before_ms: u64) {
    let rest = report.took_ms.checked_sub(before_ms);
    assert!(rest.is_some_and(|rest| rest < 60_000), "{} {before_ms}", report.took_ms);
}

#[actix::test]
async fn a_wall_clock_that_is_set_meanwhile_counts_for_nothing() {
    const TEN_YEARS_S: i64 = 10 * 365 * 86_400;
    static NOW_S: AtomicI64 = AtomicI64::new(20);
    for jump in [-TEN_YEARS_S, -3_600, 3_600, TEN_YEARS_S] {
        NOW_S.store(20, Ordering::Relaxed);
        let world = World::with_clock(|| at(NOW_S.load(Ordering::Relaxed)));
        world.provide("hash").await;
        let interview = interview(1, &[TEXT]);
        let life = world.open(&interview, true).await;
        world.settled().await;
        NOW_S.fetch_add(jump, Ordering::Relaxed);
        world.ended(&life, "a1", scored("하나")).await;
        world.narrated(&life, Ok(narrative())).await;
        let report = world.report(&interview).unwrap();
        assert_took(&report, 79_000);
        assert_eq!(report.finished_at, at(20 + jump));
    }
}

#[actix::test]
async fn an_interview_without_a_score_is_reported_without_a_narrative() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    world.ended(&life, "a1", unscored("no engine")).await;
    assert_eq!(world.narrator.borrow().len(), 0);
    let report = world.report(&interview).unwrap();
    assert_eq!(
        (report.status, report.overall, report.narrative),
        (Status::Partial, None, None)
    );
    assert_eq!(report.narrative_reason.as_deref(), Some("no answer was scored"));
}

#[actix::test]
async fn a_narrative_that_failed_is_no_reason_to_keep_the_report_back() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    world.ended(&life, "a1", scored("하나")).await;
    world.narrated(&life, Err("the model failed".into())).await;
    let report = world.report(&interview).unwrap();
    assert_eq!((report.status, report.narrative), (Status::Complete, None));
    assert_eq!(report.narrative_reason.as_deref(), Some("the model failed"));
    assert_eq!(world.told.lines().last().unwrap(), "iv1 ready complete 1/1");
}

#[actix::test]
async fn only_the_narrative_that_was_asked_for_is_taken_and_only_once() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(world.report(&interview), None);
    world.ended(&life, "a1", scored("하나")).await;
    assert_eq!(world.narrator.borrow().len(), 1);
    world.reports.do_send(NarrativeWritten {
        life: life.clone(),
        narrative: Err("first".into()),
        making: None,
    });
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(
        world.report(&interview).unwrap().narrative_reason.as_deref(),
        Some("first")
    );
    assert_eq!((world.done.borrow().len(), world.counters.snapshot().reports), (1, 1));
}

#[actix::test]
async fn the_first_outcome_of_an_answer_stays() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT, TEXT]);
    let life = world.open(&interview, true).await;
    for feedback in ["first", "second"] {
        let answer_id = interview.answers()[0].id.clone();
        world.reports.do_send(AnswerScored {
            life: life.clone(),
            answer_id,
            outcome: scored(feedback),
        });
    }
    world.ended(&life, "a2", scored("둘")).await;
    assert_eq!(world.narrator.borrow()[0].outcomes[0], scored("first"));
    assert_eq!(
        world.told.lines(),
        ["iv1 scored a1 1/2", "iv1 scored a2 2/2", "iv1 started 2/2"]
    );
    assert_eq!(world.counters.snapshot().answers_scored, 2);
}

#[actix::test]
async fn what_is_stored_already_counts_even_if_it_was_not_known_here() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let accepted = world.store.accept(accept(&interview, false)).await.unwrap();
    let (sequence, generation) = (accepted.record.sequence, accepted.record.generation);
    let answer_id = &interview.answers()[0].id;
    world
        .store
        .record(&interview.id, generation, answer_id, scored("stored"))
        .await
        .unwrap();
    let life = world.reopen(&interview, sequence, generation, vec![], true).await;
    world.ended(&life, "a1", scored("again")).await;
    assert_eq!(*world.narrator.borrow()[0].outcomes, [scored("stored")]);
}

#[actix::test]
async fn what_belongs_to_another_generation_is_dropped() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let life = world.open(&interview, true).await;
    let stale = Life {
        generation: life.generation + 7,
        ..life.clone()
    };
    world.ended(&stale, "a1", scored("stale")).await;
    world.narrated(&stale, Ok(narrative())).await;
    assert_eq!(
        (world.told.lines(), world.state(&interview)),
        (vec![], InterviewState::Scoring)
    );
    assert_eq!(world.counters.snapshot().answers_scored, 0);
}

#[actix::test]
async fn a_retried_interview_gets_its_second_report() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT, TEXT]);
    let first = world.open(&interview, true).await;
    world.ended(&first, "a1", scored("하나")).await;
    world.ended(&first, "a2", unscored("no engine")).await;
    world.narrated(&first, Ok(narrative())).await;
    let record = world.store.reopen(&interview.id, at(50)).await.unwrap().record;
    let outcomes = world.store.view(&interview.id).unwrap().unwrap().outcomes;
    let second = world
        .reopen(&interview, record.sequence, record.generation, outcomes, true)
        .await;
    assert_ne!(first, second);
    world.ended(&first, "a2", scored("late, and of the first life")).await;
    assert_eq!(world.narrator.borrow().len(), 1);
    world.ended(&second, "a2", scored("둘")).await;
    assert_eq!(world.narrator.borrow().len(), 2);
    assert_eq!(
        world.report(&interview).unwrap().status,
        Status::Partial,
        "the old one, until the new one is there"
    );
    world.narrated(&second, Ok(narrative())).await;
    assert_eq!(world.report(&interview).unwrap().status, Status::Complete);
    assert_eq!(world.done.borrow().len(), 2);
}

#[actix::test]
async fn a_life_that_is_found_with_all_its_outcomes_goes_straight_to_the_narrative() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT]);
    let accepted = world.store.accept(accept(&interview, false)).await.unwrap();
    let (sequence, generation) = (accepted.record.sequence, accepted.record.generation);
    let answer_id = &interview.answers()[0].id;
    world
        .store
        .record(&interview.id, generation, answer_id, scored("하나"))
        .await
        .unwrap();
    let life = world
        .reopen(&interview, sequence, generation, vec![Some(scored("하나"))], true)
        .await;
    settle().await;
    assert_eq!(
        (world.narrator.borrow().len(), world.told.lines()),
        (1, vec!["iv1 started 1/1".to_owned()])
    );
    // Opened a second time, nothing is asked for twice.
    world
        .reopen(&interview, sequence, generation, vec![Some(scored("하나"))], true)
        .await;
    settle().await;
    assert_eq!(world.narrator.borrow().len(), 1);
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(world.state(&interview), InterviewState::Complete);
    assert_eq!(
        world.counters.snapshot().answers_scored,
        0,
        "they were counted when they were scored"
    );
}

#[actix::test]
async fn reports_wait_until_it_is_known_what_makes_scores_and_come_in_the_order_of_submission() {
    let world = World::without_model();
    let interviews = [1, 2, 3].map(|number| interview(number, &[""]));
    for interview in interviews.iter().rev() {
        let life = world.open(interview, true).await;
        world.ended(&life, "a1", unscored("no engine")).await;
        assert_eq!(world.report(interview), None);
    }
    world.provide("hash").await;
    let mut ready = world.told.lines();
    ready.retain(|line| line.contains("ready"));
    assert_eq!(
        ready,
        [
            "iv3 ready partial 1/1",
            "iv2 ready partial 1/1",
            "iv1 ready partial 1/1"
        ]
    );
    let report = world.report(&interviews[0]).unwrap();
    assert_eq!(
        (
            report.provenance.model.hash.as_str(),
            report.provenance.rubric.hash.as_str()
        ),
        ("hash", "cafe")
    );
}

#[actix::test]
async fn models_that_judged_before_the_present_one_are_named() {
    let world = World::new().await;
    let interview = interview(1, &[TEXT, TEXT, TEXT, TEXT]);
    let life = world.open(&interview, true).await;
    let by = |hash: Option<&str>| Outcome {
        model_hash: hash.map(str::to_owned),
        ..scored("")
    };
    for (answer, hash) in [
        ("a1", Some("old")),
        ("a2", Some("new")),
        ("a3", Some("old")),
        ("a4", None),
    ] {
        world.ended(&life, answer, by(hash)).await;
    }
    world.provide("new").await;
    world.narrated(&life, Ok(narrative())).await;
    assert_eq!(world.report(&interview).unwrap().provenance.other_models, ["old"]);
}
