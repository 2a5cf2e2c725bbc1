//! A check of a model for people: a line for each step, what was not looked at, and the verdict.

use super::model_check::NOT_COME_TO;
use super::output::Look;
use super::text::{bulleted, pad, wrap};
use crate::daemon::model_check::{Finding, Status, Step};

const STATUS: usize = 9;
const NAME: usize = 12;

/// One finding, wrapped behind its status and name.
pub fn found(finding: &Finding, look: Look) -> Vec<String> {
    let status = match finding.status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Error => "error",
        Status::Skipped => "skipped",
    };
    let (status, name) = (pad(status, STATUS), pad(finding.step.name(), NAME));
    let mut lines = bulleted(&format!("{status}{name}"), &finding.text, 0, look.columns);
    if let Some(rest) = lines
        .first_mut()
        .and_then(|first| first.get(STATUS..).map(str::to_owned))
    {
        let painted = match finding.status {
            Status::Ok => look.good(&status),
            Status::Warning => look.warn(&status),
            Status::Error => look.bad(&status),
            Status::Skipped => look.dim(&status),
        };
        lines[0] = painted + &rest;
    }
    lines
}

/// What comes behind the findings: the steps that were not come to, and the verdict.
pub fn ending(missed: &[Step], usable: bool, verdict: &str, look: Look) -> Vec<String> {
    let mut lines = Vec::new();
    if !missed.is_empty() {
        let names: Vec<_> = missed.iter().map(|step| step.name()).collect();
        let text = format!("{}: {NOT_COME_TO}", names.join(", "));
        let skipped = bulleted(&pad("skipped", STATUS), &text, 0, look.columns);
        lines.extend(skipped.iter().map(|line| look.dim(line)));
    }
    lines.push(String::new());
    let paint = |line: &String| match usable {
        true => look.good(line),
        false => look.bad(line),
    };
    lines.extend(wrap(verdict, look.columns).iter().map(paint));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::text::width;
    use super::*;
    use crate::daemon::model_check::Fault;

    fn look(colour: bool) -> Look {
        Look { columns: 80, colour }
    }

    #[test]
    fn a_finding_hangs_behind_its_status_and_name() {
        let finding = Finding::error(Step::QueryTile, Fault::Model, "긴 설명이 이어집니다 ".repeat(12));
        let lines = found(&finding, look(false));
        assert!(lines[0].starts_with("error    query tile  긴 설명"), "{lines:?}");
        assert!(lines.len() > 2 && lines[1].starts_with(&" ".repeat(21)), "{lines:?}");
        assert!(lines.iter().all(|line| width(line) <= 80), "{lines:?}");
        let painted = found(&finding, look(true));
        assert!(
            painted[0].starts_with("\u{1b}[31merror    \u{1b}[0mquery tile"),
            "{painted:?}"
        );
    }

    #[test]
    fn the_end_names_what_was_not_come_to_and_gives_the_verdict() {
        let text = ending(&[Step::Graph, Step::Memory], false, "Not usable.", look(false)).join("\n");
        assert!(text.starts_with("skipped  graph, memory: not looked at"), "{text}");
        assert!(text.ends_with("\n\nNot usable."), "{text}");
        assert_eq!(ending(&[], true, "Usable.", look(false)), ["", "Usable."]);
    }
}
