//! `model check`: the steps of bringing a model up, one by one, with a verdict on each, then a probe run. Nothing is written, and no daemon asked.

mod finding;
mod probe_run;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

pub use self::finding::{Fault, Finding, Status, Step, Told, verdict};
use self::probe_run::ProbeError;
use super::bring_up::{self, PROBED_WEIGHTS_MAX};
use super::faults::with_causes;
use super::planning::footprint;
use super::{Settings, make_plan, planned, steps};
use crate::actors::engine_thread::{ModelFactory, Planned};
use crate::engine::model::Model;
use crate::engine::onnx::OnnxModel;
use crate::hardware::devices::{Detected, DeviceKind, detect};
use crate::hardware::plan::Plan;
use crate::runtime::{Check, KvType, ModelFolder};
use crate::scoring::Scorer;

/// Looks at the model that the settings name, and tells of each step as it goes; what needs a step that failed is not told of. `thorough`: measures
/// the query tile however long that takes.
pub fn check_model(settings: &Settings, thorough: bool, tell: &mut dyn FnMut(Told)) {
    let mut visit = Visit {
        settings,
        thorough,
        tell,
    };
    let Some(folder) = visit.manifest() else { return };
    let bad_files = visit.files(&folder);
    let scorer = match bad_files.iter().any(|name| TEXTS.contains(name)) {
        true => None,
        false => visit.scorer(&folder),
    };
    let Some((detected, plan)) = visit.plan(&folder) else {
        return;
    };
    let ready = bad_files.is_empty();
    let Some(model) = visit.model(&folder, &detected, &plan, ready) else {
        return;
    };
    visit.run(model, &plan, scorer);
}

/// The files that prompts and grammars are made of.
const TEXTS: [&str; 2] = ["tokenizer.json", "chat_template.jinja"];
const NEW_TEXTS: &str = "take tokenizer.json and chat_template.jinja from the model's own export, or export it again";
const NEW_EXPORT: &str = "export the model again with tools/export";

/// What runs the model.
enum Runs {
    /// The library in this file.
    Onnx(PathBuf),
    Nothing(Box<dyn Model>),
}

struct Visit<'a> {
    settings: &'a Settings,
    thorough: bool,
    tell: &'a mut dyn FnMut(Told),
}

