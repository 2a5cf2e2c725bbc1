//! What scores: the model's files, ONNX Runtime, the card, and whether the plan fits into memory.

use super::Finding;
use super::around::Running;
use crate::cli::check::wants_cuda;
use crate::cli::exit::Failure;
use crate::config::Config;
use crate::daemon::planning::footprint;
use crate::daemon::{Settings, make_plan};
use crate::engine::onnx::OnnxModel;
use crate::hardware::devices::{Detected, detect};
use crate::runtime::{Check, ModelFolder, ONNX_RUNTIME_VERSION, Search, find, is_pinned};

const MODEL: &str = "model";
const RUNTIME: &str = "runtime";
const MEMORY: &str = "memory";

pub fn findings(config: &Config, daemon: Running) -> Vec<Finding> {
    // Whatever model.check_hashes says: this is the moment to look.
    let folder = ModelFolder::open(&config.model.path, Check::Hashes);
    let target = folder.as_ref().ok().map(|folder| folder.manifest.target);
    let cuda = wants_cuda(config.pool.device, target);
    let detected = detect();
    let mut findings = vec![model(&folder), runtime(config, cuda)];
    findings.extend(card(&detected, cuda));
    if let Ok(folder) = &folder {
        findings.push(memory(config, folder, &detected, daemon));
    }
    findings
}

fn model(folder: &Result<ModelFolder, crate::runtime::RuntimeError>) -> Finding {
    let folder = match folder {
        Ok(folder) => folder,
        Err(error) => return Finding::of_error(MODEL, error),
    };
    let path = folder.path.display();
    if !folder.tokenizer().is_file() {
        let found = format!("{path} has no tokenizer.json");
        return Finding::error(MODEL, found, "copy the model folder again or export the model again");
    }
    let (name, precision) = (&folder.manifest.name, folder.manifest.precision.name());
    let demo = match folder.manifest.demo {
        true => "; a demo, and no judge of people",
        false => "",
    };
    Finding::ok(
        MODEL,
        format!("{name} ({precision}) in {path}: every file has its SHA-256{demo}"),
    )
}

fn runtime(config: &Config, cuda: bool) -> Finding {
    let library = match find(&Search {
        configured: config.runtime.library.clone(),
        cuda,
    }) {
        Ok(library) => library,
        Err(error) => return Finding::of_error(RUNTIME, &error),
    };
    let path = library.display();
    let sha256 = match is_pinned(&library) {
        Err(error) => return Finding::of_error(RUNTIME, &error),
        // It is not loaded: nobody knows what it is.
        Ok(Some(false)) => {
            let folder = library.parent().unwrap_or(&library).display();
            return Finding::error(
                RUNTIME,
                format!("{path} is not the library that was fetched: its SHA-256 is another"),
                format!("remove {folder} and run `interviewd setup`"),
            );
        }
        Ok(Some(true)) => ", with the pinned SHA-256",
        Ok(None) => "",
    };
    match OnnxModel::load_runtime(&library, cuda) {
        Err(error) => Finding::error(
            RUNTIME,
            Failure::chain("", &error),
            "`interviewd setup` fetches one that works; runtime.library and ORT_DYLIB_PATH go before it",
        ),
        Ok(version) if version != ONNX_RUNTIME_VERSION => Finding::warning(
            RUNTIME,
            format!("ONNX Runtime {version} at {path}; {ONNX_RUNTIME_VERSION} is what was tested"),
            "`interviewd setup` fetches that one",
        ),
        Ok(version) => Finding::ok(RUNTIME, format!("ONNX Runtime {version} at {path}{sha256}")),
    }
}

/// Of the cards only what concerns this configuration.
fn card(detected: &Detected, cuda: bool) -> Option<Finding> {
    if !cuda {
        return None;
    }
    let names: Vec<_> = detected.cards.iter().map(|card| card.name.as_str()).collect();
    Some(match &detected.cuda_problem {
        Some(problem) => Finding::error(
            "card",
            problem.as_str(),
            "install the driver, or set pool.device = \"cpu\" for a model that was exported for it",
        ),
        None => Finding::ok("card", names.join(", ")),
    })
}

fn memory(config: &Config, folder: &ModelFolder, detected: &Detected, daemon: Running) -> Finding {
    if daemon == Running::Yes {
        let found = "a daemon holds its share already: `interviewd status` shows it";
        return Finding::ok(MEMORY, found);
    }
    let settings = match Settings::new(config.clone()) {
        Ok(settings) => settings,
        Err(error) => return Finding::of_error(MEMORY, &error),
    };
    match make_plan(&settings, detected, &footprint(&folder.manifest), &|_| 0) {
        Ok(plan) => {
            let slots: u32 = plan.actors.iter().map(|actor| actor.slots).sum();
            Finding::ok(
                MEMORY,
                format!("room for {slots} answers at once; `interviewd plan` explains it"),
            )
        }
        Err(problem) => Finding::error(
            MEMORY,
            problem,
            "`interviewd plan` shows the devices and what the model takes",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Level;
    use super::*;
    use crate::runtime::demo_model;

    #[test]
    fn a_model_is_held_against_its_hashes() {
        let folder = tempfile::tempdir().unwrap();
        demo_model::unpack(folder.path()).unwrap();
        let open = || ModelFolder::open(folder.path(), Check::Hashes);
        let sound = model(&open());
        assert_eq!(sound.level, Level::Ok);
        assert!(sound.found.contains("a demo, and no judge of people"), "{sound:?}");
        let template = folder.path().join("chat_template.jinja");
        let mut text = std::fs::read(&template).unwrap();
        text[0] ^= 1;
        std::fs::write(&template, text).unwrap();
        let changed = model(&open());
        assert!(
            changed.level == Level::Error && changed.found.contains("SHA-256"),
            "{changed:?}"
        );
        let missing = model(&ModelFolder::open(Path::new("/nowhere"), Check::Hashes));
        assert!(missing.found.contains("set model.path"), "{missing:?}");
    }

    #[test]
    fn a_library_that_is_not_there_is_an_error_that_names_it() {
        let mut config = Config::default();
        config.runtime.library = Some("/nowhere/libonnxruntime.so".into());
        let found = runtime(&config, false);
        assert!(
            found.level == Level::Error && found.found.contains("/nowhere/libonnxruntime.so"),
            "{found:?}"
        );
    }

    #[test]
    fn a_plan_that_does_not_fit_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        demo_model::unpack(folder.path()).unwrap();
        let folder = ModelFolder::open(folder.path(), Check::Sizes).unwrap();
        let mut config = Config::default();
        config.pool.device = crate::config::Device::Cpu;
        let mut detected = detect();
        detected.cards.clear();
        detected.cpu.memory_total = 64 << 30;
        detected.cpu.memory_free = 32 << 30;
        assert_eq!(memory(&config, &folder, &detected, Running::No).level, Level::Ok);
        detected.cpu.memory_free = 1 << 20;
        assert_eq!(memory(&config, &folder, &detected, Running::No).level, Level::Error);
        assert_eq!(memory(&config, &folder, &detected, Running::Yes).level, Level::Ok);
    }
}
