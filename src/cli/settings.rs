//! The configuration that a verb works with, and the socket that follows from it.

use std::path::PathBuf;

use super::args::Global;
use super::exit::Failure;
use crate::config::{Loaded, Source, load};

/// What the command line and the environment say of the configuration.
pub fn source(global: &Global) -> Source {
    Source::of_process(global.config.clone(), global.set.clone())
}

/// Reads and checks a configuration.
pub fn of(source: &Source) -> Result<Loaded, Failure> {
    load(source).map_err(|error| Failure::configuration(Failure::chain("", &error)))
}

/// Reads and checks the configuration; `--socket` counts as one more `--set`.
pub fn loaded(global: &Global) -> Result<Loaded, Failure> {
    let mut loaded = of(&source(global))?;
    if let Some(socket) = &global.socket {
        loaded.config.socket.path.clone_from(socket);
    }
    Ok(loaded)
}

/// The daemon's socket. With `--socket` no configuration is needed, and a wrong one does not matter.
pub fn socket(global: &Global) -> Result<PathBuf, Failure> {
    match &global.socket {
        Some(socket) => Ok(socket.clone()),
        None => Ok(loaded(global)?.config.socket.path),
    }
}
