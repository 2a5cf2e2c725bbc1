//! `config check`: what the configuration is, where each value comes from, and what of it is not there yet.

use std::fs;

use super::args::Global;
use super::exit::Failure;
use super::{output, settings};
use crate::config::{Config, Device, Loaded};
use crate::domain::rubric::Rubric;
use crate::runtime::{Check, ModelFolder, RuntimeError, Search, Target, find};
use crate::telemetry;

/// A configuration with which `serve` would not refuse to start passes; what it would then miss is only warned of.
pub fn run(global: &Global) -> Result<(), Failure> {
    let loaded = settings::loaded(global)?;
    rubric(&loaded.config)?;
    log_level(&loaded.config)?;
    let folder = ModelFolder::open(&loaded.config.model.path, Check::Sizes);
    let target = folder.as_ref().ok().map(|folder| folder.manifest.target);
    let warnings = [folder.err().map(|error| model(&error)), runtime(&loaded.config, target)];
    output::text(&described(&loaded))?;
    for warning in warnings.iter().flatten() {
        output::note(&format!("warning: {warning}"));
    }
    Ok(())
}

fn described(loaded: &Loaded) -> String {
    let file = match &loaded.file {
        Some(file) => format!("# configuration file: {}", file.display()),
        None => "# no configuration file: built-in defaults".to_owned(),
    };
    format!("{file}\n{}", loaded.describe())
}

/// A rubric that is wrong or not there is a wrong configuration.
pub(super) fn rubric(config: &Config) -> Result<(), Failure> {
    let Some(path) = &config.scoring.rubric else {
        return Ok(());
    };
    let what = format!("scoring.rubric {}", path.display());
    let text =
        fs::read_to_string(path).map_err(|error| Failure::configuration(format!("{what} cannot be read: {error}")))?;
    Rubric::parse(&text).map_err(|error| Failure::configuration(Failure::chain(&what, &error)))?;
    Ok(())
}

pub(super) fn log_level(config: &Config) -> Result<(), Failure> {
    telemetry::parse_level(&config.log.level)
        .map_err(|error| Failure::configuration(Failure::chain("log.level", &error)))
}

fn model(error: &RuntimeError) -> String {
    Failure::chain("model.path", error)
}

/// `target`: what the model was exported for, if there is one.
fn runtime(config: &Config, target: Option<Target>) -> Option<String> {
    let search = Search {
        configured: config.runtime.library.clone(),
        cuda: wants_cuda(config.pool.device, target),
    };
    let error = find(&search).err()?;
    Some(Failure::chain("runtime", &error))
}

pub(super) fn wants_cuda(device: Device, target: Option<Target>) -> bool {
    match device {
        Device::Auto => target == Some(Target::Cuda),
        Device::Cuda => true,
        Device::Cpu => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_rubric_that_is_wrong_or_missing_is_a_wrong_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        assert!(rubric(&config).is_ok());
        let path = folder.path().join("rubric.toml");
        config.scoring.rubric = Some(path.clone());
        let missing = rubric(&config).unwrap_err();
        assert_eq!(missing.exit() as u8, 78);
        assert!(missing.to_string().contains("rubric.toml cannot be read"), "{missing}");
        fs::write(&path, "id = 1").unwrap();
        assert_eq!(rubric(&config).unwrap_err().exit() as u8, 78);
    }

    #[test]
    fn a_model_that_is_not_there_is_warned_of() {
        let missing = ModelFolder::open(Path::new("/nowhere/model"), Check::Sizes).unwrap_err();
        assert!(model(&missing).contains("/nowhere/model"));
    }

    #[test]
    fn directives_that_are_not_understood_are_a_wrong_configuration() {
        let mut config = Config::default();
        config.log.level = "info,interviewd::engine=debug".to_owned();
        assert!(log_level(&config).is_ok());
        config.log.level = "interviewd=loud".to_owned();
        assert_eq!(log_level(&config).unwrap_err().exit() as u8, 78);
    }

    #[test]
    fn a_model_for_a_card_wants_the_library_for_cuda() {
        assert!(wants_cuda(Device::Auto, Some(Target::Cuda)));
        assert!(wants_cuda(Device::Cuda, None));
        assert!(!wants_cuda(Device::Auto, Some(Target::Cpu)));
        assert!(!wants_cuda(Device::Auto, None));
        assert!(!wants_cuda(Device::Cpu, Some(Target::Cuda)));
    }
}
