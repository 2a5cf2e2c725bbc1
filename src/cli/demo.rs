//! `demo`: the whole thing at work, on a bundled model and a bundled interview, in a folder that is gone afterwards.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::args::{Demo, Global};
use super::connection::{Connection, parsed};
use super::demo_daemon::{DemoDaemon, INTERVIEW_FILE};
use super::demo_screen::{Board, Screen};
use super::exit::Failure;
use super::interrupt::Interrupt;
use super::leftovers::Leftovers;
use super::output::{self, Look};
use super::submit::Params;
use super::text::{count, fit, millis, thousands, width};
use super::{files, report, report_text, setup};
use crate::domain::event::{Event, EventKind};
use crate::domain::interview::{Draft, Language};
use crate::domain::report::Report;
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::domain::wording::{band_name, status_name};
use crate::runtime::{RuntimeError, Search, Variant, demo_model, find};
use crate::socket::call::Format;
use crate::socket::notification::Told;
use crate::socket::view::{StatusView, Submitted};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const REPORT_FILE: &str = "interviewd-demo-report.json";
/// Where the repository has the interview.
const INTERVIEW_OF_CLONE: &str = "models/demo/interview.json";
const FOLDER_TO_KEEP: &str = "interviewd-demo";

pub fn run(global: &Global, args: &Demo) -> Result<(), Failure> {
    for (option, is_there) in [
        ("--socket", global.socket.is_some()),
        ("--config", global.config.is_some()),
    ] {
        if is_there {
            return Err(Failure::usage(format!(
                "{option} is not for the demo, which has a daemon, a socket and a configuration of its own; leave it out"
            )));
        }
    }
    let leftovers = Leftovers::default();
    let interrupt = Interrupt::listen(leftovers.clone())?;
    let _clearing = Clearing(leftovers.clone());
    let result = show(global, args, &leftovers, &interrupt);
    // Whatever an interrupted call complained of, the cause is known.
    interrupt
        .check()
        .inspect_err(|_| output::note("interrupted; nothing goes on in the background"))?;
    result
}

/// Clears the leftovers however the demo ends.
struct Clearing(Leftovers);

impl Drop for Clearing {
    fn drop(&mut self) {
        self.0.clear();
    }
}

fn show(global: &Global, args: &Demo, leftovers: &Leftovers, interrupt: &Interrupt) -> Result<(), Failure> {
    let look = Look::of_stdout();
    let library = library(&global.set)?;
    interrupt.check()?;
    let daemon = DemoDaemon::start(args.keep.as_deref(), library.as_deref(), &global.set, leftovers)?;
    let spinner = setup::spinner("starting the daemon and loading the demo model");
    let ready = daemon.ready(interrupt);
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let status = ready.map_err(|failure| daemon.blamed(failure))?;
    introduce(&status, look)?;
    let (report, took) = score(&daemon, interrupt, look).map_err(|failure| daemon.blamed(failure))?;
    output::line("")?;
    output::line(&report_text::render(&report, look).join("\n"))?;
    finish(args, &report, took, look)
}

/// ONNX Runtime, fetched if it is nowhere; `None` if the user names one by `--set`.
fn library(sets: &[String]) -> Result<Option<PathBuf>, Failure> {
    if sets.iter().any(|set| set.trim_start().starts_with("runtime.library")) {
        return Ok(None);
    }
    match find(&Search::default()) {
        Ok(library) => Ok(Some(library)),
        Err(RuntimeError::NotFound { .. }) => {
            output::line("ONNX Runtime is not here yet; fetching the pinned one with pip (once)")?;
            setup::fetch(Variant::Cpu).map(Some)
        }
        Err(error) => Err(Failure::failed(Failure::chain("", &error))),
    }
}

fn introduce(status: &StatusView, look: Look) -> Result<(), Failure> {
    let slots: usize = status.pool.actors.iter().map(|actor| actor.slots).sum();
    let copies = status.pool.actors.len();
    if let Some(model) = &status.model {
        let context = thousands(model.context_tokens as u64);
        let text = format!("model   {} · {} · up to {context} tokens", model.name, model.precision);
        output::line(&fit(&text, look.columns))?;
    }
    for device in &status.devices {
        output::line(&fit(
            &format!("device  {}:{} {}", device.kind, device.index, device.name),
            look.columns,
        ))?;
    }
    output::line(&format!(
        "pool    {} on {}",
        count(slots, "slot"),
        copies_of_weights(copies)
    ))?;
    output::line("")
}

