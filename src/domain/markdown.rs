//! A report as Markdown (CommonMark with GitHub's tables), for people; what a candidate or a model wrote stays text, whatever it looks like.

use std::fmt::Write;

use serde::Serialize;

use super::fold::{Band, PassLikelihood};
use super::outcome::{CriterionScore, Flag};
use super::report::{AnswerReport, Narrative, Report, Status};
use super::rubric::Rubric;
use super::score::Score;
use super::state::AnswerState;

/// Shown where there is no number.
const NONE: &str = "–";

/// Writes a report. `rubric` gives names to stages and competencies; what it does not know is shown by its id.
pub fn render(report: &Report, rubric: &Rubric) -> String {
    let mut out = String::new();
    head(&mut out, report);
    narrative(&mut out, report);
    areas(&mut out, report);
    competencies(&mut out, report, rubric);
    line(&mut out, "## 답변 Answers\n");
    for answer in &report.answers {
        one_answer(&mut out, answer, rubric);
    }
    provenance(&mut out, report);
    out
}

/// The name of a stage, follow-ups marked; the id if the rubric has no such stage.
pub fn stage_name(rubric: &Rubric, id: &str) -> String {
    match rubric.stage(id) {
        Some(stage) if stage.is_follow_up => format!("{} · 추가 질문", stage.name),
        Some(stage) => stage.name.to_owned(),
        None => id.to_owned(),
    }
}

/// The name of a competency; the id if the rubric has no such competency.
pub fn competency_name<'a>(rubric: &'a Rubric, id: &'a str) -> &'a str {
    rubric.competencies.get(id).map_or(id, |named| named.name.as_str())
}

pub fn band_name(band: Band) -> &'static str {
    match band {
        Band::Excellent => "excellent",
        Band::Good => "good",
        Band::Fair => "fair",
        Band::Poor => "poor",
    }
}

pub fn likelihood_name(likelihood: PassLikelihood) -> &'static str {
    match likelihood {
        PassLikelihood::High => "High",
        PassLikelihood::Medium => "Medium",
        PassLikelihood::Low => "Low",
    }
}

pub fn status_name(status: Status) -> &'static str {
    match status {
        Status::Complete => "complete",
        Status::Partial => "partial",
    }
}

/// What a flag says, for people.
pub fn flag_name(flag: Flag) -> &'static str {
    match flag {
        Flag::NoAnswer => "no answer",
        Flag::Truncated => "truncated",
        Flag::VeryShort => "very short",
        Flag::Refusal => "does not know",
        Flag::RepeatsQuestion => "repeats the question",
    }
}

/// A share from 0 to 1 in percent with at most one decimal.
pub fn percent(share: f64) -> String {
    let tenths = (share * 1_000.0).round() as i64;
    match tenths % 10 {
        0 => format!("{} %", tenths / 10),
        rest => format!("{}.{rest} %", tenths / 10),
    }
}

fn head(out: &mut String, report: &Report) {
    line(
        out,
        &format!("# 면접 리포트 · {}\n", escape(report.interview_id.as_str())),
    );
    let ended = report
        .answers
        .iter()
        .filter(|a| a.state != AnswerState::Unscored)
        .count();
    let status = format!(
        "{} ({ended} of {} answers judged, {})",
        status_name(report.status),
        report.answers.len(),
        percent(report.coverage)
    );
    let overall = report
        .overall
        .map_or(NONE.to_owned(), |score| format!("**{score}** / 100"));
    row(out, &["종합 Overall", &overall]);
    row(out, &["---", "---"]);
    row(out, &["등급 Band", report.band.map_or(NONE, band_name)]);
    row(
        out,
        &[
            "합격 가능성 Pass likelihood",
            report.pass_likelihood.map_or(NONE, likelihood_name),
        ],
    );
    row(out, &["상태 Status", &status]);
    row(out, &["제출 Submitted", &report.submitted_at.to_string()]);
    row(out, &["완료 Finished", &report.finished_at.to_string()]);
    line(out, "");
}

