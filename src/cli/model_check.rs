//! `model check`: whether a model's folder is whole and can score here. The looking is done by a child process, so that whatever a bad graph does to
//! ONNX Runtime is told as an error and not suffered.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use indicatif::ProgressBar;
use serde::Serialize;

use super::args::{Global, ModelCheck as Args};
use super::exit::Failure;
use super::output::{self, Look};
use super::text::one_line;
use super::{model_check_text, serve, settings, setup};
use crate::daemon::Settings;
use crate::daemon::model_check::{Fault, Finding, Step, Told, check_model, verdict};

/// Of what a child says as it dies.
const LAST_WORDS_BYTES_MAX: u64 = 64 << 10;

const KILLED: i32 = 9;
/// The exit code of a program of Rust that panicked.
const PANICKED: i32 = 101;

/// Of a step that was not come to.
pub const NOT_COME_TO: &str = "not looked at, for want of what it needs";

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    path: &'a str,
    usable: bool,
    verdict: &'a str,
    checks: &'a [Finding],
}

pub fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let mut config = settings::loaded(global)?.config;
    if let Some(folder) = &args.folder {
        config.model.path.clone_from(folder);
    }
    let path = config.model.path.display().to_string();
    // Here too: a wrong configuration is no finding on a model.
    let settings = Settings::new(config).map_err(|error| Failure::configuration(Failure::chain("", &error)))?;
    match args.for_parent {
        Some(parent) => look(&settings, args.thorough, parent),
        None => show(args, &path),
    }
}

/// The child's part: a line of JSON for all that is told.
fn look(settings: &Settings, thorough: bool, parent: i32) -> Result<(), Failure> {
    serve::end_with_parent(parent)?;
    let mut told = Ok(());
    check_model(settings, thorough, &mut |news| {
        if told.is_ok() {
            told = output::json(&news);
        }
    });
    told
}

/// The parent's part.
fn show(args: &Args, path: &str) -> Result<(), Failure> {
    let look = Look::of_stdout();
    let mut screen = Screen {
        spinner: setup::spinner(""),
        look,
        json: args.json,
    };
    let mut findings = watched(&mut |news| screen.hear(news))?;
    if let Some(spinner) = screen.spinner {
        spinner.finish_and_clear();
    }
    let (usable, sentence) = verdict(&findings);
    let missed = missed(&findings);
    if args.json {
        findings.extend(missed.into_iter().map(|step| Finding::skipped(step, NOT_COME_TO)));
        findings.sort_by_key(|found| found.step);
        output::json(&Shown {
            path,
            usable,
            verdict: &sentence,
            checks: &findings,
        })?;
    } else {
        let lines = model_check_text::ending(&missed, usable, &sentence, look);
        output::line(&lines.join("\n"))?;
    }
    match usable {
        true => Ok(()),
        false => Err(Failure::Shown),
    }
}

/// Where what is told appears as it comes.
struct Screen {
    spinner: Option<ProgressBar>,
    look: Look,
    json: bool,
}

