//! One connection: lines in, requests answered side by side, lines out in the order in which they become ready.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time;

use super::answering::{Answering, Held, panicked, reply_line};
use super::call::Call;
use super::fault::{Fault, Kind};
use super::frame::{Frame, Line, LineReader};
use super::hub::{Hub, Subscription};
use super::ledger::{Account, Charge, Ledger};
use super::lines;
use super::options::Options;
use super::outgoing::{Activity, Outgoing, Slot, send, write_lines};
use super::params::Asked;
use super::seldom::Seldom;
use super::server::ROOM_UNIT_BYTES;
use super::service::{Reply, Role, Service};
use super::turns::{Common, Turns};
use super::wire::{self, Id, Request, TEXT_BYTES_MAX};
use crate::domain::ids::InterviewId;

/// Longer lines are parsed on a thread of their own, so that other connections need not wait.
const PARSED_HERE_BYTES_MAX: usize = 256 << 10;
/// What a connection takes that asks for nothing: its tasks, and buffers for short lines.
const CONNECTION_BYTES: usize = 16 << 10;
/// What a request takes besides what it says until it is answered: its task, and a place in several lines.
pub(super) const REQUEST_BYTES: usize = 4 << 10;
/// What a subscription takes besides its queue, roughly.
const SUBSCRIPTION_BYTES: usize = 4 << 10;
/// Lines between those who make them and the writer.
const LINES_QUEUED_MAX: usize = 16;
/// How long a client that sent too much may go on sending before it must read why it is cut off.
const LINGER: Duration = Duration::from_secs(2);
/// How often a connection that has work left is asked whether its client is still there.
const PRESENCE_CHECK: Duration = Duration::from_millis(500);

/// What all connections share.
pub(super) struct Shared {
    pub service: Arc<dyn Service>,
    pub hub: Arc<Hub>,
    pub options: Arc<Options>,
    pub ledger: Arc<Ledger>,
    /// Room for what lines become, in units of [`ROOM_UNIT_BYTES`]: for one of the longest, or for several that are shorter.
    pub room: Arc<Semaphore>,
    pub common: Arc<Common>,
    pub evictions: Mutex<Seldom>,
    pub phase: watch::Receiver<Phase>,
}

/// How far the server is with stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// Nothing more is read; what is pending goes on.
    Finishing,
    /// What is still pending is given up.
    Over,
}

impl Shared {
    /// Returns once the server is at `phase` or past it, or is gone.
    pub(super) async fn reached(&self, phase: Phase) {
        // An error means that the server is gone, which is past every phase.
        let _ = self.phase.clone().wait_for(|now| *now >= phase).await;
    }

    fn evicted(&self, held_bytes: usize) {
        let mut evictions = self.evictions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = evictions.happened(Instant::now()) {
            tracing::warn!(
                held_bytes,
                times,
                "all connections together hold too much unread data; closing the one that holds most"
            );
        }
    }
}

/// Serves one connection until its client has gone, has been silent for too long, holds too much, or the server stops. May be dropped while nothing is
/// under way.
pub(super) async fn serve(stream: UnixStream, role: Role, activity: Arc<Activity>, shared: Arc<Shared>) {
    let account = Arc::new(shared.ledger.open());
    let _itself = account.charged(CONNECTION_BYTES);
    let (read, write) = stream.into_split();
    let (lines, queue) = mpsc::channel(LINES_QUEUED_MAX);
    let write_timeout = shared.options.write_timeout;
    let connection = Connection {
        role,
        reader: LineReader::new(read, shared.options.line_bytes_max, &account),
        lines,
        slots: Arc::new(Semaphore::new(shared.options.requests_in_flight_max.max(1))),
        turns: Arc::new(Turns::new(&shared.common, &account)),
        activity,
        tasks: JoinSet::new(),
        notifications: JoinSet::new(),
        subscriptions: HashMap::new(),
        account: Arc::clone(&account),
        shared: Arc::clone(&shared),
    };
    tokio::select! {
        held_bytes = account.evicted() => shared.evicted(held_bytes),
        ended = both(connection.run(), write_lines(write, queue, write_timeout)) => match ended {
            Ok(Some(cut_off)) => discard(cut_off).await,
            Ok(None) => {}
            Err(error) => tracing::info!(%error, "closing a connection whose client does not read"),
        },
    }
}