fn narrative(out: &mut String, report: &Report) {
    line(out, "## 총평 Summary\n");
    let Some(Narrative {
        summary,
        strengths,
        improvements,
        ..
    }) = &report.narrative
    else {
        let reason = report.narrative_reason.as_deref().unwrap_or("no reason was recorded");
        line(out, &format!("*없음 Not written:* {}\n", escape(reason)));
        return;
    };
    line(out, &format!("{}\n", escape(summary)));
    for (title, points) in [("강점 Strengths", strengths), ("개선점 Improvements", improvements)] {
        line(out, &format!("### {title}\n"));
        for point in points {
            line(out, &format!("- {}", escape(point)));
        }
        line(out, "");
    }
}

fn areas(out: &mut String, report: &Report) {
    line(out, "## 영역 Areas\n");
    row(out, &["영역 Area", "비중 Weight", "점수 Score", "답변 Answers"]);
    row(out, &["---", "---:", "---:", "---"]);
    for area in &report.areas {
        let ids: Vec<_> = area.answers.iter().map(|id| escape(id.as_str())).collect();
        let name = format!("{} {}", escape(&area.area), escape(&area.name));
        row(
            out,
            &[&name, &percent(area.weight), &shown(area.score), &ids.join(", ")],
        );
    }
    line(out, "");
}

fn competencies(out: &mut String, report: &Report, rubric: &Rubric) {
    line(out, "## 역량 Competencies\n");
    row(out, &["역량 Competency", "점수 Score", "피드백 Feedback"]);
    row(out, &["---", "---:", "---"]);
    for (id, score) in &report.competencies {
        let words = report
            .narrative
            .as_ref()
            .and_then(|narrative| narrative.competencies.get(id));
        let words = words.map_or(NONE.to_owned(), |words| escape(words));
        row(out, &[&escape(competency_name(rubric, id)), &shown(*score), &words]);
    }
    line(out, "");
}

fn one_answer(out: &mut String, answer: &AnswerReport, rubric: &Rubric) {
    let id = escape(answer.answer_id.as_str());
    let stage = escape(&stage_name(rubric, &answer.stage));
    line(
        out,
        &format!("### {id} · {stage} · {} · {}\n", escape(&answer.area), result(answer)),
    );
    if let Some(reason) = &answer.reason {
        line(out, &format!("이유 Reason: {}\n", escape(reason)));
    }
    let mut flags: Vec<_> = answer.flags.iter().map(|flag| flag_name(*flag).to_owned()).collect();
    if let Some(judged) = answer.judged_code_points {
        flags.push(format!("{judged} characters judged"));
    }
    if !flags.is_empty() {
        line(out, &format!("표시 Flags: {}\n", flags.join(", ")));
    }
    if let Some(criteria) = &answer.criteria {
        row(
            out,
            &[
                "기준 Criterion",
                "배점 Points",
                "수준 Level",
                "점수 Score",
                "근거 Evidence",
            ],
        );
        row(out, &["---", "---:", "---:", "---:", "---"]);
        for criterion in criteria {
            one_criterion(out, criterion);
        }
        line(out, "");
    }
    if let Some(feedback) = &answer.feedback {
        line(out, &format!("{}\n", escape(feedback)));
    }
}

/// The score with what the follow-up rule did to it, or that there is none.
fn result(answer: &AnswerReport) -> String {
    match (answer.state, answer.score, answer.final_score) {
        (AnswerState::Unscored, ..) => "unscored".to_owned(),
        (_, Some(score), Some(last)) if answer.adjustment != 0 => {
            format!("{last} ({score} {:+})", answer.adjustment)
        }
        (_, _, last) => shown(last),
    }
}

fn one_criterion(out: &mut String, criterion: &CriterionScore) {
    let quote = match &criterion.evidence {
        Some(evidence) => format!("“{}”", escape(&evidence.quote)),
        None => NONE.to_owned(),
    };
    let level = format!("{} ± {}", number(&criterion.level), number(&criterion.level_sd));
    let (points, score) = (criterion.points.to_string(), criterion.score.to_string());
    row(out, &[&escape(&criterion.name), &points, &level, &score, &quote]);
}

