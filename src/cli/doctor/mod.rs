//! `doctor`: looks at everything that the daemon needs, changes nothing, and says in one line each what is well and what to do about the rest.

mod around;
mod backups;
mod model;
mod store;

use serde::Serialize;

use super::args::{Global, Json};
use super::exit::{Exit, Failure};
use super::output::Look;
use super::text::{count, one_line, pad};
use super::{check, output, settings};
use crate::config::Loaded;
use crate::daemon::now;

/// How bad what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// Nothing stops, but somebody should look.
    Warning,
    /// Something does not work.
    Error,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    check: &'static str,
    level: Level,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Serialize)]
struct Findings<'a> {
    checks: &'a [Finding],
    warnings: usize,
    errors: usize,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            advice: Some(advice.into()),
            ..Self::ok(check, found)
        }
    }

    fn error(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            ..Self::warning(check, found, advice)
        }
    }

    /// For errors whose own text says what to do.
    fn of_error(check: &'static str, error: &dyn std::error::Error) -> Self {
        Self {
            level: Level::Error,
            ..Self::ok(check, Failure::chain("", error))
        }
    }
}

pub fn run(global: &Global, args: &Json) -> Result<(), Failure> {
    let findings = match settings::loaded(global) {
        Ok(loaded) => findings(&loaded)?,
        // Without a configuration there is nothing to look at.
        Err(failure) => vec![Finding::error(
            "config",
            failure.to_string(),
            "`interviewd config check` shows the rest of it once this is repaired",
        )],
    };
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warnings, errors) = (of(Level::Warning), of(Level::Error));
    match args.json {
        true => output::json(&Findings {
            checks: &findings,
            warnings,
            errors,
        })?,
        false => output::line(&rendered(&findings, Look::of_stdout()).join("\n"))?,
    }
    let exit = match (errors, warnings) {
        (0, 0) => return Ok(()),
        (0, _) => Exit::Warnings,
        _ => Exit::Errors,
    };
    let message = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
    Err(Failure::told(exit, message))
}

fn findings(loaded: &Loaded) -> Result<Vec<Finding>, Failure> {
    let (config, now) = (&loaded.config, now());
    let (daemon, socket) = around::socket(config);
    let mut findings = configuration(loaded);
    findings.extend(store::findings(config)?);
    findings.extend(backups::findings(config, now));
    findings.push(socket);
    findings.extend(model::findings(config, daemon));
    findings.push(around::descriptors(config));
    findings.push(around::clock(config, now));
    Ok(findings)
}

fn configuration(loaded: &Loaded) -> Vec<Finding> {
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no configuration file: the defaults".to_owned(),
    };
    let wrong = [check::rubric(&loaded.config), check::log_level(&loaded.config)];
    let wrong: Vec<_> = wrong.into_iter().filter_map(Result::err).collect();
    match wrong.is_empty() {
        true => vec![Finding::ok("config", file)],
        false => wrong
            .iter()
            .map(|failure| {
                Finding::error(
                    "config",
                    failure.to_string(),
                    "correct it, or leave it out for the default",
                )
            })
            .collect(),
    }
}

fn rendered(findings: &[Finding], look: Look) -> Vec<String> {
    let line = |finding: &Finding| {
        let level = match finding.level {
            Level::Ok => look.good(&pad("ok", 9)),
            Level::Warning => look.warn(&pad("warning", 9)),
            Level::Error => look.bad(&pad("error", 9)),
        };
        let advice = finding.advice.as_ref().map(|advice| format!("; {advice}"));
        let text = format!("{}{}", finding.found, advice.unwrap_or_default());
        format!("{level}{}{}", pad(finding.check, 13), one_line(&text))
    };
    findings.iter().map(line).collect()
}

/// The nearest folder that is there: where something that is not there yet would be made.
pub(super) fn nearest(path: &std::path::Path) -> &std::path::Path {
    let there = path.ancestors().find(|path| path.exists());
    match there {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => std::path::Path::new("."),
    }
}

/// Whether a folder that is not there yet can be made.
fn can_be_made(path: &std::path::Path) -> bool {
    let nearest = nearest(path);
    nearest.is_dir() && rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Where the configuration says that something lies, on this machine's disks.
fn shown(path: &std::path::Path, key: &str) -> String {
    format!("{} ({key})", path.display())
}

/// Permissions beyond the owner's, as `chmod` writes them; `None` if there are none.
fn open_to_others(mode: u32) -> Option<String> {
    (mode & 0o077 != 0).then(|| format!("{:04o}", mode & 0o777))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_check_is_one_line_that_says_what_to_do() {
        let look = Look {
            columns: 80,
            colour: false,
        };
        let findings = [
            Finding::ok("config", "config.toml"),
            Finding::warning("store", "can be read\nby others", "chmod 700 run/store"),
            Finding::error("model", "\u{1b}[31mis not there", "set model.path"),
        ];
        assert_eq!(
            rendered(&findings, look),
            [
                "ok       config       config.toml",
                "warning  store        can be read by others; chmod 700 run/store",
                "error    model        [31mis not there; set model.path",
            ]
        );
    }

    #[test]
    fn what_is_not_there_yet_can_be_made_where_its_nearest_folder_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(can_be_made(&folder.path().join("a/b/c")));
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(!can_be_made(&folder.path().join("file/b")));
        assert_eq!(nearest(Path::new("no-such-folder-here/x")), Path::new("."));
    }
}
