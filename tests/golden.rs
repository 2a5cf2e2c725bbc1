//! The daemon makes the very token ids that the demo model was trained on: `models/prompts/golden.json`, case by case.

use std::path::PathBuf;

use interviewd::domain::fold::{AnswerNumbers, Numbers};
use interviewd::domain::ids::InterviewId;
use interviewd::domain::interview::{AnswerDraft, Company, Draft, Interview, Limits, Opening};
use interviewd::domain::outcome::{CriterionScore, Evidence, Outcome, Timing, Verdict};
use interviewd::domain::rubric::{DEFAULT, Rubric};
use interviewd::domain::score::{Level, LevelSd, Score};
use interviewd::scoring::digest::Digest;
use interviewd::scoring::encoder::Encoder;
use interviewd::scoring::prompt::{Part, Prompts, Segment};
use interviewd::scoring::templates::Templates;
use serde_json::Value;

struct Golden {
    file: Value,
    rubric: Rubric,
    prompts: Prompts,
    encoder: Encoder,
}

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn golden() -> Golden {
    let read = |path: &str| std::fs::read_to_string(models().join(path)).unwrap();
    Golden {
        file: serde_json::from_str(&read("prompts/golden.json")).unwrap(),
        rubric: Rubric::parse(DEFAULT).unwrap(),
        prompts: Prompts::new(Templates::new(read("demo/chat_template.jinja")).unwrap()),
        encoder: Encoder::load(&models().join("demo/tokenizer.json")).unwrap(),
    }
}

impl Golden {
    fn cases(&self, kind: &str) -> Vec<&Value> {
        let cases = self.file["cases"].as_array().unwrap();
        let of_kind: Vec<_> = cases.iter().filter(|case| case["kind"] == kind).collect();
        assert!(!of_kind.is_empty(), "the golden file has cases of kind {kind}");
        of_kind
    }

    /// The case's interview with its answers: a parent, if there is one, comes first.
    fn interview(&self, case: &Value, answers: &[&Value]) -> Interview {
        let answers = answers.iter().map(|answer| AnswerDraft {
            stage: text(&answer["stage"]).unwrap(),
            question: text(&answer["question"]).unwrap(),
            answer: text(&answer["answer"]).unwrap(),
            follow_up_of: text(&answer["stage"])
                .filter(|stage| stage.ends_with("_followup"))
                .map(|_| "a1".into()),
            answer_id: None,
        });
        self.interview_of(case, answers.collect())
    }

