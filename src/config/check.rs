//! Values that have the right type and still cannot be: numbers out of range, empty paths, limits that contradict one another.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::sections::{Config, InterviewSection, PoolSection, SocketSection};
use super::words::AutoOr;
use crate::actors::watch::longest_silence;
use crate::hardware::wanted::{ACTORS_MAX, SLOTS_MAX};

/// A value that cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Impossible {
    /// The key at fault.
    pub key: &'static str,
    /// What it cannot go together with, if it would be fine alone.
    pub rival: Option<&'static str>,
    /// What is wrong, with the key as its subject.
    pub problem: String,
}

type Checked = Result<(), Impossible>;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY_S: u64 = 24 * 3_600;
/// 16 TiB, more than any device has.
const MEMORY_MIB_MAX: u64 = 16 * MIB;
/// 1 TiB: more than anybody wants to keep free.
const DISK_MIB_MAX: u64 = MIB;
/// A socket's address has 108 bytes, and one ends the path.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The first value that cannot be.
pub(super) fn check(config: &Config) -> Checked {
    within("daemon.drain_s", config.daemon.drain_s, 0..=DAY_S)?;
    check_socket(&config.socket)?;
    check_store_path(&config.store.path)?;
    within("store.ballast_mib", config.store.ballast_mib, 0..=DISK_MIB_MAX)?;
    within("store.free_floor_mib", config.store.free_floor_mib, 0..=DISK_MIB_MAX)?;
    check_backup(config)?;
    path("model.path", &config.model.path)?;
    if let Some(library) = &config.runtime.library {
        path("runtime.library", library)?;
    }
    auto_or_within("runtime.threads", config.runtime.threads, 1..=1_024)?;
    check_deadlines(config)?;
    check_pool(&config.pool)?;
    if let Some(rubric) = &config.scoring.rubric {
        path("scoring.rubric", rubric)?;
    }
    within("scoring.max_attempts", config.scoring.max_attempts, 1..=100)?;
    within(
        "queue.max_queued_answers",
        config.queue.max_queued_answers,
        1..=1_000_000,
    )?;
    check_interview(&config.interview)?;
    if config.log.level.trim().is_empty() {
        return impossible("log.level", "is empty, but must be a level such as \"info\"".to_owned());
    }
    Ok(())
}

/// An engine that hangs must have been found out before the answers that wait for it are out of time: they would be blamed for it.
fn check_deadlines(config: &Config) -> Checked {
    let (step_s, answer_s) = (config.runtime.step_timeout_s, config.scoring.answer_timeout_s);
    within("runtime.step_timeout_s", step_s, 1..=DAY_S)?;
    within("scoring.answer_timeout_s", answer_s, 1..=DAY_S)?;
    let silence = longest_silence(Duration::from_secs(step_s));
    if Duration::from_secs(answer_s) > silence {
        return Ok(());
    }
    let silence_s = silence.as_secs_f64();
    Err(Impossible {
        key: "scoring.answer_timeout_s",
        rival: Some("runtime.step_timeout_s"),
        problem: format!(
            "is {answer_s}, but must be more than {silence_s}: so long an engine that hangs keeps its answers, since runtime.step_timeout_s is \
             {step_s} and some grace follows; raise the one or lower the other"
        ),
    })
}

fn check_socket(socket: &SocketSection) -> Checked {
    path("socket.path", &socket.path)?;
    let length = socket.path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        let problem = format!(
            "has {length} bytes, but a Unix socket's path may have {SOCKET_PATH_BYTES_MAX}: choose a shorter one"
        );
        return impossible("socket.path", problem);
    }
    within("socket.line_bytes_max", socket.line_bytes_max, 64 * KIB..=256 * MIB)?;
    within("socket.connections_max", socket.connections_max, 1..=65_536)?;
    within(
        "socket.buffered_bytes_max",
        socket.buffered_bytes_max,
        64 * KIB..=2 * GIB,
    )?;
    if socket.buffered_bytes_max < socket.line_bytes_max {
        return Err(Impossible {
            key: "socket.buffered_bytes_max",
            rival: Some("socket.line_bytes_max"),
            problem: format!(
                "is {}, but must hold at least one line: socket.line_bytes_max is {}",
                socket.buffered_bytes_max, socket.line_bytes_max
            ),
        });
    }
    within("socket.idle_s", socket.idle_s, 1..=DAY_S)?;
    within("socket.write_timeout_s", socket.write_timeout_s, 1..=3_600)?;
    within("socket.events_queued_max", socket.events_queued_max, 1..=65_536)
}

