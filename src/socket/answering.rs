//! One request in the service's hands: what it answers, and what a panic or the daemon's end makes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::call::Call;
use super::connection::{Phase, Shared};
use super::fault::{Fault, Kind};
use super::ledger::Account;
use super::lines;
use super::outgoing::{Outgoing, Slot, send};
use super::service::{Reply, Role, Service};
use super::turns::{Effort, Turns};
use super::wire::Id;

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

impl Answering {
    /// `room` is held as long as the call is.
    pub(super) async fn answer(self, call: Call, room: Option<OwnedSemaphorePermit>) {
        let effort = Effort::of(&call);
        let answered = unpanicked(self.shared.service.as_ref(), self.role, call);
        let result = tokio::select! {
            biased;
            result = self.turns.take(effort, answered) => result,
            () = self.shared.reached(Phase::Over) => Err(Fault::new(
                Kind::Draining,
                "the daemon stops before this is answered; ask again once it is back",
            )),
        };
        drop(room);
        let Some(id) = self.id else {
            if let Err(fault) = result {
                tracing::debug!(fault = %logged(fault).message, "a notification was not carried out");
            }
            return;
        };
        let reply = Outgoing::new(reply_line(&id, result), &self.account, Some(self.slot));
        send(&self.lines, reply).await;
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
