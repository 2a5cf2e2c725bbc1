//! A report as Markdown (CommonMark with GitHub's tables), for people; what a candidate or a model wrote stays text, whatever it looks like.

use std::fmt::Write;

use super::interview::Language;
use super::outcome::CriterionScore;
use super::report::{AnswerReport, Narrative, Report};
use super::rubric::Rubric;
use super::score::Score;
use super::state::AnswerState;
use super::wording::{
    answers_judged, area_name, band_name, characters_judged, competency_name, flag_name, follow_up_sum, language_of,
    likelihood_name, percent, stage_name, status_name,
};

/// Shown where there is no number.
const NONE: &str = "–";

/// Writes a report, all of it in the language of its own words. `rubric` gives names to stages and competencies; what it does not know is shown
/// by its id.
pub fn render(report: &Report, rubric: &Rubric) -> String {
    let mut out = String::new();
    let language = language_of(report);
    head(&mut out, report, language);
    narrative(&mut out, report, language);
    areas(&mut out, report, rubric, language);
    competencies(&mut out, report, rubric, language);
    section(&mut out, language.say("답변", "Answers"));
    for answer in &report.answers {
        one_answer(&mut out, answer, rubric, language);
    }
    provenance(&mut out, report, language);
    out
}

fn head(out: &mut String, report: &Report, language: Language) {
    let title = language.say("면접 리포트", "Interview report");
    line(out, &format!("# {title} · {}\n", escape(report.interview_id.as_str())));
    let judged = |answer: &&AnswerReport| answer.state != AnswerState::Unscored;
    let judged = report.answers.iter().filter(judged).count();
    let status = format!(
        "{} ({})",
        status_name(report.status, language),
        answers_judged(report, judged, language)
    );
    let overall = report
        .overall
        .map_or(NONE.to_owned(), |score| format!("**{score:.2}** / 100"));
    let band = report.band.map_or(NONE, |band| band_name(band, language));
    let likelihood = report
        .pass_likelihood
        .map_or(NONE, |pass| likelihood_name(pass, language));
    row(out, &[language.say("종합", "Overall"), &overall]);
    row(out, &["---", "---"]);
    row(out, &[language.say("등급", "Band"), band]);
    row(out, &[language.say("합격 가능성", "Pass likelihood"), likelihood]);
    row(out, &[language.say("상태", "Status"), &status]);
    row(
        out,
        &[language.say("제출", "Submitted"), &report.submitted_at.to_string()],
    );
    row(
        out,
        &[language.say("완료", "Finished"), &report.finished_at.to_string()],
    );
    line(out, "");
}

fn narrative(out: &mut String, report: &Report, language: Language) {
    section(out, language.say("총평", "Summary"));
    let Some(Narrative {
        summary,
        strengths,
        improvements,
        ..
    }) = &report.narrative
    else {
        let reason = report.narrative_reason.as_deref().unwrap_or("no reason was recorded");
        let none = language.say("작성하지 못함", "Not written");
        line(out, &format!("*{none}:* {}\n", escape(reason)));
        return;
    };
    line(out, &format!("{}\n", escape(summary)));
    for (title, points) in [
        (language.say("강점", "Strengths"), strengths),
        (language.say("개선점", "Improvements"), improvements),
    ] {
        line(out, &format!("### {title}\n"));
        for point in points {
            line(out, &format!("- {}", escape(point)));
        }
        line(out, "");
    }
}

fn areas(out: &mut String, report: &Report, rubric: &Rubric, language: Language) {
    section(out, language.say("영역", "Areas"));
    let header = [
        ("영역", "Area"),
        ("비중", "Weight"),
        ("점수", "Score"),
        ("답변", "Answers"),
    ];
    row(out, &header.map(|(korean, english)| language.say(korean, english)));
    row(out, &["---", "---:", "---:", "---"]);
    for area in &report.areas {
        let ids: Vec<_> = area.answers.iter().map(|id| escape(id.as_str())).collect();
        let name = format!("{} {}", escape(&area.area), escape(area_name(rubric, area, language)));
        row(
            out,
            &[&name, &percent(area.weight), &shown(area.score), &ids.join(", ")],
        );
    }
    line(out, "");
}

fn competencies(out: &mut String, report: &Report, rubric: &Rubric, language: Language) {
    section(out, language.say("역량", "Competencies"));
    let header = [("역량", "Competency"), ("점수", "Score"), ("피드백", "Feedback")];
    row(out, &header.map(|(korean, english)| language.say(korean, english)));
    row(out, &["---", "---:", "---"]);
    for (id, score) in &report.competencies {
        let words = report
            .narrative
            .as_ref()
            .and_then(|narrative| narrative.competencies.get(id));
        let words = words.map_or(NONE.to_owned(), |words| escape(words));
        let name = escape(competency_name(rubric, id, language));
        row(out, &[&name, &shown(*score), &words]);
    }
    line(out, "");
}

