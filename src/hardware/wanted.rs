//! What the operator asks of the pool: numbers or "auto", a device, and how much memory may be used.

use std::fmt;

use super::devices::DeviceKind;

/// A number that may be left to the planner: `"auto"` or an integer from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    #[default]
    Auto,
    Number(u32),
}

/// The device of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceWanted {
    /// What the model was exported for, if it is there; the explanation says why it was chosen.
    #[default]
    Auto,
    Cuda,
    Cpu,
}

/// `[pool]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolWanted {
    pub device: DeviceWanted,
    /// Copies of the weights, at most [`ACTORS_MAX`].
    pub actors: Wanted,
    /// Answers that one copy scores at a time, at most [`SLOTS_MAX`].
    pub slots_per_actor: Wanted,
    /// Most of a device that its actors together may use, in MiB; `None` for all that is free.
    pub memory_budget_mib: Option<u64>,
    /// Free memory of a device that is left alone, in MiB; `None` for [`reserve_mib_default`].
    pub memory_reserve_mib: Option<u64>,
}

/// Most actors that may be asked for.
pub const ACTORS_MAX: u32 = 64;

/// Most slots per actor that may be asked for.
pub const SLOTS_MAX: u32 = 256;

/// What is left alone on a device unless told otherwise, in MiB. A card: what a desktop's other programs take and give back from minute to
/// minute; the workspace is reckoned generously already, and a 6 GiB card has nothing to give away. RAM: the operating system and its page
/// cache, and whatever else the machine is for.
pub const fn reserve_mib_default(kind: DeviceKind) -> u64 {
    match kind {
        DeviceKind::Cuda => 128,
        DeviceKind::Cpu => 1_024,
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
