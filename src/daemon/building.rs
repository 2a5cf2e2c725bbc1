//! Makes a daemon of its parts: every actor, and what they have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, System};
use tokio::sync::watch;

use super::free_memory::FreeMemory;
use super::lives::{ANSWERS_AHEAD, Lives};
use super::rubrics::Rubrics;
use super::turns::Turns;
use super::{Condition, Daemon, Settings, now};
use crate::actors::gpu::start_engine;
use crate::actors::interview::Doors;
use crate::actors::pool::{BackOff, GpuPool, Outlets, StartEngine};
use crate::actors::report::{Clock, ReportActor, Watchers};
use crate::actors::room::Room;
use crate::actors::watch::Deadlines;
use crate::config::Source;
use crate::domain::event::Event;
use crate::socket::hub::Hub;
use crate::socket::listener::Connections;
use crate::store::Store;
use crate::telemetry::Counters;

/// Makes what happens visible to those who subscribed.
struct ToHub(Arc<Hub>);

impl Watchers for ToHub {
    fn tell(&self, event: Event) {
        self.0.publish(&event);
    }
}

/// What a daemon is surrounded by; other things stand there in a simulation.
pub(super) struct Surroundings<F> {
    pub connections: Connections,
    pub clock: Clock,
    pub answers_ahead: usize,
    /// Gives what starts engines, which count into the counters; their rates count from the moment.
    pub engines: F,
}

/// What surrounds the daemon of a process.
pub(super) fn ordinary(
    connections: Connections,
) -> Surroundings<impl FnOnce(Arc<Counters>, Arc<Deadlines>, Instant) -> StartEngine> {
    Surroundings {
        connections,
        clock: now,
        answers_ahead: ANSWERS_AHEAD,
        engines: start_engine,
    }
}

pub(super) fn build<F>(
    settings: Settings,
    source: Source,
    store: Store,
    surroundings: Surroundings<F>,
    stop: watch::Sender<Option<Duration>>,
) -> Arc<Daemon>
where
    F: FnOnce(Arc<Counters>, Arc<Deadlines>, Instant) -> StartEngine,
{
    let Surroundings {
        connections,
        clock,
        answers_ahead,
        engines,
    } = surroundings;
    let started = Instant::now();
    let (hub, counters) = (Arc::new(Hub::default()), Arc::new(Counters::default()));
    let room = Room::new(settings.config.queue.max_queued_answers as usize);
    let rubrics = Arc::new(Rubrics::new(store.clone()));
    let watchers: Arc<dyn Watchers> = Arc::new(ToHub(Arc::clone(&hub)));
    // Pool and reports know each other: the pool's address is there before the pool is.
    let pool_context = Context::new();
    let pool_address = pool_context.address();
    let reports = ReportActor::new(
        store.clone(),
        pool_address.clone().recipient(),
        watchers,
        Arc::clone(&counters),
        clock,
    )
    .start();
    let outlets = Outlets {
        scored: reports.clone().recipient(),
        narrative: reports.clone().recipient(),
    };
    let deadlines = Arc::new(settings.deadlines());
    let start = engines(Arc::clone(&counters), Arc::clone(&deadlines), started);
    let pool = pool_context.run(GpuPool::new(start, outlets, BackOff::default(), started));
    let doors = Doors {
        open_report: reports.clone().recipient(),
        extend_report: reports.clone().recipient(),
        gated: reports.clone().recipient(),
        scorer: pool.clone().recipient(),
        abandon_report: reports.clone().recipient(),
        abandon_work: pool.clone().recipient(),
    };
    let arbiter = System::current().arbiter().clone();
    Arc::new(Daemon {
        lives: Lives::new(
            arbiter,
            doors,
            store.clone(),
            Arc::clone(&rubrics),
            Arc::clone(&room),
            clock,
            answers_ahead,
        ),
        turns: Turns::new(),
        store,
        hub,
        room,
        counters,
        rubrics,
        pool,
        deadlines,
        reports,
        connections,
        free_memory: FreeMemory::default(),
        clock,
        started,
        source,
        started_with: settings.config.clone(),
        settings: std::sync::Mutex::new(Arc::new(settings)),
        condition: std::sync::Mutex::new(Condition::default()),
        loading: tokio::sync::Mutex::default(),
        searches: AtomicU64::default(),
        draining: AtomicBool::new(false),
        losses: std::sync::Mutex::default(),
        doubts: std::sync::Mutex::default(),
        stop,
        over: watch::Sender::new(false),
    })
}
