//! How the requests of all connections share the processors: each connection gets its turn, however much another one asks for.

use std::future::{Future, pending, poll_fn};
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::call::Call;
use super::ledger::Account;
use super::params::LIST_LIMIT_MAX;

/// Requests of one connection that may change something at the same time: enough for one write to the disk to serve several.
const CHANGING_MAX: usize = 8;
/// And of all connections.
const CHANGING_OF_ALL_MAX: usize = 64;
/// Looks of all connections that are computed at the same time: fewer than there are threads, so that whoever asks for next to nothing finds one
/// free, however many look something up.
const LOOKING_OF_ALL_MAX: usize = 2;
/// Long lines that are parsed at the same time, on threads of their own.
const PARSING_MAX: usize = 2;
/// Interviews in the lists of all connections that are put together at the same time, which takes several turns.
pub(super) const LISTED_MAX: usize = 8 * LIST_LIMIT_MAX;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Common {
    looking: Arc<Semaphore>,
    changing: Arc<Semaphore>,
    /// For lines so long that they are parsed on another thread.
    pub parsing: Semaphore,
    /// For the interviews of lists.
    pub listing: Semaphore,
}

/// The turns of one connection.
#[derive(Debug)]
pub(super) struct Turns {
    looking: Arc<Semaphore>,
    changing: Arc<Semaphore>,
    common: Arc<Common>,
    account: Arc<Account>,
}

/// What answering a request takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effort {
    /// Next to nothing, but a connection's come one after the other.
    Glance,
    /// Computing, mostly: so do these, and few of all connections' go on at a time.
    Look,
    /// The disk: several go together.
    Change,
    /// Little now and then, for a long time.
    Wait,
}

// Nobody closes the semaphores: a turn that is an error is a turn all the same.
type Turn = Result<OwnedSemaphorePermit, AcquireError>;

impl Common {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            looking: Arc::new(Semaphore::new(LOOKING_OF_ALL_MAX)),
            changing: Arc::new(Semaphore::new(CHANGING_OF_ALL_MAX)),
            parsing: Semaphore::new(PARSING_MAX),
            listing: Semaphore::new(LISTED_MAX),
        })
    }
}

impl Turns {
    /// `account`: what is answered counts to it.
    pub fn new(common: &Arc<Common>, account: &Arc<Account>) -> Self {
        Self {
            looking: Arc::new(Semaphore::new(1)),
            changing: Arc::new(Semaphore::new(CHANGING_MAX)),
            common: Arc::clone(common),
            account: Arc::clone(account),
        }
    }

    /// Does `work` when it is its turn. Of a connection that asks for thousands of things at once only a few are ever under way, so that whoever
    /// asks for one thing waits for those few only. A change that has begun goes on to its end and keeps its turn until then, even if this is dropped.
    pub async fn take<T: Send + 'static>(&self, effort: Effort, work: impl Future<Output = T> + Send + 'static) -> T {
        match effort {
            Effort::Glance => {
                let _turn = self.to_look().await;
                work.await
            }
            Effort::Look => {
                let _turn = self.to_look().await;
                turn_by_turn(|| Arc::clone(&self.common.looking).acquire_owned(), work).await
            }
            Effort::Change => {
                let turn = Arc::clone(&self.changing).acquire_owned().await;
                let of_all = Arc::clone(&self.common.changing).acquire_owned().await;
                to_its_end(async move {
                    let done = work.await;
                    drop((turn, of_all));
                    done
                })
                .await
            }
            Effort::Wait => {
                let both = || {
                    let (own, of_all) = (self.to_look(), Arc::clone(&self.common.looking));
                    async move { (own.await, of_all.acquire_owned().await) }
                };
                turn_by_turn(both, work).await
            }
        }
    }

    /// The turn to look something up, once there is memory for what is found.
    fn to_look(&self) -> impl Future<Output = Turn> + Send + use<> {
        let (looking, account) = (Arc::clone(&self.looking), Arc::clone(&self.account));
        async move {
            let turn = looking.acquire_owned().await;
            account.relieved().await;
            turn
        }
    }
}

/// Goes on with `work` in its turn only, and takes no turn while it waits.
pub(super) async fn turn_by_turn<T, A: Future>(ask: impl Fn() -> A, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut asked = None;
    poll_fn(|context| {
        let turn = asked.get_or_insert_with(|| Box::pin(ask()));
        let Poll::Ready(_turn) = turn.as_mut().poll(context) else {
            return Poll::Pending;
        };
        asked = None;
        work.as_mut().poll(context)
    })
    .await
}

/// Does `work` whether or not this is dropped.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime ends, and this with it.
        Err(Err(_)) => pending().await,
    }
}

