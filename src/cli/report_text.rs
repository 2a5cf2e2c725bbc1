//! A report for reading on a terminal: bars, quotes and words, wrapped to its width. What has no number shows none.

use super::output::Look;
use super::text::{bar, bulleted, indented, millis, one_line, pad, pad_left, width};
use crate::domain::interview::Language;
use crate::domain::outcome::{CriterionScore, Evidence};
use crate::domain::report::{AnswerReport, AreaReport, Report, Status};
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::domain::score::Score;
use crate::domain::state::AnswerState;
use crate::domain::wording::{
    answers_judged, area_name, band_name, characters_judged, competency_name, flag_name, follow_up_change, language_of,
    likelihood_name, percent, stage_name, status_name,
};

/// Shown where there is no number.
const NONE: &str = "–";
const BAR_COLUMNS: usize = 20;
const SCORE_COLUMNS: usize = 6;

/// Lays a report out in the language of its own words, a line an element, none wider than `look.columns`.
pub fn render(report: &Report, look: Look) -> Vec<String> {
    let names = Names::of(report);
    let mut lines = Vec::new();
    head(&mut lines, report, &names, look);
    narrative(&mut lines, report, &names, look);
    areas(&mut lines, report, &names, look);
    competencies(&mut lines, report, &names, look);
    section(&mut lines, names.say("답변", "Answers"), look);
    for answer in &report.answers {
        one_answer(&mut lines, answer, &names, look);
    }
    provenance(&mut lines, report, &names, look);
    lines
}

/// Words of the report's language; names for ids, where the report was made with the rubric that is built in.
struct Names {
    language: Language,
    rubric: Option<Rubric>,
}

impl Names {
    fn of(report: &Report) -> Self {
        let builtin = Rubric::parse(DEFAULT).ok();
        Self {
            language: language_of(report),
            rubric: builtin.filter(|rubric| rubric.id == report.provenance.rubric.id),
        }
    }

    fn say(&self, korean: &'static str, english: &'static str) -> &'static str {
        self.language.say(korean, english)
    }

    fn stage(&self, id: &str) -> String {
        let rubric = self.rubric.as_ref();
        rubric.map_or_else(|| id.to_owned(), |rubric| stage_name(rubric, id, self.language))
    }

    fn competency<'a>(&'a self, id: &'a str) -> &'a str {
        let rubric = self.rubric.as_ref();
        rubric.map_or(id, |rubric| competency_name(rubric, id, self.language))
    }

    fn area<'a>(&'a self, area: &'a AreaReport) -> &'a str {
        let rubric = self.rubric.as_ref();
        rubric.map_or(&area.name, |rubric| area_name(rubric, area, self.language))
    }
}

fn head(lines: &mut Vec<String>, report: &Report, names: &Names, look: Look) {
    let judged = report
        .answers
        .iter()
        .filter(|a| a.state != AnswerState::Unscored)
        .count();
    let language = names.language;
    let title = format!(
        "{} · {}",
        names.say("면접 리포트", "Interview report"),
        report.interview_id
    );
    lines.extend(
        super::text::wrap(&title, look.columns)
            .iter()
            .map(|line| look.bold(line)),
    );
    let coverage = format!(
        "{} · {}",
        status_name(report.status, language),
        answers_judged(report, judged, language)
    );
    lines.push(match report.status {
        Status::Complete => coverage,
        Status::Partial => look.warn(&coverage),
    });
    lines.push(String::new());
    let label = names.say("종합", "Overall");
    let Some(overall) = report.overall else {
        let none = names.say("채점한 답변이 없음", "no answer could be scored");
        lines.push(format!("{label} {NONE}  {none}"));
        return;
    };
    let points = format!("{overall:.2} / 100");
    let standing = format!(
        "{} · {} {}",
        report.band.map_or(NONE, |band| band_name(band, language)),
        names.say("합격 가능성", "pass"),
        report
            .pass_likelihood
            .map_or(NONE, |pass| likelihood_name(pass, language))
    );
    let taken = width(label) + 1 + width(&points) + 2 + BAR_COLUMNS;
    lines.push(format!("{label} {}  {}", look.bold(&points), score_bar(overall, look)));
    match (lines.last_mut(), taken + 2 + width(&standing) <= look.columns) {
        (Some(line), true) => *line += &format!("  {standing}"),
        _ => lines.push(format!("  {standing}")),
    }
}