fn copies_of_weights(copies: usize) -> String {
    match copies {
        1 => "one copy of the weights".to_owned(),
        copies => format!("{copies} copies of the weights"),
    }
}

/// Submits the interview and shows it being scored; gives the report and how long it took.
fn score(daemon: &DemoDaemon, interrupt: &Interrupt, look: Look) -> Result<(Report, Duration), Failure> {
    let draft: Draft = serde_json::from_str(demo_model::INTERVIEW)
        .map_err(|error| Failure::failed(format!("the bundled interview cannot be read: {error}")))?;
    let interview = serde_json::from_str(demo_model::INTERVIEW)
        .map_err(|error| Failure::failed(format!("the bundled interview cannot be read: {error}")))?;
    let rubric = Rubric::parse(DEFAULT).map_err(|error| Failure::failed(Failure::chain("the rubric", &error)))?;
    let mut events = daemon.connect()?;
    let mut control = daemon.connect()?;
    events.raw("events.subscribe", ())?;
    let begun = Instant::now();
    let submitted: Submitted = control.call("interview.submit", Params { interview })?;
    let id = submitted.interview_id.as_str();
    let mut board = Board::new(id, &draft, &rubric);
    follow(
        &mut events,
        &mut control,
        &mut board,
        &Watcher {
            daemon,
            interrupt,
            look,
            begun,
        },
    )?;
    let took = begun.elapsed();
    let copies = copies_of_weights(board.copies);
    output::line(&format!(
        "{} answers were in flight together on {copies}",
        board.most_together
    ))?;
    let report = report::fetch(&mut control, id, Format::Json)?;
    Ok((parsed(&report)?, took))
}

struct Watcher<'a> {
    daemon: &'a DemoDaemon,
    interrupt: &'a Interrupt,
    look: Look,
    begun: Instant,
}

/// Follows the interview until its report is there.
fn follow(
    events: &mut Connection,
    control: &mut Connection,
    board: &mut Board,
    watcher: &Watcher,
) -> Result<(), Failure> {
    let lines = board.render(Duration::ZERO, watcher.look).len();
    let screen = Screen::new(lines);
    let mut next_look = Instant::now();
    loop {
        watcher.interrupt.check()?;
        if Instant::now() >= next_look {
            watcher.daemon.alive()?;
            board.see(&control.call("status", ())?);
            screen.draw(board, watcher.begun.elapsed(), watcher.look);
            next_look = Instant::now() + LOOK_EVERY;
        }
        let wait = next_look
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let Some(notification) = events.next_event(wait)? else {
            continue;
        };
        let Told::Event(Event { kind, .. }) = &notification.told else {
            return Err(Failure::failed("events came faster than this terminal could show them"));
        };
        if let Some(line) = board.hear(kind) {
            screen.tell(&line)?;
        }
        match kind {
            EventKind::ReportReady { .. } => {
                screen.draw(board, watcher.begun.elapsed(), watcher.look);
                return Ok(());
            }
            EventKind::Cancelled | EventKind::Deleted => {
                return Err(Failure::failed("somebody cancelled or deleted the demo's interview"));
            }
            _ => {}
        }
    }
}

/// Says where the report lies and what to do next.
fn finish(args: &Demo, report: &Report, took: Duration, look: Look) -> Result<(), Failure> {
    let usual = std::env::temp_dir().join(REPORT_FILE);
    let file = args.output.as_deref().unwrap_or(&usual);
    output::line("")?;
    let took = millis(took.as_millis() as u64);
    match write(file, report) {
        Ok(()) => output::line(&format!("As JSON: {}", file.display()))?,
        // Asked for, it is part of the task; otherwise the report has been shown.
        Err(failure) if args.output.is_some() => return Err(failure),
        Err(failure) => output::note(&format!("{failure}; --output names another place")),
    }
    if let Some(keep) = &args.keep {
        output::line(&format!("The daemon's folder: {}", keep.display()))?;
    }
    let program = std::env::args().next().unwrap_or_else(|| "interviewd".to_owned());
    let is_clone = Path::new(INTERVIEW_OF_CLONE).is_file();
    output::line(&next_steps(&program, args.keep.as_deref(), is_clone))?;
    output::line(&format!("\n{}", look.bold(&result(report, &took))))
}

/// As in "complete, 59.61 fair, 1.4 s after the submit".
fn result(report: &Report, took: &str) -> String {
    let status = status_name(report.status, Language::English);
    let overall = match (report.overall, report.band) {
        (Some(overall), Some(band)) => format!("{overall:.2} {}", band_name(band, Language::English)),
        _ => "no overall score".to_owned(),
    };
    format!("{status}, {overall}, {took} after the submit")
}

