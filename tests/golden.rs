//! The daemon makes the very token ids that the demo model was trained on: `models/prompts/golden.json`, case by case.

use std::path::PathBuf;

use interviewd::domain::ids::InterviewId;
use interviewd::domain::interview::{AnswerDraft, Company, Draft, Interview, Limits, Opening};
use interviewd::domain::rubric::{DEFAULT, Rubric};
use interviewd::domain::score::Score;
use interviewd::scoring::encoder::Encoder;
use interviewd::scoring::prompt::{Digest, DigestAnswer, Part, Prompts, Segment};
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
        let given = &case["input"]["interview"];
        let company = given["company"].as_object().map(|company| Company {
            name: text(&company["name"]),
            ideal: company.get("ideal").map(texts).unwrap_or_default(),
        });
        let answers = answers.iter().map(|answer| AnswerDraft {
            stage: text(&answer["stage"]).unwrap(),
            question: text(&answer["question"]).unwrap(),
            answer: text(&answer["answer"]).unwrap(),
            follow_up_of: text(&answer["stage"])
                .filter(|stage| stage.ends_with("_followup"))
                .map(|_| "a1".into()),
            answer_id: None,
        });
        let draft = Draft {
            language: text(&given["language"]),
            position: text(&given["position"]),
            company,
            answers: answers.collect(),
            ..Draft::default()
        };
        Interview::new(
            draft,
            InterviewId::parse("golden").unwrap(),
            Opening::StaysOpen,
            &self.rubric,
            &Limits::default(),
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
        let (answer, parent) = match interview.answers() {
            [parent, answer] => (answer, Some(parent)),
            [answer] => (answer, None),
            _ => panic!("a case has one answer, and perhaps its parent"),
        };
        let stage = golden.rubric.stage(&answer.stage).unwrap();
        let segments = golden.prompts.score(&interview, answer, parent, stage).unwrap();
        let encoded = golden.encoder.score(&segments, &golden.prompts.constants).unwrap();
        let (expected, ids) = expected_segments(case);
        assert_eq!(segments, expected, "{}", case["name"]);
        assert_eq!(encoded.segments, ids, "{}", case["name"]);
        assert_eq!(Some(encoded.judged as u64), case["judged"].as_u64(), "{}", case["name"]);
    }
}

#[test]
fn narrative_prompts_are_those_of_training() {
    let golden = golden();
    for case in golden.cases("narrative") {
        let report = &case["input"]["report"];
        let of_area = |id: &str| {
            report["areas"]
                .as_array()
                .unwrap()
                .iter()
                .find(|area| area["area"] == id)
                .and_then(|a| score(&a["score"]))
        };
        let told = |answer: &Value| {
            let quote = answer["criteria"]
                .as_array()
                .unwrap()
                .iter()
                .find_map(|c| text(&c["evidence"]["quote"]));
            (answer["state"] == "scored").then(|| (quote, text(&answer["feedback"]).unwrap()))
        };
        let answers = report["answers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|answer| answer["state"] != "unscored");
        let digest = Digest {
            overall: score(&report["overall"]).unwrap(),
            areas: golden.rubric.areas.iter().map(|area| of_area(&area.id)).collect(),
            competencies: golden
                .rubric
                .competencies
                .keys()
                .map(|id| score(&report["competencies"][id]))
                .collect(),
            answers: answers
                .map(|answer| DigestAnswer {
                    stage: text(&answer["stage"]).unwrap(),
                    final_score: score(&answer["final_score"]).unwrap(),
                    told: told(answer),
                })
                .collect(),
        };
        let interview = golden.interview(case, &[]);
        let segments = golden.prompts.narrative(&interview, &digest, &golden.rubric).unwrap();
        let (expected, ids) = expected_segments(case);
        assert_eq!(segments, expected, "{}", case["name"]);
        assert_eq!(
            golden
                .encoder
                .narrative(&segments, &golden.prompts.constants)
                .unwrap()
                .segments,
            ids,
            "{}",
            case["name"]
        );
    }
}

#[test]
fn what_the_model_writes_is_tokenised_piece_by_piece() {
    let golden = golden();
    let outputs = golden.file["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 2);
    for output in outputs {
        for piece in output["pieces"].as_array().unwrap() {
            let (ids, _) = golden
                .encoder
                .untrusted(piece["text"].as_str().unwrap(), usize::MAX)
                .unwrap();
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
