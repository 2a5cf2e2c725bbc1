//! Files that a verb writes its results to: whole, or not at all.

use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use super::exit::Failure;

/// An error if nothing could be written there, so that nobody waits for results that are lost. Changes nothing.
pub fn check(file: &Path) -> Result<(), Failure> {
    if file.is_dir() {
        return Err(failed(file, &"it is a folder"));
    }
    NamedTempFile::new_in(folder(file)).map_err(|error| failed(file, &error))?;
    Ok(())
}

/// Replaces what lies there, rather than following a link of somebody else's.
pub fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let mut temporary = NamedTempFile::new_in(folder(file)).map_err(|error| failed(file, &error))?;
    temporary
        .write_all(text.as_bytes())
        .map_err(|error| failed(file, &error))?;
    temporary.persist(file).map_err(|error| failed(file, &error.error))?;
    Ok(())
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn failed(file: &Path, reason: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("{} cannot be written: {reason}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_known_before_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results.json");
        replace(&file, "old").unwrap();
        check(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        for wrong in [folder.path().to_owned(), folder.path().join("none/results.json")] {
            let problem = check(&wrong).unwrap_err().to_string();
            assert!(problem.contains(wrong.to_str().unwrap()), "{problem}");
        }
    }
}
