//! An interview as it may be judged: whatever is in an [`Interview`] has been checked.

use serde::{Deserialize, Serialize};

use super::ids::{AnswerId, InterviewId, InvalidId};
use super::object;
use super::rubric::Rubric;

/// What a client sent, before any check. Absent fields are `None`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    pub interview_id: Option<String>,
    pub language: Option<String>,
    pub position: Option<String>,
    #[serde(default, deserialize_with = "object::maybe")]
    pub company: Option<Company>,
    #[serde(default, deserialize_with = "object::maybe")]
    pub candidate: Option<Candidate>,
    #[serde(default, deserialize_with = "object::many")]
    pub answers: Vec<AnswerDraft>,
}

/// An answer as a client sent it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerDraft {
    pub answer_id: Option<String>,
    pub stage: String,
    pub question: String,
    pub answer: String,
    pub follow_up_of: Option<String>,
}

/// Whether an interview comes as a whole or answer by answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    Whole,
    StaysOpen,
}

/// The language of an interview: what the feedback is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Language {
    #[default]
    #[serde(rename = "ko")]
    Korean,
    #[serde(rename = "en")]
    English,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Company {
    pub name: Option<String>,
    #[serde(default)]
    pub ideal: Vec<String>,
}

/// Kept for the report's reader; never shown to the model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    pub name: Option<String>,
    pub resume_summary: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interview {
    pub id: InterviewId,
    pub language: Language,
    pub position: Option<String>,
    pub company: Option<Company>,
    pub candidate: Option<Candidate>,
    answers: Vec<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub id: AnswerId,
    /// As in the rubric, `_followup` included.
    pub stage: String,
    pub question: String,
    pub text: String,
    /// An earlier answer of the same interview.
    pub follow_up_of: Option<AnswerId>,
}

/// How much of everything an interview may have. Texts are counted in code points.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub answers: usize,
    pub question: usize,
    pub answer: usize,
    /// Every other text: position, company, candidate, résumé.
    pub text: usize,
    /// Entries of a company's ideal.
    pub ideals: usize,
}

impl Limits {
    /// For what was checked before.
    pub const NONE: Self = Self {
        answers: usize::MAX,
        question: usize::MAX,
        answer: usize::MAX,
        text: usize::MAX,
        ideals: usize::MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answers: 64,
            question: 4_000,
            answer: 20_000,
            text: 4_000,
            ideals: 64,
        }
    }
}

/// Why an interview is refused: `path` says where, as in `answers[3].stage`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Refusal {
    pub path: String,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Id(#[from] InvalidId),
    #[error("has {actual} {unit}, the limit is {limit}")]
    TooLarge {
        limit: usize,
        actual: usize,
        unit: &'static str,
    },
    #[error("must not be empty")]
    Empty,
    #[error("holds the control character U+{:04X}; only line breaks and tabs are allowed", u32::from(*.0))]
    ControlCharacter(char),
    #[error("{0:?} is not a language; ko and en are")]
    UnknownLanguage(String),
    #[error("{found:?} is not a stage of the rubric; its stages are {known}")]
    UnknownStage { found: String, known: String },
    #[error("{0} is the id of an earlier answer")]
    DuplicateId(AnswerId),
    #[error("is missing: the stage {0} follows up an answer")]
    ParentMissing(String),
    #[error("is not allowed: the stage {0} follows up nothing")]
    ParentNotAllowed(String),
    #[error("{0} is no earlier answer of this interview")]
    UnknownParent(AnswerId),
    #[error("{parent} has the stage {found}; {stage} follows up {base} or {base}_followup")]
    ParentOfOtherStage {
        parent: AnswerId,
        found: String,
        stage: String,
        base: String,
    },
}

impl Problem {
    fn at(self, path: impl Into<String>) -> Refusal {
        Refusal {
            path: path.into(),
            problem: self,
        }
    }
}

impl Interview {
    /// Checks a draft. `new_id` is the id if the client chose none. Only an interview that stays open may begin without answers.
    pub fn new(
        draft: Draft,
        new_id: InterviewId,
        opening: Opening,
        rubric: &Rubric,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let id = match &draft.interview_id {
            Some(text) => InterviewId::parse(text).map_err(|e| Problem::Id(e).at("interview_id"))?,
            None => new_id,
        };
        if draft.answers.is_empty() && opening == Opening::Whole {
            return Err(Problem::Empty.at("answers"));
        }
        check_people(&draft, limits)?;
        let mut interview = Self {
            id,
            language: language(draft.language.as_deref())?,
            position: draft.position,
            company: draft.company,
            candidate: draft.candidate,
            answers: Vec::with_capacity(draft.answers.len().min(limits.answers)),
        };
        within("answers", draft.answers.len(), limits.answers, "entries")?;
        for (index, answer) in draft.answers.into_iter().enumerate() {
            interview.append(answer, &format!("answers[{index}]"), rubric, limits)?;
        }
        Ok(interview)
    }

