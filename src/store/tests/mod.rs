//! What the store promises, tried from outside; here is what the tests are made of.

mod damage;
mod durability;
mod erasing;
mod keeping;
mod life;
mod opening;
mod reading;
mod space;
mod verbs;
mod versions;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

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

/// A disk that a test decides about: which sync is the first to fail, what comes before each, how much is free.
#[derive(Clone)]
struct Script {
    syncs: Arc<AtomicU64>,
    fails_from: u64,
    before_sync: Arc<dyn Fn(u64) + Send + Sync>,
    /// With the ballast, if that is there, still to be taken away.
    free: Arc<AtomicU64>,
    store: PathBuf,
}

impl Script {
    /// A disk without an end, slow enough for others to queue up behind a sync.
    fn of(folder: &Path) -> Self {
        Self {
            syncs: Arc::default(),
            fails_from: u64::MAX,
            before_sync: Arc::new(|_| thread::sleep(Duration::from_millis(2))),
            free: Arc::new(AtomicU64::new(u64::MAX)),
            store: folder.join("store"),
        }
    }

    fn open(&self, reserve: Reserve) -> Store {
        let options = Options {
            reserve,
            ..Options::default()
        };
        let disk = Box::new(self.clone());
        let opened = Store::open_on(self.store.clone(), disk, &options, at(0)).unwrap();
        assert_eq!(opened.notes, Vec::<String>::new());
        opened.store
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::SeqCst);
    }

    fn has_ballast(&self) -> bool {
        self.store.join("ballast").exists()
    }
}

impl Durable for Script {
    fn open(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let number = self.syncs.fetch_add(1, Ordering::SeqCst);
        (self.before_sync)(number);
        match number < self.fails_from {
            true => Ok(()),
            false => Err(io::Error::other("the disk is gone")),
        }
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        let ballast = std::fs::metadata(self.store.join("ballast")).map_or(0, |file| file.len());
        Ok(self.free.load(Ordering::SeqCst).saturating_sub(ballast))
    }
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
    /// For tests of other rooms.
    pub(crate) fn whose_syncs_fail_after(folder: &Path, syncs: u64) -> Self {
        let mut disk = Script::of(folder);
        disk.fails_from = syncs;
        disk.open(Reserve::default())
    }

    /// As if sled had met the end of the disk: it is opened again when the store is tended.
    pub(crate) fn find_the_disk_full(&self) {
        *lock(&self.inner.shared.trouble) = Some(Trouble::Full("the disk was full at a write".into()));
    }

    fn viewed(&self, text: &str) -> View {
        self.view(&id(text)).unwrap().unwrap()
    }

    /// What is to go on, all of which can be read.
    fn going_on(&self) -> Vec<Record> {
        let unfinished = self.unfinished().unwrap();
        assert!(unfinished.unreadable.is_empty(), "{:?}", unfinished.unreadable);
        unfinished.records
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
        let finished = self.finish(&id(text), view.record.generation, report.clone()).await;
        assert_eq!(finished.unwrap(), Finished::Stored);
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
        census::take(shelf.as_ref().unwrap()).unwrap().counts.0.to_vec()
    }

    fn counted(&self) -> Vec<u64> {
        self.counts().map(|(_, count)| count).to_vec()
    }
}
