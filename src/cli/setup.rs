//! `setup`: fetches ONNX Runtime into the cache.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Setup;
use super::exit::Failure;
use super::output;
use crate::runtime::{RuntimeError, Variant, by_hand_lines, provision};

pub fn run(args: &Setup) -> Result<(), Failure> {
    let variant = if args.cuda { Variant::Cuda } else { Variant::Cpu };
    let library = fetch(variant)?;
    output::line(&format!("ONNX Runtime is at {}", library.display()))
}

/// Fetches a variant, showing what is being done: a spinner on a terminal, lines in a pipe.
pub fn fetch(variant: Variant) -> Result<PathBuf, Failure> {
    let spinner = spinner("looking for ONNX Runtime");
    let found = provision(variant, &mut |line| match &spinner {
        Some(spinner) => spinner.set_message(line.to_owned()),
        None => output::note(line),
    });
    if let Some(spinner) = &spinner {
        spinner.finish_and_clear();
    }
    found.map_err(|error| match error {
        RuntimeError::Download { package, reason, .. } => Failure::failed(format!(
            "{package} could not be downloaded: {reason}\nBy hand, {}",
            by_hand_lines(variant).join("\n")
        )),
        error => Failure::failed(Failure::chain("", &error)),
    })
}

/// A spinner on standard error; `None` where nobody looks.
pub fn spinner(message: &str) -> Option<ProgressBar> {
    if !output::stderr_is_watched() {
        return None;
    }
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}").expect("the template is sound");
    let spinner = ProgressBar::new_spinner()
        .with_style(style)
        .with_message(message.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    Some(spinner)
}
