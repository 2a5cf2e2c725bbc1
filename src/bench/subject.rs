//! What is measured: a model as `serve` would load and plan it, with the facts that a reader of the tables needs.

use std::time::Instant;

use super::drive::Rig;
use super::error::BenchError;
use super::memory::Gauge;
use super::product::Product;
use super::results::{Machine, ModelFacts};
use super::shape::FIXED;
use super::tables::Case;
use crate::config::{AutoOr, Config};
use crate::daemon::{Loaded, Settings, bring_up, make_plan, planned};
use crate::hardware::devices::{DeviceKind, driver_version};
use crate::hardware::isa::instruction_set;
use crate::runtime::{Check, Manifest, ModelFolder};

/// Rows of the fixed shape that a reader may compare with other engines'.
const SIZES: [usize; 4] = [2, 4, 8, 16];

/// A model that is loaded, and what is known of it.
pub struct Subject {
    pub rig: Rig,
    pub case: Case,
    pub machine: Machine,
    pub model: ModelFacts,
    pub loaded: Loaded,
    pub threads: usize,
    pub left_out: Vec<String>,
    pub load_s: f64,
}

impl Subject {
    /// Loads the model that the configuration names, in one engine.
    pub fn load(mut config: Config, answers: usize, runs: usize) -> Result<Self, BenchError> {
        let begun = Instant::now();
        config.pool.actors = AutoOr::Value(1);
        let settings = Settings::new(config).map_err(|error| BenchError::Load(error.to_string()))?;
        let loaded = bring_up(&settings, &|_| 0).map_err(BenchError::Load)?;
        let manifest = manifest(&settings)?;
        let engines = planned(&loaded.plan, settings.threads());
        let model = loaded
            .setup
            .factory
            .build(&engines[0])
            .map_err(|outage| BenchError::Load(outage.reason))?;
        let load_s = begun.elapsed().as_secs_f64();
        let rig = Rig::new(
            model,
            loaded.setup.options,
            std::sync::Arc::new(move || begun.elapsed()),
        );

        let (sizes, left_out) = sizes(&settings, &loaded, answers);
        let case = case(&settings, &loaded, &manifest, sizes, (answers, runs))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            rig,
            case,
            machine: machine(&loaded, cores),
            model: ModelFacts {
                name: manifest.name.clone(),
                precision: manifest.numbers(),
                parameters: manifest.parameter_count,
                weights_bytes: manifest.weights_bytes,
                kv_bytes_per_token: loaded.footprint.kv_bytes_per_token(),
            },
            threads: engines[0].threads,
            loaded,
            left_out,
            load_s,
        })
    }
}

fn manifest(settings: &Settings) -> Result<Manifest, BenchError> {
    let folder = ModelFolder::open(&settings.config.model.path, Check::Sizes);
    let folder = folder.map_err(|error| BenchError::Load(error.to_string()))?;
    Ok(folder.manifest)
}

/// The numbers of slots that the memory allows, and a sentence for each that it does not.
fn sizes(settings: &Settings, loaded: &Loaded, answers: usize) -> (Vec<usize>, Vec<String>) {
    let (mut sizes, mut left_out) = (Vec::new(), Vec::new());
    let wanted = SIZES.into_iter().filter(|size| *size < answers);
    for size in wanted.chain(Some(answers).filter(|answers| *answers > 1)) {
        let mut settings = settings.clone();
        settings.config.pool.slots_per_actor = AutoOr::Value(size as u32);
        match make_plan(&settings, &loaded.detected, &loaded.footprint, &|_| 0) {
            Ok(_) => sizes.push(size),
            Err(reason) => left_out.push(format!("{size} at once is left out: {reason}")),
        }
    }
    (sizes, left_out)
}

fn case(
    settings: &Settings,
    loaded: &Loaded,
    manifest: &Manifest,
    sizes: Vec<usize>,
    (answers, runs): (usize, usize),
) -> Result<Case, BenchError> {
    let tokens = &manifest.special_tokens;
    let markers = [
        &tokens.bos,
        &tokens.pad,
        &tokens.unk,
        &tokens.system,
        &tokens.user,
        &tokens.assistant,
    ];
    let markers = markers.map(|marker| marker.id);
    let plan = &loaded.plan;
    let card = loaded.detected.cards.iter();
    let card = card
        .filter(|_| plan.device == DeviceKind::Cuda)
        .find(|card| card.index == plan.actors[0].device_index);
    Ok(Case {
        shape: FIXED,
        answers,
        runs,
        sizes,
        slots: plan.actors[0].slots as usize,
        control: [&markers[..], &[tokens.end_of_turn.id], &manifest.eos_ids].concat(),
        eos: manifest.eos_ids.clone(),
        kv_bytes_per_token: loaded.footprint.kv_bytes_per_token(),
        product: Product::new(loaded.setup.scorer.clone(), settings.rubric.rubric.clone(), answers)?,
        gauge: Gauge::new(card.cloned()),
    })
}

fn machine(loaded: &Loaded, cores: usize) -> Machine {
    let cpu = &loaded.detected.cpu;
    let on_card = loaded.plan.device == DeviceKind::Cuda;
    Machine {
        cpu: cpu.name.clone(),
        cores,
        instruction_set: instruction_set(),
        memory_bytes: cpu.memory_total,
        card: on_card.then(|| loaded.plan.actors[0].device_name.clone()),
        driver: on_card.then(driver_version).flatten(),
    }
}
