//! From the configuration to a model that can be loaded: devices, model folder, plan, tokenizer, ONNX Runtime. Says exactly what is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::faults::with_causes;
use super::settings::Settings;
use super::steps;
use crate::actors::engine_thread::{ModelFactory, Planned};
use crate::actors::memory::{self, Allowance, Meter};
use crate::actors::message::{Making, Outage};
use crate::actors::pool::Setup;
use crate::domain::report::{EngineProvenance, ModelProvenance};
use crate::engine::Options;
use crate::engine::model::{BankShape, Model, ModelError, ModelShape};
use crate::engine::onnx::{Geometry, OnnxError, OnnxModel, OnnxOptions, Provider};
use crate::engine::simulated::{self, Script, Simulated};
use crate::hardware::devices::{Detected, Device, DeviceKind, detect};
use crate::hardware::footprint::{CUDA_CONTEXT_MIB, Contexts, ModelFootprint};
use crate::hardware::held::{Held, held};
use crate::hardware::isa::instruction_set;
use crate::hardware::plan::{Plan, PlanInput, plan};
use crate::runtime::{Check, ModelFolder};
use crate::scoring::{self, SCORING_BANK};
use crate::socket::view::ModelView;

/// The longest prefill chunk in tokens: what a decoding row may have to wait for. A multiple of every query tile.
pub const CHUNK_TOKENS: usize = 256;
/// Idle rows that cost a processor as much as a run of their own, measured with int4 weights: there every row costs what it computes. On a card
/// a run costs the reading of the weights, and idle rows next to nothing.
const CPU_GAP: usize = 2;
const NARRATIVE_SLOTS: u32 = 1;
/// Bytes of weights up to which measuring the query tile takes seconds.
pub(super) const PROBED_WEIGHTS_MAX: u64 = 64 << 20;

/// A model that is found, checked and planned for.
#[derive(Clone)]
pub struct Loaded {
    pub model: ModelView,
    pub footprint: ModelFootprint,
    pub detected: Arc<Detected>,
    pub plan: Plan,
    pub setup: Arc<Setup>,
}

/// Beside a model's files, and only in tests: the model is not run, its outputs are made up from its inputs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SimulatedModel {
    seed: u64,
    /// What a run costs.
    step_ms: u64,
    /// What goes wrong, and when; calls are counted from the start of the process, by all engines together.
    #[serde(default)]
    faults: Vec<simulated::Planned>,
}

const SIMULATED: &str = "simulated.json";

/// Finds everything; the weights are loaded by the engines themselves. Blocks for as long as hashing the model's files takes. `ours`: bytes that
/// this process holds on the devices already, and that a new plan may count as free.
pub fn bring_up(settings: &Settings, ours: &dyn Fn(&Device) -> u64) -> Result<Loaded, String> {
    let config = &settings.config;
    let check = match config.model.check_hashes {
        true => Check::Hashes,
        false => Check::Sizes,
    };
    let folder = ModelFolder::open(&config.model.path, check).map_err(|error| with_causes(&error))?;
    let manifest = &folder.manifest;
    let scorer = steps::scorer(&folder)?;
    steps::markers(&folder, &scorer)?;
    steps::answers(&scorer)?;
    steps::level(&scorer)?;
    steps::prompts(settings, &scorer)?;
    steps::contexts(&folder)?;
    let detected = detect();
    for warning in &detected.warnings {
        tracing::warn!("{warning}");
    }
    let footprint = super::planning::footprint(manifest);
    let plan = make_plan(settings, &detected, &footprint, ours)?;
    let meter = meter(&detected, ours);
    tracing::info!("{}", plan.explanation);
    let simulated = simulated(&folder.path)?;
    let is_simulated = simulated.is_some();
    let (factory, onnxruntime): (Arc<dyn ModelFactory>, String) = match simulated {
        Some(simulated) => (Arc::new(simulated_factory(simulated, &folder)), "none".to_owned()),
        None => {
            let runtime = steps::runtime(settings, plan.device == DeviceKind::Cuda)?;
            let factory = onnx_factory(&folder, &plan, runtime.library);
            if plan.device == DeviceKind::Cpu && !factory.measures_tile() {
                tracing::info!(
                    "the query tile is taken from model.json: measuring it with so large a model would take too long"
                );
            }
            (Arc::new(factory), runtime.version)
        }
    };
    let (provider, device) = match plan.device {
        _ if is_simulated => ("simulated", "none".to_owned()),
        DeviceKind::Cuda => ("cuda", plan.actors[0].device_name.clone()),
        DeviceKind::Cpu => ("cpu", instruction_set()),
    };
    let making = Making {
        model: ModelProvenance {
            name: manifest.name.clone(),
            hash: folder.hash.clone(),
        },
        prompt: scoring::prompt_provenance(),
        engine: EngineProvenance {
            provider: provider.to_owned(),
            device,
            onnxruntime,
            precision: manifest.numbers(),
        },
    };
    Ok(Loaded {
        model: ModelView {
            name: manifest.name.clone(),
            hash: folder.hash.clone(),
            precision: manifest.numbers(),
            context_tokens: manifest.context_tokens,
            demo: manifest.demo,
        },
        setup: Arc::new(Setup {
            scorer: Arc::new(scorer),
            factory,
            meter,
            options: options(plan.device),
            making: Arc::new(making),
        }),
        footprint,
        detected: Arc::new(detected),
        plan,
    })
}

