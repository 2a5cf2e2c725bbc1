//! `config check`: what the configuration is, where each value comes from, and what of it is not there yet.

use std::fs;

use super::args::Global;
use super::exit::Failure;
use super::{output, settings};
use crate::config::{Config, Loaded};
use crate::domain::rubric::Rubric;
use crate::runtime::{Check, ModelFolder, Search, find};

/// A configuration with which `serve` would not refuse to start passes; what it would then miss is only warned of.
pub fn run(global: &Global) -> Result<(), Failure> {
    let loaded = settings::loaded(global)?;
    rubric(&loaded.config)?;
    let warnings = [model(&loaded.config), runtime(&loaded.config)];
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
fn rubric(config: &Config) -> Result<(), Failure> {
    let Some(path) = &config.scoring.rubric else {
        return Ok(());
    };
    let what = format!("scoring.rubric {}", path.display());
    let text =
        fs::read_to_string(path).map_err(|error| Failure::configuration(format!("{what} cannot be read: {error}")))?;
    Rubric::parse(&text).map_err(|error| Failure::configuration(Failure::chain(&what, &error)))?;
    Ok(())
}

fn model(config: &Config) -> Option<String> {
    let error = ModelFolder::open(&config.model.path, Check::Sizes).err()?;
    Some(Failure::chain("model.path", &error))
}

fn runtime(config: &Config) -> Option<String> {
    let search = Search {
        configured: config.runtime.library.clone(),
        cuda: config.pool.device == crate::config::Device::Cuda,
    };
    let error = find(&search).err()?;
    Some(Failure::chain("runtime", &error))
}

#[cfg(test)]
mod tests {
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
        let mut config = Config::default();
        config.model.path = "/nowhere/model".into();
        assert!(model(&config).is_some_and(|warning| warning.contains("/nowhere/model")));
    }
}