fn narrative(lines: &mut Vec<String>, report: &Report, names: &Names, look: Look) {
    section(lines, names.say("총평", "Summary"), look);
    let Some(narrative) = &report.narrative else {
        let reason = report.narrative_reason.as_deref().unwrap_or("no reason was recorded");
        let text = format!("{}: {reason}", names.say("작성하지 못함", "not written"));
        lines.extend(indented(&text, 2, look.columns).iter().map(|line| look.warn(line)));
        return;
    };
    lines.extend(indented(&narrative.summary, 2, look.columns));
    for (title, points) in [
        (names.say("강점", "Strengths"), &narrative.strengths),
        (names.say("개선점", "Improvements"), &narrative.improvements),
    ] {
        section(lines, title, look);
        for point in points {
            lines.extend(bulleted("· ", point, 2, look.columns));
        }
    }
}

fn areas(lines: &mut Vec<String>, report: &Report, names: &Names, look: Look) {
    section(lines, names.say("영역", "Areas"), look);
    let titles: Vec<_> = report
        .areas
        .iter()
        .map(|area| one_line(&format!("{} {}", area.area, names.area(area))))
        .collect();
    let weights: Vec<_> = report.areas.iter().map(|area| percent(area.weight)).collect();
    let columns = name_columns(titles.iter().map(String::as_str), look, 8);
    for ((area, name), weight) in report.areas.iter().zip(&titles).zip(&weights) {
        let weight = look.dim(&pad_left(weight, 6));
        lines.push(format!(
            "  {}{weight}  {}",
            pad(name, columns),
            scored(area.score, look)
        ));
    }
}

fn competencies(lines: &mut Vec<String>, report: &Report, names: &Names, look: Look) {
    section(lines, names.say("역량", "Competencies"), look);
    let rows: Vec<_> = report
        .competencies
        .iter()
        .map(|(id, score)| (id, names.competency(id), *score))
        .collect();
    let columns = name_columns(rows.iter().map(|(_, name, _)| *name), look, 2);
    for (id, name, score) in rows {
        lines.push(format!("  {}  {}", pad(name, columns), scored(score, look)));
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
fn name_columns<'a>(names: impl Iterator<Item = &'a str>, look: Look, beside: usize) -> usize {
    let room = look.columns - 2 - beside - BAR_COLUMNS - SCORE_COLUMNS - 2;
    names.map(width).max().unwrap_or(0).min(room)
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
    for note in notes(answer, names) {
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
fn notes(answer: &AnswerReport, names: &Names) -> Vec<String> {
    let mut notes = Vec::new();
    match answer.state {
        AnswerState::Unscored => {
            let reason = answer.reason.as_deref().unwrap_or("no reason was recorded");
            notes.push(format!("{}: {reason}", names.say("채점하지 못함", "unscored")));
        }
        _ => notes.extend(follow_up_change(answer, names.language)),
    }
    let flags: Vec<_> = answer
        .flags
        .iter()
        .map(|flag| flag_name(*flag, names.language))
        .collect();
    if !flags.is_empty() {
        let cut = answer
            .judged_code_points
            .map(|judged| format!(" ({})", characters_judged(judged, names.language)));
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

fn provenance(lines: &mut Vec<String>, report: &Report, names: &Names, look: Look) {
    let made = &report.provenance;
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let text = format!(
        "{} – {} · {} · {} {} ({}) · {} {} v{} · {} {} {} · ONNX Runtime {} · interviewd {}",
        report.submitted_at,
        report.finished_at,
        millis(report.took_ms),
        names.say("모델", "model"),
        made.model.name,
        short(&made.model.hash),
        names.say("평가 기준", "rubric"),
        made.rubric.id,
        made.rubric.version,
        made.engine.provider,
        made.engine.device,
        made.engine.precision,
        made.engine.onnxruntime,
        made.interviewd
    );
    section(lines, names.say("출처", "Provenance"), look);
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
            pad_left(&format!("{score:.2}"), SCORE_COLUMNS)
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
            "일부 · 답변 4개 중 3개 채점, 75 %",
            "종합 72.50 / 100  ███████████████░░░░░  양호 · 합격 가능성 보통",
            "  A 자기 표현·기본 커뮤니케이션  15 %  ██████████████░░░░░░  68.75",
            "  의사소통     ██████████████░░░░░░  68.75",
            "    강점이 근거와 함께 나옵니다.",
            "    “제 강점은 두 가지입니다” (논리적 구조)",
            "    앞 답변보다 나아 +10점 (75.50 + 10)",
            "    길어서 앞부분만 채점 (310자까지 채점)",
            "    채점하지 못함: the engine went down 3 times while this answer ran alone",
            "  · 추가 질문에서 더 나아졌습니다.",
            "· 33.2 s · 모델",
            "interviewd-demo (abababababab) · 평가 기준 interviewd-ko v1",
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
        assert!(text.contains("종합 –  채점한 답변이 없음"), "{text}");
        assert!(text.contains("작성하지 못함: the deadline passed"), "{text}");
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