fn provenance(out: &mut String, report: &Report) {
    let made = &report.provenance;
    line(out, "## 출처 Provenance\n");
    let model = format!("{} ({})", escape(&made.model.name), escape(&made.model.hash));
    let rubric = format!(
        "{} v{} ({})",
        escape(&made.rubric.id),
        made.rubric.version,
        escape(&made.rubric.hash)
    );
    let engine = format!(
        "{} on {}, {}, ONNX Runtime {}",
        escape(&made.engine.provider),
        escape(&made.engine.device),
        escape(&made.engine.precision),
        escape(&made.engine.onnxruntime)
    );
    line(out, &format!("- Model: {model}"));
    for other in &made.other_models {
        line(out, &format!("- Some answers by another model: {}", escape(other)));
    }
    line(out, &format!("- Rubric: {rubric}, prompt v{}", made.prompt.version));
    line(out, &format!("- Engine: {engine}"));
    line(
        out,
        &format!("- interviewd {}, {} ms", escape(&made.interviewd), report.took_ms),
    );
}

fn shown(score: Option<Score>) -> String {
    score.map_or(NONE.to_owned(), |score| score.to_string())
}

/// A number as the report's JSON shows it.
fn number<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| NONE.to_owned())
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a String does not fail");
}

fn row(out: &mut String, cells: &[&str]) {
    line(out, &format!("| {} |", cells.join(" | ")));
}

/// Makes any text one line that Markdown shows as it is: no HTML, no table cells, no links, no headings, no code.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut characters = text.split_whitespace().collect::<Vec<_>>().join(" ");
    characters.retain(|c| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    let numbered = characters
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .starts_with(['.', ')']);
    let mut behind_number = numbered;
    for (index, c) in characters.char_indices() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // Not all renderers agree on what ends a cell behind a backslash.
            '|' => escaped.push_str("&#124;"),
            '\\' => escaped.push_str("&#92;"),
            // A list, a rule or an underlined heading only at the beginning of a line.
            '-' | '+' | '=' if index == 0 => escape_with_backslash(&mut escaped, c),
            '.' | ')' if behind_number => {
                escape_with_backslash(&mut escaped, c);
                behind_number = false;
            }
            // Behind `https` and `www` GitHub would make a link of it.
            ':' if characters[index..].starts_with("://") => escape_with_backslash(&mut escaped, c),
            '.' if characters[..index].to_ascii_lowercase().ends_with("www") => escape_with_backslash(&mut escaped, c),
            '`' | '*' | '_' | '[' | ']' | '#' | '~' | '!' | '$' => escape_with_backslash(&mut escaped, c),
            c => escaped.push(c),
        }
    }
    escaped
}

