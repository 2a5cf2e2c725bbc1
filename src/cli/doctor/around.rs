//! What is around the daemon: its socket, the descriptors that it may have, the clock.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::{Finding, can_be_made, shown};
use crate::cli::connection::Connection;
use crate::cli::exit::Failure;
use crate::config::Config;
use crate::daemon::backup::Backups;
use crate::domain::time::Timestamp;
use crate::socket::client::ClientError;
use crate::socket::descriptors::needed;
use crate::socket::listener::PATH_BYTES_MAX;
use crate::socket::service::Role;
use crate::socket::view::{DaemonState, Greeting, StatusView};

const SOCKET: &str = "socket";
const CLOCK: &str = "clock";
/// A daemon that is well answers at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// 2025-01-01T00:00:00Z: this program did not exist.
const LONG_AGO: i64 = 1_735_689_600_000;
/// What clocks on one network may differ by.
const AHEAD_MS: u64 = 60_000;

/// Whether a daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    Yes,
    No,
}

pub fn socket(config: &Config) -> (Running, Finding) {
    let path = &config.socket.path;
    let name = shown(path, "socket.path");
    let length = path.as_os_str().len();
    if length > PATH_BYTES_MAX {
        let found = format!("{name} has {length} bytes, and a socket's path at most {PATH_BYTES_MAX}");
        return (Running::No, Finding::error(SOCKET, found, "choose a shorter one"));
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => (Running::No, not_there(path, &name)),
        Err(error) => {
            let found = format!("{name} cannot be looked at: {error}");
            (
                Running::No,
                Finding::error(SOCKET, found, "ask as the daemon's own user"),
            )
        }
        Ok(there) if !there.file_type().is_socket() => {
            let found = format!("{name} is there and is no socket");
            let advice = "move it away, or choose another path";
            (Running::No, Finding::error(SOCKET, found, advice))
        }
        Ok(_) => answering(path, &name),
    }
}

fn not_there(path: &Path, name: &str) -> Finding {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match can_be_made(folder.unwrap_or(Path::new("."))) {
        true => Finding::ok(SOCKET, format!("{name} is not there: no daemon runs")),
        false => Finding::error(
            SOCKET,
            format!("{name} cannot be made"),
            "make its folder, writable by the daemon's user, or choose another path",
        ),
    }
}

fn answering(path: &Path, name: &str) -> (Running, Finding) {
    let mut connection = match Connection::to(path) {
        Ok(connection) => connection,
        Err(ClientError::Connect { source, .. }) if source.kind() == ErrorKind::ConnectionRefused => {
            let found = format!("nobody listens at {name}: it was left by a daemon that was killed");
            let advice = "`interviewd serve` removes it and starts";
            return (Running::No, Finding::warning(SOCKET, found, advice));
        }
        Err(error) => {
            let finding = Finding::error(SOCKET, error.to_string(), "ask as the daemon's own user or group");
            return (Running::Yes, finding);
        }
    };
    connection.set_timeout(PATIENCE);
    let asked = connection
        .call("hello", ())
        .and_then(|greeting| Ok((greeting, connection.call("status", ())?)));
    let finding = match asked {
        Ok((greeting, status)) => described(name, &greeting, &status),
        Err(failure) => unanswered(name, &failure),
    };
    (Running::Yes, finding)
}

fn unanswered(name: &str, failure: &Failure) -> Finding {
    let found = format!("somebody listens at {name} but gives no good answer: {failure}");
    Finding::error(
        SOCKET,
        found,
        "look at the daemon's log; if it hangs, end it and start it again",
    )
}

fn described(name: &str, greeting: &Greeting, status: &StatusView) -> Finding {
    let role = match greeting.role {
        Role::Admin => "admin",
        Role::Client => "client",
    };
    let found = |state: &str| {
        format!(
            "interviewd {} answers at {name}, {state}; you are {role}",
            greeting.version
        )
    };
    match status.state {
        DaemonState::Ready => Finding::ok(SOCKET, found("ready")),
        DaemonState::Starting => Finding::ok(SOCKET, found("starting")),
        DaemonState::Draining => Finding::warning(SOCKET, found("draining"), "`interviewd resume` has it accept again"),
        DaemonState::Degraded => {
            let reason = status.reason.as_deref().unwrap_or("without a reason");
            let advice = "repair that, then `interviewd config reload`, or restart it where the store is the reason";
            Finding::error(SOCKET, found(&format!("degraded: {reason}")), advice)
        }
    }
}

