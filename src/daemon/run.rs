//! The daemon's life from start to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::{Actor, AsyncContext, Context, System};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::faults::with_causes;
use super::free_memory::FreeMemory;
use super::lives::{ANSWERS_AHEAD, EngageError, Lives};
use super::rubrics::{Rubrics, RubricsError};
use super::signals::Signals;
use super::turns::Turns;
use super::{Condition, Daemon, Ready, Settings};
use crate::actors::gpu::start_engine;
use crate::actors::in_flight::InFlight;
use crate::actors::interview::Doors;
use crate::actors::message::Settle;
use crate::actors::pool::{BackOff, Drain, GpuPool, Outlets, Release, StartEngine};
use crate::actors::report::{Clock, ReportActor, Watchers};
use crate::actors::room::Room;
use crate::actors::watch::Deadlines;
use crate::config::{Config, Loaded, Source};
use crate::crash_points::CrashPoint;
use crate::domain::event::{Event, EventKind};
use crate::domain::ids::InterviewId;
use crate::domain::state::InterviewState;
use crate::domain::time::Timestamp;
use crate::engine::onnx;
use crate::socket::activation::{Passed, passed};
use crate::socket::descriptors::connections_allowed;
use crate::socket::hub::Hub;
use crate::socket::listener::{Connections, SocketError, adopt, bind};
use crate::socket::options::Options;
use crate::socket::server;
use crate::store::{self, Opened, Store, StoreError};
use crate::telemetry::Counters;

/// What a daemon is started with.
pub struct Start {
    pub loaded: Loaded,
    /// Where the configuration is read from again.
    pub source: Source,
    pub ready: Ready,
}

/// Why there is no daemon, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A mistake in what the operator wrote.
    #[error(transparent)]
    Rubric(#[from] RubricsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error("no threads can be started")]
    Threads(#[source] std::io::Error),
    #[error("a part that nothing works without has panicked; what was accepted goes on at the next start")]
    BrokeDown,
}

/// Requests look into the store, which waits for the disk now and then: so many may, before others wait with them.
const SOCKET_THREADS: usize = 4;
/// Threads for what takes milliseconds of computing, as prompts do, or blocks: more would take turns on the cores and each keep memory of its own.
const BLOCKING_THREADS: usize = 8;
/// How long the store's lock may be another's before that is an error: a second daemon must hear soon that there is a first.
const LOCK_PATIENCE: Duration = Duration::from_millis(600);
/// The most that is kept back of `daemon.drain_s` for what comes after the answers: storing, telling, closing.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// How long each step of that may take at least, and pending requests at most.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// How often it is looked whether the parts that everything needs are there.
const PRESENCE_CHECK: Duration = Duration::from_secs(1);
/// How often the store is looked after: what waits for room on the disk waits so long once there is some.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Open interviews are looked through at least so often for ones that nobody finishes.
const EXPIRY_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// In the store's folder: what engines run now.
pub(super) const IN_FLIGHT: &str = "in-flight";

/// Runs until a signal or `shutdown`. Everything that was accepted and is not done goes on at the next start.
pub fn run(start: Start) -> Result<(), StartError> {
    onnx::keep_little_freed_memory();
    let settings = Settings::new(start.loaded.config)?;
    let handed_over = passed()?;
    let socket_threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SOCKET_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("socket")
        .enable_all()
        .build()
        .map_err(StartError::Threads)?;
    let mut actors = tokio::runtime::Builder::new_current_thread();
    let actors = actors
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(StartError::Threads)?;
    let system = System::with_tokio_rt(|| actors);
    let ended = system.block_on(live(
        settings,
        start.source,
        start.ready,
        handed_over,
        socket_threads.handle().clone(),
    ));
    // Dropping them would wait for every thread that still blocks: one that hashes a model, or waits for an engine to be loaded.
    std::mem::forget(system);
    socket_threads.shutdown_background();
    ended
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

async fn live(
    settings: Settings,
    source: Source,
    ready: Ready,
    handed_over: Option<Passed>,
    sockets: Handle,
) -> Result<(), StartError> {
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    let opened = open_store(&settings.config).await?;
    let options = Arc::new(socket_options(&settings.config));
    let socket = Arc::clone(&options);
    let bound = sockets.spawn(async move {
        match handed_over {
            Some(passed) => adopt(passed, &socket).await,
            None => bind(&socket).await,
        }
    });
    let bound = bound.await;
    let bound = bound.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    let (stop, stopping) = watch::channel(None);
    let daemon = build(settings, source, opened.store, ordinary(bound.connections()), stop);
    daemon.opened(opened.notes);
    daemon.recover();
    let beginner = Arc::clone(&daemon);
    sockets.spawn(async move { beginner.keep_beginning().await }); // it looks into the store, as requests do
    let (close, closed) = oneshot::channel::<()>();
    let path = bound.path().to_owned();
    let service = Arc::new(Arc::clone(&daemon));
    let server = sockets.spawn(server::run(bound, service, Arc::clone(&daemon.hub), options, async {
        let _ = closed.await;
    }));
    ready(&path);
    let finder = Arc::clone(&daemon);
    tokio::spawn(async move { finder.find_model().await });
    let keeper = Arc::clone(&daemon);
    tokio::spawn(async move { keeper.look_for_forgotten().await });
    let keeper = Arc::clone(&daemon);
    tokio::spawn(async move { keeper.keep_backups().await });
    let keeper = Arc::clone(&daemon);
    tokio::spawn(async move { keeper.tend_store().await });
    let ended = tokio::select! {
        drain = until_stopped(&daemon, &mut signals, stopping) => {
            daemon.wind_down(drain, signals.first()).await;
            Ok(())
        }
        () = daemon.broke_down() => Err(StartError::BrokeDown),
    };
    drop(close);
    let _ = tokio::time::timeout(LAST_WRITES, server).await; // clients that do not read are not waited for
    daemon.store.shut_down().await;
    CrashPoint::StoreClosed.reached();
    tracing::info!("stopped");
    ended
}

/// A daemon that was killed holds its lock until the system has cleared it away: that much patience makes restarting at once possible.
async fn open_store(config: &Config) -> Result<Opened, StoreError> {
    let begun = Instant::now();
    let options = store::Options {
        reserve: config.store.reserve(),
        ..store::Options::default()
    };
    loop {
        match Store::open(&config.store.path, &options, now()) {
            Err(StoreError::Locked { .. }) if begun.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(LOCK_PATIENCE / 20).await;
            }
            opened => return opened,
        }
    }
}

fn socket_options(config: &Config) -> Options {
    let socket = &config.socket;
    Options {
        path: socket.path.clone(),
        mode: socket.mode.bits(),
        admin_uids: socket.admin_uids.clone(),
        own_uid_is_admin: socket.own_uid_is_admin,
        line_bytes_max: socket.line_bytes_max as usize,
        connections_max: connections_allowed(socket.connections_max as usize),
        buffered_bytes_max: socket.buffered_bytes_max as usize,
        given_back: pass_on_freed_memory,
        idle: Duration::from_secs(socket.idle_s),
        write_timeout: Duration::from_secs(socket.write_timeout_s),
        events_queued_max: socket.events_queued_max as usize,
        grace: LAST_REQUESTS,
        ..Options::default()
    }
}

/// Has the system given what the allocator keeps, on a thread that nobody waits for, and one at a time: it stops whoever allocates.
fn pass_on_freed_memory() {
    static UNDER_WAY: AtomicBool = AtomicBool::new(false);
    // Without a runtime the daemon ends, and all of its memory with it.
    if let Ok(runtime) = Handle::try_current()
        && !UNDER_WAY.swap(true, Ordering::Relaxed)
    {
        runtime.spawn_blocking(|| {
            onnx::trim_memory();
            UNDER_WAY.store(false, Ordering::Relaxed);
        });
    }
}

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
    let pool = GpuPool::new(start, outlets, BackOff::default(), started).remembering(in_flight(&store));
    let pool = pool_context.run(pool);
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
        draining: AtomicBool::new(false),
        losses: std::sync::Mutex::default(),
        stop,
        over: watch::Sender::new(false),
    })
}

