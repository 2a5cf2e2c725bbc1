//! Models with random weights, made on the spot by the exporter inside this binary and kept in the cache.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::RuntimeError;
use super::exporter::{self, Requirements};
use super::library::cache_dir;
use super::made_once::{Folder, made_once};
use super::manifest::{Precision, Target};
use super::model_folder::MANIFEST_FILE;
use super::python::{Python, complaint, interpreter, with_packages};

/// The shapes that the exporter knows.
pub const RANDOM_PRESETS: [&str; 6] = [
    "exaone-3.5-2.4b",
    "exaone-3.5-7.8b",
    "exaone-4.0-1.2b",
    "exaone-4.0-32b",
    "tiny-4.0",
    "bench-0.43b",
];

/// The folder of a model of a preset's shape with random weights, made if the cache does not have it: 0.3 to 19 GiB at 4 bits, half a minute
/// to a quarter of an hour. Needs Python 3; where that lacks the exporter's packages, they are installed into the cache. Several processes may ask at the same
/// time: one makes it, the others wait. `progress` gets lines for people.
pub fn random_model(
    preset: &str,
    target: Target,
    precision: Precision,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, RuntimeError> {
    let wanted = Wanted {
        preset,
        target: target.name(),
        precision: precision.name(),
    };
    random_model_with(&cache_dir()?, &interpreter(), wanted, progress)
}

#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    preset: &'a str,
    target: &'static str,
    precision: &'static str,
}

fn random_model_with(
    cache: &Path,
    python: &Python,
    wanted: Wanted<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, RuntimeError> {
    let Wanted {
        preset,
        target,
        precision,
    } = wanted;
    if !RANDOM_PRESETS.contains(&preset) {
        return Err(RuntimeError::UnknownPreset {
            preset: preset.to_owned(),
            presets: RANDOM_PRESETS.join(", "),
        });
    }
    let name = format!("{preset}-{precision}-{target}-{}", exporter::hash()?);
    let model = cache.join("random").join(name);
    let folder = Folder {
        path: &model,
        whole: &|| model.join(MANIFEST_FILE).is_file(),
        doing: "making the same weights",
    };
    made_once(&folder, progress, |partial, progress| {
        let python = with_packages(cache, python, &Requirements::of_exporter(), progress)?;
        let program = partial.join("exporter");
        fs::create_dir(&program).map_err(RuntimeError::file(&program, "created"))?;
        exporter::unpack(&program)?;
        let made = partial.join("model");
        progress(&format!("making random weights: {preset}, {precision} for {target}"));
        export(&python, &program, &made, wanted, progress)?;
        Ok(made)
    })?;
    Ok(model)
}

/// Runs the exporter, which moves its output to `made` as a whole. When this process is killed, the exporter ends too: nobody reads its
/// next line.
fn export(
    python: &Python,
    program: &Path,
    made: &Path,
    wanted: Wanted<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(), RuntimeError> {
    let failed = |reason: String| RuntimeError::Export {
        preset: wanted.preset.to_owned(),
        reason,
    };
    let mut child = python
        .command()
        .args(["-m", "exaone_export", "--random", wanted.preset])
        .arg(made)
        .args(["--precision", wanted.precision, "--target", wanted.target])
        .current_dir(program)
        .env_remove("PYTHONSAFEPATH") // would hide the package in the folder it is started in
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{python} could not be run ({error})")))?;
    let mut said = Vec::new();
    for line in child
        .stderr
        .take()
        .into_iter()
        .flat_map(|stderr| BufReader::new(stderr).split(b'\n'))
    {
        let Ok(line) = line else { break };
        progress(String::from_utf8_lossy(&line).trim());
        said.extend(line);
        said.push(b'\n');
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(complaint(&said, "error:", status))),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const WANTED: Wanted<'_> = Wanted {
        preset: "bench-0.43b",
        target: "cpu",
        precision: "int4",
    };

    /// Behaves as Python does; files beside it say what it lacks, and `log` there gets a line for every use.
    const FAKE: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/log"
case "$2" in
"import sys"*) cat "$here/version" ;;
"import "*) [ ! -e "$here/bare" ] || { echo "ModuleNotFoundError: numpy" >&2; exit 1; } ;;
venv) [ ! -e "$here/no-venv" ] || { echo "ensurepip is not available"; exit 1; }
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/bin/bare" "$3/bin/log"
    [ ! -e "$here/offline" ] || touch "$3/bin/offline" ;;
pip) [ ! -e "$here/offline" ] || { echo "ERROR: No matching distribution found for numpy" >&2; exit 1; }
    rm "$here/bare" ;;
exaone_export) [ ! -e "$here/no-room" ] || { echo "writing"; echo "error: not enough disk space" >&2; exit 1; }
    [ -e exaone_export/__main__.py ] || exit 9
    echo " 50 %  layer 1" >&2; mkdir "$5"; echo "$4 $6 $7 $8 $9" > "$5/model.json" ;;