/// How an engine works on a device.
pub(super) fn options(device: DeviceKind) -> Options {
    Options {
        chunk_tokens: CHUNK_TOKENS,
        gap: match device {
            DeviceKind::Cpu => CPU_GAP,
            DeviceKind::Cuda => usize::MAX,
        },
    }
}

/// The plan for the memory that is free now.
pub fn make_plan(
    settings: &Settings,
    detected: &Detected,
    footprint: &ModelFootprint,
    ours: &dyn Fn(&Device) -> u64,
) -> Result<Plan, String> {
    let with_ours = |device: &Device| {
        let mut device = device.clone();
        device.memory_free = (device.memory_free + ours(&device)).min(device.memory_total);
        device
    };
    let cards: Vec<_> = detected.cards.iter().map(with_ours).collect();
    let banks = scoring::banks(1, NARRATIVE_SLOTS as usize);
    plan(&PlanInput {
        cards: &cards,
        cpu: &with_ours(&detected.cpu),
        cuda_problem: detected.cuda_problem.as_deref(),
        model: footprint,
        contexts: Contexts {
            scoring_tokens: banks[SCORING_BANK].context as u32,
            narrative_tokens: banks[scoring::NARRATIVE_BANK].context as u32,
            narrative_slots: NARRATIVE_SLOTS,
        },
        wanted: settings.pool_wanted(),
        chunk_tokens: CHUNK_TOKENS as u32,
    })
    .map_err(|error| with_causes(&error))
}

/// Reads what this process holds of the devices that were detected. `ours`: what it held of them then.
pub(super) fn meter(detected: &Detected, ours: &dyn Fn(&Device) -> u64) -> Meter {
    let devices = detected.cards.iter().chain([&detected.cpu]);
    let devices: Vec<_> = devices
        .map(|device| {
            let free = device.memory_free.saturating_add(ours(device));
            (device.clone(), device.memory_total.saturating_sub(free))
        })
        .collect();
    Arc::new(move |name| {
        let (device, taken_before) = devices
            .iter()
            .find(|(device, _)| name_of(device.kind, device.index) == name)?;
        let (bytes, is_guess) = match held(device, *taken_before)? {
            Held::Own(bytes) => (bytes, false),
            Held::Guess(bytes) => (bytes, true),
        };
        Some(memory::Held { bytes, is_guess })
    })
}

/// What the pool and `status` call a device.
pub(super) fn name_of(kind: DeviceKind, index: u32) -> String {
    match kind {
        DeviceKind::Cuda => format!("cuda:{index}"),
        DeviceKind::Cpu => "cpu".to_owned(),
    }
}

