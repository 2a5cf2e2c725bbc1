//! One life of the daemon's process in the world: every part is real but the engines' threads, the socket and the disk.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::model::covered_by;
use super::rig::Rig;
use crate::actors::engine_thread::Planned;
use crate::actors::memory::{Allowance, Held};
use crate::actors::message::Provide;
use crate::actors::pool::{Adopt, Setup};
use crate::actors::tests::{NoModel, planned, setup};
use crate::config::{Config, Source};
use crate::daemon::building::{Surroundings, build};
use crate::daemon::{Daemon, Settings};
use crate::domain::time::Timestamp;
use crate::socket::call::Call;
use crate::socket::fault::Fault;
use crate::socket::hub::Subscription;
use crate::socket::listener::Connections;
use crate::socket::service::{Reply, Role, Service};
use crate::store::Store;
use crate::store::by_hand::Hand;

thread_local! {
    /// The time of day in the world, in milliseconds.
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// Answers that may wait; few enough to be reached.
const QUEUED_MAX: u32 = 24;
/// Answers that wait in the pool before interviews wait in the store.
const ANSWERS_AHEAD: usize = 5;
pub const OPEN_TTL_S: u64 = 600;
/// What weights and a slot for answers take of a device that is only pretended.
const FIXED_BYTES: u64 = 40;
const SLOT_BYTES: u64 = 10;

/// How long work may take in a life of the process, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub step_s: u64,
    pub answer_s: u64,
}

/// An engine as an operator wants it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub slots: usize,
    /// Whether the narrative has the memory of slots for answers.
    pub shares: bool,
    /// What it may hold beyond what it is planned with.
    pub spare_bytes: u64,
}

pub fn now() -> i64 {
    NOW.get()
}

pub fn set_clock(millis: i64) {
    NOW.set(millis);
}

fn clock() -> Timestamp {
    Timestamp::from_millis(now())
}

/// A ticket, and what its question was answered.
type Answered = (u64, Result<Reply, Fault>);

pub struct Process {
    pub daemon: Arc<Daemon>,
    pub hand: Hand,
    pub rig: Rc<Rig>,
    pub events: Subscription,
    setup: Arc<Setup>,
    /// Of questions that were answered, by their tickets.
    replies: Rc<RefCell<Vec<Answered>>>,
    is_stopping: Cell<bool>,
    stopped: Rc<Cell<bool>>,
}

impl Process {
    /// What every start does, in its order.
    pub fn start(folder: &Path, rig: Rc<Rig>, patience: Patience) -> Self {
        let mut config = Config::default();
        config.queue.max_queued_answers = QUEUED_MAX;
        config.interview.open_ttl_s = OPEN_TTL_S;
        config.runtime.step_timeout_s = patience.step_s;
        config.scoring.answer_timeout_s = patience.answer_s;
        let (store, hand) = Store::by_hand(&folder.join("store"), clock()).unwrap();
        let source = Source {
            config: None,
            environment: Vec::new(),
            directory: folder.to_owned(),
            system_file: folder.join("none"),
            sets: Vec::new(),
        };
        let starting = Rc::clone(&rig);
        let surroundings = Surroundings {
            connections: Connections::default(),
            clock,
            answers_ahead: ANSWERS_AHEAD,
            engines: move |_, deadlines, epoch| starting.start(deadlines, epoch),
        };
        let settings = Settings::new(config).unwrap();
        let daemon = build(settings, source, store, surroundings, watch::channel(None).0);
        let events = daemon.hub.subscribe(None, 1 << 20);
        daemon.recover();
        let beginner = Arc::clone(&daemon);
        actix::spawn(async move { beginner.keep_beginning().await });
        let tender = Arc::clone(&daemon);
        actix::spawn(async move { tender.tend_store().await });
        let keeper = Arc::clone(&daemon);
        actix::spawn(async move { keeper.look_for_forgotten().await });
        Self {
            daemon,
            hand,
            setup: metered("first", &rig),
            rig,
            events,
            replies: Rc::default(),
            is_stopping: Cell::default(),
            stopped: Rc::default(),
        }
    }