    /// In the order in which they were given.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    pub fn answer(&self, id: &AnswerId) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.id == *id)
    }

    /// Checks one more answer and appends it; on a refusal nothing has changed.
    pub fn add(&mut self, draft: AnswerDraft, rubric: &Rubric, limits: &Limits) -> Result<&Answer, Refusal> {
        self.append(draft, "answer", rubric, limits)
    }

    /// The interview with one more answer, which was checked before.
    pub fn with(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// `place` is where the client wrote the answer.
    fn append(
        &mut self,
        draft: AnswerDraft,
        place: &str,
        rubric: &Rubric,
        limits: &Limits,
    ) -> Result<&Answer, Refusal> {
        let position = self.answers.len();
        let path = |field: &str| format!("{place}.{field}");
        within("answers", position + 1, limits.answers, "entries")?;
        let id = AnswerId::parse(&draft.answer_id.unwrap_or_else(|| format!("a{}", position + 1)))
            .map_err(|e| Problem::Id(e).at(path("answer_id")))?;
        if self.answer(&id).is_some() {
            return Err(Problem::DuplicateId(id).at(path("answer_id")));
        }
        check_text(path("question"), &draft.question, limits.question)?;
        check_text(path("answer"), &draft.answer, limits.answer)?;
        let follow_up_of = self.parent(&draft.stage, draft.follow_up_of.as_deref(), rubric, &path)?;
        self.answers.push(Answer {
            id,
            stage: draft.stage,
            question: draft.question,
            text: draft.answer,
            follow_up_of,
        });
        Ok(&self.answers[position])
    }

    fn parent(
        &self,
        stage_id: &str,
        parent: Option<&str>,
        rubric: &Rubric,
        path: &dyn Fn(&str) -> String,
    ) -> Result<Option<AnswerId>, Refusal> {
        let Some(stage) = rubric.stage(stage_id) else {
            let known = rubric.stage_ids().join(", ");
            return Err(Problem::UnknownStage {
                found: shortened(stage_id),
                known,
            }
            .at(path("stage")));
        };
        let place = path("follow_up_of");
        let parent = match (stage.is_follow_up, parent) {
            (false, None) => return Ok(None),
            (false, Some(_)) => return Err(Problem::ParentNotAllowed(stage_id.to_owned()).at(place)),
            (true, None) => return Err(Problem::ParentMissing(stage_id.to_owned()).at(place)),
            (true, Some(text)) => AnswerId::parse(text).map_err(|e| Problem::Id(e).at(place.clone()))?,
        };
        let Some(answer) = self.answer(&parent) else {
            return Err(Problem::UnknownParent(parent).at(place));
        };
        if rubric
            .stage(&answer.stage)
            .is_none_or(|of_parent| of_parent.base != stage.base)
        {
            let problem = Problem::ParentOfOtherStage {
                parent,
                found: answer.stage.clone(),
                stage: stage_id.to_owned(),
                base: stage.base.to_owned(),
            };
            return Err(problem.at(place));
        }
        Ok(Some(parent))
    }
}

fn language(text: Option<&str>) -> Result<Language, Refusal> {
    match text {
        None | Some("ko") => Ok(Language::Korean),
        Some("en") => Ok(Language::English),
        Some(other) => Err(Problem::UnknownLanguage(shortened(other)).at("language")),
    }
}

/// As much of a client's text as an error message may repeat.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn check_people(draft: &Draft, limits: &Limits) -> Result<(), Refusal> {
    let check = |path: &str, text: &Option<String>| check_text(path, text.as_deref().unwrap_or_default(), limits.text);
    check("position", &draft.position)?;
    if let Some(company) = &draft.company {
        check("company.name", &company.name)?;
        within("company.ideal", company.ideal.len(), limits.ideals, "entries")?;
        for (index, ideal) in company.ideal.iter().enumerate() {
            check_text(format!("company.ideal[{index}]"), ideal, limits.text)?;
        }
    }
    if let Some(candidate) = &draft.candidate {
        check("candidate.name", &candidate.name)?;
        check("candidate.resume_summary", &candidate.resume_summary)?;
    }
    Ok(())
}

fn check_text(path: impl Into<String>, text: &str, limit: usize) -> Result<(), Refusal> {
    let path = path.into();
    if let Some(control) = text
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(Problem::ControlCharacter(control).at(path));
    }
    within(path, text.chars().count(), limit, "characters")
}