impl Visit<'_> {
    /// Takes a step and tells how it went. Gives what the next ones need, if it went well.
    fn take<T>(&mut self, step: Step, look: impl FnOnce(&Settings) -> Result<(T, Finding), Finding>) -> Option<T> {
        (self.tell)(Told::Begun(step));
        let (passed, finding) = match look(self.settings) {
            Ok((passed, finding)) => (Some(passed), finding),
            Err(finding) => (None, finding),
        };
        (self.tell)(Told::Found(finding));
        passed
    }

    fn manifest(&mut self) -> Option<ModelFolder> {
        self.take(Step::Manifest, |settings| {
            let folder = ModelFolder::read(&settings.config.model.path);
            let folder = folder.map_err(|error| Finding::error(Step::Manifest, Fault::Model, with_causes(&error)))?;
            let finding = described(&folder);
            Ok((folder, finding))
        })
    }

    /// The files that are not as they should be.
    fn files(&mut self, folder: &ModelFolder) -> Vec<&'static str> {
        let mut bad = Vec::new();
        self.take(Step::Files, |_| {
            let faults: Vec<_> = folder.faults(Check::Hashes).collect();
            bad.extend(faults.iter().map(|(name, _)| *name));
            let Some((_, first)) = faults.first() else {
                let files = folder.manifest.files.all();
                let mib = files
                    .iter()
                    .map(|(_, entry)| entry.bytes)
                    .sum::<u64>()
                    .div_ceil(1 << 20);
                let text = format!(
                    "{} files, {mib} MiB, each of the size and SHA-256 that model.json gives",
                    files.len()
                );
                return Ok(((), Finding::ok(Step::Files, text)));
            };
            let mut text = with_causes(first);
            if bad.len() > 1 {
                text = format!("{text}. Nor are these as listed: {}", bad[1..].join(", "));
            }
            Err(Finding::error(Step::Files, Fault::Model, text))
        });
        bad
    }

    /// Tokenizer, prompts and grammars, if all of it suits.
    fn scorer(&mut self, folder: &ModelFolder) -> Option<Scorer> {
        let unsuited =
            |step| move |reason: String| Finding::error(step, Fault::Model, format!("{reason}; {NEW_TEXTS}"));
        let scorer = self.take(Step::Tokenizer, |_| {
            let scorer = steps::scorer(folder).map_err(unsuited(Step::Tokenizer))?;
            let text = format!(
                "can be read, with the chat template; the model has {} tokens",
                folder.manifest.vocab_size
            );
            Ok((scorer, Finding::ok(Step::Tokenizer, text)))
        })?;
        let markers = self.take(Step::Markers, |_| {
            steps::markers(folder, &scorer).map_err(unsuited(Step::Markers))?;
            let text = "every marker of chat template and model.json is one special token";
            Ok(((), Finding::ok(Step::Markers, text)))
        });
        let answers = self.take(Step::Answers, |_| {
            steps::answers(&scorer).map_err(unsuited(Step::Answers))?;
            let text = "markers in an answer yield no control token, and text comes back as it was sent";
            Ok(((), Finding::ok(Step::Answers, text)))
        });
        let level = self.take(Step::Level, |_| {
            steps::level(&scorer).map_err(unsuited(Step::Level))?;
            let text = "a level begins a token of its own, and forced text is written as it stands";
            Ok(((), Finding::ok(Step::Level, text)))
        });
        let prompts = self.take(Step::Prompts, |settings| prompts(settings, folder, &scorer));
        let suits = [markers, answers, level, prompts].iter().all(Option::is_some);
        suits.then_some(scorer)
    }

    fn plan(&mut self, folder: &ModelFolder) -> Option<(Detected, Plan)> {
        self.take(Step::Plan, |settings| {
            let detected = detect();
            let plan = make_plan(settings, &detected, &footprint(&folder.manifest), &|_| 0);
            let plan = plan.map_err(|problem| {
                Finding::error(Step::Plan, Fault::Here, format!("nothing can be planned: {problem}"))
            })?;
            let finding = match detected.warnings.as_slice() {
                [] => Finding::ok(Step::Plan, plan.explanation.clone()),
                warnings => Finding::warning(Step::Plan, format!("{} {}", plan.explanation, warnings.join(" "))),
            };
            let facts = serde_json::to_value(&plan).unwrap_or_default();
            Ok(((detected, plan), finding.with(facts)))
        })
    }

    /// The model, loaded and looked at. `ready`: whether its files are such that they may be loaded.
    fn model(&mut self, folder: &ModelFolder, detected: &Detected, plan: &Plan, ready: bool) -> Option<Box<dyn Model>> {
        let engine = planned(plan, self.settings.threads()).into_iter().next()?;
        let made_up = bring_up::simulated(&folder.path);
        let runs = self.take(Step::Runtime, |settings| {
            let failed = |fault| move |reason| Finding::error(Step::Runtime, fault, reason);
            if let Some(simulated) = made_up.map_err(failed(Fault::Model))? {
                let text = "simulated.json lies in the folder: nothing is computed, and every score is made up; \
                            remove that file to run the model";
                let model = bring_up::simulated_factory(simulated, folder).build(&engine);
                let model = model.map_err(|outage| Finding::error(Step::Runtime, Fault::Here, outage.reason))?;
                return Ok((Runs::Nothing(model), Finding::warning(Step::Runtime, text)));
            }
            let runtime = steps::runtime(settings, plan.device == DeviceKind::Cuda).map_err(failed(Fault::Here))?;
            let finding = Finding::ok(Step::Runtime, format!("ONNX Runtime {} can be used", runtime.version));
            let finding = finding.with(json!({"version": runtime.version, "library": runtime.library}));
            Ok((Runs::Onnx(runtime.library), finding))
        })?;
        let library = match runs {
            Runs::Onnx(library) if ready => library,
            Runs::Onnx(_) => return None,
            Runs::Nothing(simulated) => return Some(simulated),
        };
        let factory = bring_up::onnx_factory(folder, plan, library);
        let mut model = self.take(Step::Graph, |_| {
            let begun = Instant::now();
            let model = factory.load(&engine, false).map_err(|outage| {
                let fault = if outage.out_of_memory {
                    Fault::Here
                } else {
                    Fault::Model
                };
                Finding::error(Step::Graph, fault, outage.reason)
            })?;
            let text = format!(
                "loaded on {} in {:.1} s; inputs, outputs and shapes are as model.json says",
                engine.device,
                begun.elapsed().as_secs_f64()
            );
            Ok((model, Finding::ok(Step::Graph, text)))
        })?;
        self.take(Step::Memory, |_| Ok(((), memory(detected, plan, &engine))));
        self.query_tile(folder, plan, &mut model)?;
        Some(Box::new(model))
    }

    fn query_tile(&mut self, folder: &ModelFolder, plan: &Plan, model: &mut OnnxModel) -> Option<()> {
        let (tile, small) = (
            folder.manifest.query_tile_tokens,
            folder.manifest.weights_bytes < PROBED_WEIGHTS_MAX,
        );
        let measured = small || self.thorough;
        self.take(Step::QueryTile, |_| {
            let finding = match plan.device {
                DeviceKind::Cuda => Finding::skipped(Step::QueryTile, "on a card no bits are promised"),
                DeviceKind::Cpu if measured => {
                    let checked = model.check_query_tile();
                    checked.map_err(|error| Finding::error(Step::QueryTile, Fault::Model, with_causes(&error)))?;
                    Finding::ok(Step::QueryTile, format!("{tile} tokens, as measured on this processor"))
                }
                DeviceKind::Cpu => Finding::skipped(
                    Step::QueryTile,
                    format!(
                        "{tile} tokens by model.json; measuring it on this processor takes as long as a prompt of some {} tokens: \
                         --thorough does it",
                        tile.saturating_mul(tile) / 2
                    ),
                ),
            };
            Ok(((), finding.with(json!({"query_tile_tokens": tile}))))
        })
    }

    /// The probe run.
    fn run(&mut self, mut model: Box<dyn Model>, plan: &Plan, scorer: Option<Scorer>) {
        let passed = self.take(Step::Logits, |_| logits(&mut *model, plan.device));
        let (Some(()), Some(scorer)) = (passed, scorer) else {
            return;
        };
        self.take(Step::Scoring, |settings| {
            let options = bring_up::options(plan.device);
            let scored = probe_run::scoring(model, options, &scorer, &settings.rubric.rubric);
            let scored = scored.map_err(|error| failed_run(Step::Scoring, "a made-up answer could not be scored: ", &error))?;
            let text = format!(
                "a made-up answer was scored in {:.1} s: a prompt of {} tokens, {} of at most {} written",
                scored.took.as_secs_f64(),
                scored.prompt_tokens,
                scored.output_tokens,
                scored.output_max
            );
            let facts = json!({
                "prompt_tokens": scored.prompt_tokens, "output_tokens": scored.output_tokens,
                "output_tokens_max": scored.output_max, "ms": u64::try_from(scored.took.as_millis()).unwrap_or(u64::MAX),
            });
            Ok(((), Finding::ok(Step::Scoring, text).with(facts)))
        });
    }
}

