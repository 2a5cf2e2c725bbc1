//! Accepts connections, tells who is an admin, and ends them all when the daemon stops.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time;

use super::connection::{self, Phase, Shared};
use super::fault::{Fault, Kind};
use super::hub::Hub;
use super::ledger::Ledger;
use super::lines;
use super::listener::{Bound, Connected, Connections};
use super::options::Options;
use super::outgoing::Activity;
use super::seldom::Seldom;
use super::service::{Role, Service};
use super::turns::Common;
use super::wire::Id;

/// The pause after the system refused a connection: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client that was refused for want of room is told to wait.
const RETRY_AFTER_MS: u64 = 1_000;
/// How long the last replies may take to be written once the grace is over.
const FLUSH: Duration = Duration::from_millis(500);
/// What lines become is counted in units of this many bytes.
pub(super) const ROOM_UNIT_BYTES: usize = 1 << 10;

/// Serves until `shutdown` ends: then no more requests are read, those pending may go on for `options.grace`, and everything is closed and
/// the socket removed when this returns. Dropping it closes everything at once.
pub async fn run(
    bound: Bound,
    service: Arc<dyn Service>,
    hub: Arc<Hub>,
    options: Arc<Options>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (phase, phases) = watch::channel(Phase::Serving);
    let connections = bound.connections();
    let Bound {
        listener,
        file,
        own_uid,
        ..
    } = bound;
    let mut door = Door {
        connections,
        own_uid,
        refusals: Seldom::default(),
        farewells: Seldom::default(),
        open: JoinSet::new(),
        guests: HashMap::new(),
        shared: Arc::new(Shared {
            service,
            hub,
            ledger: Ledger::telling(options.buffered_bytes_max, options.given_back),
            room: Arc::new(Semaphore::new(room_units(options.line_bytes_max))),
            common: Common::new(),
            evictions: Mutex::default(),
            options,
            phase: phases,
        }),
    };
    accept(&listener, &mut door, shutdown).await;
    drop(listener);
    if let Some(file) = &file {
        file.remove();
    }
    phase.send_replace(Phase::Finishing);
    let grace = door.shared.options.grace;
    let mut open = door.open;
    if time::timeout(grace, all_ended(&mut open)).await.is_err() {
        phase.send_replace(Phase::Over);
        if time::timeout(FLUSH, all_ended(&mut open)).await.is_err() {
            tracing::warn!(connections = open.len(), "closing connections that do not end");
            open.shutdown().await;
        }
    }
}

/// At least one, and as many as a semaphore can count.
fn room_units(bytes: usize) -> usize {
    (bytes / ROOM_UNIT_BYTES).clamp(1, u32::MAX as usize)
}

async fn accept(listener: &UnixListener, door: &mut Door, shutdown: impl Future<Output = ()> + Send) {
    let mut shutdown = pin!(shutdown);
    let mut failures = Seldom::default();
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            Some(ended) = door.open.join_next_with_id() => door.left(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => door.admit(stream).await,
                Err(error) => {
                    if let Some(times) = failures.happened(Instant::now()) {
                        tracing::warn!(%error, times, "connections cannot be accepted and wait");
                    }
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn all_ended(open: &mut JoinSet<()>) {
    while let Some(ended) = open.join_next().await {
        told(ended);
    }
}

fn told(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a panic");
    }
}

/// Who comes in, and as what.
struct Door {
    connections: Connections,
    own_uid: u32,
    refusals: Seldom,
    farewells: Seldom,
    open: JoinSet<()>,
    /// Whoever is in `open`.
    guests: HashMap<task::Id, Guest>,
    shared: Arc<Shared>,
}

/// A connection that is served.
struct Guest {
    activity: Arc<Activity>,
    serving: AbortHandle,
}

impl Door {
    async fn admit(&mut self, stream: UnixStream) {
        let Some(connected) = self.place().await else {
            return self.refuse(&stream);
        };
        let role = self.role(&stream);
        let (activity, shared) = (Arc::<Activity>::default(), Arc::clone(&self.shared));
        let served = connection::serve(stream, role, Arc::clone(&activity), shared);
        let serving = self.open.spawn(async move {
            served.await;
            drop(connected);
        });
        self.guests.insert(serving.id(), Guest { activity, serving });
    }

    /// A place for one more; if all are taken, that of whoever has been idle longest.
    async fn place(&mut self) -> Option<Connected> {
        let max = self.shared.options.connections_max;
        loop {
            if let Some(place) = self.connections.enter(max) {
                return Some(place);
            }
            // Who has gone by himself must not be taken for one who is idle.
            let ended = match self.open.try_join_next_with_id() {
                Some(ended) => ended,
                None => {
                    let guest = self.idle_longest()?;
                    if !guest.activity.end_if_idle(self.shared.options.makes_way) {
                        continue; // it has just asked for something
                    }
                    guest.serving.abort();
                    if let Some(times) = self.farewells.happened(Instant::now()) {
                        tracing::warn!(
                            max,
                            times,
                            "idle connections are closed for new ones: there are as many as there may be"
                        );
                    }
                    // Nothing is under way there, so that it takes no time.
                    self.open.join_next_with_id().await?
                }
            };
            self.left(ended);
        }
    }

    /// Who has been idle longest, if for long enough to make way.
    fn idle_longest(&self) -> Option<&Guest> {
        let guests = self.guests.values();
        let idle = guests.filter_map(|guest| Some((guest.activity.idle_since()?, guest)));
        let (since, guest) = idle.min_by_key(|(since, _)| *since)?;
        (since.elapsed() >= self.shared.options.makes_way).then_some(guest)
    }

    fn left(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.guests.remove(&id);
        told(ended.map(drop));
    }

    fn refuse(&mut self, stream: &UnixStream) {
        let max = self.shared.options.connections_max;
        if let Some(times) = self.refusals.happened(Instant::now()) {
            tracing::warn!(
                max,
                times,
                "clients are refused: there are as many connections as there may be, and none is idle"
            );
        }
        let idle_s = self.shared.options.makes_way.as_secs();
        let message = format!(
            "there are {max} connections already, the limit (socket.connections_max), and none has been idle for {idle_s} s"
        );
        let busy = Fault::new(Kind::Busy, message).with("retry_after_ms", RETRY_AFTER_MS);
        // A new connection's buffer is empty: the line fits, or the client is gone.
        if let Err(error) = stream.try_write(&lines::fault(&Id::null(), &busy)) {
            tracing::debug!(%error, "a refused connection was not told why");
        }
    }

    fn role(&self, stream: &UnixStream) -> Role {
        let options = &self.shared.options;
        match stream.peer_cred() {
            Ok(peer) => {
                let uid = peer.uid();
                let is_own = options.own_uid_is_admin && (uid == 0 || uid == self.own_uid);
                if is_own || options.admin_uids.contains(&uid) {
                    Role::Admin
                } else {
                    Role::Client
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection's user is unknown; it may do what clients may");
                Role::Client
            }
        }
    }
}
