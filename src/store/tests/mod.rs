//! What the store promises, tried from outside; here is what the tests are made of.

mod durability;
mod life;
mod opening;
mod reading;
mod verbs;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::outcome::{CriterionScore, Timing, Verdict};
use crate::domain::report::{
    EngineProvenance, ModelProvenance, Narrative, PromptProvenance, Provenance, RubricProvenance, Times,
};
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::domain::score::{Level, LevelSd, Score};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn id(text: &str) -> InterviewId {
    InterviewId::parse(text).unwrap()
}

fn answer_id(text: &str) -> AnswerId {
    AnswerId::parse(text).unwrap()
}

fn opened(folder: &Path) -> Opened {
    Store::open(&folder.join("store"), &Options::default(), at(1_000)).unwrap()
}

fn store(folder: &Path) -> Store {
    let opened = opened(folder);
    assert_eq!(opened.notes, Vec::<String>::new());
    opened.store
}

/// An interview whose answers `a1`, `a2` … have these texts.
fn interview(id: &str, texts: &[&str]) -> Interview {
    let answers = texts.iter().map(|text| AnswerDraft {
        answer_id: None,
        stage: "intro".into(),
        question: "자기소개를 해 주세요.".into(),
        answer: (*text).into(),
        follow_up_of: None,
    });
    let draft = Draft {
        interview_id: Some(id.into()),
        position: Some("개발자".into()),
        answers: answers.collect(),
        ..Draft::default()
    };
    let rubric = Rubric::parse(DEFAULT).unwrap();
    Interview::new(
        draft,
        super::tests::id("unused"),
        Opening::StaysOpen,
        &rubric,
        &Limits::default(),
    )
    .unwrap()
}

/// The answer that would be the next of an interview with these texts.
fn answer(texts: &[&str]) -> Answer {
    interview("x", texts).answers().last().unwrap().clone()
}

fn whole(id: &str, texts: &[&str]) -> Accept {
    Accept {
        interview: interview(id, texts),
        stays_open: false,
        at: at(10),
        rubric_hash: "cafe".into(),
        rubric_text: Arc::from(DEFAULT),
    }
}

fn open_one(id: &str, texts: &[&str]) -> Accept {
    Accept {
        stays_open: true,
        ..whole(id, texts)
    }
}

fn outcome(verdict: Verdict) -> Outcome {
    Outcome {
        verdict,
        flags: Vec::new(),
        judged_code_points: None,
        timing: Timing::default(),
        model_hash: None,
    }
}

fn scored(feedback: &str) -> Outcome {
    let criterion = CriterionScore {
        name: "구조".into(),
        points: 100,
        level: Level::LOWEST,
        level_sd: LevelSd::default(),
        score: Score::from_hundredths(5_025).unwrap(),
        evidence: None,
    };
    outcome(Verdict::Scored {
        criteria: vec![criterion],
        feedback: feedback.into(),
    })
}

fn unscored() -> Outcome {
    outcome(Verdict::Unscored {
        reason: "the engine failed".into(),
    })
}

/// The report of what the view holds; every outcome must be there.
fn report_of(view: &View, narrative: Result<Narrative, String>) -> Report {
    let outcomes: Vec<Outcome> = view.outcomes.iter().map(|o| o.clone().unwrap()).collect();
    let times = Times {
        submitted_at: view.record.submitted_at,
        finished_at: at(99),
        took_ms: 79_000,
    };
    let rubric = Rubric::parse(DEFAULT).unwrap();
    Report::assemble(
        &view.record.interview,
        &outcomes,
        &rubric,
        narrative,
        provenance(),
        times,
    )
    .unwrap()
}

fn narrative() -> Result<Narrative, String> {
    Ok(Narrative {
        summary: "잘했다.".into(),
        strengths: vec!["하나".into()],
        improvements: vec!["둘".into()],
        competencies: Default::default(),
    })
}

fn no_narrative() -> Result<Narrative, String> {
    Err("the model failed".into())
}

fn provenance() -> Provenance {
    let text = || String::from("x");
    Provenance {
        model: ModelProvenance {
            name: text(),
            hash: text(),
        },
        rubric: RubricProvenance {
            id: text(),
            version: 1,
            hash: text(),
        },
        prompt: PromptProvenance {
            version: 1,
            budgets: Default::default(),
        },
        engine: EngineProvenance {
            provider: text(),
            device: text(),
            onnxruntime: text(),
            precision: text(),
        },
        interviewd: text(),
        other_models: Vec::new(),
    }
}

impl Store {
    fn viewed(&self, text: &str) -> View {
        self.view(&id(text)).unwrap().unwrap()
    }

    fn state(&self, text: &str) -> InterviewState {
        self.viewed(text).state()
    }

    /// Ends the answers from the first on with these outcomes.
    async fn end(&self, text: &str, outcomes: &[Outcome]) {
        let record = self.viewed(text).record;
        for (answer, outcome) in record.interview.answers().iter().zip(outcomes) {
            self.record(&id(text), record.generation, &answer.id, outcome.clone())
                .await
                .unwrap();
        }
    }

    /// Stores the report that is due.
    async fn report_on(&self, text: &str, narrative: Result<Narrative, String>) -> Report {
        let view = self.viewed(text);
        let report = report_of(&view, narrative);
        assert!(
            self.finish(&id(text), view.record.generation, report.clone())
                .await
                .unwrap()
        );
        report
    }

    /// Submits, ends and reports an interview.
    async fn complete(&self, text: &str, narrative: Result<Narrative, String>) {
        self.accept(whole(text, &["하나", "둘"])).await.unwrap();
        self.end(text, &[scored("a"), scored("b")]).await;
        self.report_on(text, narrative).await;
    }

    fn recounted(&self) -> Vec<u64> {
        let shelf = read(&self.inner.shared.shelf);
        reads::recount(shelf.as_ref().unwrap()).unwrap().0.to_vec()
    }

    fn counted(&self) -> Vec<u64> {
        self.counts().map(|(_, count)| count).to_vec()
    }
}
