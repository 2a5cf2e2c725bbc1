//! A configuration: what is accepted can be described and read again, and no mistake in it writes into a terminal what it likes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use interviewd::config::{Loaded, Source, load};

/// The text of a `config.toml`; behind a NUL, what stands after `--set`, and behind another, the value of a variable.
pub fn config(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("there is room for a file");
    let path = folder.path().join("c.toml");
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let file = parts.next().unwrap_or_default();
    let set = parts.next().map(|set| String::from_utf8_lossy(set).into_owned());
    let variable = parts.next().map(|value| String::from_utf8_lossy(value).into_owned());
    let mut source = source(&path, file);
    source.sets.extend(set);
    let named = variable.map(|value| ("INTERVIEWD__POOL__SLOTS_PER_ACTOR".into(), value.into()));
    source.environment.extend(named);
    let loaded = match load(&source) {
        Ok(loaded) => loaded,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
            return false;
        }
    };
    assert_eq!(load(&source).expect("as before"), loaded, "read again");
    check_description(&loaded, &path);
    true
}

fn source(path: &Path, text: &[u8]) -> Source {
    std::fs::write(path, text).expect("there is room for a file");
    Source {
        config: Some(path.to_owned()),
        environment: Vec::<(OsString, OsString)>::new(),
        directory: PathBuf::new(),
        system_file: PathBuf::new(),
        sets: Vec::new(),
    }
}

/// What `config check` shows is a configuration, and the same one.
fn check_description(loaded: &Loaded, path: &Path) {
    let described = loaded.describe();
    let again = load(&source(path, described.as_bytes())).unwrap_or_else(|error| panic!("{error}: {described}"));
    assert_eq!(again.config, loaded.config, "{described}");
}