/// Ends when both have, or when the writer fails.
async fn both<T>(reading: impl Future<Output = T>, writing: impl Future<Output = io::Result<()>>) -> io::Result<T> {
    let (read, ()) = tokio::try_join!(async { Ok(reading.await) }, writing)?;
    Ok(read)
}

/// Lets a client that is still sending get to the point where it reads its reply.
async fn discard(mut stream: OwnedReadHalf) {
    let mut bytes = vec![0; 16 << 10];
    let read_on = async { while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
    // The client had its time; whether it used it does not matter.
    let _ = time::timeout(LINGER, read_on).await;
}

/// Computes for long without keeping others waiting.
async fn on_another_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    // The words of a panic may quote a candidate; its place is in the log.
    let panicked = |_| Fault::new(Kind::Internal, "reading the line panicked");
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}

/// A line that was read, and what is held for what it became.
struct Read {
    request: Request,
    charge: Charge,
    room: Option<OwnedSemaphorePermit>,
}

impl Read {
    /// Drops the line and counts what it became, which stays held wherever this is, also if the connection ends meanwhile.
    fn of(Line { bytes, mut charge }: Line, role: Role, room: Option<OwnedSemaphorePermit>) -> Self {
        let request = wire::read(&bytes, role);
        drop(bytes);
        charge.set(REQUEST_BYTES + request.bytes);
        Self { request, charge, room }
    }
}

/// What the reading side of a connection has.
struct Connection {
    role: Role,
    reader: LineReader<OwnedReadHalf>,
    lines: mpsc::Sender<Outgoing>,
    slots: Arc<Semaphore>,
    turns: Arc<Turns>,
    activity: Arc<Activity>,
    /// Requests in work and subscriptions: what is of no use once the client has gone.
    tasks: JoinSet<()>,
    /// Notifications in work: they are carried out whether or not the client stays.
    notifications: JoinSet<()>,
    subscriptions: HashMap<u64, oneshot::Sender<Outgoing>>,
    account: Arc<Account>,
    shared: Arc<Shared>,
}

impl Connection {
    /// Reads to the end and waits for what is pending. Gives the stream back if its client was cut off while sending.
    async fn run(mut self) -> Option<OwnedReadHalf> {
        let is_cut_off = loop {
            let Some(permit) = self.permit().await else { break false };
            match self.next().await {
                Frame::Line(line) => match self.slot(permit) {
                    Some(slot) => self.take(line, slot).await,
                    None => break false,
                },
                Frame::TooLong { actual } => {
                    let Some(slot) = self.slot(permit) else { break false };
                    let limit = self.shared.options.line_bytes_max;
                    let message = format!("the line has more than {limit} bytes (socket.line_bytes_max); closing");
                    let fault = Fault::too_large(message, limit, actual);
                    self.reply(Some(Id::null()), Err(fault), slot).await;
                    break true;
                }
                Frame::End => break false,
            }
            while self.tasks.try_join_next().is_some() {}
            while self.notifications.try_join_next().is_some() {}
            // One line, and it is another connection's turn.
            tokio::task::yield_now().await;
        };
        self.subscriptions.clear();
        tokio::select! {
            biased;
            () = async { while self.tasks.join_next().await.is_some() {} } => {}
            () = gone(self.reader.stream()) => self.tasks.abort_all(),
        }
        while self.notifications.join_next().await.is_some() {}
        is_cut_off.then(|| self.reader.into_stream())
    }

