//! How a verb ends: the documented exit codes, and which failure gets which.

use std::io;
use std::process::ExitCode;

use super::text::one_line;
use crate::socket::client::ClientError;
use crate::socket::fault::{Fault, Kind};

/// What the shell is told. Documented in `interviewd --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    NotReady = 4,
    /// What `doctor` found is nothing that stops anything.
    Warnings = 10,
    /// What `doctor` found keeps the daemon from its work.
    Errors = 11,
    /// `EX_TEMPFAIL`: the same call may succeed later.
    Busy = 75,
    /// `EX_CONFIG`.
    Configuration = 78,
    /// Ended by Ctrl-C, as shells count it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Whoever read our output has gone: nothing to say, and nobody to say it to.
    #[error("the reader of the output has gone")]
    ClosedPipe,
    #[error("interrupted")]
    Interrupted,
    /// What was printed has said it all.
    #[error("a check failed")]
    Shown,
    #[error("{message}")]
    Told { exit: Exit, message: String },
}

impl Failure {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::told(Exit::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::told(Exit::Usage, message)
    }

    pub fn configuration(message: impl Into<String>) -> Self {
        Self::told(Exit::Configuration, message)
    }

    pub fn told(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told {
            exit,
            message: message.into(),
        }
    }

    pub fn exit(&self) -> Exit {
        match self {
            // A reader such as `head` has what it wanted.
            Self::ClosedPipe => Exit::Ok,
            Self::Interrupted => Exit::Interrupted,
            Self::Shown => Exit::Failed,
            Self::Told { exit, .. } => *exit,
        }
    }

    /// What writing to standard output can fail with.
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::failed(format!("standard output cannot be written: {error}")),
        }
    }

    /// The same failure with a further half sentence.
    pub fn and(self, advice: &str) -> Self {
        match self {
            Self::Told { exit, message } => Self::told(exit, format!("{message}; {advice}")),
            other => other,
        }
    }

    /// An error with everything that caused it.
    pub fn chain(what: &str, error: &dyn std::error::Error) -> String {
        let mut message = match what {
            "" => error.to_string(),
            what => format!("{what}: {error}"),
        };
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their cause in their own text.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        message
    }
}

/// The exit code of a refusal by the daemon.
pub fn of_fault(kind: Kind) -> Exit {
    match kind {
        Kind::NotFound => Exit::NotFound,
        Kind::NotReady => Exit::NotReady,
        Kind::Busy | Kind::Draining => Exit::Busy,
        Kind::Parse
        | Kind::InvalidRequest
        | Kind::UnknownMethod
        | Kind::InvalidParams
        | Kind::Internal
        | Kind::Conflict
        | Kind::TooLarge
        | Kind::Forbidden
        | Kind::Storage => Exit::Failed,
    }
}

/// What a person can do about a refusal, where its message does not say.
fn advice(fault: &Fault) -> Option<String> {
    match fault.kind {
        Kind::Busy => {
            let wait = fault.data.get("retry_after_ms").and_then(serde_json::Value::as_u64);
            wait.map(|ms| format!("try again in {} s", ms.div_ceil(1_000).max(1)))
        }
        // A daemon that stops cannot be opened again.
        Kind::Draining if fault.message.contains("is stopping") => None,
        Kind::Draining => Some("`interviewd resume` opens it again".to_owned()),
        Kind::NotFound => Some("`interviewd list` shows what there is".to_owned()),
        Kind::Forbidden => {
            Some("ask as root, as the daemon's own user, or add your uid to socket.admin_uids".to_owned())
        }
        Kind::UnknownMethod => Some("the daemon may be of another version than this command".to_owned()),
        Kind::Storage => Some("see the daemon's log".to_owned()),
        _ => None,
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let mut message = one_line(&fault.message);
        if let Some(advice) = advice(&fault) {
            message = format!("{message}; {advice}");
        }
        Self::told(of_fault(fault.kind), message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Fault(fault) => fault.into(),
            ClientError::Connect { .. } => Self::failed(format!("{error}, or name another socket with --socket")),
            ClientError::Closed => Self::failed(
                "the daemon closed the connection (its log says why) or has ended; start it again if need be: what was accepted goes on",
            ),
            ClientError::Io(_) | ClientError::TimedOut(_) | ClientError::Protocol(_) => Self::failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_documented_code() {
        let codes = [
            (Kind::NotFound, 3),
            (Kind::NotReady, 4),
            (Kind::Busy, 75),
            (Kind::Draining, 75),
            (Kind::Conflict, 1),
            (Kind::InvalidParams, 1),
            (Kind::TooLarge, 1),
            (Kind::Forbidden, 1),
            (Kind::Storage, 1),
            (Kind::Internal, 1),
        ];
        for (kind, code) in codes {
            assert_eq!(Failure::from(Fault::new(kind, "x")).exit() as u8, code, "{kind:?}");
        }
        assert_eq!(Failure::configuration("x").exit() as u8, 78);
        assert_eq!(Failure::usage("x").exit() as u8, 2);
        assert_eq!(Failure::Interrupted.exit() as u8, 130);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let busy = Fault::new(Kind::Busy, "the queue is full").with("retry_after_ms", 1_500);
        assert_eq!(Failure::from(busy).to_string(), "the queue is full; try again in 2 s");
        let early = Fault::new(
            Kind::NotReady,
            "the report of iv-1 is not ready: 3 of 17 answers have ended",
        )
        .with("done", 3)
        .with("total", 17);
        assert_eq!(
            Failure::from(early)
                .and("`interviewd watch iv-1` follows it")
                .to_string(),
            "the report of iv-1 is not ready: 3 of 17 answers have ended; `interviewd watch iv-1` follows it"
        );
    }

    #[test]
    fn only_a_daemon_that_stays_can_be_opened_again() {
        let drained = Fault::new(Kind::Draining, "the daemon takes no new interviews");
        assert!(Failure::from(drained).to_string().contains("interviewd resume"));
        let stopping = Fault::new(Kind::Draining, "the daemon is stopping");
        assert_eq!(Failure::from(stopping).to_string(), "the daemon is stopping");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = Failure::output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(gone.exit(), Exit::Ok);
        let full = Failure::output(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit(), Exit::Failed);
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the outer")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("the inner"));
        assert_eq!(Failure::chain("opening", &error), "opening: the outer: the inner");
    }
}
