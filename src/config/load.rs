//! From the layers to one checked [`Config`] that remembers where each value was written.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use toml::{Table, Value};

use super::check::{Impossible, check};
use super::error::{ConfigError, Origin, shown};
use super::sections::Config;
use super::{file, keys};

/// Everything a configuration is made from. The process's own is [`Source::of_process`].
#[derive(Debug, Clone)]
pub struct Source {
    /// The file that `--config` names.
    pub config: Option<PathBuf>,
    /// Variables of other programs may be among them.
    pub environment: Vec<(OsString, OsString)>,
    /// What relative paths of files are relative to, and where `config.toml` is looked for.
    pub directory: PathBuf,
    /// Read if there is no other file.
    pub system_file: PathBuf,
    /// `section.key=value`, as `--set` takes them; the last of equal keys wins.
    pub sets: Vec<String>,
}

impl Source {
    /// With this process's environment and working directory.
    pub fn of_process(config: Option<PathBuf>, sets: Vec<String>) -> Self {
        Self {
            config,
            environment: std::env::vars_os()
                .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"INTERVIEWD_"))
                .collect(),
            directory: PathBuf::new(),
            system_file: "/etc/interviewd/config.toml".into(),
            sets,
        }
    }
}

/// One value that somebody wrote.
pub(super) struct Entry {
    pub key: &'static str,
    pub value: Value,
    pub origin: Origin,
}

/// A configuration, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// The file that was read, if there is one.
    pub file: Option<PathBuf>,
    /// Of the keys that are not at their built-in defaults.
    origins: BTreeMap<&'static str, Origin>,
}

/// Reads and checks the configuration. Deterministic: the same source gives the same result or the same error.
pub fn load(source: &Source) -> Result<Loaded, ConfigError> {
    let (file, mut entries) = match file::read(source)? {
        Some((path, entries)) => (Some(path), entries),
        None => (None, Vec::new()),
    };
    entries.extend(from_environment(source)?);
    for text in &source.sets {
        entries.push(from_set(text)?);
    }
    let mut sections = Table::new();
    let mut origins = BTreeMap::new();
    for entry in entries {
        put(&mut sections, entry.key, entry.value);
        origins.insert(entry.key, entry.origin);
    }
    let config = parse(sections, &origins)?;
    check(&config).map_err(|error| blame(error, &origins))?;
    Ok(Loaded { config, file, origins })
}

impl Loaded {
    /// Where the value of a key (`section.key`) was written.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The configuration in force, as TOML: every key, its value, and as a comment where it was written.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut current = "";
        for (key, value) in &keys::values(&self.config) {
            let (section, name) = keys::split(key);
            let gap = if current.is_empty() { "" } else { "\n" };
            let header = if section == current {
                String::new()
            } else {
                format!("{gap}[{section}]\n")
            };
            let origin = self.origin(key).to_string().replace(char::is_control, "?");
            writeln!(text, "{header}{name} = {value}  # {origin}").expect("a String takes everything");
            current = section;
        }
        text
    }
}

fn from_environment(source: &Source) -> Result<Vec<Entry>, ConfigError> {
    let mut variables: Vec<_> = source
        .environment
        .iter()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(keys::VARIABLE_PREFIX.as_bytes()))
        .collect();
    variables.sort();
    let mut entries = Vec::new();
    for (name, value) in variables {
        let not_text = || ConfigError::VariableNotText {
            name: shown(&name.to_string_lossy()),
        };
        let (name, value) = (
            name.to_str().ok_or_else(not_text)?,
            value.to_str().ok_or_else(not_text)?,
        );
        let origin = Origin::Environment(shown(name));
        let written = name[keys::VARIABLE_PREFIX.len()..]
            .to_lowercase()
            .replacen("__", ".", 1);
        match keys::keys().find(|key| keys::variable(key) == name) {
            Some(key) => entries.push(Entry {
                key,
                value: value_of(key, value),
                origin,
            }),
            None => return Err(unknown(origin, &written, keys::variable)),
        }
    }
    Ok(entries)
}

fn from_set(text: &str) -> Result<Entry, ConfigError> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(ConfigError::SetWithoutValue { text: shown(text) });
    };
    let origin = Origin::Set(shown(text));
    match keys::known(key.trim()) {
        Some(key) => Ok(Entry {
            key,
            value: value_of(key, value.trim()),
            origin,
        }),
        None => Err(unknown(origin, key.trim(), str::to_owned)),
    }
}

fn unknown(origin: Origin, name: &str, spelled: impl Fn(&str) -> String) -> ConfigError {
    match keys::section(name) {
        Some(section) => ConfigError::NotAKey {
            origin,
            name: section,
            hint: keys::list(section, spelled),
        },
        None => ConfigError::UnknownKey {
            origin,
            name: shown(name),
            hint: keys::hint(name, spelled),
        },
    }
}

/// What a text outside a file means: a TOML value where the key can be one, else the text itself, so that nobody has to quote twice.
fn value_of(key: &str, text: &str) -> Value {
    let bare = Value::String(text.to_owned());
    let Ok(value) = text.parse::<Value>() else {
        return bare;
    };
    let fits = |value: &Value| {
        let mut sections = Table::new();
        put(&mut sections, key, value.clone());
        sections.try_into::<Config>().is_ok()
    };
    if !fits(&value) && fits(&bare) { bare } else { value }
}

fn put(sections: &mut Table, key: &str, value: Value) {
    let (section, name) = keys::split(key);
    let section = sections.entry(section).or_insert_with(|| Value::Table(Table::new()));
    section
        .as_table_mut()
        .expect("only sections are put at the top")
        .insert(name.to_owned(), value);
}

/// Gives every value its type; an error is traced back to where the value was written.
fn parse(sections: Table, origins: &BTreeMap<&'static str, Origin>) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(sections)).map_err(|error| {
        let place = error.path().to_string();
        let written = origins.iter().find(|(key, _)| place.split('[').next() == Some(**key));
        let default = keys::values(&Config::default())
            .into_iter()
            .find(|(key, _)| place == *key)
            .map_or(String::new(), |(_, value)| format!(" (the default is {value})"));
        ConfigError::Impossible {
            origin: written.map_or(Origin::Default, |(_, origin)| origin.clone()),
            key: place,
            problem: format!("cannot be read: {}{default}", error.inner().message()),
        }
    })
}

/// Traces a value that cannot be back to where it was written; of two that contradict each other, to one that somebody wrote.
fn blame(error: Impossible, origins: &BTreeMap<&'static str, Origin>) -> ConfigError {
    let written = origins
        .get(error.key)
        .or_else(|| error.rival.and_then(|rival| origins.get(rival)));
    ConfigError::Impossible {
        origin: written.cloned().unwrap_or(Origin::Default),
        key: error.key.to_owned(),
        problem: error.problem,
    }
}

#[cfg(test)]
mod tests;
