//! What a check of a model finds, step by step, and the verdict on the whole.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is looked at, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `model.json`: every field, and that they do not contradict each other.
    Manifest,
    /// Sizes and hashes of the files.
    Files,
    /// Tokenizer and chat template can be read, and grammars be made for them.
    Tokenizer,
    /// Every marker is one special token.
    Markers,
    /// Nothing in an answer becomes a control token.
    Answers,
    /// A level is a token of its own.
    Level,
    /// Prompts keep their budgets, and fit the context.
    Prompts,
    /// How the pool would be laid out here.
    Plan,
    /// ONNX Runtime.
    Runtime,
    /// The weights load, and the graph's inputs and outputs are as the manifest says.
    Graph,
    /// What is held once they are loaded.
    Memory,
    QueryTile,
    /// Logits are numbers, the same alone and in company.
    Logits,
    /// One made-up answer is scored.
    Scoring,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Warning,
    Error,
    /// Not looked at.
    Skipped,
}

/// Where an error lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// In the model's folder: it cannot be used anywhere.
    Model,
    /// In this machine or its configuration.
    Here,
}

/// What is to be said of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    #[serde(rename = "check")]
    pub step: Step,
    pub status: Status,
    /// Of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// What was found, and what to do.
    pub text: String,
    /// Numbers of it, for programs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

/// What the checking tells as it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    Begun(Step),
    Found(Finding),
}

impl Step {
    pub const ALL: [Self; 14] = [
        Self::Manifest,
        Self::Files,
        Self::Tokenizer,
        Self::Markers,
        Self::Answers,
        Self::Level,
        Self::Prompts,
        Self::Plan,
        Self::Runtime,
        Self::Graph,
        Self::Memory,
        Self::QueryTile,
        Self::Logits,
        Self::Scoring,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "model.json",
            Self::Files => "files",
            Self::Tokenizer => "tokenizer",
            Self::Markers => "markers",
            Self::Answers => "answers",
            Self::Level => "level",
            Self::Prompts => "prompts",
            Self::Plan => "plan",
            Self::Runtime => "runtime",
            Self::Graph => "graph",
            Self::Memory => "memory",
            Self::QueryTile => "query tile",
            Self::Logits => "logits",
            Self::Scoring => "scoring",
        }
    }
}

impl Finding {
    fn new(step: Step, status: Status, text: impl Into<String>) -> Self {
        Self {
            step,
            status,
            fault: None,
            text: text.into(),
            facts: Map::new(),
        }
    }

    pub fn error(step: Step, fault: Fault, text: impl Into<String>) -> Self {
        Self {
            fault: Some(fault),
            ..Self::new(step, Status::Error, text)
        }
    }

    pub fn skipped(step: Step, text: impl Into<String>) -> Self {
        Self::new(step, Status::Skipped, text)
    }

    pub(super) fn ok(step: Step, text: impl Into<String>) -> Self {
        Self::new(step, Status::Ok, text)
    }

    pub(super) fn warning(step: Step, text: impl Into<String>) -> Self {
        Self::new(step, Status::Warning, text)
    }

    /// With numbers: an object.
    pub(super) fn with(mut self, facts: Value) -> Self {
        if let Value::Object(facts) = facts {
            self.facts = facts;
        }
        self
    }
}

/// A sentence on the whole, and whether the model can be used here.
pub fn verdict(findings: &[Finding]) -> (bool, String) {
    let named = |wanted: &dyn Fn(&Finding) -> bool| {
        let names = findings
            .iter()
            .filter(|found| wanted(found))
            .map(|found| found.step.name());
        names.collect::<Vec<_>>().join(", ")
    };
    let at_fault = |fault: Fault| named(&|found: &Finding| found.fault == Some(fault));
    let (model, here) = (at_fault(Fault::Model), at_fault(Fault::Here));
    if !model.is_empty() {
        return (
            false,
            format!("Not usable: something is wrong with the model ({model})."),
        );
    }
    if !here.is_empty() {
        let text = format!(
            "Not usable here and now ({here}); nothing that could be looked at is wrong with the model itself."
        );
        return (false, text);
    }
    let answers = answers_at_once(findings).map(|answers| format!(", {answers} at once"));
    let usable = format!(
        "Usable: this model can score answers here{}",
        answers.unwrap_or_default()
    );
    match named(&|found: &Finding| found.status == Status::Warning).as_str() {
        "" => (true, format!("{usable}.")),
        warned => (true, format!("{usable}; but mind the warnings ({warned}).")),
    }
}

fn answers_at_once(findings: &[Finding]) -> Option<u64> {
    let plan = findings.iter().find(|found| found.step == Step::Plan)?;
    let actors = plan.facts.get("actors")?.as_array()?;
    actors.iter().map(|actor| actor.get("slots")?.as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_steps_are_written_in_the_order_in_which_they_are_taken() {
        assert!(Step::ALL.is_sorted());
    }

    #[test]
    fn the_verdict_tells_a_bad_model_from_a_machine_that_cannot_run_it() {
        let fine = Finding::ok(Step::Manifest, "");
        let (usable, text) = verdict(std::slice::from_ref(&fine));
        assert!(usable && !text.contains("warning"), "{text}");
        let odd = Finding::warning(Step::Memory, "");
        let plan = Finding::ok(Step::Plan, "").with(json!({"actors": [{"slots": 9}, {"slots": 12}]}));
        let (usable, text) = verdict(&[fine.clone(), plan, odd.clone()]);
        assert!(
            usable && text.contains("21 at once") && text.contains("warnings (memory)"),
            "{text}"
        );
        let small = Finding::error(Step::Plan, Fault::Here, "");
        let (usable, text) = verdict(&[fine, odd, small.clone()]);
        assert!(!usable && text.contains("here") && text.contains("plan"), "{text}");
        let bad = Finding::error(Step::Files, Fault::Model, "");
        let (usable, text) = verdict(&[bad, small]);
        assert!(!usable && text.contains("wrong with the model (files)"), "{text}");
    }

    #[test]
    fn what_is_told_survives_its_way_through_a_pipe() {
        let finding = Finding::error(Step::QueryTile, Fault::Model, "64").with(json!({"query_tile_tokens": 64}));
        for told in [Told::Begun(Step::Graph), Told::Found(finding)] {
            let line = serde_json::to_string(&told).unwrap();
            assert_eq!(serde_json::from_str::<Told>(&line).unwrap(), told, "{line}");
        }
    }
}
