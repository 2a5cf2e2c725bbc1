//! The objects of protocol.md, field for field: names, types, what may be null, how many decimals.

use serde_json::{Value, json};

/// Fails unless `value` has exactly the fields and types of `spec`.
///
/// A spec is a word for a type (`a|b`: either; `=x`: just that text), a list of one spec, a list of two (either), or an object: a name that ends
/// in `?` may be left out, and `*` stands for any name.
pub fn assert_shape(value: &Value, spec: &Value) {
    if let Err(problem) = check(value, spec, "$") {
        panic!("{problem} in {value:#}");
    }
}

fn check(value: &Value, spec: &Value, path: &str) -> Result<(), String> {
    match spec {
        Value::String(words) => match words.split('|').any(|word| is(value, word)) {
            true => Ok(()),
            false => Err(format!("{path}: {value} is not {words}")),
        },
        Value::Array(specs) if specs.len() == 2 => {
            check(value, &specs[0], path).or_else(|_| check(value, &specs[1], path))
        }
        Value::Array(specs) => {
            let items = value.as_array().ok_or_else(|| format!("{path}: {value} is no list"))?;
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| check(item, &specs[0], &format!("{path}[{index}]")))
        }
        Value::Object(fields) => {
            let object = value
                .as_object()
                .ok_or_else(|| format!("{path}: {value} is no object"))?;
            for name in object.keys() {
                let known = [name.clone(), format!("{name}?"), "*".to_owned()];
                let Some(spec) = known.iter().find_map(|name| fields.get(name)) else {
                    return Err(format!("{path}.{name} should not be there"));
                };
                check(&object[name], spec, &format!("{path}.{name}"))?;
            }
            let mut needed = fields.keys().filter(|name| !name.ends_with('?') && *name != "*");
            match needed.find(|name| !object.contains_key(*name)) {
                Some(missing) => Err(format!("{path}.{missing} is missing")),
                None => Ok(()),
            }
        }
        other => panic!("{other} is no spec"),
    }
}

fn is(value: &Value, word: &str) -> bool {
    let text = value.as_str();
    let within = |low: f64, high: f64| value.as_f64().is_some_and(|number| (low..=high).contains(&number));
    match word {
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "string" => text.is_some(),
        "count" => value.is_u64(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "score" => within(0.0, 100.0) && decimals(value) <= 2,
        "share" => within(0.0, 1.0) && decimals(value) <= 3,
        "weight" => within(0.0, 1.0) && decimals(value) <= 4,
        "level" => within(1.0, 5.0) && decimals(value) <= 3,
        "sd" => within(0.0, 2.0) && decimals(value) <= 3,
        "time" => text.is_some_and(is_time),
        "hash" => text.is_some_and(|text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())),
        literal => text == literal.strip_prefix('='),
    }
}

/// How many decimals a number is written with; a whole one may be written as `80.0`.
fn decimals(number: &Value) -> usize {
    let text = number.to_string();
    assert!(!text.contains(['e', 'E']), "{text}");
    text.split_once('.')
        .map_or(0, |(_, decimals)| decimals.trim_end_matches('0').len())
}

/// `2026-01-31T09:00:00.000Z`.
fn is_time(text: &str) -> bool {
    let digits_replaced: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    digits_replaced == "0000-00-00T00:00:00.000Z"
}

pub fn interview_view() -> Value {
    json!({
        "interview_id": "string", "state": INTERVIEW_STATE, "done": "count", "total": "count",
        "answers": [{
            "answer_id": "string", "state": "=queued|=running|=scored|=gated|=unscored|=cancelled", "score?": "score",
            "attempts": "count", "reason?": "string",
        }],
        "submitted_at": "time", "finished_at?": "time",
    })
}

pub fn list() -> Value {
    json!({
        "interviews": [{
            "interview_id": "string", "state": INTERVIEW_STATE, "done": "count", "total": "count", "submitted_at": "time",
        }],
        "next?": "string",
    })
}

