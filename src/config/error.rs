//! What can be wrong with a configuration: each error names where it was written, the key, and what to do.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// `line` counts from 1.
    File {
        path: PathBuf,
        line: usize,
    },
    /// The variable's name.
    Environment(String),
    /// The text after `--set`.
    Set(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Set(text) => write!(f, "--set {}", shown(text)),
        }
    }
}

/// Why there is no configuration. A daemon that hears one of these does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no file {path}, which {asked_by} names: correct the path or leave it out")]
    Absent { path: PathBuf, asked_by: &'static str },
    #[error("the configuration {path} cannot be read")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration {path} has more than {limit} bytes: is it the right file?")]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("the configuration {path} is not UTF-8")]
    NotText { path: PathBuf, source: std::str::Utf8Error },
    #[error("the configuration {path} is not TOML")]
    NotToml { path: PathBuf, source: toml::de::Error },
    #[error("--set {text}: write it as section.key=value")]
    SetWithoutValue { text: String },
    #[error("the environment variable {name} is not UTF-8")]
    VariableNotText { name: String },
    #[error("{origin}: {name} is no key of the configuration; {hint}")]
    UnknownKey { origin: Origin, name: String, hint: String },
    #[error("{origin}: {name} is a section; {hint}")]
    NotAKey {
        origin: Origin,
        name: &'static str,
        hint: String,
    },
    #[error("{origin}: {key} {problem}")]
    Impossible {
        origin: Origin,
        /// As `section.key`.
        key: String,
        problem: String,
    },
}

/// As much of a user's text as an error may repeat, without control characters.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}
