//! The words around a report for people, in the language that the report's own words are in.

use super::fold::{Band, PassLikelihood};
use super::interview::Language;
use super::outcome::Flag;
use super::report::{AnswerReport, AreaReport, Report, Status};
use super::rubric::Rubric;

impl Language {
    /// One of two texts.
    pub fn say<'a>(self, korean: &'a str, english: &'a str) -> &'a str {
        match self {
            Self::Korean => korean,
            Self::English => english,
        }
    }
}

/// The language of what a model wrote for a report: Korean if any of it has Hangul, or if nothing was written.
pub fn language_of(report: &Report) -> Language {
    let feedback = report.answers.iter().filter_map(|answer| answer.feedback.as_ref());
    let narrative = report.narrative.iter().flat_map(|narrative| {
        let points = narrative.strengths.iter().chain(&narrative.improvements);
        points
            .chain(narrative.competencies.values())
            .chain([&narrative.summary])
    });
    let mut texts = feedback.chain(narrative).filter(|text| !text.is_empty()).peekable();
    match texts.peek().is_none() || texts.any(|text| text.chars().any(is_hangul)) {
        true => Language::Korean,
        false => Language::English,
    }
}

fn is_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7af}')
}

/// The name of a stage, follow-ups marked; the id if the rubric has no such stage.
pub fn stage_name(rubric: &Rubric, id: &str, language: Language) -> String {
    let Some(stage) = rubric.stage(id) else {
        return id.to_owned();
    };
    let name = language.say(stage.name, stage.en);
    match stage.is_follow_up {
        true => format!("{name} · {}", language.say("추가 질문", "follow-up")),
        false => name.to_owned(),
    }
}

/// The name of a competency; the id if the rubric has no such competency.
pub fn competency_name<'a>(rubric: &'a Rubric, id: &'a str, language: Language) -> &'a str {
    let named = rubric.competencies.get(id);
    named.map_or(id, |named| language.say(&named.name, &named.en))
}

/// The name of an area; as the report has it, in Korean, if the rubric has no such area.
pub fn area_name<'a>(rubric: &'a Rubric, area: &'a AreaReport, language: Language) -> &'a str {
    let named = rubric.areas.iter().find(|named| named.id == area.area);
    language.say(&area.name, named.map_or(&area.name, |named| &named.en))
}

pub fn band_name(band: Band, language: Language) -> &'static str {
    match band {
        Band::Excellent => language.say("우수", "excellent"),
        Band::Good => language.say("양호", "good"),
        Band::Fair => language.say("보통", "fair"),
        Band::Poor => language.say("미흡", "poor"),
    }
}

pub fn likelihood_name(likelihood: PassLikelihood, language: Language) -> &'static str {
    match likelihood {
        PassLikelihood::High => language.say("높음", "High"),
        PassLikelihood::Medium => language.say("보통", "Medium"),
        PassLikelihood::Low => language.say("낮음", "Low"),
    }
}

pub fn status_name(status: Status, language: Language) -> &'static str {
    match status {
        Status::Complete => language.say("완료", "complete"),
        Status::Partial => language.say("일부", "partial"),
    }
}

/// What a flag says.
pub fn flag_name(flag: Flag, language: Language) -> &'static str {
    match flag {
        Flag::NoAnswer => language.say("무응답", "no answer"),
        Flag::Truncated => language.say("길어서 앞부분만 채점", "truncated"),
        Flag::VeryShort => language.say("매우 짧음", "very short"),
        Flag::Refusal => language.say("모른다고 답함", "does not know"),
        Flag::RepeatsQuestion => language.say("질문을 되풀이함", "repeats the question"),
    }
}

/// How many answers have a score, with their share.
pub fn answers_judged(report: &Report, judged: usize, language: Language) -> String {
    let (total, share) = (report.answers.len(), percent(report.coverage));
    match language {
        Language::Korean => format!("답변 {total}개 중 {judged}개 채점, {share}"),
        Language::English => format!("{judged} of {total} answers judged, {share}"),
    }
}

/// How much of an answer that was cut counts.
pub fn characters_judged(judged: usize, language: Language) -> String {
    match language {
        Language::Korean => format!("{judged}자까지 채점"),
        Language::English => format!("{judged} characters judged"),
    }
}

