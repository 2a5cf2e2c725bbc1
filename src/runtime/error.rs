//! What can be wrong with the library or a model folder, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why ONNX Runtime or a model is not there or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("ONNX Runtime: {origin} names {path}, which is not a file; correct it, or leave it out to use the cache", path = .path.display())]
    LibraryMissing { origin: &'static str, path: PathBuf },
    #[error(
        "ONNX Runtime {version} was not found in {cache}; run `{command}` to fetch it. By hand: {by_hand}",
        cache = .cache.display()
    )]
    NotFound {
        version: &'static str,
        cache: PathBuf,
        command: &'static str,
        by_hand: String,
    },
    #[error("no folder for the cache: set INTERVIEWD_CACHE, XDG_CACHE_HOME or HOME to an absolute path")]
    NoCacheFolder,
    #[error(
        "no ONNX Runtime {variant} library is published for {machine}; build one and set runtime.library to its path"
    )]
    Unsupported {
        variant: &'static str,
        machine: &'static str,
    },
    #[error("{package} could not be downloaded: {reason}. By hand: {by_hand}")]
    Download {
        package: String,
        reason: String,
        by_hand: String,
    },
    #[error(
        "{file} is not the file that was pinned: SHA-256 expected {expected}, found {found}; \
         look at the package index or proxy that served it, then run setup again"
    )]
    WheelHash {
        file: String,
        expected: &'static str,
        found: String,
    },
    #[error("{file} cannot be unpacked: {reason}; run setup again")]
    Wheel { file: String, reason: String },
    #[error("{path}: no such model folder; set model.path to a folder with a model.json", path = .0.display())]
    NoModel(PathBuf),
    #[error(
        "{path} has no model.json, so it is no model folder; name the folder that tools/export wrote, or copy that once more: model.json is what it writes last",
        path = .0.display()
    )]
    NoManifest(PathBuf),
    #[error("{path}: {reason}; export the model again with tools/export", path = .path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error(
        "{path}: format_version is {found}, this program reads {expected}; export the model again with this version's tools/export",
        path = .path.display()
    )]
    FormatVersion { path: PathBuf, found: u64, expected: u64 },
    #[error(
        "{path}: {what} should be {expected}, found {found}; copy the model folder again or export the model again",
        path = .path.display()
    )]
    ModelFile {
        path: PathBuf,
        what: &'static str,
        expected: String,
        found: String,
    },
    #[error("there is no preset {preset:?}; there are {presets}")]
    UnknownPreset { preset: String, presets: String },
    #[error(
        "{python} cannot be used: {reason}; a Python program makes random weights: install Python {needed} or newer, \
         or set INTERVIEWD_PYTHON to one"
    )]
    Python {
        python: String,
        reason: String,
        needed: String,
    },
    #[error(
        "{python} makes no environment for packages: {reason}; on Debian and Ubuntu `apt install python3-venv`, \
         or set INTERVIEWD_PYTHON to a Python that has {packages}"
    )]
    PythonEnvironment {
        python: String,
        reason: String,
        packages: String,
    },
    #[error(
        "the Python packages {packages} could not be installed: {reason}; on a machine without a network, \
         set INTERVIEWD_PYTHON to a Python that has them"
    )]
    PythonPackages { packages: String, reason: String },
    #[error(
        "random weights ({preset}) could not be made: {reason}; they go into the cache, and INTERVIEWD_CACHE can name another place for it"
    )]
    Export { preset: String, reason: String },
    #[error("{path} could not be {doing}", path = .path.display())]
    File {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

impl RuntimeError {
    /// For `map_err`: which file, and what was being done ("read", "written").
    pub(super) fn file(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, doing, source }
    }
}