impl Effort {
    pub fn of(call: &Call) -> Self {
        match call {
            Call::Hello | Call::Status => Self::Glance,
            Call::Get { .. } | Call::List(_) | Call::Report { .. } | Call::Export { .. } => Self::Look,
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::{JoinSet, yield_now};

    use super::super::ledger::Ledger;
    use super::*;

    fn turns(common: &Arc<Common>) -> Arc<Turns> {
        Arc::new(Turns::new(common, &Arc::new(Ledger::new(usize::MAX).open())))
    }

    /// How many are under way, and how many were at the most.
    #[derive(Default)]
    struct Running {
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Running {
        /// Computes for a while in steps.
        async fn one_more(self: Arc<Self>) {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            for _ in 0..3 {
                yield_now().await;
            }
            self.now.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn most_at_once(connections: usize, effort: Effort) -> usize {
        let common = Common::new();
        let (running, mut all) = (Arc::<Running>::default(), JoinSet::new());
        for _ in 0..connections {
            let turns = turns(&common);
            for _ in 0..100 {
                let (turns, running) = (Arc::clone(&turns), Arc::clone(&running));
                all.spawn(async move { turns.take(effort, running.one_more()).await });
            }
        }
        all.join_all().await;
        running.most.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_connection_looks_at_one_thing_at_a_time_and_changes_a_few() {
        for effort in [Effort::Glance, Effort::Look] {
            assert_eq!(most_at_once(1, effort).await, 1);
            assert_eq!(
                most_at_once(5, effort).await,
                5,
                "others get their turn between two steps"
            );
        }
        assert_eq!(most_at_once(1, Effort::Change).await, CHANGING_MAX);
        assert_eq!(most_at_once(20, Effort::Change).await, CHANGING_OF_ALL_MAX);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_connections_look_something_up_threads_are_left_for_others() {
        for (effort, threads_max) in [(Effort::Look, 2), (Effort::Wait, 2), (Effort::Glance, 4)] {
            let common = Common::new();
            let (running, mut all) = (Arc::<Running>::default(), JoinSet::new());
            for _ in 0..20 {
                let (turns, running) = (turns(&common), Arc::clone(&running));
                let computing = async move {
                    running
                        .most
                        .fetch_max(running.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    running.now.fetch_sub(1, Ordering::Relaxed);
                };
                all.spawn(async move { turns.take(effort, computing).await });
            }
            all.join_all().await;
            let most = running.most.load(Ordering::Relaxed);
            assert!((1..=threads_max).contains(&most), "{effort:?}: {most} at once");
        }
    }

    #[tokio::test]
    async fn whoever_waits_keeps_nobody_from_his_turn() {
        let turns = turns(&Common::new());
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

    #[tokio::test]
    async fn nothing_is_looked_up_while_all_together_hold_too_much() {
        let ledger = Ledger::new(100_000);
        let (large, other) = (ledger.open(), Arc::new(ledger.open()));
        let turns = Turns::new(&Common::new(), &other);
        let _not_little = other.charged(30_000);
        for effort in [Effort::Glance, Effort::Look, Effort::Wait] {
            let held = large.charged(100_000);
            let mut looking = Box::pin(turns.take(effort, async {}));
            for _ in 0..3 {
                tokio::select! {
                    biased;
                    () = &mut looking => panic!("there is no memory for what is found"),
                    () = yield_now() => {}
                }
            }
            drop(held);
            looking.await;
        }
    }

    #[tokio::test]
    async fn a_change_that_nobody_waits_for_any_more_keeps_its_turn_until_it_has_ended() {
        let turns = turns(&Common::new());
        let gate = Arc::new(Semaphore::new(0));
        let [begun, ended] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
        let change = || {
            let (turns, gate) = (Arc::clone(&turns), Arc::clone(&gate));
            let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
            async move {
                let work = async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    gate.acquire().await.unwrap().forget();
                    ended.fetch_add(1, Ordering::Relaxed);
                };
                turns.take(Effort::Change, work).await;
            }
        };
        let some = async || {
            let mut asked = JoinSet::new();
            for _ in 0..2 * CHANGING_MAX {
                asked.spawn(change());
            }
            for _ in 0..10 {
                yield_now().await;
            }
            asked
        };
        some().await.shutdown().await;
        let waiting = some().await;
        assert_eq!(begun.load(Ordering::Relaxed), CHANGING_MAX);
        gate.add_permits(3 * CHANGING_MAX);
        waiting.join_all().await;
        let both = [&begun, &ended].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(both, [3 * CHANGING_MAX; 2], "those that had begun were carried out");
    }
}
