//! The Python that fetches wheels and runs the exporter, and an environment with the exporter's packages in the cache.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::RuntimeError;
use super::exporter::Requirements;
use super::made_once::{Folder, made_once};

const PYTHON_VARIABLE: &str = "INTERVIEWD_PYTHON";
/// Of a program's complaints, at most how many lines are passed on.
const COMPLAINT_LINES_MAX: usize = 4;

/// A Python interpreter: a path, or a name to be found in `PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Python(PathBuf);

impl fmt::Display for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Python {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// To be run with nothing to read. Python looks for modules in the folder it is started in: choose one with `current_dir`.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.stdin(Stdio::null());
        command
    }
}

/// `INTERVIEWD_PYTHON`, or else `python3`.
pub(super) fn interpreter() -> Python {
    named(env::var_os(PYTHON_VARIABLE))
}

fn named(variable: Option<OsString>) -> Python {
    let path = PathBuf::from(variable.filter(|value| !value.is_empty()).unwrap_or("python3".into()));
    // It is started in other folders than ours. A mere name stays what `PATH` makes of it.
    match path.components().count() {
        1 => Python(path),
        _ => Python(std::path::absolute(&path).unwrap_or(path)),
    }
}

/// A Python with the packages: `python` itself where it has them, else an environment in the cache, made once.
pub(super) fn with_packages(
    cache: &Path,
    python: &Python,
    needs: &Requirements,
    progress: &mut dyn FnMut(&str),
) -> Result<Python, RuntimeError> {
    check_version(python, needs)?;
    if imports(python, needs).is_ok() {
        return Ok(python.clone());
    }
    let target = cache.join("python").join(format!("exporter-{}", needs.hash()?));
    let made = Python::new(target.join("bin").join("python"));
    let folder = Folder {
        path: &target,
        whole: &|| imports(&made, needs).is_ok(),
        doing: "installing Python packages",
    };
    made_once(&folder, progress, |partial, progress| {
        let environment = partial.join("environment");
        progress("making a Python environment in the cache");
        make_environment(python, &environment, needs)?;
        progress(&format!("installing {} (about 60 MB)", needs.packages()));
        install(&environment, needs)?;
        Ok(environment)
    })?;
    Ok(made)
}

fn check_version(python: &Python, needs: &Requirements) -> Result<(), RuntimeError> {
    let unusable = |reason: String| RuntimeError::Python {
        python: python.to_string(),
        reason,
        needed: needs.python.clone(),
    };
    let script = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = run(python.command().args(["-c", script]).current_dir("/")).map_err(unusable)?;
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version(&found) >= version(&needs.python) {
        true => Ok(()),
        false => Err(unusable(format!("it is Python {found}"))),
    }
}

/// (major, minor); what is no version is older than all.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn imports(python: &Python, needs: &Requirements) -> Result<(), String> {
    let script = format!("import {}", needs.packages());
    run(python.command().args(["-c", &script]).current_dir("/")).map(|_| ())
}

fn make_environment(python: &Python, folder: &Path, needs: &Requirements) -> Result<(), RuntimeError> {
    let mut command = python.command();
    command.args(["-m", "venv"]).arg(folder).current_dir("/");
    let made = run(&mut command).map_err(|reason| RuntimeError::PythonEnvironment {
        python: python.to_string(),
        reason,
        packages: needs.packages(),
    });
    made.map(|_| ())
}

fn install(environment: &Path, needs: &Requirements) -> Result<(), RuntimeError> {
    let python = Python::new(environment.join("bin").join("python"));
    let mut command = python.command();
    let fixed =
        "-m pip install --only-binary=:all: --disable-pip-version-check --no-input --quiet --timeout 20 --retries 2";
    command.args(fixed.split(' ')).args(&needs.packages).current_dir("/");
    let installed = run(&mut command).and_then(|_| imports(&python, needs));
    installed.map_err(|reason| RuntimeError::PythonPackages {
        packages: needs.packages(),
        reason,
    })
}

/// What it wrote, or why it did not end well.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command
        .output()
        .map_err(|error| format!("it could not be run ({error})"))?;
    if output.status.success() {
        return Ok(output);
    }
    // Python's `venv` complains on standard output.
    let said = [output.stdout, output.stderr].concat();
    Err(complaint(&said, "ERROR:", output.status))
}

/// The last lines that a program wrote, or how it ended where it wrote none.
pub(super) fn complaint(said: &[u8], mark: &str, status: std::process::ExitStatus) -> String {
    let lines = last_lines(said, mark);
    match lines.is_empty() {
        true => status.to_string(),
        false => lines,
    }
}

/// What a program calls an error, where it does; else the end of what it said.
pub(super) fn last_lines(said: &[u8], mark: &str) -> String {
    let text = String::from_utf8_lossy(said);
    let said = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut lines: Vec<_> = said()
        .filter_map(|line| line.strip_prefix(mark))
        .map(str::trim)
        .collect();
    if lines.is_empty() {
        lines = said().collect();
    }
    lines[lines.len().saturating_sub(COMPLAINT_LINES_MAX)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_complaint_the_end_is_told() {
        let last = |said: &[u8]| last_lines(said, "ERROR:");
        assert_eq!(last(b"a\nb\n\nc\nd\ne\n"), "b / c / d / e");
        assert_eq!(last(b""), "");
        let pip = b"WARNING: Retrying\nERROR: Could not find it\nERROR: No matching distribution\n[notice] new pip\n";
        assert_eq!(last(pip), "Could not find it / No matching distribution");
    }

    #[test]
    fn the_variable_names_a_path_or_a_program_to_be_found() {
        assert_eq!(named(None), Python::new("python3"));
        assert_eq!(named(Some("".into())), Python::new("python3"));
        assert_eq!(named(Some("pypy".into())), Python::new("pypy"));
        assert_eq!(named(Some("/a/python".into())), Python::new("/a/python"));
        assert!(named(Some("a/python".into())).0.is_absolute());
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("3.9") < version("3.11") && version("nothing") < version("3.9"));
        assert!(version("4.0") > version("3.11"));
    }
}