/// What the process before this one ran when it died, if it did.
fn in_flight(store: &Store) -> InFlight {
    let path = store.path().join(IN_FLIGHT);
    InFlight::open(&path).unwrap_or_else(|error| {
        let path = path.display();
        tracing::warn!(%path, %error, "what engines run cannot be noted: work that ends the process would not be found out");
        InFlight::default()
    })
}

/// How long the daemon is given to end once a signal or an operator has told it to.
async fn until_stopped(
    daemon: &Daemon,
    signals: &mut Signals,
    mut stopping: watch::Receiver<Option<Duration>>,
) -> Duration {
    let drain = tokio::select! {
        () = signals.first() => daemon.drain(),
        asked = stopping.wait_for(Option::is_some) => asked.ok().and_then(|asked| *asked).unwrap_or_default(),
    };
    tracing::info!(drain_s = drain.as_secs(), "stopping; a second signal stops at once");
    drain
}

impl Daemon {
    /// The store was opened, and had this to say.
    fn opened(&self, notes: Vec<String>) {
        self.losses().opened(notes, self.store.unreadable());
        self.store.told();
    }

    /// Feeds what is unfinished in the store into the ordinary path. May be repeated: what is under way stays so.
    pub(super) fn recover(&self) {
        let unfinished = match self.store.unfinished() {
            Ok(unfinished) => unfinished,
            // It could not be opened; this comes again when it has been.
            Err(StoreError::Full(_) | StoreError::Shut(_)) => return,
            Err(error) => {
                let reason = format!("unfinished interviews do not go on: {}", with_causes(&error));
                tracing::error!(reason);
                self.losses().set_unknown(reason);
                return;
            }
        };
        tracing::info!(interviews = unfinished.records.len(), "unfinished interviews go on");
        self.losses().forget_all_stuck();
        for unreadable in unfinished.unreadable {
            self.does_not_begin(&unreadable.name, &unreadable.error);
        }
        for record in unfinished.records {
            let places = self.room.recover(record.interview.answers().len());
            self.engage(record, places);
            CrashPoint::LifeRecovered.reached();
        }
    }

