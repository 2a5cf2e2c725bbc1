//! A report for reading on a terminal: bars, quotes and words, wrapped to its width. What has no number shows none.

use super::output::Look;
use super::text::{bar, bulleted, indented, millis, one_line, pad, pad_left, width};
use crate::domain::markdown::{
    band_name, competency_name, flag_name, likelihood_name, percent, stage_name, status_name,
};
use crate::domain::outcome::{CriterionScore, Evidence};
use crate::domain::report::{AnswerReport, Report, Status};
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::domain::score::Score;
use crate::domain::state::AnswerState;

/// Shown where there is no number.
const NONE: &str = "–";
const BAR_COLUMNS: usize = 20;
const SCORE_COLUMNS: usize = 6;

/// Lays a report out, a line an element, none wider than `look.columns`.
pub fn render(report: &Report, look: Look) -> Vec<String> {
    let names = Names::of(report);
    let mut lines = Vec::new();
    head(&mut lines, report, look);
    narrative(&mut lines, report, look);
    areas(&mut lines, report, look);
    competencies(&mut lines, report, &names, look);
    section(&mut lines, "답변 Answers", look);
    for answer in &report.answers {
        one_answer(&mut lines, answer, &names, look);
    }
    provenance(&mut lines, report, look);
    lines
}

/// Names for ids, where the report was made with the rubric that is built in.
struct Names(Option<Rubric>);

impl Names {
    fn of(report: &Report) -> Self {
        let builtin = Rubric::parse(DEFAULT).ok();
        Self(builtin.filter(|rubric| rubric.id == report.provenance.rubric.id))
    }

    fn stage(&self, id: &str) -> String {
        self.0
            .as_ref()
            .map_or_else(|| id.to_owned(), |rubric| stage_name(rubric, id))
    }

    fn competency(&self, id: &str) -> String {
        self.0
            .as_ref()
            .map_or_else(|| id.to_owned(), |rubric| competency_name(rubric, id).to_owned())
    }
}

fn head(lines: &mut Vec<String>, report: &Report, look: Look) {
    let judged = report
        .answers
        .iter()
        .filter(|a| a.state != AnswerState::Unscored)
        .count();
    let title = format!("면접 리포트 · {}", report.interview_id);
    lines.extend(
        super::text::wrap(&title, look.columns)
            .iter()
            .map(|line| look.bold(line)),
    );
    let coverage = format!(
        "{} · {judged} of {} answers judged ({})",
        status_name(report.status),
        report.answers.len(),
        percent(report.coverage)
    );
    lines.push(match report.status {
        Status::Complete => coverage,
        Status::Partial => look.warn(&coverage),
    });
    lines.push(String::new());
    lines.push(match report.overall {
        Some(overall) => format!(
            "종합 {}  {}  {} · pass {}",
            look.bold(&format!("{overall} / 100")),
            score_bar(overall, look),
            report.band.map_or(NONE, band_name),
            report.pass_likelihood.map_or(NONE, likelihood_name)
        ),
        None => format!("종합 {NONE}  no answer could be scored"),
    });
}

fn narrative(lines: &mut Vec<String>, report: &Report, look: Look) {
    section(lines, "총평 Summary", look);
    let Some(narrative) = &report.narrative else {
        let reason = report.narrative_reason.as_deref().unwrap_or("no reason was recorded");
        let text = format!("not written: {reason}");
        lines.extend(indented(&text, 2, look.columns).iter().map(|line| look.warn(line)));
        return;
    };
    lines.extend(indented(&narrative.summary, 2, look.columns));
    for (title, points) in [
        ("강점 Strengths", &narrative.strengths),
        ("개선점 Improvements", &narrative.improvements),
    ] {
        section(lines, title, look);
        for point in points {
            lines.extend(bulleted("· ", point, 2, look.columns));
        }
    }
}

fn areas(lines: &mut Vec<String>, report: &Report, look: Look) {
    section(lines, "영역 Areas", look);
    let names: Vec<_> = report
        .areas
        .iter()
        .map(|area| one_line(&format!("{} {}", area.area, area.name)))
        .collect();
    let weights: Vec<_> = report.areas.iter().map(|area| percent(area.weight)).collect();
    let columns = name_columns(names.iter(), look, 8);
    for ((area, name), weight) in report.areas.iter().zip(&names).zip(&weights) {
        let weight = look.dim(&pad_left(weight, 6));
        lines.push(format!(
            "  {}{weight}  {}",
            pad(name, columns),
            scored(area.score, look)
        ));
    }
}

