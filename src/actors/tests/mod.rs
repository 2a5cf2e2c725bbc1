//! What the actors promise, each alone with stand-ins for its neighbours, and all of them together; here is what the tests are made of.

mod abandoned;
mod chain;
pub mod chance;
mod engines;
mod failures;
mod gpu;
mod in_flight;
mod interview;
mod matrix;
mod memory;
mod models;
mod order;
mod report;
mod report_ends;
mod resizing;
mod sick;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler};
use indexmap::IndexMap;

use super::age::Age;
use super::engine_thread::{ModelFactory, Planned};
use super::memory::{Allowance, Held, Meter};
use super::message::*;
use super::pool::*;
use super::room::Room;
use super::watch::Deadlines;
use crate::domain::gate;
use crate::domain::ids::InterviewId;
use crate::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::outcome::{CriterionScore, Outcome, Timing, Verdict};
use crate::domain::report::{EngineProvenance, ModelProvenance, Narrative, PromptProvenance, RubricProvenance};
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::domain::time::Timestamp;
use crate::engine::Options;
use crate::engine::model::Model;
use crate::scoring::Scorer;

pub const PATIENCE: Duration = Duration::from_secs(60);
/// What answers say, unless a test wants something else.
pub const TEXT: &str = "저는 로그를 모아 장애의 원인을 찾고 재발을 막은 개발자입니다.";

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

/// Of what was at that second, now at second 99.
pub fn since(seconds: i64) -> Age {
    Age::of(at(seconds), at(99))
}

pub fn rubric() -> Arc<Rubric> {
    static RUBRIC: OnceLock<Arc<Rubric>> = OnceLock::new();
    Arc::clone(RUBRIC.get_or_init(|| Arc::new(Rubric::parse(DEFAULT).unwrap())))
}

pub fn scorer() -> Arc<Scorer> {
    static SCORER: OnceLock<Arc<Scorer>> = OnceLock::new();
    let load = || {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        Arc::new(Scorer::load(&demo, "chat_template.jinja", &[6], 8_192).unwrap())
    };
    Arc::clone(SCORER.get_or_init(load))
}

/// An interview `iv<number>` whose answers `a1`, `a2` … say these texts.
pub fn interview(number: u64, texts: &[&str]) -> Arc<Interview> {
    let answers = texts.iter().map(|text| AnswerDraft {
        answer_id: None,
        stage: "intro".into(),
        question: "자기소개를 해 주세요.".into(),
        answer: (*text).into(),
        follow_up_of: None,
    });
    let draft = Draft {
        interview_id: Some(format!("iv{number}")),
        answers: answers.collect(),
        ..Draft::default()
    };
    let unused = InterviewId::parse("unused").unwrap();
    Arc::new(Interview::new(draft, unused, Opening::StaysOpen, &rubric(), &Limits::default()).unwrap())
}

/// The life of `iv<number>`, submitted as the number says.
pub fn life(number: u64) -> Life {
    Life {
        sequence: number,
        generation: number,
        interview_id: InterviewId::parse(&format!("iv{number}")).unwrap(),
    }
}

pub fn case(life: Life) -> Arc<Case> {
    Arc::new(Case {
        life,
        rubric: rubric(),
        rubric_provenance: RubricProvenance {
            id: "default".into(),
            version: 1,
            hash: "cafe".into(),
        },
        submitted_at: at(10),
        over: std::sync::atomic::AtomicBool::new(false),
    })
}

pub fn criteria() -> Vec<CriterionScore> {
    match gate::gated_outcome(rubric().stage("intro").unwrap().area) {
        Verdict::Gated { criteria } => criteria,
        other => panic!("{other:?}"),
    }
}

pub fn outcome(verdict: Verdict) -> Outcome {
    Outcome {
        verdict,
        flags: Vec::new(),
        judged_code_points: None,
        timing: Timing::default(),
        model_hash: None,
    }
}

pub fn scored(feedback: &str) -> Outcome {
    outcome(Verdict::Scored {
        criteria: criteria(),
        feedback: feedback.into(),
    })
}

pub fn unscored(reason: &str) -> Outcome {
    outcome(Verdict::Unscored { reason: reason.into() })
}

pub fn narrative() -> Narrative {
    Narrative {
        summary: "잘했다.".into(),
        strengths: vec!["하나".into()],
        improvements: vec!["둘".into()],
        competencies: IndexMap::new(),
    }
}

pub fn making(hash: &str) -> Arc<Making> {
    Arc::new(Making {
        model: ModelProvenance {
            name: "demo".into(),
            hash: hash.into(),
        },
        prompt: PromptProvenance {
            version: 1,
            budgets: IndexMap::new(),
        },
        engine: EngineProvenance {
            provider: "simulated".into(),
            device: "none".into(),
            onnxruntime: "none".into(),
            precision: "none".into(),
        },
    })
}

pub fn planned(device: &str, slots: usize) -> Planned {
    Planned {
        device: device.into(),
        device_index: 0,
        memory_bytes: 0,
        threads: 1,
        slots,
        narrative_takes: 0,
        allowance: Allowance::default(),
    }
}

pub fn setup(hash: &str, factory: Arc<dyn ModelFactory>) -> Arc<Setup> {
    Arc::new(Setup {
        scorer: scorer(),
        factory,
        meter: blind(),
        options: Options {
            chunk_tokens: 256,
            gap: 2,
        },
        making: making(hash),
    })
}

/// Longer than any test lasts.
pub fn patient() -> Arc<Deadlines> {
    Arc::new(Deadlines::new(10 * PATIENCE, 10 * PATIENCE))
}

/// Reads nothing.
pub fn blind() -> Meter {
    Arc::new(|_| None)
}

/// Makes nothing: for engines that are only pretended.
pub struct NoModel;

impl ModelFactory for NoModel {
    fn build(&self, _: &Planned) -> Result<Box<dyn Model>, Outage> {
        Err("there is no model".to_owned().into())
    }
}

struct Collector<M>(Mail<M>);

impl<M: 'static> Actor for Collector<M> {
    type Context = Context<Self>;
}

impl<M> Handler<M> for Collector<M>
where
    M: actix::Message<Result = ()> + 'static,
{
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        self.0.borrow_mut().push(message);
    }
}

/// What a neighbour was sent.
pub type Mail<M> = Rc<RefCell<Vec<M>>>;

/// A neighbour that only reads its mail.
pub fn mailbox<M>() -> (actix::Recipient<M>, Mail<M>)
where
    M: actix::Message<Result = ()> + Send + 'static,
{
    let mail = Mail::default();
    (Collector(Rc::clone(&mail)).start().recipient(), mail)
}

/// Lets everything happen that can without time passing.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits until there is something.
pub async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    eventually(what, || is().then_some(())).await;
}
