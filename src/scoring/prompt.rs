//! The two prompts as segments: what is ours, and what is anybody else's and must never become a control token.

use minijinja::{Value, context};

use super::constants::Constants;
use super::templates::{TemplateError, Templates};
use crate::domain::interview::{Answer, Interview, Language};
use crate::domain::rubric::{Area, Criterion, Rubric, Stage};
use crate::domain::score::Score;

/// Stand-ins for untrusted texts while templates are rendered: this code point plus the text's number. The rendered prompt is split at them.
const SENTINEL: u32 = 0xF_0000;

/// Which budget a segment lives on. All but the instructions are untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Instructions,
    Context,
    Question,
    Parent,
    Answer,
    Digest,
}

/// A piece of a prompt that is tokenised on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub part: Part,
    pub text: String,
}

/// What the narrative's prompt tells of a report.
#[derive(Debug, Clone)]
pub struct Digest {
    pub overall: Score,
    /// In the rubric's order.
    pub areas: Vec<Option<Score>>,
    /// In the rubric's order.
    pub competencies: Vec<Option<Score>>,
    /// The scored and the gated answers, in the interview's order.
    pub answers: Vec<DigestAnswer>,
}

#[derive(Debug, Clone)]
pub struct DigestAnswer {
    /// As in the rubric, `_followup` included.
    pub stage: String,
    pub final_score: Score,
    /// The first quote that is not null, and the feedback; `None` if the answer was gated.
    pub told: Option<(Option<String>, String)>,
}

/// Builds prompts for one model and one rubric.
pub struct Prompts {
    pub constants: Constants,
    templates: Templates,
}

impl Prompts {
    pub fn new(templates: Templates) -> Self {
        Self {
            constants: Constants::load(),
            templates,
        }
    }

    /// The prompt that scores one answer, a follow-up together with its parent. `stage` is the answer's.
    pub fn score(
        &self,
        interview: &Interview,
        answer: &Answer,
        parent: Option<&Answer>,
        stage: Stage<'_>,
    ) -> Result<Vec<Segment>, TemplateError> {
        let mut untrusted = Untrusted::default();
        // The numbers follow the order of these lines.
        let context = untrusted.add(Part::Context, context_of(interview));
        let parent = untrusted.add(
            Part::Parent,
            parent
                .map(|p| format!("{}\n{}", p.question, p.text))
                .unwrap_or_default(),
        );
        let question = untrusted.add(Part::Question, answer.question.clone());
        let text = untrusted.add(Part::Answer, answer.text.clone());
        let stage_name = self.stage_name(stage, Language::Korean);
        let language = self.constants.language_name(interview.language);
        let user = context! { context, parent, stage => stage_name, question, answer => text, language };
        let system = context! { area => area_values(stage.area) };
        self.segments(["score.system.jinja", "score.user.jinja"], system, user, untrusted)
    }

    /// The narrative's prompt.
    pub fn narrative(
        &self,
        interview: &Interview,
        digest: &Digest,
        rubric: &Rubric,
    ) -> Result<Vec<Segment>, TemplateError> {
        let language = interview.language;
        let mut untrusted = Untrusted::default();
        let context = untrusted.add(Part::Context, context_of(interview));
        let areas = rubric
            .areas
            .iter()
            .map(|area| in_language(language, &area.name, &area.en));
        let named = rubric.competencies.values();
        let competencies = named.map(|named| in_language(language, &named.name, &named.en));
        let line = |(name, score): (&str, Score)| context! { name, score => score.to_string() };
        let scored = |(name, score): (_, &Option<Score>)| score.map(|score| (name, score));
        let areas = ranked(areas.zip(&digest.areas).filter_map(scored), |(_, score)| *score);
        let answers = ranked(&digest.answers, |answer| answer.final_score)
            .into_iter()
            .map(|answer| {
                let stage = rubric
                    .stage(&answer.stage)
                    .map(|stage| self.stage_name(stage, language))
                    .unwrap_or_default();
                let note = untrusted.add(Part::Digest, self.note(answer, language));
                context! { stage, score => answer.final_score.to_string(), note }
            });
        let answers: Vec<_> = answers.collect();
        let user = context! {
            context,
            overall => digest.overall.to_string(),
            areas => areas.into_iter().map(line).collect::<Vec<_>>(),
            competencies => competencies.zip(&digest.competencies).filter_map(scored).map(line).collect::<Vec<_>>(),
            answers,
            language => self.constants.language_name(language),
        };
        self.segments(
            ["narrative.system.jinja", "narrative.user.jinja"],
            context! {},
            user,
            untrusted,
        )
    }