    /// The interview is stored, and its work stays undone; that of all others goes on.
    pub(super) fn does_not_begin(&self, name: &str, error: &(impl std::error::Error + 'static)) {
        let reason = with_causes(error);
        tracing::error!(
            interview = name,
            reason,
            "the interview is stored, but its work cannot begin"
        );
        self.losses().add_stuck(name);
    }

    /// Begins what stands in line, as answers get slots.
    pub(super) async fn keep_beginning(&self) {
        let unbegun = |id: &InterviewId, error: &EngageError| self.does_not_begin(id.as_str(), error);
        self.lives.keep_beginning(unbegun).await;
    }

    /// Has the store look after its disk; sets to work what is unfinished in it whenever it has been opened.
    pub(super) async fn tend_store(&self) {
        loop {
            tokio::time::sleep(STORE_INTERVAL).await;
            if let Some(notes) = self.store.tend((self.clock)()).await {
                self.opened(notes);
                self.recover();
                self.end_what_was_ended().await;
            }
        }
    }

    /// Stops the work of interviews that the store, once it has been opened again, does not have, or as cancelled: what ended them was asked while it
    /// failed, and nobody knew whether it was stored. Who has a report ends by himself.
    async fn end_what_was_ended(&self) {
        for life in self.lives.all() {
            let id = &life.interview_id;
            let _turn = self.turns.of(id).await;
            // What cannot be read has not ended; recovering has named it.
            let Ok(view) = self.store.view(id) else { continue };
            let view = view.filter(|view| view.record.sequence == life.sequence);
            let end = match &view {
                None => Some(EventKind::Deleted),
                Some(view) if view.state() == InterviewState::Cancelled => Some(EventKind::Cancelled),
                Some(view) if view.record.generation != life.generation => None,
                Some(_) => continue,
            };
            if self.lives.end(&life)
                && let Some(kind) = end
            {
                let total = view.map_or(0, |view| view.total());
                tracing::info!(interview = id.as_str(), ?kind, "this is stored, though nobody heard so");
                self.tell(id, kind, total, total);
            }
        }
    }

    /// Returns once an actor that is needed for everything has died, as it does if it panics. Starting again is the way back.
    async fn broke_down(&self) {
        while self.pool.connected() && self.reports.connected() {
            tokio::time::sleep(PRESENCE_CHECK).await;
        }
    }

    /// Looks for open interviews that nobody finishes.
    pub(super) async fn look_for_forgotten(&self) {
        loop {
            let ttl = Duration::from_secs(self.settings().config.interview.open_ttl_s);
            tokio::time::sleep((ttl / 4).clamp(Duration::from_millis(100), EXPIRY_INTERVAL_MAX)).await;
            for life in self.lives.open_for(ttl) {
                let id = life.interview_id.as_str();
                tracing::info!(interview = id, "an open interview has reached interview.open_ttl_s");
                if let Err(fault) = self.finish_forgotten(&life).await {
                    tracing::warn!(interview = id, reason = fault.message, "it could not be finished");
                }
            }
        }
    }

    fn drain(&self) -> Duration {
        Duration::from_secs(self.settings().config.daemon.drain_s)
    }

    /// Lets running answers end, and what has ended be stored, within `drain`; sooner after a `signal`.
    pub(super) async fn wind_down(&self, drain: Duration, signal: impl Future<Output = ()>) {
        self.draining.store(true, Ordering::Relaxed);
        self.stop.send_replace(Some(drain));
        let deadline = self.drain_answers(drain, signal).await;
        CrashPoint::Drained.reached();
        let left = || {
            deadline
                .saturating_duration_since(tokio::time::Instant::now())
                .max(LAST_REQUESTS)
        };
        // Engines stop before what they run on is taken away from them.
        let _ = tokio::time::timeout(left(), self.pool.send(Release)).await;
        CrashPoint::EnginesReleased.reached();
        let _ = tokio::time::timeout(left(), self.reports.send(Settle)).await;
        CrashPoint::ReportsSettled.reached();
        self.over.send_replace(true);
    }

    /// Gives running answers most of `drain`, or of what a signal leaves of it. Until when everything is to have ended.
    async fn drain_answers(&self, mut drain: Duration, signal: impl Future<Output = ()>) -> tokio::time::Instant {
        let begun = tokio::time::Instant::now();
        let for_answers = |drain: Duration| (drain - (drain / 4).min(LAST_WRITES)).saturating_sub(begun.elapsed());
        let mut drained = std::pin::pin!(self.pool.send(Drain));
        let in_time = tokio::select! {
            biased;
            drained = tokio::time::timeout(for_answers(drain), &mut drained) => drained.is_ok(),
            // An operator's `shutdown` may give hours; a signal gives what it always does.
            () = signal => {
                drain = drain.min(begun.elapsed() + self.drain());
                tokio::time::timeout(for_answers(drain), &mut drained).await.is_ok()
            }
        };
        if !in_time {
            tracing::warn!("answers were still running; they are run again at the next start");
        }
        begun + drain
    }
}