impl Screen {
    fn hear(&mut self, news: &Told) -> Result<(), Failure> {
        match (news, &self.spinner) {
            (Told::Begun(step), Some(spinner)) => spinner.set_message(format!("looking at {}", step.name())),
            (Told::Found(finding), spinner) if !self.json => {
                let lines = model_check_text::found(finding, self.look).join("\n");
                return match spinner {
                    Some(spinner) => spinner.suspend(|| output::line(&lines)),
                    None => output::line(&lines),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// Everything that a child finds, and how it ended if that was not by itself.
fn watched(hear: &mut dyn FnMut(&Told) -> Result<(), Failure>) -> Result<Vec<Finding>, Failure> {
    let mut child = child()?;
    let last_words = listen(&mut child);
    let mut findings = Vec::new();
    let mut at = Step::Manifest;
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).lines())
    {
        // What is not ours was printed by a library.
        let Ok(news) = serde_json::from_str::<Told>(&line.unwrap_or_default()) else {
            continue;
        };
        hear(&news)?;
        match news {
            Told::Begun(step) => at = step,
            Told::Found(finding) => findings.push(finding),
        }
    }
    let ended = child
        .wait()
        .map_err(|error| Failure::failed(format!("how the check ended cannot be known: {error}")))?;
    let last_words = last_words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    if !ended.success() {
        let finding = broken(at, ended, &last_words);
        findings.retain(|found| found.step != at);
        hear(&Told::Found(finding.clone()))?;
        findings.push(finding);
    }
    Ok(findings)
}

/// Those that were not come to.
fn missed(findings: &[Finding]) -> Vec<Step> {
    let missed = Step::ALL.into_iter();
    let missed = missed.filter(|step| findings.iter().all(|found| found.step != *step));
    missed.collect()
}

/// This program once more, with the same arguments.
fn child() -> Result<Child, Failure> {
    let program = std::env::current_exe();
    let program =
        program.map_err(|error| Failure::failed(format!("this program's own file cannot be found: {error}")))?;
    let child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--for-parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.map_err(|error| Failure::failed(format!("the process that does the checking cannot be started: {error}")))
}

/// Hears what the child complains of, so that it never waits to be heard.
fn listen(child: &mut Child) -> Option<JoinHandle<String>> {
    let mut stderr = child.stderr.take()?;
    let listener = std::thread::Builder::new()
        .name("last words".to_owned())
        .spawn(move || {
            let mut heard = Vec::new();
            // What cannot be read is not there to be shown.
            let _ = stderr.by_ref().take(LAST_WORDS_BYTES_MAX).read_to_end(&mut heard);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&heard).into_owned()
        });
    listener.ok()
}

/// The step in which the child ended before its time.
fn broken(step: Step, ended: ExitStatus, last_words: &str) -> Finding {
    use std::os::unix::process::ExitStatusExt;

    let said = last_words.lines().map(one_line);
    let mut said = said.filter(|line| !line.is_empty() && !line.starts_with("note:"));
    let said = match said.next_back() {
        Some(line) => format!(", and last said: {line}"),
        None => String::new(),
    };
    let (fault, text) = match (ended.signal(), step) {
        (Some(KILLED), _) => (
            Fault::Here,
            format!(
                "the process that looked was killed ({ended}), as the system does where memory runs out; free some"
            ),
        ),
        (Some(_), Step::Runtime) => (
            Fault::Here,
            format!(
                "the process that loaded ONNX Runtime broke down ({ended}){said}; run `interviewd setup`, or set runtime.library to another file"
            ),
        ),
        (Some(_), _) => (
            Fault::Model,
            format!(
                "the process that looked broke down ({ended}){said}; a daemon would do so too: export the model again with tools/export"
            ),
        ),
        (None, _) if ended.code() == Some(PANICKED) => (
            Fault::Model,
            format!("this model brings out a defect of the program ({ended}){said}; export it again with tools/export"),
        ),
        (None, _) => (Fault::Here, format!("the process that looked gave up ({ended}){said}")),
    };
    Finding::error(step, fault, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::daemon::model_check::Status;

    #[test]
    fn a_process_that_broke_down_is_an_error_of_the_step_that_it_was_at() {
        let crash = broken(
            Step::Graph,
            ExitStatus::from_raw(11),
            "warming up\nterminate called\nnote: more\n\n",
        );
        assert_eq!(
            (crash.step, crash.status, crash.fault),
            (Step::Graph, Status::Error, Some(Fault::Model))
        );
        assert!(
            crash.text.contains("signal: 11") && crash.text.contains("terminate called"),
            "{}",
            crash.text
        );
        let killed = broken(Step::Graph, ExitStatus::from_raw(9), "");
        assert!(
            killed.fault == Some(Fault::Here) && killed.text.contains("memory"),
            "{}",
            killed.text
        );
        let library = broken(Step::Runtime, ExitStatus::from_raw(6), "");
        assert!(
            library.fault == Some(Fault::Here) && library.text.contains("interviewd setup"),
            "{}",
            library.text
        );
        let panicked = broken(Step::Scoring, ExitStatus::from_raw(101 << 8), "");
        assert!(panicked.text.contains("defect of the program"), "{}", panicked.text);
        let refused = broken(Step::Manifest, ExitStatus::from_raw(1 << 8), "interviewd: no");
        assert_eq!(refused.fault, Some(Fault::Here));
    }
}
