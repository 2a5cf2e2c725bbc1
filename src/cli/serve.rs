//! `serve`: runs the daemon.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::args::{Global, Serve};
use super::exit::Failure;
use super::{output, settings};
use crate::daemon::{self, Start, StartError};
use crate::telemetry;

pub fn run(global: &Global, args: &Serve) -> Result<(), Failure> {
    if let Some(parent) = args.with_parent {
        end_with_parent(parent)?;
    }
    let mut source = settings::source(global);
    // What the command line says counts at every reload too.
    if let Some(socket) = settings::named_socket(global)? {
        let socket = socket
            .to_str()
            .ok_or_else(|| Failure::usage("--socket must be UTF-8"))?;
        source.sets.push(format!("socket.path={}", toml::Value::from(socket)));
    }
    if let Some(format) = args.log_format {
        source.sets.push(format!("log.format={}", format.as_str()));
    }
    let loaded = settings::of(&source)?;
    let log = &loaded.config.log;
    telemetry::init(log.format, &log.level, output::stderr_has_colours())
        .map_err(|error| Failure::configuration(Failure::chain("log.level", &error)))?;
    if let Some(file) = &loaded.file {
        tracing::info!(file = %file.display(), "configuration");
    }
    let start = Start {
        loaded,
        source,
        // The one line that others wait for. A parent that does not listen is none of the daemon's business.
        ready: Box::new(|socket| {
            let _ = output::line(&format!("ready socket={}", socket.display()));
        }),
    };
    daemon::run(start).map_err(|error| {
        let message = Failure::chain("", &error);
        match error {
            StartError::Rubric(_) => Failure::configuration(message),
            StartError::Store(_)
            | StartError::Socket(_)
            | StartError::Signals(_)
            | StartError::Threads(_)
            | StartError::BrokeDown => Failure::failed(message),
        }
    })
}

/// Has the system send SIGTERM when the thread that started this process ends, however it ends.
pub fn end_with_parent(parent: i32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::failed(format!("--with-parent is not possible here: {error}")))?;
    // It may have ended before the system was asked: somebody else is the parent now.
    match getppid().map(Pid::as_raw_pid) == Some(parent) {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "--with-parent: {parent} is not the parent, or has ended"
        ))),
    }
}
