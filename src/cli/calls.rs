//! The verbs that are one call and one line.

use super::args::{Global, Id, Json, Shutdown};
use super::connection::{Connection, OfInterview, parsed};
use super::exit::Failure;
use super::output;
use crate::socket::view::{Accepting, Cancelled, DaemonState, Deleted, Moved, Reloaded, StatusView};

pub fn cancel(global: &Global, args: &Id) -> Result<(), Failure> {
    about_one(global, args, "interview.cancel", |cancelled: Cancelled| {
        format!("{} is {}", cancelled.interview_id, cancelled.state.as_str())
    })
}

pub fn retry(global: &Global, args: &Id) -> Result<(), Failure> {
    about_one(global, args, "interview.retry", |moved: Moved| {
        format!(
            "{} is {}; its old report stays until the new one is there",
            moved.interview_id,
            moved.state.as_str()
        )
    })
}

pub fn delete(global: &Global, args: &Id) -> Result<(), Failure> {
    about_one(global, args, "interview.delete", |deleted: Deleted| {
        match deleted.deleted {
            true => format!("{} is erased", args.id),
            false => format!("{} was not there", args.id),
        }
    })
}

pub fn drain(global: &Global) -> Result<(), Failure> {
    steer(global, "drain", ())
}

pub fn resume(global: &Global) -> Result<(), Failure> {
    steer(global, "resume", ())
}

pub fn shutdown(global: &Global, args: &Shutdown) -> Result<(), Failure> {
    let params = ShutdownParams {
        timeout_s: args.timeout,
    };
    let _: Accepting = Connection::open(global)?.call("shutdown", params)?;
    let within = match args.timeout {
        Some(seconds) => format!("within {seconds} s"),
        None => "once what runs has ended, at the latest after daemon.drain_s".to_owned(),
    };
    output::line(&format!(
        "stopping: ends {within}; unfinished work goes on at the next start"
    ))
}

/// Has the daemon take its configuration over.
pub fn reload(global: &Global, args: &Json) -> Result<(), Failure> {
    let mut connection = Connection::open(global)?;
    let before: StatusView = connection.call("status", ())?;
    let raw = connection.raw("config.reload", ())?;
    if args.json {
        return output::json(&raw);
    }
    let after: StatusView = connection.call("status", ())?;
    let is_looked_for = before.state == DaemonState::Degraded || after.state == DaemonState::Starting;
    output::line(&reloaded(&parsed(&raw)?, is_looked_for))
}

fn reloaded(reloaded: &Reloaded, is_looked_for: bool) -> String {
    let mut lines = vec![match reloaded.changed.as_slice() {
        [] => "changed: nothing".to_owned(),
        changed => format!("changed: {}", changed.join(", ")),
    }];
    if !reloaded.needs_restart.is_empty() {
        lines.push(format!("not before a restart: {}", reloaded.needs_restart.join(", ")));
    }
    if is_looked_for {
        lines.push("the model is looked for again; `interviewd status` shows what comes of it".to_owned());
    }
    lines.join("\n")
}

#[derive(serde::Serialize)]
struct ShutdownParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_s: Option<u64>,
}

fn about_one<R: serde::de::DeserializeOwned>(
    global: &Global,
    args: &Id,
    method: &str,
    said: impl FnOnce(R) -> String,
) -> Result<(), Failure> {
    let raw = Connection::open(global)?.raw(method, OfInterview { interview_id: &args.id })?;
    match args.json {
        true => output::json(&raw),
        false => output::line(&said(parsed(&raw)?)),
    }
}

fn steer(global: &Global, method: &str, params: impl serde::Serialize) -> Result<(), Failure> {
    let accepting: Accepting = Connection::open(global)?.call(method, params)?;
    output::line(match accepting.state {
        DaemonState::Draining => "draining: nothing new is accepted, what was accepted goes on",
        DaemonState::Ready => "ready: interviews are accepted and scored",
        DaemonState::Starting => "starting: interviews are accepted, and scored once the model is loaded",
        DaemonState::Degraded => "degraded: interviews are accepted and held; `interviewd status` says why",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_says_what_it_did_and_what_it_could_not() {
        let keys = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let both = Reloaded {
            changed: keys(&["queue.max_queued_answers", "log.level"]),
            needs_restart: keys(&["store.path"]),
        };
        assert_eq!(
            reloaded(&both, false),
            "changed: queue.max_queued_answers, log.level\nnot before a restart: store.path"
        );
        let nothing = Reloaded {
            changed: Vec::new(),
            needs_restart: Vec::new(),
        };
        assert_eq!(
            reloaded(&nothing, true),
            "changed: nothing\nthe model is looked for again; `interviewd status` shows what comes of it"
        );
    }
}
