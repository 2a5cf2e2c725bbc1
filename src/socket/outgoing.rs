//! The writing side of a connection: lines that wait to be written, and what is pending until they are.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{self, Instant};

use super::buffer::taken_bytes;
use super::ledger::{Account, Charge};

/// Writes lines until nobody makes any more. Those of a client that has gone are dropped: what it asked for may still be under way.
/// An error: the client is there and takes nothing.
pub(super) async fn write_lines(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
    timeout: Duration,
) -> io::Result<()> {
    while let Some(outgoing) = queue.recv().await {
        let mut rest = outgoing.bytes.as_slice();
        while !rest.is_empty() {
            match time::timeout(timeout, stream.write(rest)).await? {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    tracing::debug!(%error, "a reply finds nobody to read it");
                    break;
                }
            }
        }
    }
    if let Err(error) = stream.shutdown().await {
        tracing::debug!(%error, "a connection's client has gone");
    }
    Ok(())
}

/// A line on its way out.
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    _charge: Charge,
    /// What the line is a reply to is pending until the line is written.
    _slot: Option<Slot>,
}

impl Outgoing {
    pub(super) fn new(bytes: Vec<u8>, account: &Account) -> Self {
        Self {
            _charge: account.charged(taken_bytes(&bytes)),
            bytes,
            _slot: None,
        }
    }

    /// The reply to the request that has this slot.
    pub(super) fn in_reply(self, slot: Slot) -> Self {
        Self {
            _slot: Some(slot),
            ..self
        }
    }
}

/// A pending request.
pub(super) struct Slot {
    pub(super) _permit: OwnedSemaphorePermit,
    pub(super) _under_way: UnderWay,
}

/// What goes on between a client and the daemon.
pub(super) struct Activity(Mutex<Moment>);

struct Moment {
    /// Pending requests and subscriptions.
    under_way: usize,
    /// When the last of them ended, or the connection came.
    last: Instant,
    /// Whether nothing more may begin.
    is_over: bool,
}

/// A pending request or a subscription, until it is dropped.
pub(super) struct UnderWay(Arc<Activity>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Moment {
            under_way: 0,
            last: Instant::now(),
            is_over: false,
        }))
    }
}

impl Activity {
    /// `None` if the connection is to end.
    pub(super) fn begin(self: &Arc<Self>) -> Option<UnderWay> {
        let mut moment = self.moment();
        if moment.is_over {
            return None;
        }
        moment.under_way += 1;
        Some(UnderWay(Arc::clone(self)))
    }

    /// Sees to it that nothing more begins, if nothing has been under way for so long. `false` if something is, or was.
    pub(super) fn end_if_idle(&self, at_least: Duration) -> bool {
        let mut moment = self.moment();
        moment.is_over |= moment.under_way == 0 && moment.last.elapsed() >= at_least;
        moment.is_over
    }

    /// Since when nothing has been under way; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let moment = self.moment();
        (moment.under_way == 0).then_some(moment.last)
    }

    fn moment(&self) -> MutexGuard<'_, Moment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut moment = self.0.moment();
        moment.under_way -= 1;
        moment.last = Instant::now();
    }
}

pub(super) async fn send(lines: &mpsc::Sender<Outgoing>, line: Outgoing) {
    // Without a writer the connection is ending already.
    let _ = lines.send(line).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_ended_only_while_nothing_is_under_way_and_then_nothing_begins() {
        let (activity, second) = (Arc::<Activity>::default(), Duration::from_secs(1));
        let under_way = activity.begin().unwrap();
        time::advance(2 * second).await;
        assert!(!activity.end_if_idle(second), "something is under way");
        drop(under_way);
        assert!(!activity.end_if_idle(second), "it has just ended");
        time::advance(second).await;
        assert!(activity.end_if_idle(second) && activity.begin().is_none());
    }
}
