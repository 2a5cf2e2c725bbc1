//! A report's numbers, computed once more from its levels with integers, by the formulas of domain.md.

use std::collections::HashMap;

use serde_json::Value;
use toml::Table;

use crate::common::repository;

/// What the rubric says of a stage.
struct Stage {
    area: String,
    competency: Option<String>,
}

struct Rubric(Table);

impl Rubric {
    fn load() -> Self {
        let text = std::fs::read_to_string(repository().join("models/prompts/rubric.toml")).unwrap();
        Self(text.parse().unwrap())
    }

    fn stage(&self, id: &str) -> Stage {
        let stage = &self.0["stages"][id.strip_suffix("_followup").unwrap_or(id)];
        Stage {
            area: stage["area"].as_str().unwrap().to_owned(),
            competency: stage.get("competency").map(|id| id.as_str().unwrap().to_owned()),
        }
    }

    fn areas(&self) -> &[toml::Value] {
        self.0["areas"].as_array().unwrap()
    }

    fn area(&self, id: &str) -> &toml::Value {
        self.areas()
            .iter()
            .find(|area| area["id"].as_str() == Some(id))
            .unwrap()
    }
}

/// A JSON number as the integer of `10^decimals`ths that it shows.
fn fixed(value: &Value, decimals: usize) -> i64 {
    let text = value.to_string();
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let rest = rest.trim_end_matches('0');
    assert!(rest.len() <= decimals, "{value} has more than {decimals} decimals");
    format!("{whole}{rest:0<decimals$}").parse().unwrap()
}

/// Hundredths of a point; `None` of null.
fn hundredths(value: &Value) -> Option<i64> {
    (!value.is_null()).then(|| fixed(value, 2))
}

