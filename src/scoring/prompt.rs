//! The two prompts as segments: what is ours, and what is anybody else's and must never become a control token.

use minijinja::{Value, context};

use super::constants::Constants;
use super::digest::{Digest, Told};
use super::error::ScoringError;
use super::templates::Templates;
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

/// Builds prompts and grammars for one model.
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

    /// The prompt that scores the answer at `index`, a follow-up together with its parent.
    pub fn score(&self, interview: &Interview, index: usize, rubric: &Rubric) -> Result<Vec<Segment>, ScoringError> {
        let answer = answer_at(interview, index)?;
        let parent = parent_of(interview, answer)?;
        let stage = stage_of(rubric, &answer.stage)?;
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
    ) -> Result<Vec<Segment>, ScoringError> {
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
                let stage = self.stage_name(stage_of(rubric, &answer.stage)?, language);
                let note = untrusted.add(Part::Digest, self.note(&answer.told, language));
                Ok(context! { stage, score => answer.final_score.to_string(), note })
            })
            .collect::<Result<Vec<_>, ScoringError>>()?;
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
    ) -> Result<Vec<Segment>, ScoringError> {
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

    fn note(&self, told: &Told, language: Language) -> String {
        match told {
            Told::Judged {
                quote: Some(quote),
                feedback,
            } => format!("{quote} / {feedback}"),
            Told::Judged { quote: None, feedback } => feedback.clone(),
            Told::NothingSaid => self.constants.labels(language).no_answer.clone(),
        }
    }

    /// The grammar of one scored answer; quotes are runs of the `judged` text. Unless `counted`, its texts are as long as one likes: their limits are
    /// the outline's, since a grammar that counts takes megabytes for every answer under way.
    pub fn score_grammar(&self, area: &Area, judged: &str, counted: bool) -> Result<String, ScoringError> {
        let criteria: Vec<_> = area.criteria.iter().map(|c| c.name.clone()).collect();
        let chunks: Vec<_> = judged.chars().map(json_escaped).collect();
        let chunks = serde_json::Value::from(chunks).to_string();
        let limits = &self.constants.score.limits;
        let limits = counted.then(|| context! { evidence => limits.evidence, feedback => limits.feedback });
        self.templates
            .render("score.lark.jinja", context! { criteria, chunks, limits })
    }

    /// The grammar of the narrative; `competencies`: the ids of those that have a score, in the rubric's order. `counted`: as of an answer's.
    pub fn narrative_grammar(&self, competencies: &[String], counted: bool) -> Result<String, ScoringError> {
        let all = &self.constants.narrative.limits;
        let points = context! { min => all.points_min, max => all.points_max };
        let limits =
            counted.then(|| context! { summary => all.summary, point => all.point, competency => all.competency });
        let competencies = competencies.to_vec();
        self.templates
            .render("narrative.lark.jinja", context! { competencies, points, limits })
    }

    /// One system and one user message as the model's chat template writes them.
    pub fn chat(&self, system: &str, user: &str) -> Result<String, ScoringError> {
        self.templates.chat(system, user)
    }
}

/// A code point as it stands within a JSON string.
fn json_escaped(c: char) -> String {
    let quoted = serde_json::Value::from(c.to_string()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The answer at `index` of the interview's order.
pub fn answer_at(interview: &Interview, index: usize) -> Result<&Answer, ScoringError> {
    let answers = interview.answers();
    answers.get(index).ok_or(ScoringError::NoSuchAnswer {
        index,
        answers: answers.len(),
    })
}

/// Where an answer belongs.
pub fn stage_of<'a>(rubric: &'a Rubric, stage: &str) -> Result<Stage<'a>, ScoringError> {
    rubric.stage(stage).ok_or_else(|| ScoringError::UnknownStage {
        stage: stage.to_owned(),
        rubric: rubric.id.clone(),
    })
}

fn parent_of<'a>(interview: &'a Interview, answer: &Answer) -> Result<Option<&'a Answer>, ScoringError> {
    let find = |id| {
        let parent = interview.answer(id);
        parent.ok_or_else(|| ScoringError::UnknownParent {
            answer: answer.id.clone(),
            parent: id.clone(),
        })
    };
    answer.follow_up_of.as_ref().map(find).transpose()
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
