//! The configuration that a verb works with, and the socket that follows from it.

use std::path::PathBuf;

use super::args::Global;
use super::exit::Failure;
use crate::config::{Loaded, Source, load};
use crate::socket::listener::PATH_BYTES_MAX;

/// What the command line and the environment say of the configuration.
pub fn source(global: &Global) -> Source {
    Source::of_process(global.config.clone(), global.set.clone())
}

/// Reads and checks a configuration.
pub fn of(source: &Source) -> Result<Loaded, Failure> {
    load(source).map_err(|error| Failure::configuration(Failure::chain("", &error)))
}

/// What `--socket` names, if it can be a socket's path.
pub fn named_socket(global: &Global) -> Result<Option<&PathBuf>, Failure> {
    let Some(socket) = &global.socket else {
        return Ok(None);
    };
    match socket.as_os_str().len() {
        0 => Err(Failure::usage("--socket is empty; name a path")),
        1..=PATH_BYTES_MAX => Ok(Some(socket)),
        bytes => Err(Failure::usage(format!(
            "--socket: a socket path has at most {PATH_BYTES_MAX} bytes, this one has {bytes}"
        ))),
    }
}

/// Reads and checks the configuration; `--socket` counts as one more `--set`.
pub fn loaded(global: &Global) -> Result<Loaded, Failure> {
    let mut loaded = of(&source(global))?;
    if let Some(socket) = named_socket(global)? {
        loaded.config.socket.path.clone_from(socket);
    }
    Ok(loaded)
}

/// The daemon's socket. With `--socket` no configuration is needed, and a wrong one does not matter.
pub fn socket(global: &Global) -> Result<PathBuf, Failure> {
    match named_socket(global)? {
        Some(socket) => Ok(socket.clone()),
        None => Ok(loaded(global)?.config.socket.path),
    }
}
