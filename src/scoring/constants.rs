//! The constants of the prompt version: token budgets, limits in code points, words that code puts into templates.

use serde::Deserialize;

use crate::domain::interview::Language;
use crate::domain::report::PromptProvenance;
use crate::engine::model::BankShape;

/// The bank whose slots hold one answer each.
pub const SCORING_BANK: usize = 0;
/// The bank whose slots hold a narrative each.
pub const NARRATIVE_BANK: usize = 1;

const FILE: &str = include_str!("../../models/prompts/prompts.toml");

/// `models/prompts/prompts.toml`, compiled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constants {
    pub version: u32,
    pub score: ScoreBudget,
    pub narrative: NarrativeBudget,
    languages: ByLanguage<String>,
    labels: ByLanguage<Labels>,
}

/// Tokens of each part of the prompt that scores one answer; together the context of a scoring slot.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreBudget {
    pub instructions: usize,
    pub context: usize,
    pub question: usize,
    pub parent: usize,
    pub answer: usize,
    pub output: usize,
    pub limits: ScoreLimits,
}

/// Code points of what may be written about one answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreLimits {
    pub evidence: usize,
    pub feedback: usize,
}

/// Tokens of each part of the narrative's prompt; together the context of the narrative's slot.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NarrativeBudget {
    pub instructions: usize,
    pub context: usize,
    pub digest: usize,
    pub output: usize,
    pub limits: NarrativeLimits,
}

/// Code points of the narrative's texts, and how many strengths and improvements it has.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NarrativeLimits {
    pub summary: usize,
    pub point: usize,
    pub competency: usize,
    pub points_min: usize,
    pub points_max: usize,
}

/// Words that code puts into templates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    pub follow_up: String,
    pub no_answer: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ByLanguage<T> {
    ko: T,
    en: T,
}

impl<T> ByLanguage<T> {
    fn get(&self, language: Language) -> &T {
        match language {
            Language::Korean => &self.ko,
            Language::English => &self.en,
        }
    }
}

impl Constants {
    /// The compiled-in file.
    pub fn load() -> Self {
        toml::from_str(FILE).expect("prompts.toml is compiled in and a test reads it")
    }

    /// How the prompt names the language of the feedback.
    pub fn language_name(&self, language: Language) -> &str {
        self.languages.get(language)
    }

    pub fn labels(&self, language: Language) -> &Labels {
        self.labels.get(language)
    }
}

/// The banks that an engine needs: [`SCORING_BANK`] and [`NARRATIVE_BANK`], with the contexts that the budgets add up to.
pub fn banks(scoring_slots: usize, narrative_slots: usize) -> Vec<BankShape> {
    let constants = Constants::load();
    let bank = |slots, context| BankShape { slots, context };
    vec![
        bank(scoring_slots, constants.score.total()),
        bank(narrative_slots, constants.narrative.total()),
    ]
}

/// The version of the prompts and their budgets by part, as reports show them.
pub fn prompt_provenance() -> PromptProvenance {
    let Constants {
        version,
        score,
        narrative,
        ..
    } = Constants::load();
    let budgets = [
        ("score.instructions", score.instructions),
        ("score.context", score.context),
        ("score.question", score.question),
        ("score.parent", score.parent),
        ("score.answer", score.answer),
        ("score.output", score.output),
        ("narrative.instructions", narrative.instructions),
        ("narrative.context", narrative.context),
        ("narrative.digest", narrative.digest),
        ("narrative.output", narrative.output),
    ];
    PromptProvenance {
        version,
        budgets: budgets
            .into_iter()
            .map(|(part, tokens)| (part.to_owned(), tokens))
            .collect(),
    }
}

impl ScoreBudget {
    /// Tokens of a scoring slot.
    pub fn total(&self) -> usize {
        self.instructions + self.context + self.question + self.parent + self.answer + self.output
    }
}

impl NarrativeBudget {
    /// Tokens of the narrative's slot.
    pub fn total(&self) -> usize {
        self.instructions + self.context + self.digest + self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_and_its_parts_add_up_to_the_slots() {
        let constants = Constants::load();
        assert_eq!((constants.score.total(), constants.narrative.total()), (1_024, 2_176));
        assert_eq!(constants.language_name(Language::English), "영어");
        assert_eq!(constants.labels(Language::Korean).no_answer, "무응답");
    }

    #[test]
    fn banks_and_provenance_follow_from_the_budgets() {
        let contexts: Vec<_> = banks(17, 1).iter().map(|bank| (bank.slots, bank.context)).collect();
        assert_eq!(contexts, [(17, 1_024), (1, 2_176)]);
        let provenance = prompt_provenance();
        assert_eq!(provenance.version, 1);
        assert_eq!(provenance.budgets.values().sum::<usize>(), 1_024 + 2_176);
    }
}