    fn interview_of(&self, case: &Value, answers: Vec<AnswerDraft>) -> Interview {
        let given = &case["input"]["interview"];
        let company = given["company"].as_object().map(|company| Company {
            name: text(&company["name"]),
            ideal: company.get("ideal").map(texts).unwrap_or_default(),
        });
        let draft = Draft {
            language: text(&given["language"]),
            position: text(&given["position"]),
            company,
            answers,
            ..Draft::default()
        };
        Interview::new(
            draft,
            InterviewId::parse("golden").unwrap(),
            Opening::StaysOpen,
            &self.rubric,
            &Limits {
                answers: usize::MAX,
                ..Limits::default()
            },
        )
        .unwrap()
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().filter_map(text).collect()
}

fn score(value: &Value) -> Option<Score> {
    value
        .as_f64()
        .map(|points| Score::from_hundredths((points * 100.0).round() as u32).unwrap())
}

fn expected_segments(case: &Value) -> (Vec<Segment>, Vec<Vec<u32>>) {
    let part = |name: &str| match name {
        "instructions" => Part::Instructions,
        "context" => Part::Context,
        "question" => Part::Question,
        "parent" => Part::Parent,
        "answer" => Part::Answer,
        "digest" => Part::Digest,
        other => panic!("the golden file has an unknown part {other}"),
    };
    let segments = case["segments"].as_array().unwrap();
    let segment = |s: &Value| Segment {
        part: part(s["part"].as_str().unwrap()),
        text: text(&s["text"]).unwrap(),
    };
    let ids = |s: &Value| {
        s["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect()
    };
    (
        segments.iter().map(segment).collect(),
        segments.iter().map(ids).collect(),
    )
}

#[test]
fn scoring_prompts_are_those_of_training() {
    let golden = golden();
    for case in golden.cases("score") {
        let input = &case["input"];
        let given: Vec<_> = [&input["parent"], &input["answer"]]
            .into_iter()
            .filter(|answer| !answer.is_null())
            .collect();
        let interview = golden.interview(case, &given);
        let answer = interview.answers().len() - 1;
        let segments = golden.prompts.score(&interview, answer, &golden.rubric).unwrap();
        let encoded = golden
            .encoder
            .score(&segments, &golden.prompts.constants.score)
            .unwrap();
        let (expected, ids) = expected_segments(case);
        assert_eq!(segments, expected, "{}", case["name"]);
        assert_eq!(encoded.segments, ids, "{}", case["name"]);
        assert_eq!(Some(encoded.judged as u64), case["judged"].as_u64(), "{}", case["name"]);
    }
}

/// An answer of a report, as it is stored. The digest knows neither levels nor points.
fn outcome(answer: &Value) -> Outcome {
    let criterion = |c: &Value| CriterionScore {
        name: String::new(),
        points: 0,
        level: Level::LOWEST,
        level_sd: LevelSd::default(),
        score: Score::ZERO,
        evidence: text(&c["evidence"]["quote"]).map(|quote| Evidence {
            quote,
            start: 0,
            end: 0,
        }),
    };
    let criteria = answer["criteria"].as_array().unwrap().iter().map(criterion).collect();
    Outcome {
        verdict: match answer["state"].as_str().unwrap() {
            "scored" => Verdict::Scored {
                criteria,
                feedback: text(&answer["feedback"]).unwrap(),
            },
            "gated" => Verdict::Gated { criteria },
            _ => Verdict::Unscored { reason: String::new() },
        },
        flags: Vec::new(),
        judged_code_points: None,
        timing: Timing::default(),
        model_hash: None,
    }
}

/// The numbers of a report as the fold would have them.
fn numbers(report: &Value, rubric: &Rubric) -> Numbers {
    let area = |id: &str| {
        let mut areas = report["areas"].as_array().unwrap().iter();
        areas
            .find(|area| area["area"] == id)
            .and_then(|area| score(&area["score"]))
    };
    let answer = |answer: &Value| AnswerNumbers {
        score: None,
        final_score: score(&answer["final_score"]),
        adjustment: 0,
    };
    let competencies = rubric.competencies.keys();
    Numbers {
        answers: report["answers"].as_array().unwrap().iter().map(answer).collect(),
        areas: rubric.areas.iter().map(|a| area(&a.id)).collect(),
        competencies: competencies
            .map(|id| (id.clone(), score(&report["competencies"][id])))
            .collect(),
        overall: score(&report["overall"]),
        coverage: 1_000,
        band: None,
        pass_likelihood: None,
    }
}

/// The interview that a report is about; follow-ups get a parent in front, which the report says nothing of.
fn reported(golden: &Golden, case: &Value) -> (Interview, Vec<Outcome>, Numbers) {
    let report = &case["input"]["report"];
    let mut numbers = numbers(report, &golden.rubric);
    let answers = report["answers"].as_array().unwrap();
    let (mut drafts, mut outcomes, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (answer, row) in answers.iter().zip(&numbers.answers) {
        let stage = text(&answer["stage"]).unwrap();
        let base = stage.strip_suffix("_followup").map(str::to_owned);
        let follow_up_of = base.as_ref().map(|_| format!("a{}", drafts.len() + 1));
        let draft = |stage, follow_up_of| AnswerDraft {
            stage,
            follow_up_of,
            ..AnswerDraft::default()
        };
        if let Some(base) = base {
            drafts.push(draft(base, None));
            outcomes.push(outcome(&serde_json::json!({"state": "unscored", "criteria": []})));
            rows.push(AnswerNumbers {
                score: None,
                final_score: None,
                adjustment: 0,
            });
        }
        drafts.push(draft(stage, follow_up_of));
        outcomes.push(outcome(answer));
        rows.push(*row);
    }
    numbers.answers = rows;
    (golden.interview_of(case, drafts), outcomes, numbers)
}

#[test]
fn narrative_prompts_are_those_of_training() {
    let golden = golden();
    for case in golden.cases("narrative") {
        let (interview, outcomes, numbers) = reported(&golden, case);
        let digest = Digest::of(&interview, &outcomes, &numbers).unwrap();
        let segments = golden.prompts.narrative(&interview, &digest, &golden.rubric).unwrap();
        let encoded = golden
            .encoder
            .narrative(&segments, &golden.prompts.constants.narrative)
            .unwrap();
        let (expected, ids) = expected_segments(case);
        assert_eq!(segments, expected, "{}", case["name"]);
        assert_eq!(encoded.segments, ids, "{}", case["name"]);
    }
}

#[test]
fn what_the_model_writes_is_tokenised_piece_by_piece() {
    let golden = golden();
    let outputs = golden.file["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 2);
    for output in outputs {
        for piece in output["pieces"].as_array().unwrap() {
            let ids = golden.encoder.plain(piece["text"].as_str().unwrap()).unwrap();
            let expected: Vec<_> = piece["ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap() as u32)
                .collect();
            assert_eq!(ids, expected, "{}", piece["text"]);
        }
    }
}

#[test]
fn an_unreadable_tokenizer_is_named() {
    let error = Encoder::load(&models().join("demo/interview.json"))
        .err()
        .expect("an interview is no tokenizer");
    assert!(error.to_string().contains("interview.json"), "{error:?}");
    assert!(std::error::Error::source(&error).is_some(), "{error}");
}
