//! The verbs that are one call and one line.

use super::args::{Global, Id, Shutdown};
use super::connection::{Connection, OfInterview, parsed};
use super::exit::Failure;
use super::output;
use crate::socket::view::{Accepting, Cancelled, DaemonState, Deleted, Moved};

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
    steer(global, "shutdown", params)
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