*) exit 8 ;;
esac
"#;

    struct House {
        folder: tempfile::TempDir,
        python: Python,
    }

    impl House {
        /// With a Python of which these things hold.
        fn with(flags: &[&str]) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let at = |name: &str| folder.path().join(name);
            fs::write(at("text"), FAKE).expect("writes");
            fs::write(at("version"), "3.12\n").expect("writes");
            for flag in flags {
                fs::write(at(flag), "").expect("writes");
            }
            // Copied by another process: a program that this one has open for writing cannot be run by its other threads' children.
            let mut install = Command::new("install");
            install.args(["-m", "755"]).args([at("text"), at("python")]);
            assert!(install.status().expect("runs").success());
            let python = Python::new(at("python"));
            Self { folder, python }
        }

        fn cache(&self) -> PathBuf {
            self.folder.path().join("cache")
        }

        fn make(&self) -> Result<(PathBuf, Vec<String>), RuntimeError> {
            let mut lines = Vec::new();
            let made = random_model_with(&self.cache(), &self.python, WANTED, &mut |line| {
                lines.push(line.to_owned())
            });
            made.map(|model| (model, lines))
        }

        fn refused(&self) -> String {
            self.make().expect_err("it fails").to_string()
        }

        fn log(&self) -> String {
            fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
        }

        fn partials(&self) -> usize {
            let entries = fs::read_dir(self.cache().join("random")).expect("reads").flatten();
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(".partial"))
                .count()
        }
    }

    #[test]
    fn a_model_is_made_once_and_its_making_is_told() {
        let house = House::with(&[]);
        let (model, lines) = house.make().expect("is made");
        let told = fs::read_to_string(model.join(MANIFEST_FILE)).expect("is there");
        assert_eq!(told.trim(), "bench-0.43b --precision int4 --target cpu");
        assert!(lines.iter().any(|line| line == "50 %  layer 1"), "{lines:?}");
        assert!(!house.log().contains("venv"), "{}", house.log());
        let before = house.log();
        assert_eq!(house.make().expect("is there").0, model);
        assert_eq!((house.log(), house.partials()), (before, 0));
    }

    #[test]
    fn missing_packages_are_installed_into_the_cache_once() {
        let house = House::with(&["bare"]);
        let (model, _) = house.make().expect("is made");
        fs::remove_dir_all(model).expect("removes");
        house.make().expect("is made");
        assert_eq!(house.log().matches("-m venv").count(), 1, "{}", house.log());
        assert!(
            !house.log().contains("exaone_export"),
            "the environment's Python runs it"
        );
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do_and_nothing_stays() {
        for (flags, words) in [
            (&["no-room"][..], ["not enough disk space", "INTERVIEWD_CACHE"]),
            (&["bare", "no-venv"], ["ensurepip is not available", "python3-venv"]),
            (&["bare", "offline"], ["No matching distribution", "INTERVIEWD_PYTHON"]),
        ] {
            let house = House::with(flags);
            let text = house.refused();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert_eq!(house.partials(), 0);
        }
    }

    #[test]
    fn a_python_that_is_not_there_or_too_old_is_refused() {
        let mut house = House::with(&[]);
        fs::write(house.folder.path().join("version"), "3.9").expect("writes");
        let text = house.refused();
        assert!(text.contains("it is Python 3.9") && text.contains("3.11"), "{text}");
        house.python = Python::new("/nowhere/python3");
        let text = house.refused();
        assert!(
            text.contains("/nowhere/python3") && text.contains("INTERVIEWD_PYTHON"),
            "{text}"
        );
    }

    #[test]
    fn half_a_model_is_not_taken_for_one() {
        let house = House::with(&[]);
        let (model, _) = house.make().expect("is made");
        fs::remove_file(model.join(MANIFEST_FILE)).expect("removes");
        let name = model.file_name().expect("it has one").to_string_lossy().into_owned();
        let leftover = model.with_file_name(format!(".partial-{name}-abc"));
        fs::create_dir_all(leftover.join("model")).expect("creates");
        assert!(house.make().expect("is made").0.join(MANIFEST_FILE).is_file());
        assert!(!leftover.exists());
    }

    #[test]
    fn the_presets_are_the_exporters() {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/export/exaone_export/presets.py"));
        let text = text.expect("reads");
        let table = text.split_once("_DIFFERENCES = {").expect("has the table").1;
        let names: Vec<_> = table
            .lines()
            .filter_map(|line| line.strip_prefix("    \"")?.strip_suffix("\": {"))
            .collect();
        assert_eq!(names, RANDOM_PRESETS);
        let wanted = Wanted {
            preset: "exaone-4",
            ..WANTED
        };
        let house = House::with(&[]);
        let refused = random_model_with(&house.cache(), &house.python, wanted, &mut |_| ());
        let text = refused.expect_err("there is none").to_string();
        assert!(text.contains("exaone-4") && text.contains("bench-0.43b"), "{text}");
    }
}
