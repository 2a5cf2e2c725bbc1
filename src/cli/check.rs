//! `config check`: what the configuration is, where each value comes from, and what of it is not there yet.

use std::fs;

use super::args::Global;
use super::exit::Failure;
use super::{output, settings};
use crate::config::{Config, Loaded};
use crate::domain::rubric::Rubric;
use crate::runtime::{Check, ModelFolder, Search, find};

/// A configuration that is right in itself passes; what a start would miss besides is only warned of.
pub fn run(global: &Global) -> Result<(), Failure> {
    let loaded = settings::loaded(global)?;
    let warnings = [rubric(&loaded.config)?, model(&loaded.config), runtime(&loaded.config)];
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

/// A rubric that is there and wrong is a wrong configuration.
fn rubric(config: &Config) -> Result<Option<String>, Failure> {
    let Some(path) = &config.scoring.rubric else {
        return Ok(None);
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return Ok(Some(format!(
                "scoring.rubric {} cannot be read: {error}",
                path.display()
            )));
        }
    };
    match Rubric::parse(&text) {
        Ok(_) => Ok(None),
        Err(error) => {
            let what = format!("scoring.rubric {}", path.display());
            Err(Failure::configuration(Failure::chain(&what, &error)))
        }
    }
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
    fn a_wrong_rubric_is_a_wrong_configuration_and_a_missing_one_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        assert!(rubric(&config).unwrap().is_none());
        let path = folder.path().join("rubric.toml");
        config.scoring.rubric = Some(path.clone());
        assert!(
            rubric(&config)
                .unwrap()
                .is_some_and(|warning| warning.contains("rubric.toml cannot be read"))
        );
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
