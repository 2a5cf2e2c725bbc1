//! The rubric: stages, areas and criteria, read from TOML and checked as a whole.

use indexmap::IndexMap;
use serde::Deserialize;

/// The rubric that is built in.
pub const DEFAULT: &str = include_str!("../../models/prompts/rubric.toml");

const FOLLOW_UP: &str = "_followup";

/// A checked rubric: weights sum to 1, points of every area to 100, and every name that is used exists.
#[derive(Debug, Clone)]
pub struct Rubric {
    pub id: String,
    pub version: u32,
    /// By id, in the rubric's order.
    pub competencies: IndexMap<String, Named>,
    pub areas: Vec<Area>,
    stages: IndexMap<String, StageEntry>,
}

/// What people read for an id: Korean, and English for the narrative of an English interview.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
    pub en: String,
}

/// A group of criteria with its share of the overall score.
#[derive(Debug, Clone)]
pub struct Area {
    pub id: String,
    pub name: String,
    pub en: String,
    /// Ten-thousandths of the overall score.
    pub weight: u32,
    /// Points that a follow-up gains if it is clearly better than its parent, and loses if it is clearly worse.
    pub improved: i32,
    pub worsened: i32,
    pub criteria: Vec<Criterion>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    pub name: String,
    /// Share of the answer's 100 points.
    pub points: u32,
    /// What is looked for, what costs points, and what each level from 1 to 5 means.
    pub look: String,
    pub cost: String,
    pub levels: [String; 5],
}

/// Where an answer belongs.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The id without `_followup`.
    pub base: &'a str,
    pub name: &'a str,
    pub en: &'a str,
    pub area: &'a Area,
    pub competency: Option<&'a str>,
    pub is_follow_up: bool,
}

/// What is wrong with a rubric, and where.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRubric {
    #[error("the rubric cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("the rubric has no areas")]
    Empty,
    #[error("the weight of area {area} is {weight}; it must be between 0 and 1 with at most four decimals")]
    Weight { area: String, weight: f64 },
    #[error("the weights of the areas sum to {} instead of 1", f64::from(*.0) / f64::from(WEIGHT_UNIT))]
    WeightSum(u32),
    #[error("the points of area {area} sum to {sum} instead of 100")]
    Points { area: String, sum: u64 },
    #[error("area {0} is there twice")]
    AreaTwice(String),
    #[error("stage {stage} names the area {area}, which does not exist")]
    UnknownArea { stage: String, area: String },
    #[error("stage {stage} names the competency {competency}, which does not exist")]
    UnknownCompetency { stage: String, competency: String },
    #[error("the stage id {0} ends in {FOLLOW_UP}; set follow_up = true on the stage it follows instead")]
    FollowUpStage(String),
    #[error(
        "the name {0:?} holds a quotation mark, a backslash or a control character; it could not stand in a grammar"
    )]
    Name(String),
}

/// A weight of 1.
pub const WEIGHT_UNIT: u32 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    version: u32,
    competencies: IndexMap<String, Named>,
    stages: IndexMap<String, StageEntry>,
    areas: Vec<AreaEntry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageEntry {
    name: String,
    en: String,
    area: String,
    competency: Option<String>,
    follow_up: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AreaEntry {
    id: String,
    name: String,
    en: String,
    weight: f64,
    improved: u8,
    worsened: u8,
    criteria: Vec<Criterion>,
}

impl Rubric {
    /// Reads and checks a rubric file's text.
    pub fn parse(text: &str) -> Result<Self, InvalidRubric> {
        let file: File = toml::from_str(text)?;
        let areas = file.areas.into_iter().map(area).collect::<Result<Vec<_>, _>>()?;
        let rubric = Self {
            id: file.id,
            version: file.version,
            competencies: file.competencies,
            areas,
            stages: file.stages,
        };
        rubric.check()?;
        Ok(rubric)
    }

    /// The stage of an id such as `skill` or `skill_followup`; `None` if there is none.
    pub fn stage(&self, id: &str) -> Option<Stage<'_>> {
        let base = id.strip_suffix(FOLLOW_UP).unwrap_or(id);
        let is_follow_up = base != id;
        let (base, entry) = self.stages.get_key_value(base)?;
        if is_follow_up && !entry.follow_up {
            return None;
        }
        Some(Stage {
            base,
            name: &entry.name,
            en: &entry.en,
            area: self.area(&entry.area)?,
            competency: entry.competency.as_deref(),
            is_follow_up,
        })
    }

    /// Every stage id that an answer may have, in the rubric's order.
    pub fn stage_ids(&self) -> Vec<String> {
        let follow_up = |(id, entry): (&String, &StageEntry)| entry.follow_up.then(|| format!("{id}{FOLLOW_UP}"));
        self.stages
            .iter()
            .flat_map(|stage| [Some(stage.0.clone()), follow_up(stage)])
            .flatten()
            .collect()
    }

    pub fn area(&self, id: &str) -> Option<&Area> {
        self.areas.iter().find(|area| area.id == id)
    }

    fn check(&self) -> Result<(), InvalidRubric> {
        if self.areas.is_empty() {
            return Err(InvalidRubric::Empty);
        }
        if let Some((_, twice)) = self
            .areas
            .iter()
            .enumerate()
            .find(|(i, area)| self.areas[..*i].iter().any(|other| other.id == area.id))
        {
            return Err(InvalidRubric::AreaTwice(twice.id.clone()));
        }
        let weights = self.areas.iter().map(|area| area.weight).sum();
        if weights != WEIGHT_UNIT {
            return Err(InvalidRubric::WeightSum(weights));
        }
        let criteria = self
            .areas
            .iter()
            .flat_map(|area| &area.criteria)
            .map(|criterion| &criterion.name);
        if let Some(name) = criteria
            .chain(self.competencies.keys())
            .find(|name| !stands_in_grammar(name))
        {
            return Err(InvalidRubric::Name(name.clone()));
        }
        self.stages
            .iter()
            .try_for_each(|(id, stage)| self.check_stage(id, stage))
    }

    fn check_stage(&self, id: &str, stage: &StageEntry) -> Result<(), InvalidRubric> {
        if id.ends_with(FOLLOW_UP) {
            return Err(InvalidRubric::FollowUpStage(id.to_owned()));
        }
        if self.area(&stage.area).is_none() {
            return Err(InvalidRubric::UnknownArea {
                stage: id.to_owned(),
                area: stage.area.clone(),
            });
        }
        match &stage.competency {
            Some(competency) if !self.competencies.contains_key(competency) => Err(InvalidRubric::UnknownCompetency {
                stage: id.to_owned(),
                competency: competency.clone(),
            }),
            _ => Ok(()),
        }
    }
}