/// Backups, and what had to be moved aside, lie beside the store under its name.
fn check_store_path(store: &Path) -> Checked {
    path("store.path", store)?;
    match store.file_name() {
        Some(_) => Ok(()),
        None => impossible(
            "store.path",
            format!("is {:?}, but must end with the name of a folder", store.display()),
        ),
    }
}

fn check_backup(config: &Config) -> Checked {
    let backup = &config.backup;
    within("backup.every_h", backup.every_h, 0..=8_760)?;
    within("backup.keep", backup.keep, 1..=1_000)?;
    let Some(folder) = &backup.path else {
        return Ok(());
    };
    path("backup.path", folder)?;
    if folder.starts_with(&config.store.path) {
        return Err(Impossible {
            key: "backup.path",
            rival: Some("store.path"),
            problem: "lies in store.path, but must lie outside: a damaged store is moved away with all that is in it"
                .to_owned(),
        });
    }
    Ok(())
}

fn check_pool(pool: &PoolSection) -> Checked {
    auto_or_within("pool.actors", pool.actors, 1..=ACTORS_MAX)?;
    auto_or_within("pool.slots_per_actor", pool.slots_per_actor, 1..=SLOTS_MAX)?;
    auto_or_within("pool.memory_budget_mib", pool.memory_budget_mib, 1..=MEMORY_MIB_MAX)?;
    auto_or_within("pool.memory_reserve_mib", pool.memory_reserve_mib, 0..=MEMORY_MIB_MAX)
}

fn check_interview(interview: &InterviewSection) -> Checked {
    within("interview.open_ttl_s", interview.open_ttl_s, 1..=366 * DAY_S)?;
    within("interview.answers_max", interview.answers_max, 1..=64)?;
    within(
        "interview.question_chars_max",
        interview.question_chars_max,
        1..=100_000,
    )?;
    within("interview.answer_chars_max", interview.answer_chars_max, 1..=100_000)?;
    within("interview.text_chars_max", interview.text_chars_max, 1..=100_000)
}

fn impossible(key: &'static str, problem: String) -> Checked {
    Err(Impossible {
        key,
        rival: None,
        problem,
    })
}

fn within<T: PartialOrd + Display>(key: &'static str, value: T, range: RangeInclusive<T>) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    impossible(
        key,
        format!("is {value}, but must be from {} to {}", range.start(), range.end()),
    )
}

fn auto_or_within<T: PartialOrd + Display>(key: &'static str, value: AutoOr<T>, range: RangeInclusive<T>) -> Checked {
    match value {
        AutoOr::Value(value) if !range.contains(&value) => impossible(
            key,
            format!(
                "is {value}, but must be \"auto\" or from {} to {}",
                range.start(),
                range.end()
            ),
        ),
        AutoOr::Value(_) | AutoOr::Auto => Ok(()),
    }
}

