//! `bench`: measures how much sooner a report is there, on this machine, and shows it in two tables.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::args::{Bench, BenchDevice, Global};
use super::exit::Failure;
use super::leftovers::Leftovers;
use super::output::Look;
use super::{bench_text, files, interrupt, output, settings, setup};
use crate::bench::{self, Results, Told};
use crate::config::{Config, Source};
use crate::hardware::devices::{DeviceKind, detect};
use crate::runtime::{
    Check, ModelFolder, Precision, RuntimeError, Search, Target, Variant, demo_model, find, random_model,
};

pub fn run(global: &Global, args: &Bench) -> Result<(), Failure> {
    for (option, is_there) in [
        ("--socket", global.socket.is_some()),
        ("--config", global.config.is_some()),
    ] {
        if is_there {
            return Err(Failure::usage(format!(
                "{option} is not for bench, which asks no daemon and reads no configuration file; leave it out"
            )));
        }
    }
    for file in args.json.iter().chain(&args.plot) {
        files::check(file)?;
    }
    let leftovers = Leftovers::default();
    let at_the_end = leftovers.clone();
    interrupt::end_with(move || {
        at_the_end.clear_at_once();
        output::note("interrupted; nothing was written");
    })?;
    let results = measured(global, args, &leftovers);
    leftovers.clear();
    show(args, &results?)
}

fn measured(global: &Global, args: &Bench, leftovers: &Leftovers) -> Result<Results, Failure> {
    let scratch = scratch(leftovers)?;
    let model = match (&args.model, &args.random) {
        (Some(folder), _) => folder.clone(),
        (None, Some(preset)) => random(preset, args.device)?,
        (None, None) => {
            let folder = scratch.join("model");
            demo_model::unpack(&folder).map_err(|error| Failure::failed(Failure::chain("the demo model", &error)))?;
            folder
        }
    };
    let config = config(global, args, &model, &scratch)?;
    fetch_runtime(&config)?;
    let mut progress = Progress(setup::spinner("loading the model"));
    if progress.0.is_none() {
        output::note("loading the model");
    }
    let answers = args.answers as usize;
    let results = bench::bench(config, answers, args.runs as usize, &mut |told| {
        progress.hear(told, args.runs)
    });
    if let Some(spinner) = progress.0 {
        spinner.finish_and_clear();
    }
    results.map_err(|error| Failure::failed(Failure::chain("", &error)))
}

/// Weights of a preset for the device that is asked for; a card, if there is one.
fn random(preset: &str, device: BenchDevice) -> Result<PathBuf, Failure> {
    let target = match device {
        BenchDevice::Cpu => Target::Cpu,
        BenchDevice::Cuda => Target::Cuda,
        BenchDevice::Auto if detect().cards.is_empty() => Target::Cpu,
        BenchDevice::Auto => Target::Cuda,
    };
    let spinner = setup::spinner("looking for random weights");
    let made = random_model(preset, target, Precision::Int4, &mut |line| match &spinner {
        Some(spinner) => spinner.set_message(line.to_owned()),
        None => output::note(line),
    });
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    made.map_err(|error| Failure::failed(Failure::chain("--random", &error)))
}

/// A folder of our own, which is gone afterwards.
fn scratch(leftovers: &Leftovers) -> Result<PathBuf, Failure> {
    let folder = tempfile::Builder::new().prefix("interviewd-bench-").tempdir();
    let folder = folder.map_err(|error| Failure::failed(format!("no temporary folder can be made: {error}")))?;
    leftovers.folder(folder.path().to_owned());
    Ok(folder.keep())
}

/// The defaults, what was asked for, and `--set`, whatever configuration there is on this machine.
fn config(global: &Global, args: &Bench, model: &Path, scratch: &Path) -> Result<Config, Failure> {
    let path =
        std::path::absolute(model).map_err(|error| Failure::failed(format!("--model {}: {error}", model.display())))?;
    let path = toml::Value::from(path.to_string_lossy().into_owned());
    let mut sets = vec![
        format!("model.path={path}"),
        format!("pool.device={}", args.device.as_str()),
    ];
    sets.extend(args.memory_budget.map(|mib| format!("pool.memory_budget_mib={mib}")));
    sets.extend(args.threads.map(|threads| format!("runtime.threads={threads}")));
    sets.extend_from_slice(&global.set);
    let source = Source {
        config: None,
        environment: Vec::new(),
        directory: scratch.to_owned(),
        system_file: scratch.join("none"),
        sets,
    };
    Ok(settings::of(&source)?.config)
}

/// ONNX Runtime for the model's device, if it is nowhere.
fn fetch_runtime(config: &Config) -> Result<(), Failure> {
    let folder = ModelFolder::open(&config.model.path, Check::Sizes)
        .map_err(|error| Failure::failed(Failure::chain("--model", &error)))?;
    let cuda = folder.manifest.target == Target::Cuda;
    let search = Search {
        configured: config.runtime.library.clone(),
        cuda,
    };
    match find(&search) {
        Ok(_) => Ok(()),
        Err(RuntimeError::NotFound { .. }) => {
            output::note("ONNX Runtime is not here yet; fetching the pinned one with pip (once)");
            setup::fetch(if cuda { Variant::Cuda } else { Variant::Cpu }).map(drop)
        }
        Err(error) => Err(Failure::failed(Failure::chain("", &error))),
    }
}

/// What is being run: a spinner on a terminal, a line for each row in a pipe.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn hear(&mut self, told: Told, runs: u64) {
        let Told { run, row, done, of } = told;
        let round = match runs {
            1 => String::new(),
            _ => format!("run {run} of {runs}: "),
        };
        match &self.0 {
            Some(spinner) => spinner.set_message(format!("{round}{row}, {done} of {of} done")),
            None if done == 0 => output::note(&format!("{round}{row}")),
            None => {}
        }
    }
}

fn show(args: &Bench, results: &Results) -> Result<(), Failure> {
    output::line(&bench_text::render(results, Look::of_stdout()).join("\n"))?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(results);
        let text = text.map_err(|error| Failure::failed(format!("the results cannot be written as JSON: {error}")))?;
        files::replace(file, &(text + "\n"))?;
    }
    if let Some(file) = &args.plot {
        let chart = bench::chart(results).map_err(|error| Failure::failed(error.to_string()))?;
        files::replace(file, &chart)?;
    }
    // On a card kernels choose their order of summation by the batch, so that a difference is a fact there and no defect.
    match results.difference().filter(|_| results.plan.device == DeviceKind::Cpu) {
        Some(difference) => Err(Failure::failed(format!("{difference}; on a CPU this is a defect"))),
        None => Ok(()),
    }
}
