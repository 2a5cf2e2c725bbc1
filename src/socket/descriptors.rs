//! Descriptors: each connection takes one, and the store and the models must never go without.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What everything but connections gets at least: a daemon with a model at work holds some 25, and as many again come and go.
const OTHERS_MIN: u64 = 40;

/// How many connections there may be out of `wanted`. Raises the process's own limit for them as far as the system lets it.
pub fn connections_allowed(wanted: usize) -> usize {
    let needed = needed(wanted as u64);
    let limit = getrlimit(Resource::Nofile);
    let mut open_files = limit.current.unwrap_or(u64::MAX);
    if open_files < needed {
        let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        let more = Rlimit {
            current: Some(raised),
            ..limit
        };
        match setrlimit(Resource::Nofile, more) {
            Ok(()) => open_files = raised,
            Err(error) => tracing::debug!(%error, "the limit of open files cannot be raised"),
        }
    }
    let allowed = usize::try_from(left_by(open_files)).unwrap_or(usize::MAX).min(wanted);
    if allowed < wanted {
        tracing::warn!(
            allowed,
            wanted,
            open_files,
            "fewer connections than socket.connections_max: each takes a descriptor and the rest is kept for the store and the model; raise `ulimit -n` (LimitNOFILE)"
        );
    }
    allowed
}

/// Connections that a limit of open files leaves room for: three quarters of it, or what the others' least share leaves.
fn left_by(open_files: u64) -> u64 {
    let others = (open_files / 4).max(OTHERS_MIN);
    open_files.saturating_sub(others).max(1)
}

/// The lowest limit of open files that leaves room for so many connections.
pub fn needed(connections: u64) -> u64 {
    (connections + OTHERS_MIN).max(connections.saturating_sub(1) * 4 / 3 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_store_and_the_model_can_spare() {
        let cases = [(20, 1), (40, 1), (64, 24), (160, 120), (256, 192), (1_024, 768)];
        for (open_files, connections) in cases {
            assert_eq!(left_by(open_files), connections, "of {open_files}");
        }
    }

    #[test]
    fn what_is_asked_for_is_enough_and_hardly_more_than_that() {
        for connections in [2, 24, 119, 120, 121, 256, 65_536] {
            let limit = needed(connections);
            assert!(left_by(limit) >= connections, "{connections}");
            assert!(left_by(limit - 2) < connections, "{connections}");
        }
    }
}
