//! A store that cannot say what became of a round, or cannot be opened: what is told of that afterwards, and what is done.

use tempfile::TempDir;

use super::*;
use crate::daemon::tending::IN_FLIGHT;
use crate::domain::event::Event;
use crate::socket::hub::Subscription;
use crate::socket::notification::Told;
use crate::store::by_hand::{Hand, Overflow, Shut};

/// A daemon whose store does a round when a test says so. Time stands still, but for those who wait for it.
struct World {
    daemon: Arc<Daemon>,
    hand: Hand,
    events: Subscription,
    folder: TempDir,
}

fn delete(id: &str) -> Call {
    let interview_id = id.into();
    Call::Delete { interview_id }
}

fn cancel(id: &str) -> Call {
    let interview_id = id.into();
    Call::Cancel { interview_id }
}

impl World {
    async fn new() -> Self {
        Self::that_is(None).await
    }

    async fn that_is(shut: Option<Shut>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let (store, hand) = Store::by_hand_that_is(shut, &path, Timestamp::from_millis(0)).unwrap();
        let daemon = daemon(folder.path(), store).await;
        Self {
            events: daemon.hub.subscribe(None, 64),
            daemon,
            hand,
            folder,
        }
    }

    async fn turns(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Asks all of this, which becomes one round. Gives of each whether it was done; what was not is in doubt, or the store refuses it.
    async fn ask(&mut self, calls: impl IntoIterator<Item = Call>) -> Vec<bool> {
        let asked: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let daemon = Arc::clone(&self.daemon);
                actix::spawn(async move { super::ask(&daemon, call).await })
            })
            .collect();
        self.turns().await;
        self.hand.round();
        self.turns().await;
        let mut done = Vec::new();
        for asked in asked {
            let reply = asked.await.unwrap();
            assert!(
                reply.as_ref().err().is_none_or(|fault| fault.kind == Kind::Storage),
                "{reply:?}"
            );
            done.push(reply.is_ok());
        }
        done
    }

    /// The store is opened again, and nobody was told what that has shown.
    async fn open_again(&mut self) {
        let store = self.daemon.store.clone();
        let tended = actix::spawn(async move { store.tend(Timestamp::from_millis(0)).await });
        self.turns().await;
        self.hand.round();
        assert!(tended.await.unwrap().is_some(), "it was not opened");
    }

    /// What the daemon does by itself, once.
    async fn tend(&mut self) {
        let daemon = Arc::clone(&self.daemon);
        let keeper = actix::spawn(async move { daemon.tend_store().await });
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        self.hand.round();
        self.turns().await;
        keeper.abort();
        self.turns().await;
    }

    fn told(&mut self) -> Vec<String> {
        let told = std::iter::from_fn(|| self.events.try_next()).map(|notification| match notification.told {
            Told::Event(Event {
                interview_id,
                kind,
                done,
                total,
            }) => format!("{interview_id} {kind:?} {done}/{total}").to_lowercase(),
            told => panic!("{told:?}"),
        });
        told.collect()
    }
}

#[actix::test]
async fn what_became_of_changes_in_doubt_is_told_once_after_the_store_has_been_opened_again() {
    tokio::time::pause();
    let expected = [
        "cancelled cancelled 1/1",
        "ended deleted 1/1",
        "going deleted 0/1",
        "new accepted 0/1",
    ];
    for overflow in [Overflow::Lasts, Overflow::IsLost] {
        let mut world = World::new().await;
        let all = ["goes-on", "going", "cancelled", "ended", "stays"];
        assert_eq!(world.ask(all.map(submission)).await, [true; 5]);
        assert_eq!(world.ask(["ended", "stays"].map(cancel)).await, [true; 2]);
        world.told();
        world.hand.overflow(Some(overflow));
        let changes = || {
            [
                delete("going"),
                cancel("cancelled"),
                delete("ended"),
                submission("new"),
                submission("stays"),
            ]
        };
        assert_eq!(world.ask(changes()).await, [false; 5]);
        // Until it is known what became of them, nothing follows on them.
        assert_eq!(world.ask(changes()).await, [false; 5]);
        assert_eq!(world.told(), [""; 0], "{overflow:?}");
        world.tend().await;
        let lasts = overflow == Overflow::Lasts;
        assert_eq!(world.told(), if lasts { &expected[..] } else { &[] }, "{overflow:?}");
        until_queued(&world.daemon, if lasts { 2 } else { 3 }).await;
        world.daemon.store.find_the_disk_full();
        world.tend().await;
        assert_eq!(world.told(), [""; 0], "{overflow:?}");
        if !lasts {
            assert_eq!(world.ask(changes()).await, [true; 5]);
            let mut told = world.told();
            told.sort();
            assert_eq!(told, expected);
        }
    }
}

#[actix::test]
async fn a_doubt_that_is_noted_late_is_told_of_all_the_same() {
    tokio::time::pause();
    let mut world = World::new().await;
    world.hand.overflow(Some(Overflow::Lasts));
    assert_eq!(world.ask([submission("late")]).await, [false]);
    // As if whoever asked came to note it only after the store was opened again.
    let (daemon, id) = (Arc::clone(&world.daemon), InterviewId::parse("late").unwrap());
    let before = daemon.doubts.lock().unwrap().remove(&id).unwrap();
    let turn = daemon.turns.of(&id).await;
    world.open_again().await;
    let keeper = Arc::clone(&daemon);
    let settling = actix::spawn(async move { keeper.settle_all().await });
    world.turns().await;
    daemon.doubts.lock().unwrap().insert(id, before);
    drop(turn);
    settling.await.unwrap();
    assert_eq!(world.told(), ["late accepted 0/1"]);
}

#[actix::test]
async fn an_interview_is_not_told_to_be_deleted_because_the_one_before_it_of_that_id_was() {
    tokio::time::pause();
    let mut world = World::new().await;
    assert_eq!(world.ask([submission("iv")]).await, [true]);
    world.hand.overflow(Some(Overflow::Lasts));
    assert_eq!(world.ask([delete("iv")]).await, [false]);
    world.told();
    world.open_again().await;
    assert_eq!(world.ask([submission("iv")]).await, [true]);
    let told = ["iv deleted 0/1", "iv accepted 0/1"];
    assert_eq!(world.told(), told);
    world.daemon.settle_all().await;
    assert_eq!(world.told(), [""; 0]);
    until_queued(&world.daemon, 1).await;
}

#[actix::test]
async fn what_runs_is_noted_in_the_store_that_is_opened_and_not_in_one_that_is_moved_aside() {
    tokio::time::pause();
    let mut world = World::that_is(Some(Shut::Full)).await;
    world.daemon.recover();
    world.turns().await;
    let store = world.folder.path().join("store");
    let length = std::fs::metadata(store.join("db")).unwrap().len();
    std::fs::write(store.join("db"), vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    std::fs::write(store.join(IN_FLIGHT), "of the process before").unwrap();
    world.hand.shut(None);
    world.tend().await;
    let (reason, aside) = (
        world.daemon.losses().in_words().unwrap(),
        std::fs::read_dir(world.folder.path()),
    );
    assert!(reason.contains("was moved as a whole"), "{reason}");
    let aside = aside
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| *path != store);
    assert_eq!(std::fs::read(store.join(IN_FLIGHT)).unwrap(), b"");
    let before = std::fs::read(aside.unwrap().join(IN_FLIGHT)).unwrap();
    assert_eq!(before, b"of the process before");
}