/// Commands that work here: with the kept folder, in a clone of the repository, or with a folder that is kept first.
fn next_steps(program: &str, keep: Option<&Path>, is_clone: bool) -> String {
    let mut steps = Vec::new();
    let folder = match (keep, is_clone) {
        (None, true) => None,
        (Some(keep), _) => Some(keep),
        (None, false) => {
            let what = "keep a folder with the model, a configuration and this interview";
            steps.push((format!("{program} demo --keep {FOLDER_TO_KEEP}"), what));
            Some(Path::new(FOLDER_TO_KEEP))
        }
    };
    let (config, interview, explained) = match folder {
        None => (
            String::new(),
            INTERVIEW_OF_CLONE.to_owned(),
            "run the daemon; config.toml explains every key",
        ),
        Some(folder) => (
            format!(" --config {}", quoted(&folder.join("config.toml"))),
            quoted(&folder.join(INTERVIEW_FILE)),
            "run the daemon",
        ),
    };
    steps.push((format!("{program} serve{config}"), explained));
    let submit = "from another terminal: score this interview, or one of your own";
    steps.push((format!("{program} submit{config} {interview} --wait"), submit));
    let exaone = "how to install a real EXAONE: the demo model is no judge of people";
    steps.push(("models/README.md (in the repository)".to_owned(), exaone));
    let lines = steps
        .into_iter()
        .map(|(command, what)| format!("\n{}\n      {what}", broken(&command)));
    format!("\nWhat next{}", lines.collect::<String>())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A command behind an indent, broken as a shell allows it where it is wider than 80 columns.
fn broken(command: &str) -> String {
    let mut lines = vec![String::from(" ")];
    for word in command.split(' ') {
        let last = lines.last_mut().expect("there is one from the beginning");
        // Room for the mark of a break.
        if width(last) + 1 + width(word) > 78 && !last.trim().is_empty() {
            last.push_str(" \\");
            lines.push(format!("      {word}"));
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines.join("\n")
}

fn write(file: &Path, report: &Report) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(report)
        .map_err(|error| Failure::failed(format!("the report cannot be written as JSON: {error}")))?;
    text.push('\n');
    files::replace(file, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::markdown::tests::sample;

    #[test]
    fn the_report_is_written_whole_in_place_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        write(&file, &sample()).unwrap();
        let read: Report = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(read, sample());
        assert!(!elsewhere.exists(), "a link is replaced, not followed");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_last_line_is_the_result() {
        assert_eq!(
            result(&sample(), "1.4 s"),
            "partial, 72.50 good, 1.4 s after the submit"
        );
        let mut none = sample();
        (none.overall, none.band) = (None, None);
        assert_eq!(
            result(&none, "1.4 s"),
            "partial, no overall score, 1.4 s after the submit"
        );
    }

    #[test]
    fn what_is_next_works_where_it_is_read() {
        let clone = next_steps("target/release/interviewd", None, true);
        assert!(clone.contains("\n  target/release/interviewd serve\n"), "{clone}");
        assert!(clone.contains(" submit models/demo/interview.json --wait\n"), "{clone}");
        let elsewhere = next_steps("interviewd", None, false);
        assert!(
            elsewhere.contains("\n  interviewd demo --keep interviewd-demo\n"),
            "{elsewhere}"
        );
        assert!(
            elsewhere.contains("\n  interviewd serve --config interviewd-demo/config.toml\n"),
            "{elsewhere}"
        );
        let kept = next_steps("interviewd", Some(Path::new("a b")), true);
        assert!(
            kept.contains("submit --config 'a b/config.toml' 'a b/interview.json' --wait"),
            "{kept}"
        );
        let long = next_steps(
            &format!("/{}/interviewd", "x".repeat(50)),
            Some(Path::new("kept")),
            false,
        );
        for text in [&clone, &elsewhere, &kept, &long] {
            assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        }
        assert!(long.contains(" \\\n      "), "{long}");
    }

    #[test]
    fn options_of_a_daemon_that_is_not_the_demos_are_refused() {
        let args = Demo {
            output: None,
            keep: None,
        };
        let global = Global {
            socket: Some("/s".into()),
            ..Global::default()
        };
        let error = run(&global, &args).unwrap_err();
        assert!(
            error.exit() as u8 == 2 && error.to_string().starts_with("--socket"),
            "{error}"
        );
    }

    #[test]
    fn a_library_that_the_user_names_is_not_looked_for() {
        assert!(library(&["runtime.library=/x".to_owned()]).unwrap().is_none());
    }
}