fn described(folder: &ModelFolder) -> Finding {
    let manifest = &folder.manifest;
    let facts = json!({
        "name": manifest.name, "hash": folder.hash, "precision": manifest.numbers(), "target": manifest.target.name(),
        "parameters": manifest.parameter_count, "context_tokens": manifest.context_tokens,
        "demo": manifest.demo, "random": manifest.random,
    });
    let blocks = manifest.block_size.map(|size| format!(" in blocks of {size}"));
    let text = format!(
        "{}: {}{}{}, {:.1} million parameters, for {}, written by exporter {}",
        manifest.name,
        manifest.precision.name(),
        blocks.unwrap_or_default(),
        if manifest.kv_type == KvType::Int8 {
            " with int8 keys and values"
        } else {
            ""
        },
        manifest.parameter_count as f64 / 1e6,
        manifest.target.name(),
        manifest.exporter_version,
    );
    let finding = match (manifest.random, manifest.demo) {
        (true, _) => Finding::warning(
            Step::Manifest,
            format!("{text}; its weights are random, so its scores mean nothing"),
        ),
        (false, true) => Finding::ok(Step::Manifest, format!("{text}; a demo, and no judge of people")),
        (false, false) => Finding::ok(Step::Manifest, text),
    };
    finding.with(facts)
}

