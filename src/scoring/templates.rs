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

    /// One system and one user message, ready for the assistant's turn. A model that can think aloud is told not to: the grammar has no room for it.
    pub fn chat(&self, system: &str, user: &str) -> Result<String, ScoringError> {
        let message = |role: &str, content: &str| context! { role, content };
        let messages = vec![message("system", system), message("user", user)];
        let values = context! { messages, add_generation_prompt => true, enable_thinking => false };
        render(&self.chat, CHAT, values)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that the template of a model that calls tools and thinks aloud may ask of the language.
    const THINKING: &str = r#"
{%- set marks = {'system': '[|system|]\n', 'user': '[|user|]\n', 'assistant': '[|assistant|]\n'} %}
{%- macro listed(tools) %}
    {%- for tool in tools %}
        {{- tool | tojson(ensure_ascii=False) | safe }}
    {%- endfor %}
{%- endmacro %}
{%- set last = namespace(asked = messages | length - 1) %}
{%- for message in messages %}
    {%- if message.role == "user" and message.content is string %}
        {%- set last.asked = loop.index0 -%}
    {%- endif %}
{%- endfor %}
{%- for i in range(messages | length) %}
    {%- set message = messages[i] %}
    {%- if message.role not in marks %}
        {{- raise_exception('no such role: ' ~ message.role) }}
    {%- endif %}
    {%- if i == 0 and message.role == 'system' %}
        {{- marks['system'] }}
        {{- message.content }}
        {%- if tools is defined and tools %}
            {{- listed(tools) }}
        {%- endif %}
        {{- '[|endofturn|]\n' -}}
        {%- continue %}
    {%- endif %}
    {%- if message.role == 'assistant' and i < last.asked %}
        {{- message.content.split('</think>')[-1].strip() }}
    {%- else %}
        {{- marks[message.role] }}
        {{- message.content }}
        {{- '[|endofturn|]\n' -}}
    {%- endif %}
{% endfor %}
{%- if add_generation_prompt %}
    {{- marks['assistant'] }}
    {%- if enable_thinking is defined and enable_thinking is true %}
        {{- "<think>\n" }}
    {%- else %}
        {{- "<think>\n\n</think>\n\n" }}
    {%- endif %}
{%- endif %}"#;

    #[test]
    fn a_model_that_can_think_aloud_is_asked_for_its_answer_at_once() {
        let templates = Templates::new(THINKING.to_owned()).unwrap();
        assert_eq!(
            templates.chat("규칙", "답변").unwrap(),
            "[|system|]\n규칙[|endofturn|]\n[|user|]\n답변[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\n"
        );
    }
}