    /// Room for one more pending request; `None` if the server stops first.
    async fn permit(&mut self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.slots).acquire_owned();
        let gone = async {
            gone(self.reader.stream()).await;
            self.tasks.abort_all();
            // That makes room; what the client sent before it went is still read.
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = self.shared.reached(Phase::Finishing) => None,
            permit = permit => Some(permit.expect("nobody closes the semaphore")),
            () = gone => None,
        }
    }

    /// `None` if another client has been given this one's place.
    fn slot(&self, permit: OwnedSemaphorePermit) -> Option<Slot> {
        Some(Slot {
            _permit: permit,
            _under_way: self.activity.begin()?,
        })
    }

    /// What the client sends next, or the end: also the server's and that of its patience.
    async fn next(&mut self) -> Frame {
        let idle = self.shared.options.idle;
        loop {
            let deadline = self.activity.idle_since().unwrap_or_else(time::Instant::now) + idle;
            tokio::select! {
                biased;
                () = self.shared.reached(Phase::Finishing) => return Frame::End,
                frame = self.reader.next() => return frame.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a connection broke off");
                    Frame::End
                }),
                () = time::sleep_until(deadline) => {}
            }
            if self.activity.idle_since().is_some_and(|since| since.elapsed() >= idle) {
                tracing::debug!("closing an idle connection");
                return Frame::End;
            }
        }
    }

    async fn take(&mut self, line: Line, slot: Slot) {
        let length = line.bytes.len();
        let Read {
            request: Request { id, asked, .. },
            charge,
            room,
        } = match length > PARSED_HERE_BYTES_MAX {
            true => self.read_long(line).await,
            false => Read::of(line, self.role, None),
        };
        // Only a call goes on to use its room; a reply may wait long for a client that does not read.
        let room = room.filter(|_| matches!(asked, Ok(Asked::Call(_))));
        match asked {
            // Nobody would hear the answer, and a wait for it would keep the connection long after its client has gone.
            Ok(Asked::Call(ref call)) if id.is_none() && call.only_asks() => {}
            Ok(Asked::Call(call)) => {
                let is_stored = matches!(call, Call::Submit(_) | Call::Open(_) | Call::Answer { .. });
                let room = match room.filter(|_| is_stored) {
                    None if is_stored => Some(self.room(length).await),
                    room => room,
                };
                let answering = Answering {
                    role: self.role,
                    id,
                    lines: self.lines.clone(),
                    account: Arc::clone(&self.account),
                    slot,
                    turns: Arc::clone(&self.turns),
                    shared: Arc::clone(&self.shared),
                };
                let tasks = match &answering.id {
                    Some(_) => &mut self.tasks,
                    None => &mut self.notifications,
                };
                let answer = answering.answer(call, Held { charge, room });
                debug_assert!(size_of_val(&answer) <= REQUEST_BYTES / 2, "a request's task has grown");
                tasks.spawn(answer);
            }
            Ok(Asked::Subscribe { interview_id }) => self.subscribe(id, interview_id, slot).await,
            Ok(Asked::Unsubscribe { subscription }) => self.unsubscribe(id, subscription, slot).await,
            Err(fault) => self.reply(id, Err(fault), slot).await,
        }
    }

    /// What a long line asks for. It is read once there is room for what it becomes, and on a thread of its own.
    async fn read_long(&self, line: Line) -> Read {
        let (role, length) = (self.role, line.bytes.len());
        let room = self.room(length).await;
        let _one_of_few = self.shared.common.parsing.acquire().await;
        let measured = on_another_thread(move || (wire::decoding_bytes(&line.bytes), line));
        let read = match measured.await {
            Ok((decoding, mut line)) => {
                // What it becomes, and what decoding takes, is there beside the line. A text too long to be asked for is decoded to be measured, and
                // nothing is made of the line.
                line.charge.set(2 * length + decoding.min(TEXT_BYTES_MAX));
                self.account.relieved().await;
                on_another_thread(move || Read::of(line, role, Some(room))).await
            }
            Err(fault) => Err(fault),
        };
        read.unwrap_or_else(|fault| Read {
            request: Request {
                id: Some(Id::null()),
                asked: Err(fault),
                bytes: 0,
            },
            charge: self.account.charge(),
            room: None,
        })
    }

    /// Whoever sends interviews faster than they are stored waits here, and reads no more meanwhile.
    async fn room(&self, line_bytes: usize) -> OwnedSemaphorePermit {
        let all = self.shared.options.line_bytes_max / ROOM_UNIT_BYTES;
        let units = (line_bytes / ROOM_UNIT_BYTES).min(all).max(1);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.shared.room).acquire_many_owned(units).await;
        permit.expect("nobody closes the semaphore")
    }

    /// Subscribes first and asks afterwards whether there is such an interview, so that no event falls between the two.
    async fn subscribe(&mut self, id: Option<Id>, interview_id: Option<InterviewId>, slot: Slot) {
        self.subscriptions.retain(|_, stop| !stop.is_closed());
        let limit = self.shared.options.subscriptions_max;
        if self.subscriptions.len() >= limit {
            let message = format!("this connection has {limit} subscriptions already, the limit");
            let fault = Fault::too_large(message, limit, limit + 1);
            return self.reply(id, Err(fault), slot).await;
        }
        let capacity = self.shared.options.events_queued_max;
        let subscription = self.shared.hub.subscribe(interview_id.clone(), capacity);
        let is_known = interview_id.map_or(Ok(true), |wanted| {
            let service = AssertUnwindSafe(&self.shared.service);
            let known = catch_unwind(|| service.knows(&wanted)).unwrap_or_else(|panic| Err(panicked(&*panic)))?;
            known
                .then_some(true)
                .ok_or_else(|| Fault::not_found(format!("there is no interview {wanted}")))
        });
        if let Err(fault) = is_known {
            return self.reply(id, Err(fault), slot).await;
        }
        // Its queue is paid for before it fills.
        let queue = self.account.charged(capacity * size_of::<usize>() + SUBSCRIPTION_BYTES);
        let under_way = self.activity.begin();
        let result = super::service::reply(&serde_json::json!({ "subscription": subscription.id() }));
        let (stop, stopped) = oneshot::channel();
        self.subscriptions.insert(subscription.id(), stop);
        self.reply(id, result, slot).await;
        let forwarding = forward(subscription, self.lines.clone(), Arc::clone(&self.account), stopped);
        self.tasks.spawn(async move {
            forwarding.await;
            drop((queue, under_way));
        });
    }

    /// The reply is the last that the subscription's task writes, so that no event follows it.
    async fn unsubscribe(&mut self, id: Option<Id>, subscription: u64, slot: Slot) {
        let Some(stop) = self.subscriptions.remove(&subscription) else {
            let message = format!("this connection has no subscription {subscription}");
            return self.reply(id, Err(Fault::not_found(message)), slot).await;
        };
        let Some(id) = id else { return };
        let result = super::service::reply(&serde_json::json!({}));
        let reply = Outgoing::new(reply_line(&id, result), &self.account).in_reply(slot);
        // The task ends before its `stop` only if the writer is gone, and with it this connection.
        let _ = stop.send(reply);
    }

    async fn reply(&self, id: Option<Id>, result: Result<Reply, Fault>, slot: Slot) {
        if let Some(id) = id {
            let reply = Outgoing::new(reply_line(&id, result), &self.account).in_reply(slot);
            send(&self.lines, reply).await;
        }
    }
}

async fn forward(
    mut subscription: Subscription,
    lines: mpsc::Sender<Outgoing>,
    account: Arc<Account>,
    mut stop: oneshot::Receiver<Outgoing>,
) {
    let forward = async {
        loop {
            let notification = subscription.next().await;
            // The charge comes with the room to send: what waits for it is counted by the subscription's own limit.
            let Ok(room) = lines.reserve().await else { return };
            room.send(Outgoing::new(lines::event(&notification), &account));
        }
    };
    tokio::select! {
        biased;
        last = &mut stop => if let Ok(reply) = last {
            send(&lines, reply).await;
        },
        () = forward => {}
    }
}

/// Returns once the client has closed both directions: nobody will read what is still to come.
async fn gone(stream: &OwnedReadHalf) {
    // An error means that the runtime ends, and with it every connection.
    while let Ok(ready) = stream.ready(Interest::WRITABLE).await
        && !ready.is_write_closed()
    {
        time::sleep(PRESENCE_CHECK).await;
    }
}
