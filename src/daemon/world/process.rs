//! One life of the daemon's process in the world: every part is real but the engines' threads, the socket and the disk.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::rig::Rig;
use crate::actors::message::Provide;
use crate::actors::pool::{Adopt, Setup};
use crate::actors::tests::{NoModel, planned, setup};
use crate::config::{Config, Source};
use crate::daemon::run::{Surroundings, build};
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
    stopped: Rc<Cell<bool>>,
}

impl Process {
    /// What every start does, in its order.
    pub fn start(folder: &Path, rig: Rc<Rig>) -> Self {
        let mut config = Config::default();
        config.queue.max_queued_answers = QUEUED_MAX;
        config.interview.open_ttl_s = OPEN_TTL_S;
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
            engines: move |_, _, _| starting.start(),
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
            rig,
            events,
            setup: setup("first", Arc::new(NoModel)),
            replies: Rc::default(),
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

    /// A plan with so many slots for each engine; of a new model, if it has a name.
    pub fn adopt(&mut self, slots: &[usize], model: Option<&str>, attempts_max: u32) {
        if let Some(model) = model {
            self.setup = setup(model, Arc::new(NoModel));
        }
        self.daemon.reports.do_send(Provide {
            making: Arc::clone(&self.setup.making),
        });
        self.daemon.pool.do_send(Adopt {
            setup: Arc::clone(&self.setup),
            actors: slots.iter().map(|slots| planned("cpu", *slots)).collect(),
            attempts_max,
        });
    }

    /// Begins to stop as a signal makes it, with so much time for what runs.
    pub fn stop(&self, drain: Duration) {
        let (daemon, stopped) = (Arc::clone(&self.daemon), Rc::clone(&self.stopped));
        actix::spawn(async move {
            daemon.wind_down(drain, std::future::pending()).await;
            stopped.set(true);
        });
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