fn competencies(lines: &mut Vec<String>, report: &Report, names: &Names, look: Look) {
    section(lines, "역량 Competencies", look);
    let rows: Vec<_> = report
        .competencies
        .iter()
        .map(|(id, score)| (id, names.competency(id), *score))
        .collect();
    let columns = name_columns(rows.iter().map(|(_, name, _)| name), look, 2);
    for (id, name, score) in rows {
        lines.push(format!("  {}  {}", pad(&name, columns), scored(score, look)));
        let words = report
            .narrative
            .as_ref()
            .and_then(|narrative| narrative.competencies.get(id));
        if let Some(words) = words {
            lines.extend(indented(words, 4, look.columns).iter().map(|line| look.dim(line)));
        }
    }
}

/// Columns of the longest name, as far as bar and score leave room; `beside` columns are taken by something else.
fn name_columns<'a>(names: impl Iterator<Item = &'a String>, look: Look, beside: usize) -> usize {
    let room = look.columns - 2 - beside - BAR_COLUMNS - SCORE_COLUMNS - 2;
    names.map(|name| width(name)).max().unwrap_or(0).min(room)
}

fn one_answer(lines: &mut Vec<String>, answer: &AnswerReport, names: &Names, look: Look) {
    let title = format!("{} {} · {}", answer.area, names.stage(&answer.stage), answer.answer_id);
    let room = look.columns - BAR_COLUMNS - SCORE_COLUMNS - 5;
    let columns = room.min(38);
    lines.push(format!(
        "  {}  {}",
        pad(&title, columns),
        scored(answer.final_score, look)
    ));
    for note in notes(answer) {
        lines.extend(indented(&note, 4, look.columns).iter().map(|line| look.warn(line)));
    }
    if let Some((criterion, evidence)) = best_quote(answer) {
        let quote = format!("“{}” ({})", one_line(&evidence.quote), criterion.name);
        lines.extend(indented(&quote, 4, look.columns).iter().map(|line| look.dim(line)));
    }
    if let Some(feedback) = &answer.feedback {
        lines.extend(indented(feedback, 4, look.columns));
    }
}

/// What is to know about an answer beside its score.
fn notes(answer: &AnswerReport) -> Vec<String> {
    let mut notes = Vec::new();
    match (answer.state, answer.score) {
        (AnswerState::Unscored, _) => {
            let reason = answer.reason.as_deref().unwrap_or("no reason was recorded");
            notes.push(format!("unscored: {reason}"));
        }
        (_, Some(score)) if answer.adjustment != 0 => {
            let change = if answer.adjustment > 0 { "better" } else { "worse" };
            notes.push(format!(
                "{score} {:+}: {change} than the answer it follows",
                answer.adjustment
            ));
        }
        _ => {}
    }
    let flags: Vec<_> = answer.flags.iter().map(|flag| flag_name(*flag)).collect();
    if !flags.is_empty() {
        let cut = answer
            .judged_code_points
            .map(|judged| format!(" ({judged} characters judged)"));
        notes.push(format!("{}{}", flags.join(", "), cut.unwrap_or_default()));
    }
    notes
}

/// The quote of the criterion that got the largest share of its points.
fn best_quote(answer: &AnswerReport) -> Option<(&CriterionScore, &Evidence)> {
    let criteria = answer.criteria.as_ref()?;
    let quoted = criteria.iter().filter_map(|c| Some((c, c.evidence.as_ref()?)));
    // The first of equals: `max_by_key` would give the last.
    quoted.rev().max_by_key(|(criterion, _)| criterion.level)
}

fn provenance(lines: &mut Vec<String>, report: &Report, look: Look) {
    let made = &report.provenance;
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let text = format!(
        "{} to {} · {} · model {} ({}) · rubric {} v{} · {} {} {} · ONNX Runtime {} · interviewd {}",
        report.submitted_at,
        report.finished_at,
        millis(report.took_ms),
        made.model.name,
        short(&made.model.hash),
        made.rubric.id,
        made.rubric.version,
        made.engine.provider,
        made.engine.device,
        made.engine.precision,
        made.engine.onnxruntime,
        made.interviewd
    );
    section(lines, "출처 Provenance", look);
    lines.extend(indented(&text, 2, look.columns).iter().map(|line| look.dim(line)));
}

fn section(lines: &mut Vec<String>, title: &str, look: Look) {
    lines.push(String::new());
    lines.push(look.bold(title));
}

