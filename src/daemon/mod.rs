//! Builds every part, runs until told to stop, stops in reverse.

mod admin;
pub mod backup;
mod bring_up;
mod building;
mod doubts;
mod faults;
mod free_memory;
mod interviews;
mod line;
mod lives;
mod losses;
pub mod model_check;
pub mod planning;
mod reports;
mod rubrics;
mod run;
mod service;
mod settings;
mod signals;
mod status;
mod steps;
mod tending;
#[cfg(test)]
mod tests;
mod turns;
#[cfg(test)]
mod world;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::Addr;
use tokio::sync::watch;

pub use bring_up::{CHUNK_TOKENS, Loaded, bring_up, make_plan, planned};
pub use run::{Start, StartError, now, run};
pub use settings::Settings;

use self::doubts::Doubts;
use self::free_memory::FreeMemory;
use self::lives::Lives;
use self::losses::Losses;
use self::rubrics::Rubrics;
use self::turns::Turns;
use crate::actors::pool::GpuPool;
use crate::actors::report::{Clock, ReportActor};
use crate::actors::room::Room;
use crate::actors::watch::Deadlines;
use crate::config::{Config, Source};
use crate::socket::hub::Hub;
use crate::socket::listener::Connections;
use crate::store::Store;
use crate::telemetry::Counters;

/// Everything that answering a request takes.
pub struct Daemon {
    store: Store,
    hub: Arc<Hub>,
    room: Arc<Room>,
    counters: Arc<Counters>,
    rubrics: Arc<Rubrics>,
    lives: Lives,
    turns: Turns,
    pool: Addr<GpuPool>,
    /// What the pool's engines are watched by.
    deadlines: Arc<Deadlines>,
    reports: Addr<ReportActor>,
    connections: Connections,
    free_memory: FreeMemory,
    clock: Clock,
    started: Instant,
    source: Source,
    /// What keys that need a restart are still at.
    started_with: Config,
    settings: Mutex<Arc<Settings>>,
    condition: Mutex<Condition>,
    /// One at a time looks for models.
    loading: tokio::sync::Mutex<()>,
    /// How often that was asked for.
    searches: AtomicU64,
    draining: AtomicBool,
    /// What was wrong with the store when it was opened, and what could not be set to work.
    losses: Mutex<Losses>,
    doubts: Mutex<Doubts>,
    stop: watch::Sender<Option<Duration>>,
    /// Whether everything has stopped that a report could still come from.
    over: watch::Sender<bool>,
}

/// Whether there is a model.
#[derive(Clone, Default)]
struct Condition {
    loaded: Option<Loaded>,
    /// Why there is none, or not the one that is configured.
    problem: Option<String>,
    /// Whether that is only that it is still looked for.
    is_late: bool,
}

impl Daemon {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace_settings(&self, settings: Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Changes what there is by now, which may have been read anew since one looked.
    fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut settings));
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn condition(&self) -> Condition {
        self.condition_mut().clone()
    }

    fn condition_mut(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called once, when connections are accepted.
pub type Ready = Box<dyn FnOnce(&Path) + Send>;