fn escape_with_backslash(escaped: &mut String, c: char) {
    escaped.push('\\');
    escaped.push(c);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::rubric::DEFAULT;
    use super::*;

    const SAMPLE: &str = r#"{
"interview_id": "iv-001", "status": "partial", "coverage": 0.75, "overall": 72.5, "band": "good", "pass_likelihood": "Medium",
"areas":[
{"area": "A", "name": "자기 표현·기본 커뮤니케이션", "weight": 0.15, "score": 68.75, "answers": ["a1", "a4"]},
{"area": "B", "name": "지원 동기·회사 적합성", "weight": 0.15, "score": null, "answers": []},
{"area": "C", "name": "직무 지식 이해도", "weight": 0.2, "score": 75.25, "answers": ["a2", "a3"]},
{"area": "D", "name": "직무 경험·문제 해결", "weight": 0.3, "score": null, "answers": []},
{"area": "E", "name": "인성·성장 가능성", "weight": 0.2, "score": null, "answers": []}],
"competencies":{"technical": 75.25, "experience": null, "problem_solving": null, "communication": 68.75, "responsibility": null, "growth": null},
"answers":[
{"answer_id": "a1", "stage": "intro", "area": "A", "state": "scored", "score": 68.75, "final_score": 68.75, "adjustment": 0, "criteria":[
 {"name": "논리적 구조", "points": 40, "level": 4.0, "level_sd": 0.5, "score": 30.0, "evidence": {"quote": "제 강점은 두 가지입니다", "start": 0, "end": 13}},
 {"name": "핵심 전달력", "points": 40, "level": 3.5, "level_sd": 0.6, "score": 25.0, "evidence": null},
 {"name": "질문 의도 파악", "points": 20, "level": 3.75, "level_sd": 0.433, "score": 13.75, "evidence": {"quote": "김하늘입니다", "start": 0, "end": 6}}],
"feedback": "구조가 분명하고 강점이 근거와 함께 나옵니다. 마지막 문장을 지원한 직무와 이어 말하면 더 오래 남을 것입니다.", "flags": [],
"timing": {"queued_ms": 12, "prefill_ms": 900, "decode_ms": 8000, "tokens_in": 700, "tokens_out": 180, "attempts": 1}},
{"answer_id": "a2", "stage": "skill", "area": "C", "state": "scored", "score": 65.0, "final_score": 65.0, "adjustment": 0, "criteria":[
 {"name": "개념의 정확성", "points": 50, "level": 4.0, "level_sd": 0.471, "score": 37.5, "evidence": {"quote": "재고 결과를 비교했습니다", "start": 0, "end": 13}},
 {"name": "논리성", "points": 30, "level": 3.0, "level_sd": 0.2, "score": 15.0, "evidence": null},
 {"name": "용어 활용력", "points": 20, "level": 3.5, "level_sd": 0.1, "score": 12.5, "evidence": null}],
"feedback": "개념은 맞지만 왜 그런지가 빠졌습니다.", "flags": ["truncated"], "judged_code_points": 310,
"timing": {"queued_ms": 12, "prefill_ms": 900, "decode_ms": 8000, "tokens_in": 700, "tokens_out": 180, "attempts": 1}},
{"answer_id": "a3", "stage": "skill_followup", "area": "C", "state": "scored", "score": 75.5, "final_score": 85.5, "adjustment": 10, "criteria":[
 {"name": "개념의 정확성", "points": 50, "level": 4.2, "level_sd": 0.4, "score": 40.0, "evidence": null},
 {"name": "논리성", "points": 30, "level": 3.8, "level_sd": 0.3, "score": 21.0, "evidence": {"quote": "잠금 순서를 맞췄습니다", "start": 0, "end": 12}},
 {"name": "용어 활용력", "points": 20, "level": 3.9, "level_sd": 0.3, "score": 14.5, "evidence": null}],
"feedback": "앞 답변에서 빠졌던 이유를 스스로 채웠습니다.", "flags": [],
"timing": {"queued_ms": 12, "prefill_ms": 900, "decode_ms": 8000, "tokens_in": 700, "tokens_out": 180, "attempts": 2}},
{"answer_id": "a4", "stage": "final_statement", "area": "A", "state": "unscored", "score": null, "final_score": null, "adjustment": 0, "criteria":null,
"feedback": null, "flags": [], "reason": "the engine went down 3 times while this answer ran alone",
"timing": {"queued_ms": 12, "prefill_ms": 900, "decode_ms": 8000, "tokens_in": 700, "tokens_out": 180, "attempts": 3}}],
"narrative":{
"summary":"차분하고 근거가 있는 지원자입니다. 개념을 정확히 알고, 물어보면 이유까지 설명할 수 있습니다.",
"strengths":["먼저 재 보고 말합니다.", "추가 질문에서 더 나아졌습니다."],
"improvements":["첫 답변부터 이유를 말해 보세요.", "마무리를 직무와 이어 보세요."],
"competencies":{"technical": "개념을 정확히 압니다.", "communication": "강점이 근거와 함께 나옵니다."}
},
"provenance":{
"model":{"name": "interviewd-demo", "hash": "abababababababababababababababababababababababababababababababab"},
"rubric":{"id": "interviewd-ko", "version": 1, "hash": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},
"prompt":{"version": 1, "budgets": {"score.answer": 152}},
"engine":{"provider": "cpu", "device": "x86_64 AVX512-VNNI", "onnxruntime": "1.31.1", "precision": "int8"},
"interviewd":"0.1.0"
},
"submitted_at":"2026-01-31T09:00:00.000Z","finished_at":"2026-01-31T09:00:33.249Z","took_ms":33249
}"#;

    /// Four answers: two first ones, a better follow-up, one that could not be scored.
    pub(crate) fn sample() -> Report {
        serde_json::from_str(SAMPLE).expect("the sample is a report")
    }

    fn rendered(report: &Report) -> String {
        render(report, &Rubric::parse(DEFAULT).unwrap())
    }

    #[test]
    fn everything_of_a_report_is_there() {
        let text = rendered(&sample());
        for part in [
            "# 면접 리포트 · iv-001",
            "| 종합 Overall | **72.5** / 100 |",
            "| 등급 Band | good |",
            "| 합격 가능성 Pass likelihood | Medium |",
            "| 상태 Status | partial (3 of 4 answers judged, 75 %) |",
            "| C 직무 지식 이해도 | 20 % | 75.25 | a2, a3 |",
            "| 직무 전문성 | 75.25 | 개념을 정확히 압니다. |",
            "### a3 · 직무지식 · 추가 질문 · C · 85.5 (75.5 +10)",
            "| 개념의 정확성 | 50 | 4.0 ± 0.471 | 37.5 | “재고 결과를 비교했습니다” |",
            "### a4 · 최종 발언 · A · unscored",
            "이유 Reason: the engine went down 3 times while this answer ran alone",
            "- Rubric: interviewd-ko v1",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn no_number_is_invented_where_there_is_none() {
        let mut report = sample();
        report.overall = None;
        report.band = None;
        report.pass_likelihood = None;
        report.areas[0].score = None;
        report.narrative = None;
        report.narrative_reason = Some("the deadline passed".to_owned());
        let text = rendered(&report);
        assert!(text.contains("| 종합 Overall | – |"));
        assert!(text.contains("| 등급 Band | – |"));
        assert!(text.contains("*없음 Not written:* the deadline passed"));
        assert!(text.contains("| A 자기 표현·기본 커뮤니케이션 | 15 % | – | a1, a4 |"));
        let unscored = text.split("### a4").nth(1).unwrap().split("## 출처").next().unwrap();
        assert!(
            !unscored.contains('|'),
            "an unscored answer has no criteria: {unscored}"
        );
    }

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "# <script>alert(1)</script> | a | `b` **c** [d](javascript:e) ![f](g)\n\n- h\r\n<!-- i --> https://j.k www.l.m \u{202e}n\u{7}";
        let mut report = sample();
        report.answers[0].feedback = Some(hostile.to_owned());
        report.answers[0].criteria.as_mut().unwrap()[0]
            .evidence
            .as_mut()
            .unwrap()
            .quote = hostile.to_owned();
        let narrative = report.narrative.as_mut().unwrap();
        narrative.summary = hostile.to_owned();
        narrative.strengths[0] = "1. ---".to_owned();
        narrative.improvements[0] = "--- rule".to_owned();
        let text = rendered(&report);
        let safe = "\\# &lt;script&gt;alert(1)&lt;/script&gt; &#124; a &#124; \\`b\\` \\*\\*c\\*\\* \\[d\\](javascript:e) \\!\\[f\\](g) - h &lt;\\!-- i --&gt; https\\://j.k www\\.l.m n";
        assert_eq!(text.matches(safe).count(), 3, "{text}");
        assert!(text.contains("- 1\\. ---") && text.contains("- \\--- rule"), "{text}");
        assert!(!text.contains("<script") && !text.contains("<!--"));
    }

    #[test]
    fn a_table_keeps_its_columns_whatever_a_cell_holds() {
        for quote in ["a|b", "a\\|b", "a\\\\|b", "\\", "|\n|"] {
            let mut report = sample();
            report.answers[0].criteria.as_mut().unwrap()[0]
                .evidence
                .as_mut()
                .unwrap()
                .quote = quote.to_owned();
            let text = rendered(&report);
            let line = text.lines().find(|line| line.starts_with("| 논리적 구조")).unwrap();
            assert_eq!(line.matches('|').count(), 6, "{line}");
            assert!(!line.contains('\\'), "{line}");
        }
    }

    #[test]
    fn shares_are_shown_in_percent() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.941), "94.1 %");
        assert_eq!(percent(0.15), "15 %");
    }
}
