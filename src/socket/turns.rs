//! How the requests of all connections share the processors: each connection gets its turn, however much another one asks for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;

use super::call::Call;

/// Requests of one connection that may change something at the same time: enough for one write to the disk to serve several.
const CHANGING_MAX: usize = 8;
/// And of all connections.
const CHANGING_OF_ALL_MAX: usize = 64;
/// Long lines that are parsed at the same time, on threads of their own.
const PARSING_MAX: usize = 2;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Common {
    changing: Semaphore,
    /// For lines so long that they are parsed on another thread.
    pub parsing: Semaphore,
}

/// The turns of one connection.
#[derive(Debug)]
pub(super) struct Turns {
    looking: Arc<Semaphore>,
    changing: Semaphore,
    common: Arc<Common>,
}

/// What answering a request takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effort {
    /// Computing, mostly: a connection's come one after the other.
    Look,
    /// The disk: several go together.
    Change,
    /// Little now and then, for a long time.
    Wait,
}

impl Common {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            changing: Semaphore::new(CHANGING_OF_ALL_MAX),
            parsing: Semaphore::new(PARSING_MAX),
        })
    }
}

impl Turns {
    pub fn new(common: &Arc<Common>) -> Self {
        Self {
            looking: Arc::new(Semaphore::new(1)),
            changing: Semaphore::new(CHANGING_MAX),
            common: Arc::clone(common),
        }
    }

    /// Does `work` when it is its turn. Of a connection that asks for thousands of things at once only a few are ever under way, so that whoever
    /// asks for one thing waits for those few only.
    pub async fn take<T>(&self, effort: Effort, work: impl Future<Output = T>) -> T {
        // Nobody closes the semaphores: every error is a permit that is not needed.
        match effort {
            Effort::Look => {
                let _turn = self.looking.acquire().await;
                work.await
            }
            Effort::Change => {
                let _turn = self.changing.acquire().await;
                let _of_all = self.common.changing.acquire().await;
                work.await
            }
            Effort::Wait => turn_by_turn(&self.looking, work).await,
        }
    }
}

impl Effort {
    pub fn of(call: &Call) -> Self {
        match call {
            Call::Hello
            | Call::Get { .. }
            | Call::List(_)
            | Call::Report { .. }
            | Call::Status
            | Call::Export { .. } => Self::Look,
            Call::Submit(_)
            | Call::Open(_)
            | Call::Answer { .. }
            | Call::Finish { .. }
            | Call::Retry { .. }
            | Call::Cancel { .. }
            | Call::Delete { .. } => Self::Change,
            // What an admin orders may take as long as loading a model does.
            Call::WaitForReport { .. }
            | Call::Resize(_)
            | Call::ReloadConfig
            | Call::Drain
            | Call::Resume
            | Call::Shutdown { .. } => Self::Wait,
        }
    }
}

/// Goes on with `work` in its turn only, and takes no turn while it waits.
async fn turn_by_turn<T>(turns: &Arc<Semaphore>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut asked = None;
    poll_fn(|context| {
        let turn = asked.get_or_insert_with(|| Box::pin(Arc::clone(turns).acquire_owned()));
        let Poll::Ready(_turn) = turn.as_mut().poll(context) else {
            return Poll::Pending;
        };
        asked = None;
        work.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::task::yield_now;

    use super::*;

    /// Computes for a while in steps; notes how many do so between two steps.
    async fn busy(running: &Cell<usize>, most: &Cell<usize>) {
        running.set(running.get() + 1);
        most.set(most.get().max(running.get()));
        for _ in 0..3 {
            yield_now().await;
        }
        running.set(running.get() - 1);
    }

    async fn most_at_once(connections: usize, effort: Effort) -> usize {
        let common = Common::new();
        let turns: Vec<_> = (0..connections).map(|_| Turns::new(&common)).collect();
        let (running, most) = (Cell::new(0), Cell::new(0));
        let all = turns.iter().flat_map(|turns| std::iter::repeat_n(turns, 100));
        let mut waiting: Vec<_> = all
            .map(|turns| Box::pin(turns.take(effort, busy(&running, &most))))
            .collect();
        poll_fn(|context| {
            waiting.retain_mut(|one| one.as_mut().poll(context).is_pending());
            match waiting.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        most.get()
    }

    #[tokio::test]
    async fn a_connection_looks_at_one_thing_at_a_time_and_changes_a_few() {
        assert_eq!(most_at_once(1, Effort::Look).await, 1);
        assert_eq!(most_at_once(5, Effort::Look).await, 5);
        assert_eq!(most_at_once(1, Effort::Change).await, CHANGING_MAX);
        assert_eq!(most_at_once(20, Effort::Change).await, CHANGING_OF_ALL_MAX);
    }

    #[tokio::test]
    async fn whoever_waits_keeps_nobody_from_his_turn() {
        let turns = Turns::new(&Common::new());
        let (tell, told) = tokio::sync::oneshot::channel();
        let waiting = turns.take(Effort::Wait, told);
        let telling = async {
            for _ in 0..3 {
                turns.take(Effort::Look, yield_now()).await;
            }
            tell.send("now").unwrap();
        };
        assert_eq!(tokio::join!(waiting, telling).0, Ok("now"));
    }
}
