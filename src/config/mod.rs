//! The configuration: what the file, the environment and the command line say, as one checked [`Config`] with every default filled in.
//!
//! Layers, the later ones stronger: built-in defaults, the file, `INTERVIEWD__SECTION__KEY`, `--set section.key=value`.
//! The top-level `config.toml` explains every key; no other room knows this one.

mod check;
mod difference;
mod error;
mod file;
mod keys;
mod load;
mod sections;
mod words;

pub use difference::{Difference, differences};
pub use error::{ConfigError, Origin};
pub use load::{Loaded, Source, load};
pub use sections::{
    BackupSection, Config, DaemonSection, InterviewSection, LogSection, ModelSection, PoolSection, QueueSection,
    RuntimeSection, ScoringSection, SocketSection, StoreSection,
};
pub use words::{AutoOr, Device, FileMode, InvalidMode};