fn divided_half_up(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

fn mean(scores: &[i64]) -> Option<i64> {
    let count = scores.len() as i64;
    (count > 0).then(|| divided_half_up(scores.iter().sum(), count))
}

/// Checks everything of a report that follows from its levels and from the interview as it was sent.
pub fn check(report: &Value, interview: &Value) {
    let rubric = Rubric::load();
    assert_eq!(report["interview_id"], interview["interview_id"]);
    let (sent, told) = (
        interview["answers"].as_array().unwrap(),
        report["answers"].as_array().unwrap(),
    );
    assert_eq!(sent.len(), told.len());
    for (index, (sent, told)) in sent.iter().zip(told).enumerate() {
        let id = sent
            .get("answer_id")
            .map_or(format!("a{}", index + 1), |id| id.as_str().unwrap().to_owned());
        assert_eq!(told["answer_id"], id.as_str(), "answers stand in the interview's order");
        check_answer(sent, told, &rubric);
    }
    let finals: Vec<_> = sent
        .iter()
        .zip(told)
        .map(|(sent, told)| check_final(sent, told, told_of(report), &rubric))
        .collect();
    check_means(report, sent, &finals, &rubric);
}

fn told_of(report: &Value) -> HashMap<&str, &Value> {
    let answers = report["answers"].as_array().unwrap();
    answers
        .iter()
        .map(|answer| (answer["answer_id"].as_str().unwrap(), answer))
        .collect()
}

/// The answer's criteria, quotes and score.
fn check_answer(sent: &Value, told: &Value, rubric: &Rubric) {
    let stage = rubric.stage(sent["stage"].as_str().unwrap());
    assert_eq!(
        (&told["stage"], told["area"].as_str()),
        (&sent["stage"], Some(stage.area.as_str()))
    );
    let text: Vec<char> = sent["answer"].as_str().unwrap().chars().collect();
    if told["state"] == "unscored" {
        assert!(
            ["score", "final_score", "criteria", "feedback"]
                .iter()
                .all(|field| told[*field].is_null()),
            "{told}"
        );
        assert!(told["reason"].is_string(), "{told}");
        return;
    }
    let wanted = rubric.area(&stage.area)["criteria"].as_array().unwrap();
    let criteria = told["criteria"].as_array().unwrap();
    assert_eq!(criteria.len(), wanted.len(), "{told}");
    let mut sum = 0;
    for (criterion, wanted) in criteria.iter().zip(wanted) {
        assert_eq!(criterion["name"].as_str(), wanted["name"].as_str());
        assert_eq!(criterion["points"].as_i64(), wanted["points"].as_integer());
        let score = wanted["points"].as_integer().unwrap() * (fixed(&criterion["level"], 3) - 1_000);
        assert_eq!(fixed(&criterion["score"], 2), divided_half_up(score, 40), "{criterion}");
        sum += fixed(&criterion["score"], 2);
        check_evidence(&criterion["evidence"], &text);
    }
    assert_eq!(fixed(&told["score"], 2), sum, "{told}");
    match told["state"].as_str().unwrap() {
        "gated" => check_gated(told),
        _ => check_scored(told),
    }
}

fn check_evidence(evidence: &Value, text: &[char]) {
    if evidence.is_null() {
        return;
    }
    let place = |field: &str| evidence[field].as_u64().unwrap() as usize;
    let (start, end) = (place("start"), place("end"));
    let quote: Vec<char> = evidence["quote"].as_str().unwrap().chars().collect();
    assert!(start < end && end - start <= 80, "{evidence}");
    assert_eq!(text[start..end], quote, "the quote is the slice");
    let first = text.windows(quote.len()).position(|window| window == quote);
    assert_eq!(first, Some(start), "it begins where the quote is first found");
}

fn check_gated(told: &Value) {
    assert_eq!(told["flags"], serde_json::json!(["no_answer"]));
    assert!(told["feedback"].is_null(), "{told}");
    for criterion in told["criteria"].as_array().unwrap() {
        assert_eq!(
            (fixed(&criterion["level"], 3), fixed(&criterion["level_sd"], 3)),
            (1_000, 0)
        );
        assert!(criterion["evidence"].is_null(), "{criterion}");
    }
    assert_eq!(told["timing"]["attempts"], 0);
}

fn check_scored(told: &Value) {
    let feedback = told["feedback"].as_str().unwrap();
    assert!((1..=300).contains(&feedback.chars().count()), "{feedback:?}");
    assert!(told["timing"]["attempts"].as_u64().unwrap() >= 1, "{told}");
    let is_cut = told["flags"].as_array().unwrap().contains(&"truncated".into());
    assert_eq!(is_cut, told.get("judged_code_points").is_some(), "{told}");
}

/// The follow-up rule. Gives the final score.
fn check_final(sent: &Value, told: &Value, by_id: HashMap<&str, &Value>, rubric: &Rubric) -> Option<i64> {
    let score = hundredths(&told["score"])?;
    let parent = sent.get("follow_up_of").and_then(Value::as_str).map(|id| by_id[id]);
    let adjustment = match parent {
        Some(parent) if parent["state"] == "scored" && told["state"] == "scored" => {
            let area = rubric.area(told["area"].as_str().unwrap());
            match score - fixed(&parent["score"], 2) {
                delta if delta > 500 => area["improved"].as_integer().unwrap(),
                delta if delta < -500 => -area["worsened"].as_integer().unwrap(),
                _ => 0,
            }
        }
        _ => 0,
    };
    assert_eq!(told["adjustment"], adjustment, "{told}");
    let last = (score + 100 * adjustment).clamp(0, 10_000);
    assert_eq!(hundredths(&told["final_score"]), Some(last), "{told}");
    Some(last)
}

/// Areas, competencies, overall and what is concluded from it.
fn check_means(report: &Value, sent: &[Value], finals: &[Option<i64>], rubric: &Rubric) {
    let stages: Vec<_> = sent
        .iter()
        .map(|answer| rubric.stage(answer["stage"].as_str().unwrap()))
        .collect();
    let of = |belongs: &dyn Fn(&Stage) -> bool| {
        let scores = stages.iter().zip(finals).filter(|(stage, _)| belongs(stage));
        mean(&scores.filter_map(|(_, score)| *score).collect::<Vec<_>>())
    };
    let (mut sum, mut weights) = (0, 0);
    let told = report["areas"].as_array().unwrap();
    assert_eq!(told.len(), rubric.areas().len());
    for (told, area) in told.iter().zip(rubric.areas()) {
        let id = area["id"].as_str().unwrap();
        assert_eq!(
            (told["area"].as_str(), told["name"].as_str()),
            (Some(id), area["name"].as_str())
        );
        let weight = (area["weight"].as_float().unwrap() * 10_000.0).round() as i64;
        assert_eq!(fixed(&told["weight"], 4), weight);
        let score = of(&|stage| stage.area == id);
        assert_eq!(hundredths(&told["score"]), score, "{told}");
        let inside = report["answers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|answer| answer["area"] == id);
        let inside: Vec<_> = inside.map(|answer| answer["answer_id"].clone()).collect();
        assert_eq!(told["answers"], Value::from(inside));
        if let Some(score) = score {
            sum += weight * score;
            weights += weight;
        }
    }
    for (id, told) in report["competencies"].as_object().unwrap() {
        assert_eq!(
            hundredths(told),
            of(&|stage| stage.competency.as_deref() == Some(id)),
            "{id}"
        );
    }
    let overall = (weights > 0).then(|| divided_half_up(sum, weights));
    assert_eq!(hundredths(&report["overall"]), overall);
    check_conclusions(report, overall, finals);
}

fn check_conclusions(report: &Value, overall: Option<i64>, finals: &[Option<i64>]) {
    let ended = finals.iter().flatten().count() as i64;
    let coverage = divided_half_up(1_000 * ended, finals.len() as i64);
    assert_eq!(fixed(&report["coverage"], 3), coverage);
    let status = if ended as usize == finals.len() {
        "complete"
    } else {
        "partial"
    };
    assert_eq!(report["status"], status);
    let band = overall.map(|overall| match overall {
        8_500.. => "excellent",
        7_000.. => "good",
        5_000.. => "fair",
        _ => "poor",
    });
    assert_eq!(report["band"].as_str(), band);
    let likelihood = overall.filter(|_| coverage >= 500).map(|overall| match overall {
        7_500.. => "High",
        6_000.. => "Medium",
        _ => "Low",
    });
    assert_eq!(report["pass_likelihood"].as_str(), likelihood);
    if let Some(narrative) = report["narrative"].as_object() {
        for field in ["strengths", "improvements"] {
            assert!(
                (2..=3).contains(&narrative[field].as_array().unwrap().len()),
                "{narrative:?}"
            );
        }
        let spoken = report["competencies"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, score)| !score.is_null());
        let spoken: Vec<_> = spoken.map(|(id, _)| id).collect();
        assert_eq!(
            narrative["competencies"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            spoken
        );
    }
    assert_eq!(report.get("narrative_reason").is_some(), report["narrative"].is_null());
}

#[test]
fn numbers_are_read_as_integers_of_their_last_decimal() {
    assert_eq!(fixed(&serde_json::json!(65.5), 2), 6_550);
    assert_eq!(fixed(&serde_json::json!(100.0), 2), 10_000);
    assert_eq!(fixed(&serde_json::json!(0), 3), 0);
    assert_eq!(
        (divided_half_up(5, 10), divided_half_up(49, 100), divided_half_up(3, 2)),
        (1, 0, 2)
    );
}