/// A bar with its score, or that there is none.
fn scored(score: Option<Score>, look: Look) -> String {
    match score {
        Some(score) => format!(
            "{} {}",
            score_bar(score, look),
            pad_left(&score.to_string(), SCORE_COLUMNS)
        ),
        None => format!("{} {}", " ".repeat(BAR_COLUMNS), pad_left(NONE, SCORE_COLUMNS)),
    }
}

/// Coloured by the bands of the whole.
pub fn score_bar(score: Score, look: Look) -> String {
    let bar = bar(
        u64::from(score.hundredths()),
        u64::from(Score::FULL.hundredths()),
        BAR_COLUMNS,
    );
    match score.hundredths() {
        7_000.. => look.good(&bar),
        5_000.. => look.warn(&bar),
        _ => look.bad(&bar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::markdown::tests::sample;

    fn plain(columns: usize) -> Look {
        Look { columns, colour: false }
    }

    fn text(report: &Report) -> String {
        render(report, plain(80)).join("\n")
    }

    #[test]
    fn a_report_is_readable_at_a_glance() {
        let text = text(&sample());
        for part in [
            "면접 리포트 · iv-001",
            "partial · 3 of 4 answers judged (75 %)",
            "종합 72.5 / 100  ███████████████░░░░░  good · pass Medium",
            "  A 자기 표현·기본 커뮤니케이션  15 %  ██████████████░░░░░░  68.75",
            "  의사소통     ██████████████░░░░░░  68.75",
            "    강점이 근거와 함께 나옵니다.",
            "    “제 강점은 두 가지입니다” (논리적 구조)",
            "    75.5 +10: better than the answer it follows",
            "    truncated (310 characters judged)",
            "    unscored: the engine went down 3 times while this answer ran alone",
            "  · 추가 질문에서 더 나아졌습니다.",
            "· 33.2 s · model",
            "  interviewd-demo (abababababab) · rubric interviewd-ko v1",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut report = sample();
        report.answers[0].feedback = Some("가나다라마바사".repeat(40));
        report.answers[1].criteria.as_mut().unwrap()[0].name = "아주 긴 기준 이름".repeat(10);
        report.answers[2].stage = "x".repeat(100);
        report.areas[0].name = "긴 영역 이름 ".repeat(20);
        report.narrative.as_mut().unwrap().summary = "https://".to_owned() + &"a".repeat(300);
        for columns in [60, 80, 100] {
            for line in render(&report, plain(columns)) {
                assert!(width(&line) <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn what_has_no_number_shows_none() {
        let mut report = sample();
        report.overall = None;
        report.band = None;
        report.pass_likelihood = None;
        report.narrative = None;
        report.narrative_reason = Some("the deadline passed".to_owned());
        let text = text(&report);
        assert!(text.contains("종합 –  no answer could be scored"), "{text}");
        assert!(text.contains("not written: the deadline passed"), "{text}");
        let unscored = text.lines().find(|line| line.contains("· a4")).unwrap();
        assert!(!unscored.contains(['█', '░']) && unscored.ends_with('–'), "{unscored}");
        assert!(
            !unscored.contains(|c: char| c.is_ascii_digit() && c != '4'),
            "{unscored}"
        );
    }

    #[test]
    fn bars_show_the_score_and_nothing_else() {
        let bars = |hundredths| score_bar(Score::from_hundredths(hundredths).unwrap(), plain(80));
        assert_eq!(bars(0), "░".repeat(20));
        assert_eq!(bars(10_000), "█".repeat(20));
        assert_eq!(bars(5_000), format!("{}{}", "█".repeat(10), "░".repeat(10)));
    }

    #[test]
    fn a_report_of_another_rubric_shows_ids() {
        let mut report = sample();
        report.provenance.rubric.id = "house-rules".to_owned();
        let text = text(&report);
        assert!(
            text.contains("C skill_followup · a3") && text.contains("  communication   "),
            "{text}"
        );
    }

    #[test]
    fn words_of_a_candidate_cannot_steer_the_terminal() {
        let mut report = sample();
        report.answers[0].feedback = Some("\u{1b}]0;title\u{7}\u{9b}2J글".to_owned());
        report.answers[3].reason = Some("a\u{1b}[2Jb".to_owned());
        assert!(
            render(&report, plain(80))
                .iter()
                .all(|line| !line.contains(char::is_control))
        );
    }
}
