//! The exporter of tools/export, a Python package carried inside the binary, and what it needs to run.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{RuntimeError, sha256_hex};

/// Of a hash in a folder's name: enough to tell versions apart.
const HASH_LETTERS: usize = 12;
const PROJECT: &str = include_str!("../../tools/export/pyproject.toml");

macro_rules! modules {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../tools/export/exaone_export/", $name)))),*]
    };
}

/// Every module of the package, by its path in it.
const MODULES: &[(&str, &str)] = modules![
    "__init__.py",
    "__main__.py",
    "architectures/__init__.py",
    "architectures/exaone3.py",
    "architectures/exaone3_reference.py",
    "architectures/exaone4.py",
    "architectures/exaone4_reference.py",
    "architectures/reference.py",
    "bfloat16.py",
    "blocks.py",
    "checkpoint.py",
    "cli.py",
    "config.py",
    "errors.py",
    "export.py",
    "graph.py",
    "jsonfile.py",
    "kv_scales.py",
    "manifest.py",
    "numerics.py",
    "presets.py",
    "probe.py",
    "progress.py",
    "quantise.py",
    "random_checkpoint.py",
    "random_tokenizer.py",
    "random_weights.py",
    "rope.py",
    "runtime.py",
    "safetensors_file.py",
    "shape.py",
    "tokenizer.py",
    "verify.py",
    "weights.py",
];

/// A hash of all modules, short.
pub(super) fn hash() -> Result<String, RuntimeError> {
    let mut all = String::new();
    for (name, text) in MODULES {
        all.extend([name, "\0", text, "\0"]);
    }
    short_hash(&all)
}

fn short_hash(text: &str) -> Result<String, RuntimeError> {
    let mut hash = sha256_hex(text.as_bytes()).map_err(RuntimeError::file("the exporter", "read"))?;
    hash.truncate(HASH_LETTERS);
    Ok(hash)
}

/// Writes the package into `folder`, from where `python3 -m exaone_export` runs it.
pub(super) fn unpack(folder: &Path) -> Result<(), RuntimeError> {
    for (name, text) in MODULES {
        let path = folder.join("exaone_export").join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(RuntimeError::file(parent, "created"))?;
        fs::write(&path, text).map_err(RuntimeError::file(&path, "written"))?;
    }
    Ok(())
}

/// What the exporter asks of Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirements {
    /// The oldest version that will do: `3.11`.
    pub python: String,
    /// As pip takes them: `numpy>=2.0,<3`.
    pub packages: Vec<String>,
}

impl Requirements {
    /// As `tools/export/pyproject.toml` has them.
    pub(super) fn of_exporter() -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Project {
            requires_python: String,
            dependencies: Vec<String>,
        }
        #[derive(Deserialize)]
        struct File {
            project: Project,
        }
        let File { project } = toml::from_str(PROJECT).expect("pyproject.toml in the binary is the repository's");
        Self {
            python: project.requires_python.trim_start_matches(">=").to_owned(),
            packages: project.dependencies,
        }
    }

    /// The packages' names, which are also those of their modules, separated by commas.
    pub(super) fn packages(&self) -> String {
        let name = |package: &String| {
            let end = package.find(|c: char| !c.is_alphanumeric()).unwrap_or(package.len());
            package[..end].to_owned()
        };
        self.packages.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// A hash of the packages, short.
    pub(super) fn hash(&self) -> Result<String, RuntimeError> {
        short_hash(&self.packages.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules_of(folder: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next).expect("reads").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "py") {
                    let name = path.strip_prefix(folder).expect("lies in it").display().to_string();
                    found.push((name, fs::read_to_string(&path).expect("reads")));
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn the_binary_carries_every_module_of_the_package() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/export/exaone_export");
        let folder = tempfile::tempdir().expect("a folder");
        unpack(folder.path()).expect("unpacks");
        let unpacked = modules_of(&folder.path().join("exaone_export"));
        assert!(unpacked == modules_of(&package), "add to or take from MODULES");
    }

    #[test]
    fn what_it_needs_is_read_from_its_project_file() {
        let needs = Requirements::of_exporter();
        assert_eq!(needs.packages(), "numpy, onnx, onnxruntime, tokenizers");
        assert_eq!(needs.python, "3.11");
        let pinned = format!("onnxruntime=={}", super::super::ONNX_RUNTIME_VERSION);
        assert!(needs.packages.contains(&pinned), "{needs:?}");
    }
}
