//! One request in the service's hands: what it answers, and what a panic or the daemon's end makes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit, mpsc};

use super::call::Call;
use super::connection::{Phase, REQUEST_BYTES, Shared};
use super::fault::{Fault, Kind};
use super::ledger::{Account, Charge};
use super::lines;
use super::outgoing::{Outgoing, Slot, send};
use super::params::{LIST_LIMIT, LIST_LIMIT_MAX};
use super::service::{Reply, Role, Service};
use super::turns::{Common, Effort, Turns};
use super::wire::Id;

/// What an interview in a list takes, the longest id included, while the list is put together and becomes JSON.
const LISTED_BYTES: usize = 512;

/// A request that the service answers.
pub(super) struct Answering {
    pub role: Role,
    /// `None`: nobody wants to know.
    pub id: Option<Id>,
    pub lines: mpsc::Sender<Outgoing>,
    pub account: Arc<Account>,
    pub slot: Slot,
    pub turns: Arc<Turns>,
    pub shared: Arc<Shared>,
}

/// What is held as long as a call is: what it counts for, and its share of the room for what lines become.
pub(super) struct Held {
    pub charge: Charge,
    pub room: Option<OwnedSemaphorePermit>,
}

impl Answering {
    pub(super) async fn answer(self, call: Call, held: Held) {
        let effort = Effort::of(&call);
        let work = {
            let (service, role, id) = (Arc::clone(&self.shared.service), self.role, self.id.clone());
            let common = Arc::clone(&self.shared.common);
            let account = Arc::clone(&self.account);
            // Boxed, because it is handed on several times and a request may wait for long.
            Box::pin(async move {
                let list = listing(&call, &common, &account).await;
                let result = unpanicked(service.as_ref(), role, call).await;
                let Held { mut charge, room } = held;
                // What was asked is done with; the task is there until the reply is on its way.
                charge.set(REQUEST_BYTES);
                drop((room, list));
                (reply_to(id.as_ref(), result, &account), Some(charge))
            })
        };
        let (reply, _task) = tokio::select! {
            biased;
            answered = self.turns.take(effort, work) => answered,
            () = self.shared.reached(Phase::Over) => (reply_to(self.id.as_ref(), Err(stopping()), &self.account), None),
        };
        if let Some(reply) = reply {
            send(&self.lines, reply.in_reply(self.slot)).await;
        }
    }
}

/// What a list takes until it is whole, for which it needs several turns. Few long ones are begun at a time: those of all connections would fill what
/// all may hold, and cost somebody his connection. One of ordinary length waits for none of them.
async fn listing<'a>(
    call: &Call,
    common: &'a Common,
    account: &Account,
) -> Option<(Option<SemaphorePermit<'a>>, Charge)> {
    let Call::List(params) = call else { return None };
    let interviews = params.limit.unwrap_or(LIST_LIMIT).min(LIST_LIMIT_MAX);
    let room = match interviews > LIST_LIMIT {
        true => Some(common.listing.acquire_many(interviews as u32).await),
        false => None,
    };
    let room = room.map(|room| room.expect("nobody closes the semaphore"));
    // That may have taken long.
    account.relieved().await;
    Some((room, account.charged(interviews * LISTED_BYTES)))
}

fn stopping() -> Fault {
    let message = "the daemon stops before this is answered; ask again once it is back";
    Fault::new(Kind::Draining, message)
}

/// The line with the result, if anybody wants to know.
fn reply_to(id: Option<&Id>, result: Result<Reply, Fault>, account: &Account) -> Option<Outgoing> {
    match (id, result) {
        (Some(id), result) => Some(Outgoing::new(reply_line(id, result), account)),
        (None, Ok(_)) => None,
        (None, Err(fault)) => {
            tracing::debug!(fault = %logged(fault).message, "a notification was not carried out");
            None
        }
    }
}

/// Has the service answer; a panic in it becomes a fault.
async fn unpanicked(service: &dyn Service, role: Role, call: Call) -> Result<Reply, Fault> {
    let mut answering = Box::pin(async move { service.call(role, call).await });
    std::future::poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    })
    .await
}

pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    // Words that were put together at run time may quote a candidate; the place is in the log.
    let text = panic.downcast_ref::<&str>().copied();
    Fault::new(Kind::Internal, format!("a panic: {}", text.unwrap_or("see above")))
}

pub(super) fn reply_line(id: &Id, result: Result<Reply, Fault>) -> Vec<u8> {
    match result {
        Ok(result) => lines::result(id, &result),
        Err(fault) => lines::fault(id, &logged(fault)),
    }
}

/// Gives an internal error an id by which it is found in the log; its message may say more there than a client should read.
fn logged(fault: Fault) -> Fault {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if fault.kind != Kind::Internal || fault.data.contains_key("id") {
        return fault;
    }
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let id = format!("{:x}-{number:x}", std::process::id());
    tracing::error!(error_id = %id, problem = %fault.message, "internal error");
    let message = format!("an internal error; the daemon's log has it under {id}");
    Fault {
        message,
        ..fault.with("id", id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::{Semaphore, watch};

    use super::super::hub::Hub;
    use super::super::ledger::Ledger;
    use super::super::options::Options;
    use super::super::outgoing::Activity;
    use super::super::service;
    use super::*;
    use crate::domain::ids::InterviewId;

    struct Silent;

    impl Service for Silent {
        fn call(&self, _: Role, _: Call) -> service::Answering<'_> {
            Box::pin(async { service::reply(&()) })
        }

        fn knows(&self, _: &InterviewId) -> Result<bool, Fault> {
            Ok(false)
        }
    }

    fn shared(ledger: &Arc<Ledger>, phase: watch::Receiver<Phase>) -> Arc<Shared> {
        Arc::new(Shared {
            service: Arc::new(Silent),
            hub: Arc::<Hub>::default(),
            options: Arc::<Options>::default(),
            ledger: Arc::clone(ledger),
            room: Arc::new(Semaphore::new(1)),
            common: Common::new(),
            evictions: Mutex::default(),
            phase,
        })
    }

    #[tokio::test]
    async fn a_request_counts_until_its_reply_is_on_its_way() {
        let (_serving, phase) = watch::channel(Phase::Serving);
        let ledger = Ledger::new(usize::MAX);
        let (shared, account) = (shared(&ledger, phase), Arc::new(ledger.open()));
        let (lines, mut queue) = mpsc::channel(1);
        let answering = || Answering {
            role: Role::Client,
            id: Some(Id::null()),
            lines: lines.clone(),
            account: Arc::clone(&account),
            slot: Slot {
                _permit: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
                _under_way: Arc::<Activity>::default().begin().unwrap(),
            },
            turns: Arc::new(Turns::new(&shared.common, &account)),
            shared: Arc::clone(&shared),
        };
        let held = || Held {
            charge: account.charged(REQUEST_BYTES + 100_000),
            room: None,
        };
        // There is room for one reply on its way.
        answering().answer(Call::Status, held()).await;
        let reply = account.bytes();
        assert!(reply < 100, "{reply}");
        let mut waiting = Box::pin(answering().answer(Call::Status, held()));
        tokio::select! {
            biased;
            () = &mut waiting => panic!("the first reply is not written yet"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(account.bytes(), 2 * reply + REQUEST_BYTES);
        drop(queue.recv().await);
        waiting.await;
        assert_eq!(account.bytes(), reply);
    }
}
