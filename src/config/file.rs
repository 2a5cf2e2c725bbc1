//! The configuration file: which one it is, and what it says on which line.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use toml::{Spanned, Table, Value};

use super::error::{ConfigError, Origin, shown};
use super::keys;
use super::load::{Entry, Source};

/// Far more than a configuration has; a device or a log given by mistake is not read to its end.
const BYTES_MAX: u64 = 1 << 20;

/// The variable that names a file.
const VARIABLE: &str = "INTERVIEWD_CONFIG";

/// The file that counts, with its entries; `None` if nobody named one and there is none in the usual places.
pub(super) fn read(source: &Source) -> Result<Option<(PathBuf, Vec<Entry>)>, ConfigError> {
    let variable = source
        .environment
        .iter()
        .find(|(name, _)| name.as_os_str() == OsStr::new(VARIABLE));
    let named = match (&source.config, variable) {
        (Some(path), _) => Some((path.clone(), "--config")),
        // An empty variable is how a shell unsets one for a single command.
        (None, Some((_, path))) if !path.is_empty() => Some((PathBuf::from(path), VARIABLE)),
        _ => None,
    };
    if let Some((path, asked_by)) = named {
        let path = source.directory.join(path);
        return match text(&path)? {
            Some(text) => Ok(Some((path.clone(), entries(&path, &text)?))),
            None => Err(ConfigError::Absent { path, asked_by }),
        };
    }
    for path in [source.directory.join("config.toml"), source.system_file.clone()] {
        if let Some(text) = text(&path)? {
            let entries = entries(&path, &text)?;
            return Ok(Some((path, entries)));
        }
    }
    Ok(None)
}

/// A file's text, or `None` if there is no such file.
fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit: BYTES_MAX,
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| ConfigError::NotText {
        path: path.to_owned(),
        source: error.utf8_error(),
    })?;
    Ok(Some(text))
}

/// What a file says, key by key. Types and ranges are not looked at yet, for a stronger layer may say otherwise.
fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let not_toml = |source| ConfigError::NotToml {
        path: path.to_owned(),
        source,
    };
    let places = DeTable::parse(text).map_err(not_toml)?;
    let values: Table = text.parse().map_err(not_toml)?;
    let mut entries = Vec::new();
    for (section, places) in places.get_ref() {
        let origin = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: line(text, offset),
        };
        let name = section.get_ref().as_ref();
        let keys = match (keys::section(name), &values[name]) {
            (Some(_), Value::Table(keys)) => keys,
            (Some(name), _) => {
                return Err(ConfigError::NotAKey {
                    origin: origin(section.span().start),
                    name,
                    hint: keys::list(name, str::to_owned),
                });
            }
            (None, value) => {
                let first = value.as_table().and_then(|keys| keys.keys().next());
                let name = first.map_or(name.to_owned(), |key| format!("{name}.{key}"));
                return Err(unknown(origin(section.span().start), &name));
            }
        };
        for (key, value) in keys {
            let origin = origin(offset(places, key));
            let name = format!("{name}.{key}");
            match keys::known(&name) {
                Some(key) => entries.push(Entry {
                    key,
                    value: value.clone(),
                    origin,
                }),
                None => return Err(unknown(origin, &name)),
            }
        }
    }
    Ok(entries)
}

fn unknown(origin: Origin, name: &str) -> ConfigError {
    ConfigError::UnknownKey {
        origin,
        name: shown(name),
        hint: keys::hint(name, str::to_owned),
    }
}

/// Where a key of a section stands.
fn offset(section: &Spanned<toml::de::DeValue>, key: &str) -> usize {
    section
        .get_ref()
        .as_table()
        .and_then(|keys| keys.keys().find(|place| place.get_ref() == key))
        .map_or(section.span().start, |place| place.span().start)
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
