//! What the benches share: an interview of 17 answers, how its answers ended, and its report.
#![allow(dead_code, reason = "every bench uses its own part of this")]

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use interviewd::domain::gate;
use interviewd::domain::ids::InterviewId;
use interviewd::domain::interview::{Draft, Interview, Limits, Opening};
use interviewd::domain::outcome::{Outcome, Timing, Verdict};
use interviewd::domain::report::{
    EngineProvenance, ModelProvenance, Narrative, PromptProvenance, Provenance, Report, RubricProvenance, Times,
};
use interviewd::domain::rubric::{DEFAULT, Rubric};
use interviewd::domain::time::Timestamp;

pub const ANSWERS: usize = 17;

pub fn demo() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo"))
}

pub fn rubric() -> Arc<Rubric> {
    Arc::new(Rubric::parse(DEFAULT).unwrap())
}

/// The demo's interview with another id.
pub fn interview(id: &str) -> Interview {
    let text = std::fs::read_to_string(demo().join("interview.json")).unwrap();
    let draft: Draft = serde_json::from_str(&text).unwrap();
    let draft = Draft {
        interview_id: Some(id.to_owned()),
        ..draft
    };
    let unused = InterviewId::parse("unused").unwrap();
    let interview = Interview::new(draft, unused, Opening::Whole, &rubric(), &Limits::default()).unwrap();
    assert_eq!(interview.answers().len(), ANSWERS);
    interview
}

/// Every answer scored, with feedback of the usual length.
pub fn outcomes(interview: &Interview) -> Vec<Outcome> {
    let rubric = rubric();
    let outcome = |stage: &str| {
        let Verdict::Gated { criteria } = gate::gated_outcome(rubric.stage(stage).unwrap().area) else {
            unreachable!("what is gated has criteria")
        };
        let feedback =
            "근거가 되는 숫자를 먼저 말한 점이 좋습니다. 다음에는 결과가 무엇을 바꾸었는지도 말해 보세요. ".repeat(2);
        Outcome {
            verdict: Verdict::Scored { criteria, feedback },
            flags: Vec::new(),
            judged_code_points: None,
            timing: Timing::default(),
            model_hash: Some("0".repeat(64)),
        }
    };
    interview
        .answers()
        .iter()
        .map(|answer| outcome(&answer.stage))
        .collect()
}

pub fn report(interview: &Interview, outcomes: &[Outcome]) -> Report {
    let narrative = Narrative {
        summary: "재고, 고치고, 남기는 지원자입니다. ".repeat(6),
        strengths: vec!["추측하지 않고 먼저 재 봅니다.".repeat(2); 3],
        improvements: vec!["결과를 숫자로 말하면 더 좋습니다.".repeat(2); 3],
        competencies: IndexMap::new(),
    };
    let now = Timestamp::from_millis(0);
    let times = Times {
        submitted_at: now,
        finished_at: now,
        took_ms: 0,
    };
    Report::assemble(interview, outcomes, &rubric(), Ok(narrative), provenance(), times).unwrap()
}

pub fn provenance() -> Provenance {
    Provenance {
        model: ModelProvenance {
            name: "bench".into(),
            hash: "0".repeat(64),
        },
        rubric: RubricProvenance {
            id: "default".into(),
            version: 1,
            hash: "0".repeat(64),
        },
        prompt: PromptProvenance {
            version: 1,
            budgets: IndexMap::new(),
        },
        engine: EngineProvenance {
            provider: "cpu".into(),
            device: "avx2".into(),
            onnxruntime: "none".into(),
            precision: "int4".into(),
        },
        interviewd: "0".into(),
        other_models: Vec::new(),
    }
}
