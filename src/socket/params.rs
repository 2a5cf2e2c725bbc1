//! A method's name and parameters → what is asked for; every refusal names the path of what is wrong.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::call::{Call, Format, ListParams, ResizeParams};
use super::fault::{Fault, Kind};
use super::service::Role;
use super::wire::{ECHO_CHARS_MAX, MESSAGE_CHARS_MAX, Seen, shortened, without_place};
use crate::domain::ids::InterviewId;
use crate::domain::interview::{AnswerDraft, Draft};
use crate::domain::object;

/// As many interviews an `interview.list` gives if the client does not say.
pub const LIST_LIMIT: usize = 100;
/// Most interviews that one `interview.list` gives.
pub const LIST_LIMIT_MAX: usize = 1_000;
/// Longest place in a list that may be gone on from: far more than a `next` has.
const AFTER_BYTES_MAX: usize = 1 << 10;
/// How long `report.wait` waits if the client does not say.
pub const WAIT_MS_DEFAULT: u64 = 60_000;
/// Longest wait that a client may ask for: a day.
pub const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What a request asks for: subscriptions belong to the connection, everything else to the service.
#[derive(Debug)]
pub enum Asked {
    Call(Call),
    /// `None`: of every interview.
    Subscribe {
        interview_id: Option<InterviewId>,
    },
    Unsubscribe {
        subscription: u64,
    },
}

/// Reads the parameters of `method`, after checking that there is such a method and that `role` may call it. `seen`: in the whole line.
pub(super) fn asked(method: &str, params: Option<&RawValue>, role: Role, seen: &Seen) -> Result<Asked, Fault> {
    let Some((is_admins, reader)) = reader(method) else {
        let name = shortened(method, ECHO_CHARS_MAX);
        return Err(Fault::new(Kind::UnknownMethod, format!("unknown method {name:?}")));
    };
    if is_admins && role != Role::Admin {
        let message = format!("{method} is for admins: root, the daemon's own user or one of socket.admin_uids");
        return Err(Fault::new(Kind::Forbidden, message));
    }
    let params = params.map_or("{}", RawValue::get);
    if !params.starts_with('{') {
        return Err(refusal("params", "must be an object, with the parameters by name"));
    }
    match seen.refusal(params) {
        Some(fault) => Err(fault),
        None => reader(params),
    }
}

type Reader = fn(&str) -> Result<Asked, Fault>;