/// What the pool is told of a plan. `threads`: how many of the processor's each engine has, if that was chosen; otherwise they share them.
pub fn planned(plan: &Plan, threads: Option<usize>) -> Vec<Planned> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match plan.device {
        // It is the card that computes.
        DeviceKind::Cuda => 1,
        DeviceKind::Cpu => threads.unwrap_or_else(|| cores().div_ceil(plan.actors.len().max(1))),
    };
    plan.actors
        .iter()
        .map(|actor| Planned {
            device: name_of(plan.device, actor.device_index),
            device_index: actor.device_index,
            // What CUDA itself takes lies outside of ONNX Runtime's arena, which this limits.
            memory_bytes: actor.budget_bytes.saturating_sub(CUDA_CONTEXT_MIB << 20),
            threads,
            slots: actor.slots as usize,
            narrative_takes: actor.narrative_takes as usize,
            allowance: Allowance {
                bytes: actor.budget_bytes,
                fixed_bytes: actor.weights_bytes + actor.workspace_bytes,
                slot_bytes: actor.slot_bytes,
                narrative_bytes: actor.narrative_bytes,
                is_shared: actor.narrative_takes > 0,
                on_use: plan.device == DeviceKind::Cpu,
            },
        })
        .collect()
}

pub(super) fn simulated(folder: &Path) -> Result<Option<SimulatedModel>, String> {
    let path = folder.join(SIMULATED);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// `library`: ONNX Runtime's.
pub(super) fn onnx_factory(folder: &ModelFolder, plan: &Plan, library: PathBuf) -> OnnxFactory {
    let manifest = &folder.manifest;
    OnnxFactory {
        library,
        folder: folder.path.clone(),
        hash: folder.hash.clone(),
        device: plan.device,
        geometry: Geometry {
            layers: manifest.layers,
            kv_heads: manifest.kv_heads,
            head_dim: manifest.head_dim,
            vocabulary: manifest.vocab_size,
            query_tile: manifest.query_tile_tokens,
        },
        rows_max: super::planning::footprint(manifest)
            .rows_max()
            .map_or(usize::MAX, |rows| rows as usize),
        tile_unproved: AtomicBool::new(plan.device == DeviceKind::Cpu && manifest.weights_bytes < PROBED_WEIGHTS_MAX),
    }
}

/// Makes the models that compute.
pub(super) struct OnnxFactory {
    library: PathBuf,
    folder: PathBuf,
    /// What the folder's hash was when it was checked.
    hash: String,
    device: DeviceKind,
    geometry: Geometry,
    /// Most slots that a decode may span.
    rows_max: usize,
    /// Whether the query tile has still to be measured on this processor.
    tile_unproved: AtomicBool,
}

impl OnnxFactory {
    /// Whether the query tile is measured before an engine gets its model.
    pub(super) fn measures_tile(&self) -> bool {
        self.tile_unproved.load(Ordering::Relaxed)
    }

    /// Loads the weights, and memory for the slots.
    pub(super) fn load(&self, planned: &Planned, check_query_tile: bool) -> Result<OnnxModel, Outage> {
        // An engine may be built long after the folder was checked; scores must not be ascribed to another model than made them.
        let folder = ModelFolder::open(&self.folder, Check::Sizes).map_err(|error| with_causes(&error))?;
        if folder.hash != self.hash {
            let path = self.folder.display();
            let reason =
                format!("{path}: model.json is another one than was checked; have the configuration read again");
            return Err(reason.into());
        }
        let provider = match self.device {
            DeviceKind::Cpu => Provider::Cpu {
                threads: planned.threads,
            },
            DeviceKind::Cuda => Provider::Cuda {
                device: planned.device_index,
                memory_limit_bytes: Some(planned.memory_bytes),
            },
        };
        let options = OnnxOptions {
            library: self.library.clone(),
            graph: folder.graph(),
            provider,
            banks: banks(planned.slots),
            geometry: self.geometry,
            overlaid: planned.narrative_takes > 0,
            rows_max: self.rows_max,
            check_query_tile,
        };
        OnnxModel::load(options).map_err(|error| Outage {
            reason: with_causes(&error),
            // The weights themselves would take as much with fewer slots.
            out_of_memory: matches!(
                error,
                OnnxError::Slots(ModelError::OutOfMemory { .. }) | OnnxError::Probe(ModelError::OutOfMemory { .. })
            ),
        })
    }
}

impl ModelFactory for OnnxFactory {
    fn build(&self, planned: &Planned) -> Result<Box<dyn Model>, Outage> {
        let model = self.load(planned, self.measures_tile())?;
        self.tile_unproved.store(false, Ordering::Relaxed);
        Ok(Box::new(model))
    }
}

fn banks(slots: usize) -> Vec<BankShape> {
    scoring::banks(slots, NARRATIVE_SLOTS as usize)
}

/// Makes the models that only pretend to.
pub(super) struct SimulatedFactory {
    seed: u64,
    delay: Duration,
    script: Script,
    vocabulary: usize,
    query_tile: usize,
}

pub(super) fn simulated_factory(model: SimulatedModel, folder: &ModelFolder) -> SimulatedFactory {
    SimulatedFactory {
        seed: model.seed,
        delay: Duration::from_millis(model.step_ms),
        script: model.faults.into_iter().collect(),
        vocabulary: folder.manifest.vocab_size,
        query_tile: folder.manifest.query_tile_tokens,
    }
}

impl ModelFactory for SimulatedFactory {
    fn build(&self, planned: &Planned) -> Result<Box<dyn Model>, Outage> {
        let shape = ModelShape {
            vocabulary: self.vocabulary,
            query_tile: self.query_tile,
            banks: banks(planned.slots),
        };
        let model = Simulated::new(shape, self.seed)
            .with_delay(self.delay)
            .with_script(self.script.clone());
        Ok(Box::new(match planned.narrative_takes {
            0 => model,
            _ => model.overlaid(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::plan::{ActorPlan, SlotLimit};

    const MIB: u64 = 1 << 20;

    fn actor(narrative_takes: u32, kv_mib: u64) -> ActorPlan {
        ActorPlan {
            device_index: 0,
            device_name: "CPU".to_owned(),
            slots: 5,
            slot_tokens: 1_024,
            narrative_slots: 1,
            narrative_tokens: 2_176,
            narrative_takes,
            weights_bytes: 4_000 * MIB,
            kv_bytes: kv_mib * MIB,
            workspace_bytes: 600 * MIB,
            budget_bytes: 6_000 * MIB,
            slot_bytes: 128 * MIB,
            narrative_bytes: 272 * MIB,
            reserve_bytes: 128 * MIB,
            limited_by: SlotLimit::Memory,
        }
    }

    fn plan_of(device: DeviceKind, actors: Vec<ActorPlan>) -> Plan {
        Plan {
            device,
            actors,
            explanation: String::new(),
        }
    }

    #[test]
    fn an_engine_knows_what_its_narrative_takes_where_that_has_memory_of_its_own_and_where_not() {
        for (narrative_takes, kv_mib) in [(0, 5 * 128 + 272), (3, 5 * 128)] {
            let plan = plan_of(DeviceKind::Cpu, vec![actor(narrative_takes, kv_mib)]);
            let expected = Allowance {
                bytes: 6_000 * MIB,
                fixed_bytes: 4_600 * MIB,
                slot_bytes: 128 * MIB,
                narrative_bytes: 272 * MIB,
                is_shared: narrative_takes > 0,
                on_use: true,
            };
            assert_eq!(planned(&plan, None)[0].allowance, expected);
        }
    }

    #[test]
    fn however_many_engines_a_plan_has_they_share_the_processors_threads_unless_a_number_was_chosen() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let threads = |device, engines: usize, chosen| -> Vec<usize> {
            let plan = plan_of(device, vec![actor(0, 912); engines]);
            planned(&plan, chosen).iter().map(|engine| engine.threads).collect()
        };
        for engines in 1..=2 * cores {
            let shared = threads(DeviceKind::Cpu, engines, None);
            let all: usize = shared.iter().sum();
            assert!((cores..cores + engines).contains(&all), "{all} of {cores}");
            assert_eq!(threads(DeviceKind::Cpu, engines, Some(3)), vec![3; engines]);
            assert_eq!(threads(DeviceKind::Cuda, engines, Some(3)), vec![1; engines]);
        }
    }
}