/// What the follow-up rule did to a score: that, and the sum; `None` if it did nothing.
pub fn follow_up_change(answer: &AnswerReport, language: Language) -> Option<String> {
    let sum = follow_up_sum(answer)?;
    let points = answer.adjustment.unsigned_abs();
    Some(match (language, answer.adjustment > 0) {
        (Language::Korean, true) => format!("앞 답변보다 나아 +{points}점 ({sum})"),
        (Language::Korean, false) => format!("앞 답변보다 낮아 −{points}점 ({sum})"),
        (Language::English, true) => format!("+{points} points, better than the answer it follows ({sum})"),
        (Language::English, false) => format!("−{points} points, worse than the answer it follows ({sum})"),
    })
}

/// As in `75.50 + 10`, and `0.04 − 10 → 0` where the sum would leave the scale; `None` if nothing was added.
pub fn follow_up_sum(answer: &AnswerReport) -> Option<String> {
    let (score, last) = (answer.score?, answer.final_score?);
    let sign = match answer.adjustment {
        0 => return None,
        1.. => '+',
        _ => '−',
    };
    let sum = i64::from(score.hundredths()) + i64::from(answer.adjustment) * 100;
    let clamped = match sum == i64::from(last.hundredths()) {
        true => String::new(),
        false => format!(" → {last}"),
    };
    Some(format!(
        "{score:.2} {sign} {}{clamped}",
        answer.adjustment.unsigned_abs()
    ))
}

/// A share from 0 to 1 in percent with at most one decimal.
pub fn percent(share: f64) -> String {
    let tenths = (share * 1_000.0).round() as i64;
    match tenths % 10 {
        0 => format!("{} %", tenths / 10),
        rest => format!("{}.{rest} %", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::super::markdown::tests::sample;
    use super::super::rubric::DEFAULT;
    use super::super::score::Score;
    use super::*;

    #[test]
    fn a_report_is_in_the_language_that_was_written() {
        assert_eq!(language_of(&sample()), Language::Korean);
        let mut report = sample();
        report.narrative = None;
        report.answers.iter_mut().for_each(|answer| answer.feedback = None);
        assert_eq!(language_of(&report), Language::Korean, "nothing was written");
        report.answers[0].feedback = Some("Clear, with evidence.".to_owned());
        assert_eq!(language_of(&report), Language::English);
        report.answers[1].feedback = Some("이유가 빠졌습니다.".to_owned());
        assert_eq!(language_of(&report), Language::Korean);
    }

    #[test]
    fn names_are_in_one_language() {
        let rubric = Rubric::parse(DEFAULT).unwrap();
        let report = sample();
        let hangul = |text: &str| text.chars().any(is_hangul);
        for id in rubric.stage_ids() {
            assert!(!hangul(&stage_name(&rubric, &id, Language::English)), "{id}");
            assert!(hangul(&stage_name(&rubric, &id, Language::Korean)), "{id}");
        }
        for area in &report.areas {
            assert!(!hangul(area_name(&rubric, area, Language::English)));
            assert_eq!(area_name(&rubric, area, Language::Korean), area.name);
        }
        for id in rubric.competencies.keys() {
            assert!(!hangul(competency_name(&rubric, id, Language::English)), "{id}");
        }
    }

    #[test]
    fn what_a_follow_up_changes_is_a_sum_that_comes_out() {
        let mut answer = sample().answers[2].clone();
        assert_eq!(
            follow_up_change(&answer, Language::Korean).as_deref(),
            Some("앞 답변보다 나아 +10점 (75.50 + 10)")
        );
        (answer.score, answer.adjustment) = (Score::from_hundredths(4), -10);
        answer.final_score = Some(Score::ZERO);
        assert_eq!(follow_up_sum(&answer).as_deref(), Some("0.04 − 10 → 0"));
        assert_eq!(
            follow_up_change(&answer, Language::English).as_deref(),
            Some("−10 points, worse than the answer it follows (0.04 − 10 → 0)")
        );
        answer.adjustment = 0;
        assert_eq!(follow_up_change(&answer, Language::Korean), None);
    }

    #[test]
    fn shares_are_shown_in_percent() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.941), "94.1 %");
        assert_eq!(percent(0.15), "15 %");
    }
}