/// How to read a method's parameters, and whether it is for admins only.
fn reader(method: &str) -> Option<(bool, Reader)> {
    let everyones = |reader: Reader| Some((false, reader));
    let admins = |reader: Reader| Some((true, reader));
    match method {
        "hello" => everyones(|params| nothing(params, Call::Hello)),
        "status" => everyones(|params| nothing(params, Call::Status)),
        "interview.submit" => everyones(|params| Ok(Asked::Call(Call::Submit(typed::<Whole>(params)?.interview)))),
        "interview.open" => everyones(|params| Ok(Asked::Call(Call::Open(typed::<Whole>(params)?.interview)))),
        "interview.answer" => everyones(answer),
        "interview.finish" => everyones(|params| by_id(params, |interview_id| Call::Finish { interview_id })),
        "interview.get" => everyones(|params| by_id(params, |interview_id| Call::Get { interview_id })),
        "interview.list" => everyones(list),
        "interview.retry" => everyones(|params| by_id(params, |interview_id| Call::Retry { interview_id })),
        "interview.cancel" => everyones(|params| by_id(params, |interview_id| Call::Cancel { interview_id })),
        "interview.delete" => everyones(|params| by_id(params, |interview_id| Call::Delete { interview_id })),
        "report.get" => everyones(report),
        "report.wait" => everyones(wait),
        "events.subscribe" => everyones(subscribe),
        "events.unsubscribe" => everyones(unsubscribe),
        "pool.resize" => admins(|params| Ok(Asked::Call(Call::Resize(typed::<ResizeParams>(params)?)))),
        "config.reload" => admins(|params| nothing(params, Call::ReloadConfig)),
        "store.export" => admins(export),
        "drain" => admins(|params| nothing(params, Call::Drain)),
        "resume" => admins(|params| nothing(params, Call::Resume)),
        "shutdown" => admins(shutdown),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(deserialize_with = "object::one")]
    interview: Draft,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneMore {
    interview_id: String,
    #[serde(deserialize_with = "object::one")]
    answer: AnswerDraft,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ById {
    interview_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    interview_id: String,
    format: Option<Format>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    interview_id: String,
    timeout_ms: Option<u64>,
    format: Option<Format>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    interview_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    subscription: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shutdown {
    timeout_s: Option<u64>,
}

fn nothing(params: &str, call: Call) -> Result<Asked, Fault> {
    typed::<Nothing>(params).map(|Nothing {}| Asked::Call(call))
}

fn by_id(params: &str, call: fn(String) -> Call) -> Result<Asked, Fault> {
    typed::<ById>(params).map(|params| Asked::Call(call(params.interview_id)))
}

fn answer(params: &str) -> Result<Asked, Fault> {
    let OneMore { interview_id, answer } = typed(params)?;
    if answer.answer_id.is_none() {
        let problem = "missing field `answer_id`: it is what tells a repeated answer from a new one";
        return Err(refusal("params.answer", problem));
    }
    Ok(Asked::Call(Call::Answer { interview_id, answer }))
}

fn list(params: &str) -> Result<Asked, Fault> {
    let params: ListParams = typed(params)?;
    if let Some(limit) = params.limit {
        within("params.limit", limit as u64, 1, LIST_LIMIT_MAX as u64)?;
    }
    place(params.after.as_deref())?;
    Ok(Asked::Call(Call::List(params)))
}

fn report(params: &str) -> Result<Asked, Fault> {
    let Report { interview_id, format } = typed(params)?;
    let format = format.unwrap_or_default();
    Ok(Asked::Call(Call::Report { interview_id, format }))
}

fn wait(params: &str) -> Result<Asked, Fault> {
    let params: Wait = typed(params)?;
    let timeout_ms = params.timeout_ms.unwrap_or(WAIT_MS_DEFAULT);
    within("params.timeout_ms", timeout_ms, 0, WAIT_MS_MAX)?;
    Ok(Asked::Call(Call::WaitForReport {
        interview_id: params.interview_id,
        timeout_ms,
        format: params.format.unwrap_or_default(),
    }))
}

fn subscribe(params: &str) -> Result<Asked, Fault> {
    let Subscribe { interview_id } = typed(params)?;
    let interview_id = interview_id.map(InterviewId::try_from).transpose();
    let interview_id = interview_id.map_err(|error| refusal("params.interview_id", error))?;
    Ok(Asked::Subscribe { interview_id })
}

fn unsubscribe(params: &str) -> Result<Asked, Fault> {
    let Unsubscribe { subscription } = typed(params)?;
    Ok(Asked::Unsubscribe { subscription })
}

fn export(params: &str) -> Result<Asked, Fault> {
    let Export { after } = typed(params)?;
    place(after.as_deref())?;
    Ok(Asked::Call(Call::Export { after }))
}

fn shutdown(params: &str) -> Result<Asked, Fault> {
    let Shutdown { timeout_s } = typed(params)?;
    if let Some(timeout_s) = timeout_s {
        within("params.timeout_s", timeout_s, 0, WAIT_MS_MAX / 1_000)?;
    }
    Ok(Asked::Call(Call::Shutdown { timeout_s }))
}

/// Refused here, because whoever knows the places quotes what is none.
fn place(after: Option<&str>) -> Result<(), Fault> {
    match after.map_or(0, str::len) {
        0..=AFTER_BYTES_MAX => Ok(()),
        length => Err(refusal(
            "params.after",
            format!("has {length} bytes, more than the `next` of any page"),
        )),
    }
}

fn within(path: &str, actual: u64, min: u64, max: u64) -> Result<(), Fault> {
    if (min..=max).contains(&actual) {
        return Ok(());
    }
    let fault = refusal(path, format!("is {actual}, it must be from {min} to {max}"));
    Err(fault.with("limit", max).with("actual", actual))
}

/// The parameters, or where and why they are none. The text is known to be JSON.
fn typed<T: DeserializeOwned>(params: &str) -> Result<T, Fault> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(params)).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => "params".to_owned(),
            path => format!("params.{path}"),
        };
        refusal(&path, without_place(error.inner()))
    })
}

fn refusal(path: &str, problem: impl std::fmt::Display) -> Fault {
    let path = shortened(path, MESSAGE_CHARS_MAX);
    let problem = shortened(&problem.to_string(), MESSAGE_CHARS_MAX);
    Fault::new(Kind::InvalidParams, format!("{path}: {problem}"))
}