fn one_answer(out: &mut String, answer: &AnswerReport, rubric: &Rubric, language: Language) {
    let id = escape(answer.answer_id.as_str());
    let stage = escape(&stage_name(rubric, &answer.stage, language));
    let result = result(answer, language);
    line(
        out,
        &format!("### {id} · {stage} · {} · {result}\n", escape(&answer.area)),
    );
    if let Some(reason) = &answer.reason {
        line(
            out,
            &format!("{}: {}\n", language.say("이유", "Reason"), escape(reason)),
        );
    }
    let mut flags: Vec<_> = answer
        .flags
        .iter()
        .map(|flag| flag_name(*flag, language).to_owned())
        .collect();
    flags.extend(
        answer
            .judged_code_points
            .map(|judged| characters_judged(judged, language)),
    );
    if !flags.is_empty() {
        line(
            out,
            &format!("{}: {}\n", language.say("표시", "Flags"), flags.join(", ")),
        );
    }
    if let Some(criteria) = &answer.criteria {
        let header = [
            ("기준", "Criterion"),
            ("배점", "Points"),
            ("수준", "Level"),
            ("점수", "Score"),
            ("근거", "Evidence"),
        ];
        row(out, &header.map(|(korean, english)| language.say(korean, english)));
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
fn result(answer: &AnswerReport, language: Language) -> String {
    if answer.state == AnswerState::Unscored {
        return language.say("채점하지 못함", "unscored").to_owned();
    }
    let last = shown(answer.final_score);
    match follow_up_sum(answer) {
        Some(sum) => format!("{last} ({sum})"),
        None => last,
    }
}

fn one_criterion(out: &mut String, criterion: &CriterionScore) {
    let quote = match &criterion.evidence {
        Some(evidence) => format!("“{}”", escape(&evidence.quote)),
        None => NONE.to_owned(),
    };
    let level = format!("{} ± {}", criterion.level, criterion.level_sd);
    let (points, score) = (criterion.points.to_string(), shown(Some(criterion.score)));
    row(out, &[&escape(&criterion.name), &points, &level, &score, &quote]);
}

fn provenance(out: &mut String, report: &Report, language: Language) {
    let made = &report.provenance;
    section(out, language.say("출처", "Provenance"));
    let model = language.say("모델", "Model");
    line(
        out,
        &format!("- {model}: {} ({})", code(&made.model.name), code(&made.model.hash)),
    );
    let other = language.say(
        "일부 답변을 채점한 다른 모델",
        "Another model, which judged some answers",
    );
    for hash in &made.other_models {
        line(out, &format!("- {other}: {}", code(hash)));
    }
    line(
        out,
        &format!(
            "- {}: {} v{} ({}), {} v{}",
            language.say("평가 기준", "Rubric"),
            code(&made.rubric.id),
            made.rubric.version,
            code(&made.rubric.hash),
            language.say("프롬프트", "prompt"),
            made.prompt.version
        ),
    );
    let engine = [&made.engine.provider, &made.engine.device, &made.engine.precision].map(|part| code(part));
    line(
        out,
        &format!(
            "- {}: {}, ONNX Runtime {}",
            language.say("엔진", "Engine"),
            engine.join(", "),
            code(&made.engine.onnxruntime)
        ),
    );
    line(
        out,
        &format!("- interviewd {}, {} ms", code(&made.interviewd), report.took_ms),
    );
}

fn section(out: &mut String, title: &str) {
    line(out, &format!("## {title}\n"));
}

/// Two decimals, so that columns line up.
fn shown(score: Option<Score>) -> String {
    score.map_or(NONE.to_owned(), |score| format!("{score:.2}"))
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a String does not fail");
}

fn row(out: &mut String, cells: &[&str]) {
    line(out, &format!("| {} |", cells.join(" | ")));
}

/// Any text as a code span: shown as it is, with nothing to escape, in a fence that is longer than all of its own backticks.
fn code(text: &str) -> String {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    match text.is_empty() || text.starts_with('`') || text.ends_with('`') {
        true => format!("{fence} {text} {fence}"),
        false => format!("{fence}{text}{fence}"),
    }
}

/// One line without characters that nobody sees.
fn visible(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.retain(|c| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    text
}

/// Makes any text one line that Markdown shows as it is: no HTML, no table cells, no links, no headings, no code.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let characters = visible(text);
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
            "| 종합 | **72.50** / 100 |",
            "| 등급 | 양호 |",
            "| 합격 가능성 | 보통 |",
            "| 상태 | 일부 (답변 4개 중 3개 채점, 75 %) |",
            "| C 직무 지식 이해도 | 20 % | 75.25 | a2, a3 |",
            "| 직무 전문성 | 75.25 | 개념을 정확히 압니다. |",
            "### a3 · 직무지식 · 추가 질문 · C · 85.50 (75.50 + 10)",
            "| 개념의 정확성 | 50 | 4.000 ± 0.471 | 37.50 | “재고 결과를 비교했습니다” |",
            "### a4 · 최종 발언 · A · 채점하지 못함",
            "이유: the engine went down 3 times while this answer ran alone",
            "- 평가 기준: `interviewd-ko` v1",
            "- 엔진: `cpu`, `x86_64 AVX512-VNNI`, `int8`, ONNX Runtime `1.31.1`",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn an_english_report_is_english_but_for_names_of_criteria_and_what_was_said() {
        let mut report = sample();
        let narrative = report.narrative.as_mut().unwrap();
        narrative.summary = "Calm, with evidence.".to_owned();
        narrative.strengths = vec!["Measures first.".to_owned()];
        narrative.improvements = vec!["Say why.".to_owned()];
        narrative
            .competencies
            .values_mut()
            .for_each(|words| *words = "Sound.".to_owned());
        for answer in &mut report.answers {
            answer.criteria = None;
            answer.feedback = answer.feedback.as_ref().map(|_| "Good.".to_owned());
        }
        let text = rendered(&report);
        let hangul = |line: &&str| line.chars().any(|c| ('가'..='힣').contains(&c));
        assert_eq!(text.lines().find(hangul), None);
        for part in [
            "# Interview report",
            "| Band | good |",
            "(3 of 4 answers judged, 75 %)",
            "· follow-up · C",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_code_span_holds_any_text() {
        assert_eq!(code("a_b-1.0"), "`a_b-1.0`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`a\n<b>"), "`` `a <b> ``");
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
        assert!(text.contains("| 종합 | – |"));
        assert!(text.contains("| 등급 | – |"));
        assert!(text.contains("*작성하지 못함:* the deadline passed"));
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
}