fn within(path: impl Into<String>, actual: usize, limit: usize, unit: &'static str) -> Result<(), Refusal> {
    if actual > limit {
        Err(Problem::TooLarge { limit, actual, unit }.at(path))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rubric::DEFAULT;

    fn answer(stage: &str, id: &str, parent: Option<&str>) -> AnswerDraft {
        AnswerDraft {
            answer_id: Some(id.into()),
            stage: stage.into(),
            question: "왜요?".into(),
            answer: "그래서요.".into(),
            follow_up_of: parent.map(Into::into),
        }
    }

    fn interview(answers: Vec<AnswerDraft>) -> Result<Interview, Refusal> {
        checked(Draft {
            answers,
            ..Draft::default()
        })
    }

    fn checked(draft: Draft) -> Result<Interview, Refusal> {
        Interview::new(
            draft,
            InterviewId::parse("new").unwrap(),
            Opening::Whole,
            &Rubric::parse(DEFAULT).unwrap(),
            &Limits::default(),
        )
    }

    fn refusal(answers: Vec<AnswerDraft>) -> String {
        interview(answers).expect_err("must be refused").to_string()
    }

    #[test]
    fn defaults_are_filled_in() {
        let anonymous = |stage: &str| AnswerDraft {
            answer_id: None,
            ..answer(stage, "", None)
        };
        let interview = interview(vec![anonymous("intro"), anonymous("growth")]).unwrap();
        assert_eq!((interview.id.as_str(), interview.language), ("new", Language::Korean));
        assert_eq!(
            interview.answers().iter().map(|a| a.id.as_str()).collect::<Vec<_>>(),
            ["a1", "a2"]
        );
    }

    #[test]
    fn follow_ups_may_form_chains() {
        let chain = vec![
            answer("skill", "x", None),
            answer("skill_followup", "y", Some("x")),
            answer("skill_followup", "z", Some("y")),
        ];
        assert_eq!(
            interview(chain).unwrap().answers()[2]
                .follow_up_of
                .as_ref()
                .unwrap()
                .as_str(),
            "y"
        );
    }

    #[test]
    fn follow_ups_of_anything_else_are_refused() {
        let first = || answer("skill", "x", None);
        assert!(refusal(vec![first(), answer("skill_followup", "y", None)]).contains("follow_up_of: is missing"));
        assert!(refusal(vec![first(), answer("growth", "y", Some("x"))]).contains("follows up nothing"));
        assert!(refusal(vec![first(), answer("growth_followup", "y", Some("x"))]).contains("x has the stage skill"));
        assert!(refusal(vec![answer("skill_followup", "y", Some("y"))]).contains("no earlier answer"));
        assert!(
            refusal(vec![answer("skill_followup", "y", Some("x")), first()])
                .contains("answers[0].follow_up_of: x is no earlier answer")
        );
    }

    #[test]
    fn ids_collide_also_with_those_that_were_left_out() {
        assert!(
            refusal(vec![answer("intro", "x", None), answer("growth", "x", None)])
                .contains("answers[1].answer_id: x is the id")
        );
        let second = AnswerDraft {
            answer_id: None,
            ..answer("growth", "", None)
        };
        assert!(refusal(vec![answer("intro", "a2", None), second]).contains("a2 is the id"));
    }

    #[test]
    fn limits_and_characters_are_checked_where_they_stand() {
        assert_eq!(refusal(vec![]), "answers: must not be empty");
        assert_eq!(
            refusal((0..65).map(|i| answer("intro", &format!("x{i}"), None)).collect()),
            "answers: has 65 entries, the limit is 64"
        );
        let long = AnswerDraft {
            answer: "가".repeat(20_001),
            ..answer("intro", "x", None)
        };
        assert_eq!(
            refusal(vec![long]),
            "answers[0].answer: has 20001 characters, the limit is 20000"
        );
        let control = AnswerDraft {
            question: "가\u{0}나".into(),
            ..answer("intro", "x", None)
        };
        assert!(refusal(vec![control]).contains("answers[0].question: holds the control character U+0000"));
        assert!(refusal(vec![answer("magic", "x", None)]).contains("skill, skill_followup"));
        assert!(refusal(vec![answer(&"\u{200b}".repeat(100_000), "x", None)]).len() < 1_000);
        let lines = AnswerDraft {
            answer: "한 줄\n\t두 줄\r\n".into(),
            ..answer("intro", "x", None)
        };
        assert!(interview(vec![lines]).is_ok());
    }

    #[test]
    fn what_surrounds_the_answers_is_checked_too() {
        let with = |change: &dyn Fn(&mut Draft)| {
            let mut draft = Draft {
                answers: vec![answer("intro", "x", None)],
                ..Draft::default()
            };
            change(&mut draft);
            checked(draft).map_err(|e| e.to_string())
        };
        assert!(
            with(&|d| d.language = Some("fr".into()))
                .unwrap_err()
                .contains("language")
        );
        assert!(
            with(&|d| d.interview_id = Some("a b".into()))
                .unwrap_err()
                .starts_with("interview_id")
        );
        assert!(
            with(&|d| d.position = Some("\u{7f}".into()))
                .unwrap_err()
                .starts_with("position")
        );
        let company = |ideal: Vec<String>| Some(Company { name: None, ideal });
        assert!(
            with(&|d| d.company = company(vec!["끈기".into(), "\u{85}".into()]))
                .unwrap_err()
                .starts_with("company.ideal[1]")
        );
        assert_eq!(
            with(&|d| d.company = company(vec![String::new(); 65])).unwrap_err(),
            "company.ideal: has 65 entries, the limit is 64"
        );
        assert!(with(&|d| d.position = Some("\u{a0}".into())).is_ok());
        let candidate = |resume: String| {
            Some(Candidate {
                name: None,
                resume_summary: Some(resume),
            })
        };
        assert!(
            with(&|d| d.candidate = candidate("가".repeat(4_001)))
                .unwrap_err()
                .contains("4001")
        );
        assert!(with(&|d| d.candidate = candidate("가".repeat(4_000))).is_ok());
    }
}