pub fn report() -> Value {
    let competencies = |of: &str| {
        let names = [
            "technical",
            "experience",
            "problem_solving",
            "communication",
            "responsibility",
            "growth",
        ];
        Value::Object(names.iter().map(|name| ((*name).to_owned(), json!(of))).collect())
    };
    let criterion = json!({
        "name": "string", "points": "count", "level": "level", "level_sd": "sd", "score": "score",
        "evidence": ["null", {"quote": "string", "start": "count", "end": "count"}],
    });
    let answer = json!({
        "answer_id": "string", "stage": "string", "area": "=A|=B|=C|=D|=E", "state": "=scored|=gated|=unscored",
        "score": "score|null", "final_score": "score|null", "adjustment": "integer", "criteria": ["null", [criterion]],
        "feedback": "string|null", "flags": ["=no_answer|=truncated|=very_short|=refusal|=repeats_question"],
        "judged_code_points?": "count", "reason?": "string",
        "timing": {
            "queued_ms": "count", "prefill_ms": "count", "decode_ms": "count", "tokens_in": "count", "tokens_out": "count",
            "attempts": "count",
        },
    });
    json!({
        "interview_id": "string", "status": "=complete|=partial", "coverage": "share", "overall": "score|null",
        "band": "=excellent|=good|=fair|=poor|null", "pass_likelihood": "=High|=Medium|=Low|null",
        "areas": [{"area": "string", "name": "string", "weight": "weight", "score": "score|null", "answers": ["string"]}],
        "competencies": competencies("score|null"),
        "answers": [answer],
        "narrative": ["null", {
            "summary": "string", "strengths": ["string"], "improvements": ["string"], "competencies": {"*": "string"},
        }],
        "narrative_reason?": "string",
        "provenance": {
            "model": {"name": "string", "hash": "hash"},
            "rubric": {"id": "string", "version": "count", "hash": "hash"},
            "prompt": {"version": "count", "budgets": {"*": "count"}},
            "engine": {"provider": "string", "device": "string", "onnxruntime": "string", "precision": "string"},
            "interviewd": "string",
        },
        "submitted_at": "time", "finished_at": "time", "took_ms": "count",
    })
}

pub fn status() -> Value {
    let slot = json!({
        "slot": "count", "interview_id": "string", "answer_id": "string|null", "phase": "string", "tokens_done": "count",
    });
    let actor = json!({
        "id": "count", "device": "string", "state": "string", "slots": "count", "slots_busy": "count", "queue": "count",
        "steps": "count", "tokens_per_s": "number", "restarts": "count", "last_error?": "string", "slot_table": [slot],
    });
    json!({
        "version": "string", "uptime_s": "count", "state": "=starting|=ready|=degraded|=draining", "reason?": "string",
        "model": ["null", {
            "name": "string", "hash": "hash", "precision": "string", "context_tokens": "count", "demo": "bool",
        }],
        "devices": [{
            "kind": "=cpu|=cuda", "index": "count", "name": "string", "memory_total_mib": "count",
            "memory_free_mib": "count", "budget_mib": "count",
        }],
        "pool": {"planned_actors": "count", "actors": [actor]},
        "queue": {"interviews": "count", "answers": "count", "max": "count", "oldest_wait_s": "count"},
        "interviews": {
            "open": "count", "scoring": "count", "reporting": "count", "complete": "count", "partial": "count",
            "cancelled": "count",
        },
        "totals": {
            "answers_scored": "count", "answers_unscored": "count", "reports": "count", "tokens_in": "count",
            "tokens_out": "count",
        },
        "store": {"path": "string", "size_bytes": "count", "free_bytes": "count"},
        "connections": "count",
    })
}

const INTERVIEW_STATE: &str = "=open|=scoring|=reporting|=complete|=partial|=cancelled";

#[test]
fn shapes_are_exact() {
    let spec = json!({"a": "score", "b?": ["null", {"c": "=x|null"}], "d": ["time"]});
    let fits = |value: Value| check(&value, &spec, "$").is_ok();
    assert!(fits(
        json!({"a": 65.5, "b": {"c": null}, "d": ["2026-01-31T09:00:00.000Z"]})
    ));
    assert!(fits(json!({"a": 100.0, "d": []})));
    for wrong in [
        json!({"a": 65.555, "d": []}),
        json!({"a": 65.5}),
        json!({"a": 65.5, "d": [], "e": 1}),
        json!({"a": 65.5, "d": ["2026-01-31T09:00:00Z"]}),
        json!({"a": 65.5, "d": [], "b": {"c": "y"}}),
        json!({"a": "65.5", "d": []}),
    ] {
        assert!(!fits(wrong.clone()), "{wrong}");
    }
}