    /// Whether the store takes no more writes before a restart.
    pub fn is_broken(&self) -> bool {
        self.hand.is_broken()
    }

    /// Whether the store refuses something, for whatever reason.
    pub fn is_in_trouble(&self) -> bool {
        self.hand.lacks_room() || self.daemon.store.trouble().is_some()
    }

    pub fn ask(&self, ticket: u64, call: Call) {
        let (daemon, replies) = (Arc::clone(&self.daemon), Rc::clone(&self.replies));
        actix::spawn(async move {
            let reply = daemon.call(Role::Admin, call).await;
            replies.borrow_mut().push((ticket, reply));
        });
    }

    pub fn replies(&self) -> Vec<Answered> {
        self.replies.take()
    }

    /// A plan with these engines; of a new model, if it has a name.
    pub fn adopt(&mut self, engines: &[Wanted], model: Option<&str>, attempts_max: u32) {
        if let Some(model) = model {
            self.setup = metered(model, &self.rig);
        }
        let actors: Vec<_> = engines.iter().map(|wanted| self.plan(wanted)).collect();
        let allowed = actors.iter().map(|planned| planned.allowance.bytes).sum();
        self.rig.allow(allowed, attempts_max);
        self.daemon.reports.do_send(Provide {
            making: Arc::clone(&self.setup.making),
        });
        self.daemon.pool.do_send(Adopt {
            setup: Arc::clone(&self.setup),
            actors,
            attempts_max,
        });
    }

    fn plan(&self, wanted: &Wanted) -> Planned {
        let covered = covered_by(&self.setup.making.model.hash);
        let allowance = Allowance {
            bytes: 0,
            fixed_bytes: FIXED_BYTES,
            slot_bytes: SLOT_BYTES,
            narrative_bytes: covered as u64 * SLOT_BYTES - 2,
            is_shared: wanted.shares,
            on_use: false,
        };
        Planned {
            narrative_takes: if wanted.shares { covered.min(wanted.slots) } else { 0 },
            allowance: Allowance {
                bytes: taken(&allowance, wanted.slots) + wanted.spare_bytes,
                ..allowance
            },
            ..planned("cpu", wanted.slots)
        }
    }

    /// Begins to stop as a signal makes it, with so much time for what runs.
    pub fn stop(&self, drain: Duration) {
        self.is_stopping.set(true);
        let (daemon, stopped) = (Arc::clone(&self.daemon), Rc::clone(&self.stopped));
        actix::spawn(async move {
            daemon.wind_down(drain, std::future::pending()).await;
            stopped.set(true);
        });
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    pub fn has_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// An actor that has panicked ends the process, and none must.
    pub fn assert_alive(&self) {
        assert!(self.daemon.pool.connected(), "the pool has died");
        assert!(self.daemon.reports.connected(), "the reports have died");
    }
}

/// Bytes of an engine with so many slots for answers.
pub fn taken(allowance: &Allowance, slots: usize) -> u64 {
    let answers = slots as u64 * allowance.slot_bytes;
    let slots = match allowance.is_shared {
        true => answers.max(allowance.narrative_bytes),
        false => answers + allowance.narrative_bytes,
    };
    allowance.fixed_bytes + slots
}

/// What engines of a model are made of, on a device that tells what they hold.
fn metered(model: &str, rig: &Rig) -> Arc<Setup> {
    let (blind, held) = (setup(model, Arc::new(NoModel)), rig.held());
    Arc::new(Setup {
        scorer: Arc::clone(&blind.scorer),
        factory: Arc::clone(&blind.factory),
        meter: Arc::new(move |_| {
            Some(Held {
                bytes: held.load(Ordering::Relaxed),
                is_guess: false,
            })
        }),
        options: blind.options,
        making: Arc::clone(&blind.making),
    })
}