fn path(key: &'static str, path: &Path) -> Checked {
    if path.as_os_str().is_empty() {
        return impossible(key, "is empty, but must be a path".to_owned());
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return impossible(key, "holds a NUL character, which no path can".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config).err().map(|e| format!("{} {}", e.key, e.problem))
    }

    #[test]
    fn the_defaults_are_possible() {
        assert_eq!(check(&Config::default()), Ok(()));
    }

    #[test]
    fn numbers_have_a_least_and_a_greatest() {
        let refused = |change: fn(&mut Config), text: &str| assert_eq!(problem(change).as_deref(), Some(text));
        refused(
            |c| c.daemon.drain_s = 86_401,
            "daemon.drain_s is 86401, but must be from 0 to 86400",
        );
        refused(
            |c| c.pool.slots_per_actor = AutoOr::Value(0),
            "pool.slots_per_actor is 0, but must be \"auto\" or from 1 to 256",
        );
        refused(
            |c| c.pool.actors = AutoOr::Value(65),
            "pool.actors is 65, but must be \"auto\" or from 1 to 64",
        );
        refused(
            |c| c.queue.max_queued_answers = 0,
            "queue.max_queued_answers is 0, but must be from 1 to 1000000",
        );
        refused(
            |c| c.interview.answers_max = 65,
            "interview.answers_max is 65, but must be from 1 to 64",
        );
        refused(
            |c| c.scoring.max_attempts = 0,
            "scoring.max_attempts is 0, but must be from 1 to 100",
        );
        assert_eq!(problem(|c| c.daemon.drain_s = 0), None, "an operator may want no grace");
        assert_eq!(problem(|c| c.pool.memory_reserve_mib = AutoOr::Value(0)), None);
    }

    #[test]
    fn no_number_is_left_unchecked() {
        for (key, value) in super::super::keys::values(&Config::default()) {
            let (section, name) = super::super::keys::split(&key);
            let is_number = value.is_integer() || value.as_str() == Some("auto") && key != "pool.device";
            if !is_number {
                continue;
            }
            let text = format!("[{section}]\n{name} = 4294967295\n");
            let config: Config = toml::from_str(&text).unwrap();
            let error = check(&config).expect_err(&key);
            assert_eq!(error.key, key);
        }
    }

    #[test]
    fn paths_are_neither_empty_nor_longer_than_the_system_takes() {
        assert!(problem(|c| c.store.path = "".into()).is_some_and(|p| p.starts_with("store.path is empty")));
        assert_eq!(problem(|c| c.store.path = "run/store/".into()), None);
        for nameless in [".", "..", "/", "run/.."] {
            assert!(problem(|c| c.store.path = nameless.into()).is_some_and(|p| p.contains("name of a folder")));
        }
        assert!(problem(|c| c.model.path = "a\0b".into()).is_some_and(|p| p.contains("NUL")));
        assert!(problem(|c| c.scoring.rubric = Some("\0".into())).is_some());
        assert_eq!(problem(|c| c.socket.path = "s".repeat(107).into()), None);
        assert!(problem(|c| c.socket.path = "s".repeat(108).into()).is_some_and(|p| p.contains("has 108 bytes")));
        assert!(problem(|c| c.log.level = " ".into()).is_some_and(|p| p.starts_with("log.level is empty")));
    }

    #[test]
    fn backups_lie_outside_of_the_store() {
        let mut config = Config::default();
        for inside in ["run/store", "run/store/backups"] {
            config.backup.path = Some(inside.into());
            let error = check(&config).unwrap_err();
            assert_eq!((error.key, error.rival), ("backup.path", Some("store.path")));
        }
        config.backup.path = Some("run/store.backups".into());
        assert_eq!(check(&config), Ok(()));
    }

    #[test]
    fn an_engine_that_hangs_is_found_out_before_its_answers_are_out_of_time() {
        let refused = |step, answer| {
            let mut config = Config::default();
            (config.runtime.step_timeout_s, config.scoring.answer_timeout_s) = (step, answer);
            let error = check(&config).err()?;
            assert_eq!(error.rival, Some("runtime.step_timeout_s"));
            Some(format!("{} {}", error.key, error.problem))
        };
        assert_eq!(
            refused(300, 330).as_deref(),
            Some(
                "scoring.answer_timeout_s is 330, but must be more than 330: so long an engine that hangs keeps its answers, since \
                 runtime.step_timeout_s is 300 and some grace follows; raise the one or lower the other"
            )
        );
        assert_eq!(refused(300, 331), None);
        assert!(refused(1, 1).is_some_and(|text| text.contains("more than 1.2:")));
        assert_eq!(refused(1, 2), None);
    }

    #[test]
    fn a_buffer_holds_a_line() {
        let mut config = Config::default();
        config.socket.line_bytes_max = 49 << 20;
        let error = check(&config).unwrap_err();
        assert_eq!(
            (error.key, error.rival),
            ("socket.buffered_bytes_max", Some("socket.line_bytes_max"))
        );
    }
}
