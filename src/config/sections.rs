//! Every key with its type and default, one struct a section; `config.toml` says what each of them trades.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::words::{AutoOr, Device, FileMode, empty_is_none};
use crate::store::Reserve;
use crate::telemetry::LogFormat;

/// The whole configuration. One that came from [`load`](super::load) has been checked; relative paths are relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub daemon: DaemonSection,
    pub socket: SocketSection,
    pub store: StoreSection,
    pub backup: BackupSection,
    pub model: ModelSection,
    pub runtime: RuntimeSection,
    pub pool: PoolSection,
    pub scoring: ScoringSection,
    pub queue: QueueSection,
    pub interview: InterviewSection,
    pub log: LogSection,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaemonSection {
    /// Seconds that running answers get at a shutdown.
    pub drain_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketSection {
    pub path: PathBuf,
    pub mode: FileMode,
    /// Users that may call the admin methods.
    pub admin_uids: Vec<u32>,
    /// Whether the daemon's own user and root may call them too.
    pub own_uid_is_admin: bool,
    /// Bytes of one request line, without its line break.
    pub line_bytes_max: u64,
    pub connections_max: u32,
    /// Bytes of all partial lines and unread output together.
    pub buffered_bytes_max: u64,
    pub idle_s: u64,
    pub write_timeout_s: u64,
    /// Events per subscription.
    pub events_queued_max: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// A folder, made if there is none.
    pub path: PathBuf,
    /// MiB of a file that is given up when the disk is full.
    pub ballast_mib: u64,
    /// MiB that new interviews must leave free on the disk.
    pub free_floor_mib: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupSection {
    /// Hours between two automatic backups; 0: none.
    pub every_h: u32,
    /// A folder, made if there is none; `None`: beside the store.
    #[serde(with = "empty_is_none")]
    pub path: Option<PathBuf>,
    /// Files that are kept.
    pub keep: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// A folder with `model.json`, the graph and the tokenizer.
    pub path: PathBuf,
    /// Whether every file is held against its hash in `model.json` before it is loaded.
    pub check_hashes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSection {
    /// libonnxruntime's file; `None`: searched for.
    #[serde(with = "empty_is_none")]
    pub library: Option<PathBuf>,
    /// CPU threads of one actor.
    pub threads: AutoOr<u32>,
    /// Seconds until an engine that does nothing is ended.
    pub step_timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSection {
    pub device: Device,
    pub actors: AutoOr<u32>,
    pub slots_per_actor: AutoOr<u32>,
    /// The most memory of a device that its actors together may use, in MiB; `Auto`: what is free.
    pub memory_budget_mib: AutoOr<u64>,
    /// Free memory of a device to leave to others, in MiB; `Auto`: the planner's choice.
    pub memory_reserve_mib: AutoOr<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoringSection {
    /// A TOML file; `None`: the rubric that is built in.
    #[serde(with = "empty_is_none")]
    pub rubric: Option<PathBuf>,
    /// Times an answer or a narrative is tried, the first included.
    pub max_attempts: u32,
    /// Seconds of one attempt.
    pub answer_timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSection {
    /// Answers that wait for a slot; more are `busy`.
    pub max_queued_answers: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InterviewSection {
    /// Seconds until an open interview that nobody finishes is finished.
    pub open_ttl_s: u64,
    pub answers_max: u32,
    /// Limits of texts are in Unicode code points.
    pub question_chars_max: u32,
    pub answer_chars_max: u32,
    /// Of every other text: position, company, candidate, résumé.
    pub text_chars_max: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    pub format: LogFormat,
    /// A level, or directives such as `info,interviewd::engine=debug`.
    pub level: String,
}

impl Default for DaemonSection {
    fn default() -> Self {
        Self { drain_s: 30 }
    }
}

impl Default for SocketSection {
    fn default() -> Self {
        Self {
            path: "run/interviewd.sock".into(),
            mode: FileMode::OWNER_AND_GROUP,
            admin_uids: Vec::new(),
            own_uid_is_admin: true,
            line_bytes_max: 16 << 20,
            connections_max: 256,
            buffered_bytes_max: 48 << 20,
            idle_s: 600,
            write_timeout_s: 30,
            events_queued_max: 1_024,
        }
    }
}

impl StoreSection {
    /// What the store keeps free.
    pub fn reserve(&self) -> Reserve {
        Reserve {
            ballast_bytes: self.ballast_mib << 20,
            floor_bytes: self.free_floor_mib << 20,
        }
    }
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            path: "run/store".into(),
            ballast_mib: 16,
            free_floor_mib: 64,
        }
    }
}

impl Default for BackupSection {
    fn default() -> Self {
        Self {
            every_h: 24,
            path: None,
            keep: 7,
        }
    }
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            path: "models/demo".into(),
            check_hashes: true,
        }
    }
}

impl Default for RuntimeSection {
    fn default() -> Self {
        Self {
            library: None,
            threads: AutoOr::Auto,
            step_timeout_s: 300,
        }
    }
}

impl Default for ScoringSection {
    fn default() -> Self {
        Self {
            rubric: None,
            max_attempts: 3,
            answer_timeout_s: 3_600,
        }
    }
}

impl Default for QueueSection {
    fn default() -> Self {
        Self {
            max_queued_answers: 4_096,
        }
    }
}

impl Default for InterviewSection {
    fn default() -> Self {
        Self {
            open_ttl_s: 7 * 24 * 3_600,
            answers_max: 64,
            question_chars_max: 4_000,
            answer_chars_max: 20_000,
            text_chars_max: 4_000,
        }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}
