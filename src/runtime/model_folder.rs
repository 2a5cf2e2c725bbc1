//! A model folder on the disk: `model.json` and the files it lists, held against each other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::manifest::{FORMAT_VERSION, FileEntry, Manifest, ManifestFault};
use super::{RuntimeError, sha256_hex};

/// The file that makes a folder a model folder.
pub const MANIFEST_FILE: &str = "model.json";

/// How closely the files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// They are there and have the right sizes: takes no time.
    Sizes,
    /// Their SHA-256 too: reads all of the weights.
    Hashes,
}

/// A model whose folder is as its `model.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    pub path: PathBuf,
    pub manifest: Manifest,
    /// SHA-256 of `model.json`, in hexadecimal: names these very weights, since it holds their hash.
    pub hash: String,
}

impl ModelFolder {
    /// Reads `model.json` and checks the files that it lists.
    pub fn open(path: impl Into<PathBuf>, check: Check) -> Result<Self, RuntimeError> {
        let folder = Self::read(path)?;
        let fault = folder.faults(check).next();
        match fault {
            Some((_, error)) => Err(error),
            None => Ok(folder),
        }
    }

    /// Reads and checks `model.json` alone.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, RuntimeError> {
        let path = path.into();
        let manifest_path = path.join(MANIFEST_FILE);
        if !path.is_dir() {
            // A relative path says little to whoever does not know what it is relative to.
            return Err(RuntimeError::NoModel(std::path::absolute(&path).unwrap_or(path)));
        }
        if !manifest_path.is_file() {
            return Err(RuntimeError::NoManifest(path));
        }
        let text = fs::read(&manifest_path).map_err(RuntimeError::file(&manifest_path, "read"))?;
        let hash = sha256_hex(text.as_slice()).map_err(RuntimeError::file(&manifest_path, "read"))?;
        let manifest = Manifest::parse(&text).map_err(|fault| match fault {
            ManifestFault::Version(found) => RuntimeError::FormatVersion {
                path: manifest_path.clone(),
                found,
                expected: FORMAT_VERSION,
            },
            ManifestFault::Wrong(reason) => RuntimeError::Manifest {
                path: manifest_path.clone(),
                reason,
            },
        })?;
        Ok(Self { path, manifest, hash })
    }

    /// The files that are not as `model.json` lists them, with what is wrong. Each is looked at when the iterator comes to it.
    pub fn faults(&self, check: Check) -> impl Iterator<Item = (&'static str, RuntimeError)> {
        self.manifest.files.all().into_iter().filter_map(move |(name, entry)| {
            let path = self.path.join(name);
            let looked_at = check_size(&path, entry).and_then(|()| match check {
                Check::Sizes => Ok(()),
                Check::Hashes => check_hash(&path, entry),
            });
            Some((name, looked_at.err()?))
        })
    }

    /// The ONNX graph; its weights lie beside it.
    pub fn graph(&self) -> PathBuf {
        self.path.join("model.onnx")
    }

    pub fn tokenizer(&self) -> PathBuf {
        self.path.join("tokenizer.json")
    }

    pub fn chat_template(&self) -> PathBuf {
        self.path.join(&self.manifest.chat_template_file)
    }
}

fn check_size(path: &Path, entry: &FileEntry) -> Result<(), RuntimeError> {
    let found = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == entry.bytes => return Ok(()),
        Ok(metadata) if metadata.is_file() => format!("{} bytes", metadata.len()),
        Ok(_) => "something that is not a file".to_owned(),
        Err(error) => format!("nothing that can be read ({error})"),
    };
    Err(RuntimeError::ModelFile {
        path: path.to_owned(),
        what: "the file",
        expected: format!("{} bytes", entry.bytes),
        found,
    })
}

fn check_hash(path: &Path, entry: &FileEntry) -> Result<(), RuntimeError> {
    let file = File::open(path).map_err(RuntimeError::file(path, "opened"))?;
    let found = sha256_hex(file).map_err(RuntimeError::file(path, "read"))?;
    if found == entry.sha256 {
        return Ok(());
    }
    Err(RuntimeError::ModelFile {
        path: path.to_owned(),
        what: "its SHA-256",
        expected: entry.sha256.clone(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::super::demo_model;
    use super::*;

    fn demo() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        demo_model::unpack(folder.path()).expect("unpacks");
        folder
    }

    #[test]
    fn the_demo_model_unpacks_to_a_folder_that_keeps_every_hash() {
        let folder = demo();
        let model = ModelFolder::open(folder.path(), Check::Hashes).expect("opens");
        assert_eq!(model.manifest.name, "interviewd-demo");
        assert_eq!(model.hash.len(), 64);
        for file in [model.graph(), model.tokenizer(), model.chat_template()] {
            assert!(file.is_file(), "{file:?}");
        }
    }

    #[test]
    fn a_file_of_another_size_is_named_with_both_sizes() {
        let folder = demo();
        let weights = folder.path().join("model.onnx.data");
        File::options()
            .append(true)
            .open(&weights)
            .expect("opens")
            .set_len(1000)
            .expect("cuts");
        let text = ModelFolder::open(folder.path(), Check::Sizes)
            .expect_err("is cut")
            .to_string();
        assert!(
            text.contains("model.onnx.data") && text.contains("7754752") && text.contains("1000"),
            "{text}"
        );
        fs::remove_file(weights).expect("removes");
        let text = ModelFolder::open(folder.path(), Check::Sizes)
            .expect_err("is gone")
            .to_string();
        assert!(text.contains("model.onnx.data"), "{text}");
    }

    #[test]
    fn a_changed_byte_is_found_by_hashes_only() {
        let folder = demo();
        let template = folder.path().join("chat_template.jinja");
        let mut text = fs::read(&template).expect("reads");
        text[0] ^= 1;
        fs::write(&template, text).expect("writes");
        ModelFolder::open(folder.path(), Check::Sizes).expect("the size is right");
        let text = ModelFolder::open(folder.path(), Check::Hashes)
            .expect_err("changed")
            .to_string();
        assert!(
            text.contains("SHA-256") && text.contains("chat_template.jinja"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_without_a_model_and_an_old_format_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = |path: PathBuf| ModelFolder::open(path, Check::Sizes);
        let missing = opened(folder.path().join("nowhere"));
        assert!(matches!(missing, Err(RuntimeError::NoModel(_))), "{missing:?}");
        let empty = opened(folder.path().to_owned());
        assert!(matches!(empty, Err(RuntimeError::NoManifest(_))), "{empty:?}");
        fs::write(folder.path().join(MANIFEST_FILE), r#"{"format_version":0}"#).expect("writes");
        let error = ModelFolder::open(folder.path(), Check::Sizes).expect_err("too old");
        assert!(matches!(error, RuntimeError::FormatVersion { found: 0, .. }), "{error}");
    }
}
