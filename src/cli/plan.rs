//! `plan`: how the pool would be laid out on this machine's devices or on cards that one thinks of, without starting anything.

use serde::Serialize;

use super::args::{Global, Plan as Args};
use super::exit::Failure;
use super::{output, plan_text, settings};
use crate::config::Config;
use crate::daemon::planning::footprint;
use crate::daemon::{Settings, make_plan};
use crate::hardware::devices::{CARD_TAKEN_ASSUMED, Detected, Device, DeviceKind, detect};
use crate::hardware::footprint::{KvType, Precision};
use crate::hardware::plan::Plan;
use crate::runtime::{Check, ModelFolder};

const GIB: f64 = (1_u64 << 30) as f64;

/// What is printed.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub model: ShownModel,
    pub devices: Vec<Device>,
    /// Whether the cards are thought of: what is free of them is an assumption then.
    pub cards_assumed: bool,
    /// Why there are no cards, and what is strange about those that there are.
    pub notes: Vec<String>,
    pub plan: Option<Plan>,
    /// Why there is no plan.
    pub problem: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ShownModel {
    pub name: String,
    pub path: String,
    pub precision: Precision,
    pub kv_type: KvType,
    pub target: DeviceKind,
    pub weights_bytes: u64,
}

pub fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let config = settings::loaded(global)?.config;
    let folder = ModelFolder::open(&config.model.path, Check::Sizes)
        .map_err(|error| Failure::failed(Failure::chain("model.path", &error)))?;
    let mut shown = shown(config, &folder, with_cards(detect(), &args.card))?;
    shown.cards_assumed = !args.card.is_empty();
    match args.json {
        true => output::json(&shown)?,
        false => output::line(&plan_text::render(&shown, output::Look::of_stdout()).join("\n"))?,
    }
    match &shown.problem {
        None => Ok(()),
        Some(problem) => Err(Failure::failed(format!("nothing can be planned: {problem}"))),
    }
}

fn shown(config: Config, folder: &ModelFolder, detected: Detected) -> Result<Shown, Failure> {
    let settings = Settings::new(config).map_err(|error| Failure::configuration(Failure::chain("", &error)))?;
    let footprint = footprint(&folder.manifest);
    let (plan, problem) = match make_plan(&settings, &detected, &footprint, &|_| 0) {
        Ok(plan) => (Some(plan), None),
        Err(problem) => (None, Some(problem)),
    };
    // Nobody need install what this model does not use.
    let no_cards = detected.cuda_problem.map(|problem| match footprint.target {
        DeviceKind::Cuda => problem,
        DeviceKind::Cpu => format!("no NVIDIA card, and this model needs none: {problem}"),
    });
    let mut devices = detected.cards;
    devices.push(detected.cpu);
    Ok(Shown {
        model: ShownModel {
            name: folder.manifest.name.clone(),
            path: folder.path.display().to_string(),
            precision: footprint.precision,
            kv_type: footprint.kv_type,
            target: footprint.target,
            weights_bytes: footprint.weights_bytes,
        },
        devices,
        cards_assumed: false,
        notes: no_cards.into_iter().chain(detected.warnings).collect(),
        plan,
        problem,
    })
}

/// Cards that one thinks of, with nothing on them but a driver and an idle desktop, take the place of this machine's.
fn with_cards(detected: Detected, cards: &[f64]) -> Detected {
    if cards.is_empty() {
        return detected;
    }
    let card = |(index, gib): (u32, &f64)| {
        let memory = (gib * GIB) as u64;
        Device {
            kind: DeviceKind::Cuda,
            index,
            name: format!("a card of {gib} GiB"),
            memory_total: memory,
            memory_free: memory.saturating_sub(CARD_TAKEN_ASSUMED),
            compute_capability: None,
            uuid: None,
        }
    };
    Detected {
        cards: (0..).zip(cards).map(card).collect(),
        cpu: detected.cpu,
        cuda_problem: None,
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Detected {
        Detected {
            cards: Vec::new(),
            cpu: Device {
                kind: DeviceKind::Cpu,
                index: 0,
                name: "a processor".to_owned(),
                memory_total: 16 << 30,
                memory_free: 12 << 30,
                compute_capability: None,
                uuid: None,
            },
            cuda_problem: Some("there is no NVIDIA driver".to_owned()),
            warnings: Vec::new(),
        }
    }

    fn demo_folder() -> ModelFolder {
        ModelFolder::open("models/demo", Check::Sizes).expect("the demo model is in the repository")
    }

    #[test]
    fn the_demo_model_gets_a_slot_for_each_of_17_answers_on_a_processor() {
        let shown = shown(Config::default(), &demo_folder(), machine()).unwrap();
        let plan = shown.plan.expect("it fits");
        assert_eq!(plan.device, DeviceKind::Cpu);
        assert!(plan.actors[0].slots >= 17, "{plan:?}");
        assert_eq!(
            shown.notes,
            ["no NVIDIA card, and this model needs none: there is no NVIDIA driver"]
        );
    }

    #[test]
    fn cards_that_one_thinks_of_replace_those_of_the_machine() {
        let detected = with_cards(machine(), &[6.0, 23.5]);
        assert_eq!(detected.cards.len(), 2);
        assert_eq!(detected.cards[1].index, 1);
        assert_eq!(detected.cards[1].memory_free, (47 << 29) - (300 << 20));
        assert_eq!(detected.cuda_problem, None);
        assert_eq!(with_cards(machine(), &[]), machine());
    }

    #[test]
    fn a_pool_that_cannot_be_is_shown_with_the_reason() {
        let mut config = Config::default();
        config.pool.device = crate::config::Device::Cuda;
        let shown = shown(config, &demo_folder(), machine()).unwrap();
        assert!(shown.plan.is_none());
        assert!(shown.problem.is_some_and(|problem| problem.contains("cuda")));
    }
}
