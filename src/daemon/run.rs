//! The daemon's life from start to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::System;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::building::{build, ordinary};
use super::rubrics::RubricsError;
use super::signals::Signals;
use super::{Daemon, Ready, Settings};
use crate::actors::message::Settle;
use crate::actors::pool::{Drain, Release};
use crate::config::{Config, Loaded, Source};
use crate::crash_points::CrashPoint;
use crate::domain::time::Timestamp;
use crate::engine::onnx;
use crate::socket::activation::{Passed, passed};
use crate::socket::descriptors::connections_allowed;
use crate::socket::listener::{SocketError, adopt, bind};
use crate::socket::options::Options;
use crate::socket::server;
use crate::store::{self, Opened, Store, StoreError};

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
/// Open interviews are looked through at least so often for ones that nobody finishes.
const EXPIRY_INTERVAL_MAX: Duration = Duration::from_secs(60);

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
