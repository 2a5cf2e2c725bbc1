//! Rendering: our own templates strictly, a model's chat template leniently: it may ask for names that we do not have.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::error::ScoringError;

/// Our templates of `models/prompts`, grammars among them, and one model's chat template.
pub struct Templates {
    ours: Environment<'static>,
    chat: Environment<'static>,
}

const OURS: [(&str, &str); 6] = [
    (
        "score.system.jinja",
        include_str!("../../models/prompts/score.system.jinja"),
    ),
    (
        "score.user.jinja",
        include_str!("../../models/prompts/score.user.jinja"),
    ),
    (
        "narrative.system.jinja",
        include_str!("../../models/prompts/narrative.system.jinja"),
    ),
    (
        "narrative.user.jinja",
        include_str!("../../models/prompts/narrative.user.jinja"),
    ),
    (
        "score.lark.jinja",
        include_str!("../../models/prompts/score.lark.jinja"),
    ),
    (
        "narrative.lark.jinja",
        include_str!("../../models/prompts/narrative.lark.jinja"),
    ),
];
const CHAT: &str = "chat template of the model";

impl Templates {
    /// `chat_template`: the Jinja source from the model's folder.
    pub fn new(chat_template: String) -> Result<Self, ScoringError> {
        let mut ours = plain();
        ours.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, source) in OURS {
            ours.add_template(name, source)
                .map_err(|source| ScoringError::Template { name, source })?;
        }
        let mut chat = plain();
        chat.set_syntax(trimmed_blocks());
        chat.add_template_owned(CHAT, chat_template)
            .map_err(|source| ScoringError::Template { name: CHAT, source })?;
        Ok(Self { ours, chat })
    }

    /// Renders one of our templates.
    pub fn render(&self, name: &'static str, values: Value) -> Result<String, ScoringError> {
        render(&self.ours, name, values)
    }

    /// One system and one user message, ready for the assistant's turn.
    pub fn chat(&self, system: &str, user: &str) -> Result<String, ScoringError> {
        let message = |role: &str, content: &str| context! { role, content };
        let messages = vec![message("system", system), message("user", user)];
        render(&self.chat, CHAT, context! { messages, add_generation_prompt => true })
    }
}

/// How chat templates expect their blocks to be read.
fn trimmed_blocks() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    syntax.build().expect("the default delimiters do not clash")
}

fn plain() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
}

fn render(environment: &Environment<'static>, name: &'static str, values: Value) -> Result<String, ScoringError> {
    let template = environment.get_template(name);
    template
        .and_then(|template| template.render(values))
        .map_err(|source| ScoringError::Template { name, source })
}