pub fn descriptors(config: &Config) -> Finding {
    // The daemon raises its own limit as far as this one.
    judged(
        getrlimit(Resource::Nofile).maximum,
        u64::from(config.socket.connections_max),
    )
}

/// `limit`: `None` if there is none.
fn judged(limit: Option<u64>, connections: u64) -> Finding {
    const CHECK: &str = "descriptors";
    let needed = needed(connections);
    match limit {
        Some(limit) if limit < needed => Finding::warning(
            CHECK,
            format!("`ulimit -Hn` is {limit} here, and socket.connections_max = {connections} takes {needed}"),
            "raise it (LimitNOFILE= of a service), or lower socket.connections_max",
        ),
        Some(limit) => Finding::ok(
            CHECK,
            format!("`ulimit -Hn` is {limit} here, for {connections} connections"),
        ),
        None => Finding::ok(CHECK, "`ulimit -Hn` has no limit here"),
    }
}

/// A clock that goes wrong spoils times in reports; deadlines and order do not depend on it.
pub fn clock(config: &Config, now: Timestamp) -> Finding {
    let backups = Backups::of(config).list(now).unwrap_or_default();
    let newest = backups.iter().map(|backup| backup.begun_at).max();
    let advice = "set the clock: reports say when they were written, and backups when they are due";
    match newest {
        _ if now.millis() < LONG_AGO => Finding::warning(CLOCK, format!("it is {now}, says the clock"), advice),
        Some(newest) if newest.since(now) > AHEAD_MS => {
            let found = format!("it is {now}, says the clock, but a backup was begun at {newest}");
            Finding::warning(CLOCK, found, advice)
        }
        _ => Finding::ok(CLOCK, format!("it is {now}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::Level;
    use super::*;

    fn found(path: &Path) -> (Running, Finding) {
        let mut config = Config::default();
        config.socket.path = path.to_owned();
        socket(&config)
    }

    #[test]
    fn a_socket_is_missing_stale_mute_or_none_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert_eq!(found(&path).1.level, Level::Ok);
        let listener = UnixListener::bind(&path).unwrap();
        let (running, mute) = found(&path);
        assert_eq!((running, mute.level), (Running::Yes, Level::Error), "{mute:?}");
        drop(listener);
        let (running, stale) = found(&path);
        assert_eq!((running, stale.level), (Running::No, Level::Warning));
        assert!(stale.found.contains("left by a daemon that was killed"), "{stale:?}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(found(&path).1.found.contains("no socket"));
        assert!(found(&path.join("x")).1.level == Level::Error, "its folder is a file");
        let long = found(&folder.path().join("x".repeat(120))).1;
        assert!(long.found.contains("at most 107"), "{long:?}");
    }

    #[test]
    fn descriptors_are_counted_against_the_connections() {
        assert_eq!(judged(Some(1_024), 256).level, Level::Ok);
        assert_eq!(judged(None, 65_536).level, Level::Ok);
        // As the daemon counts them.
        assert_eq!(judged(Some(needed(256)), 256).level, Level::Ok);
        let few = judged(Some(needed(256) - 1), 256);
        assert!(
            few.level == Level::Warning && few.found.contains("takes 341"),
            "{few:?}"
        );
    }

    #[test]
    fn a_clock_behind_its_own_backups_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.backup.path = Some(folder.path().to_owned());
        // 2026-01-31T09:00:00Z.
        let nine = Timestamp::from_millis(1_769_850_000_000);
        fs::write(folder.path().join("interviewd-20260131T090000Z.jsonl.gz"), "").unwrap();
        assert_eq!(clock(&config, nine).level, Level::Ok);
        let behind = Timestamp::from_millis(nine.millis() - 3_600_000);
        assert_eq!(clock(&config, behind).level, Level::Warning);
        assert_eq!(clock(&config, Timestamp::from_millis(0)).level, Level::Warning);
    }
}