    fn segments(
        &self,
        [system_template, user_template]: [&'static str; 2],
        system: Value,
        user: Value,
        untrusted: Untrusted,
    ) -> Result<Vec<Segment>, TemplateError> {
        let system = self.templates.render(system_template, system)?;
        let user = self.templates.render(user_template, user)?;
        Ok(split(&self.templates.chat(&system, &user)?, untrusted.0))
    }

    fn stage_name(&self, stage: Stage<'_>, language: Language) -> String {
        let name = in_language(language, stage.name, stage.en);
        match stage.is_follow_up {
            true => format!("{name} {}", self.constants.labels(language).follow_up),
            false => name.to_owned(),
        }
    }

    fn note(&self, answer: &DigestAnswer, language: Language) -> String {
        match &answer.told {
            Some((Some(quote), feedback)) => format!("{quote} / {feedback}"),
            Some((None, feedback)) => feedback.clone(),
            None => self.constants.labels(language).no_answer.clone(),
        }
    }
}

/// The highest first, equal ones in the order they have: whoever writes the narrative need not compare numbers.
fn ranked<T>(rows: impl IntoIterator<Item = T>, score: impl Fn(&T) -> Score) -> Vec<T> {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(score(row)));
    rows
}

/// Untrusted texts in the order of their sentinels.
#[derive(Default)]
struct Untrusted(Vec<Segment>);

impl Untrusted {
    /// The sentinel that stands for `text` in a template; an empty text stays an empty text.
    fn add(&mut self, part: Part, text: String) -> String {
        if text.is_empty() {
            return text;
        }
        let number = u32::try_from(self.0.len()).expect("an interview has at most 64 answers");
        self.0.push(Segment { part, text });
        char::from_u32(SENTINEL + number)
            .expect("the private-use plane has room")
            .to_string()
    }
}

/// Splits a rendered prompt at the sentinels and puts the untrusted texts in their places.
fn split(rendered: &str, untrusted: Vec<Segment>) -> Vec<Segment> {
    let number = |c: char| {
        u32::from(c)
            .checked_sub(SENTINEL)
            .map(|n| n as usize)
            .filter(|n| *n < untrusted.len())
    };
    let mut segments = Vec::with_capacity(2 * untrusted.len() + 1);
    let mut ours = String::new();
    for c in rendered.chars() {
        match number(c) {
            None => ours.push(c),
            Some(index) => {
                flush(&mut ours, &mut segments);
                segments.push(untrusted[index].clone());
            }
        }
    }
    flush(&mut ours, &mut segments);
    segments
}

fn flush(ours: &mut String, segments: &mut Vec<Segment>) {
    if !ours.is_empty() {
        segments.push(Segment {
            part: Part::Instructions,
            text: std::mem::take(ours),
        });
    }
}

/// Position, company and its ideals; neither the candidate's name nor the résumé is shown to the model.
fn context_of(interview: &Interview) -> String {
    let company = interview.company.iter();
    let names = company.clone().filter_map(|c| c.name.as_deref());
    let ideals = company.flat_map(|c| c.ideal.iter().map(String::as_str));
    let all = interview.position.as_deref().into_iter().chain(names).chain(ideals);
    all.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn in_language<'a>(language: Language, korean: &'a str, english: &'a str) -> &'a str {
    match language {
        Language::Korean => korean,
        Language::English => english,
    }
}

fn area_values(area: &Area) -> Value {
    let criterion = |c: &Criterion| {
        let levels = c.levels.to_vec();
        context! { name => &*c.name, points => c.points, look => &*c.look, cost => &*c.cost, levels }
    };
    let criteria: Vec<_> = area.criteria.iter().map(criterion).collect();
    context! { id => &*area.id, name => &*area.name, criteria }
}
