//! The steps of bringing a model up that can be looked at one by one: the daemon takes all of them, `model check` tells of each.

use std::path::PathBuf;

use super::Settings;
use super::faults::with_causes;
use crate::engine::onnx::OnnxModel;
use crate::runtime::{ModelFolder, Search, find};
use crate::scoring::{self, Scorer, ScoringError};

/// ONNX Runtime, loaded.
pub(super) struct Runtime {
    pub library: PathBuf,
    pub version: String,
}

/// Tokenizer, chat template and grammars, of which nothing is checked yet.
pub(super) fn scorer(folder: &ModelFolder) -> Result<Scorer, String> {
    let manifest = &folder.manifest;
    told(Scorer::read(
        &folder.path,
        &manifest.chat_template_file,
        &manifest.eos_ids,
        manifest.vocab_size,
    ))
}

/// Every marker, those of the chat template and those that `model.json` names, is exactly one special token.
pub(super) fn markers(folder: &ModelFolder, scorer: &Scorer) -> Result<(), String> {
    let manifest = &folder.manifest;
    let markers = manifest.special_tokens.all();
    let markers = markers.map(|marker| (marker.text.as_str(), marker.id));
    told(
        scorer
            .check_turns(&manifest.eos_ids)
            .and_then(|()| scorer.check_markers(&markers)),
    )
}

/// No text of an answer becomes a control token.
pub(super) fn answers(scorer: &Scorer) -> Result<(), String> {
    told(scorer.check_answers())
}

/// A level is a token of its own.
pub(super) fn level(scorer: &Scorer) -> Result<(), String> {
    told(scorer.check_level())
}

/// The prompts that the rubric makes keep their budgets, and its grammars can be written.
pub(super) fn prompts(settings: &Settings, scorer: &Scorer) -> Result<(), String> {
    told(scorer.check_rubric(&settings.rubric.rubric))
}

/// The slots, whose length follows from the budgets, are no longer than the model's context.
pub(super) fn contexts(folder: &ModelFolder) -> Result<(), String> {
    let context = folder.manifest.context_tokens;
    let banks = scoring::banks(1, 1);
    let longest = banks.iter().map(|bank| bank.context).max().unwrap_or(0);
    match longest <= context {
        true => Ok(()),
        false => Err(format!(
            "{}: the model's context of {context} tokens is shorter than a slot of {longest}; \
             export it again with --context {longest} or more",
            folder.path.display()
        )),
    }
}

/// Loaded here, so that a bad library is a reason on `status` and not an engine that dies again and again.
pub(super) fn runtime(settings: &Settings, cuda: bool) -> Result<Runtime, String> {
    let library = find(&Search {
        configured: settings.config.runtime.library.clone(),
        cuda,
    });
    let library = library.map_err(|error| with_causes(&error))?;
    let version = OnnxModel::load_runtime(&library, cuda).map_err(|error| with_causes(&error))?;
    Ok(Runtime { library, version })
}

fn told<T>(result: Result<T, ScoringError>) -> Result<T, String> {
    result.map_err(|error| with_causes(&error))
}