fn area(entry: AreaEntry) -> Result<Area, InvalidRubric> {
    let sum = entry.criteria.iter().map(|criterion| u64::from(criterion.points)).sum();
    if sum != 100 {
        return Err(InvalidRubric::Points { area: entry.id, sum });
    }
    let weight = entry.weight * f64::from(WEIGHT_UNIT);
    if !(0.0..=f64::from(WEIGHT_UNIT)).contains(&weight) || (weight - weight.round()).abs() > 1e-6 {
        return Err(InvalidRubric::Weight {
            area: entry.id,
            weight: entry.weight,
        });
    }
    Ok(Area {
        id: entry.id,
        name: entry.name,
        en: entry.en,
        weight: weight.round() as u32,
        improved: entry.improved.into(),
        worsened: entry.worsened.into(),
        criteria: entry.criteria,
    })
}

fn stands_in_grammar(name: &str) -> bool {
    !name.chars().any(|c| c == '"' || c == '\\' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> String {
        assert!(DEFAULT.contains(from), "the default rubric has no {from:?}");
        Rubric::parse(&DEFAULT.replacen(from, to, 1))
            .expect_err("the change must be noticed")
            .to_string()
    }

    #[test]
    fn the_default_is_the_design() {
        let rubric = Rubric::parse(DEFAULT).unwrap();
        let areas: Vec<_> = rubric
            .areas
            .iter()
            .map(|a| (a.id.as_str(), a.weight, a.improved, a.worsened))
            .collect();
        assert_eq!(
            areas,
            [
                ("A", 1500, 0, 0),
                ("B", 1500, 0, 0),
                ("C", 2000, 10, 5),
                ("D", 3000, 15, 10),
                ("E", 2000, 10, 5)
            ]
        );
        let competencies: Vec<_> = rubric.competencies.keys().map(String::as_str).collect();
        assert_eq!(
            competencies,
            [
                "technical",
                "experience",
                "problem_solving",
                "communication",
                "responsibility",
                "growth"
            ]
        );
        assert_eq!(rubric.stage_ids().len(), 15);
    }

    #[test]
    fn a_follow_up_is_judged_where_its_parent_is() {
        let rubric = Rubric::parse(DEFAULT).unwrap();
        let stage = rubric.stage("skill_followup").unwrap();
        assert_eq!(
            (stage.base, stage.area.id.as_str(), stage.competency, stage.is_follow_up),
            ("skill", "C", Some("technical"), true)
        );
        assert!(rubric.stage("motivation").unwrap().competency.is_none());
        for unknown in ["intro_followup", "nothing", "", "_followup", "skill_followup_followup"] {
            assert!(rubric.stage(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(changed("weight = 0.30", "weight = 0.25").contains("sum to 0.95"));
        assert!(changed("weight = 0.30", "weight = 0.30001").contains("area D is 0.30001"));
        assert!(changed("points = 50", "points = 45").contains("area C sum to 95"));
        assert!(changed("area = \"B\"", "area = \"X\"").contains("motivation names the area X"));
        assert!(
            changed("competency = \"technical\"", "competency = \"magic\"")
                .contains("skill names the competency magic")
        );
        assert!(changed("id = \"B\"", "id = \"A\"").contains("area A is there twice"));
        assert!(changed("name = \"논리성\"", "name = '논리\"성'").contains("논리"));
        assert!(
            changed(
                "growth          = { name = \"성장 가능성\", en = \"growth\", a",
                "growth_followup = { name = \"성장\", en = \"growth\", a"
            )
            .contains("growth_followup")
        );
        assert!(changed("cost = ", "price = ").contains("price"));
        assert!(changed("improved = 10", "improved = -1").contains("improved"));
        assert!(changed("name = \"논리성\"", "name = '논리\\성'").contains("grammar"));
        assert!(changed("[competencies]", "[competencies]\n'a\"b' = { name = 'x', en = 'x' }").contains("grammar"));
    }
}
