//! What changed between two configurations, and whether a running daemon can take it.

use super::keys;
use super::sections::Config;

/// A key whose value changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As `section.key`.
    pub key: String,
    pub needs_restart: bool,
}

/// What changed, in the order of [`Config`].
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    keys::values(old)
        .into_iter()
        .zip(keys::values(new))
        .filter(|((_, old), (_, new))| old != new)
        .map(|((key, _), _)| Difference {
            needs_restart: needs_restart(&key),
            key,
        })
        .collect()
}

/// Whether a key takes effect only at the next start. What nobody has thought about does.
pub(super) fn needs_restart(key: &str) -> bool {
    let applies_live = matches!(
        keys::split(key),
        ("backup" | "model" | "pool" | "scoring" | "queue" | "interview", _)
            | ("daemon", "drain_s")
            | ("runtime", "threads")
    );
    !applies_live
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::words::AutoOr;

    #[test]
    fn nothing_changed_is_no_difference() {
        assert_eq!(differences(&Config::default(), &Config::default()), []);
    }

    #[test]
    fn a_change_says_whether_it_waits_for_a_restart() {
        let mut new = Config::default();
        new.runtime.library = Some("lib.so".into());
        new.pool.slots_per_actor = AutoOr::Value(4);
        new.log.level = "debug".into();
        let found: Vec<_> = differences(&Config::default(), &new)
            .into_iter()
            .map(|d| (d.key, d.needs_restart))
            .collect();
        let expected = [
            ("runtime.library", true),
            ("pool.slots_per_actor", false),
            ("log.level", true),
        ];
        assert_eq!(found, expected.map(|(key, restart)| (key.to_owned(), restart)));
    }

    #[test]
    fn these_keys_and_no_others_apply_to_a_running_daemon() {
        let live: Vec<_> = keys::keys().filter(|key| !needs_restart(key)).collect();
        let expected = [
            "daemon.drain_s",
            "backup.every_h",
            "backup.path",
            "backup.keep",
            "model.path",
            "model.check_hashes",
            "runtime.threads",
            "pool.device",
            "pool.actors",
            "pool.slots_per_actor",
            "pool.memory_budget_mib",
            "pool.memory_reserve_mib",
            "scoring.rubric",
            "scoring.max_attempts",
            "queue.max_queued_answers",
            "interview.open_ttl_s",
            "interview.answers_max",
            "interview.question_chars_max",
            "interview.answer_chars_max",
            "interview.text_chars_max",
        ];
        assert_eq!(live, expected);
    }
}
