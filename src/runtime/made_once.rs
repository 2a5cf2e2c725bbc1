//! Folders of the cache: one process makes one, whole or not at all, while the others wait for it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::RuntimeError;

/// Begins the name of folders under construction; one that a killed process left is removed by the next.
const PARTIAL: &str = ".partial-";

/// A folder to be made.
pub(super) struct Folder<'a> {
    /// Its parent holds its lock and what is under construction; made if it is not there.
    pub path: &'a Path,
    /// Whether there is nothing left to do.
    pub whole: &'a dyn Fn() -> bool,
    /// What another process is doing meanwhile: "fetching ONNX Runtime".
    pub doing: &'a str,
}

/// Makes a folder unless it is whole. `make` works in an empty folder on the same disk and gives the folder in there that is moved into place.
pub(super) fn made_once(
    folder: &Folder<'_>,
    progress: &mut dyn FnMut(&str),
    make: impl FnOnce(&Path, &mut dyn FnMut(&str)) -> Result<PathBuf, RuntimeError>,
) -> Result<(), RuntimeError> {
    if (folder.whole)() {
        return Ok(());
    }
    let target = folder.path;
    let parent = target.parent().unwrap_or(target);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    fs::create_dir_all(parent).map_err(RuntimeError::file(parent, "created"))?;
    let _lock = lock(&parent.join(format!("{name}.lock")), folder.doing, progress)?;
    if (folder.whole)() {
        return Ok(());
    }
    let prefix = format!("{PARTIAL}{name}-");
    remove_leftovers(parent, &prefix);
    let partial = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(parent)
        .map_err(RuntimeError::file(parent, "written to"))?;
    let made = make(partial.path(), progress)?;
    // The folder is not whole, or there would have been nothing to do: what is in it is in the way.
    if target.exists() {
        fs::remove_dir_all(target).map_err(RuntimeError::file(target, "removed"))?;
    }
    fs::rename(&made, target).map_err(RuntimeError::file(target, "moved into place"))
}

/// Held until dropped; the system lets go of it when a process dies.
fn lock(path: &Path, doing: &str, progress: &mut dyn FnMut(&str)) -> Result<File, RuntimeError> {
    let file = File::create(path).map_err(RuntimeError::file(path, "created"))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress(&format!("another process is {doing}; waiting for it")),
        Err(TryLockError::Error(source)) => return Err(RuntimeError::file(path, "locked")(source)),
    }
    file.lock().map_err(RuntimeError::file(path, "locked"))?;
    Ok(file)
}

/// Best effort: a leftover only takes space.
fn remove_leftovers(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