fn prompts(settings: &Settings, folder: &ModelFolder, scorer: &Scorer) -> Result<((), Finding), Finding> {
    let rubric = &settings.rubric.rubric;
    // The built-in rubric suits every model; another one may be at fault itself.
    let (fault, which) = match &settings.config.scoring.rubric {
        None => (Fault::Model, "the built-in rubric".to_owned()),
        Some(path) => (Fault::Here, format!("the rubric {}", path.display())),
    };
    let failed = |reason: String| Finding::error(Step::Prompts, fault, format!("with {which}: {reason}"));
    steps::prompts(settings, scorer).map_err(failed)?;
    steps::contexts(folder).map_err(|reason| Finding::error(Step::Prompts, Fault::Model, reason))?;
    let budgets = scorer.constants();
    let text = format!(
        "{which} ({} {}) keeps the budgets; prompts and outputs of {} and {} tokens fit the context of {}",
        rubric.id,
        rubric.version,
        budgets.score.total(),
        budgets.narrative.total(),
        folder.manifest.context_tokens
    );
    Ok(((), Finding::ok(Step::Prompts, text)))
}

/// Holds what the process takes with the model loaded against the plan, as the pool does before it gives an engine work.
fn memory(detected: &Detected, plan: &Plan, engine: &Planned) -> Finding {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let actor = &plan.actors[0];
    let held = bring_up::meter(detected, &|_| 0)(&engine.device).map(|held| held.bytes);
    let facts = json!({
        "weights_bytes": actor.weights_bytes, "slot_bytes": actor.slot_bytes, "slots": actor.slots, "slot_tokens": actor.slot_tokens,
        "budget_bytes": actor.budget_bytes, "held_bytes": held,
    });
    let shares = format!(
        "weights {} MiB, once; {} MiB for each of {} slots of {} tokens",
        mib(actor.weights_bytes),
        mib(actor.slot_bytes),
        actor.slots,
        actor.slot_tokens
    );
    let Some(held) = held else {
        let text = format!("{shares}; what is held of {} cannot be read", engine.device);
        return Finding::ok(Step::Memory, text).with(facts);
    };
    let all = held + engine.allowance.still_to_take(engine.slots, &BTreeSet::new());
    let excess = all.saturating_sub(engine.allowance.bytes);
    let held = format!("{shares}; {} MiB are held with the model loaded", mib(held));
    let finding = match excess > engine.allowance.slot_bytes {
        false => Finding::ok(Step::Memory, held),
        true => Finding::warning(
            Step::Memory,
            format!(
                "{held}, and {} MiB once all slots are used: {} MiB more than was planned, for which the daemon gives up slots; \
                 set pool.slots_per_actor to fewer",
                mib(all),
                mib(excess)
            ),
        ),
    };
    finding.with(facts)
}

fn failed_run(step: Step, what: &str, error: &ProbeError) -> Finding {
    let reason = with_causes(error);
    match error.is_out_of_memory() {
        true => Finding::error(
            step,
            Fault::Here,
            format!("{what}{reason}; set pool.slots_per_actor to fewer, or free memory"),
        ),
        false => Finding::error(step, Fault::Model, format!("{what}{reason}; {NEW_EXPORT}")),
    }
}

fn logits(model: &mut dyn Model, device: DeviceKind) -> Result<((), Finding), Finding> {
    let rows = probe_run::rows(model).map_err(|error| failed_run(Step::Logits, "", &error))?;
    let company = rows
        .companies
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let finding = match (rows.differs_in, device) {
        (None, _) if company.is_empty() => Finding::ok(
            Step::Logits,
            "finite numbers; with one slot there is no company that could change them",
        ),
        (None, _) => Finding::ok(
            Step::Logits,
            format!("finite numbers, and a row has the same bits alone and among {company}"),
        ),
        (Some(rows), DeviceKind::Cuda) => Finding::ok(
            Step::Logits,
            format!("finite numbers; among {rows} rows they have other bits than alone, as may be on a card"),
        ),
        (Some(rows), DeviceKind::Cpu) => {
            let text = format!(
                "a row has other bits among {rows} rows than alone, so that a score would depend on what else is running; \
                 {NEW_EXPORT}, with a precision and block size that its README allows for cpu"
            );
            return Err(Finding::error(Step::Logits, Fault::Model, text));
        }
    };
    Ok(((), finding))
}
