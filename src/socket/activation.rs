//! A socket that a service manager listens at and hands over (systemd's `LISTEN_FDS`): it is there before the daemon and outlives it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::listener::SocketError;

/// Whoever may write to a socket's file may connect.
const MAY_CONNECT: u32 = 0o222;

/// A listening socket of somebody else's making.
#[derive(Debug)]
pub struct Passed(UnixListener);

/// What this process was handed, if it was handed anything. To be asked once, before there are threads: nobody is to take it a second time.
pub fn passed() -> Result<Option<Passed>, SocketError> {
    // What was meant for another process, whose surroundings this one has inherited, is none of ours.
    if std::env::var("LISTEN_PID").ok() != Some(std::process::id().to_string()) {
        return Ok(None);
    }
    let mut handed = ListenFd::from_env();
    if handed.len() > 1 {
        return Err(refused(format!(
            "is one of {}: give the socket unit a single ListenStream",
            handed.len()
        )));
    }
    let listener = handed
        .take_unix_listener(0)
        .map_err(|error| refused(format!("cannot be used: {error}")))?;
    Ok(listener.map(Passed))
}

impl Passed {
    /// The listener and its path, if nobody may connect whom `mode` keeps out. Its file is looked at and never changed: it is the service manager's.
    pub(super) fn checked(self, mode: u32, own_uid: u32) -> Result<(UnixListener, PathBuf), SocketError> {
        let Self(listener) = self;
        if !socket_acceptconn(&listener).unwrap_or(false) {
            return Err(refused("is not listened at"));
        }
        let address = listener.local_addr().ok();
        let Some(path) = address.as_ref().and_then(|address| address.as_pathname()) else {
            return Err(refused("has no path: give the socket unit a ListenStream that is one"));
        };
        let path = path.to_owned();
        check_file(&path, mode, own_uid)?;
        Ok((listener, path))
    }
}

fn check_file(path: &Path, mode: u32, own_uid: u32) -> Result<(), SocketError> {
    let shown = path.display();
    let there = fs::symlink_metadata(path).map_err(|error| refused(format!("cannot be found at {shown}: {error}")))?;
    if !there.file_type().is_socket() {
        return Err(refused(format!("was replaced at {shown} by what is no socket")));
    }
    let its_mode = there.permissions().mode() & 0o777;
    if its_mode & !mode & MAY_CONNECT != 0 {
        return Err(refused(format!(
            "has mode {its_mode:04o} at {shown}, and socket.mode allows {mode:04o}: set SocketMode={mode:04o}"
        )));
    }
    let owner = there.uid();
    if owner != 0 && owner != own_uid {
        return Err(refused(format!(
            "belongs to user {owner} at {shown}, who could open it to others: leave SocketUser to root or the daemon's user"
        )));
    }
    Ok(())
}

fn refused(problem: impl Into<String>) -> SocketError {
    SocketError::Passed {
        problem: problem.into(),
    }
}
