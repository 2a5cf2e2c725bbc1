//! New plans beside searches for a model, and beside a configuration that is read again meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use tempfile::TempDir;

use super::*;
use crate::config::{self, AutoOr};
use crate::daemon::building::Surroundings;
use crate::socket::call::Count;

fn slots(number: u32) -> ResizeParams {
    ResizeParams {
        slots_per_actor: Some(Count::Number(number)),
        actors: None,
    }
}

#[actix::test]
async fn no_new_plan_waits_for_a_search_that_does_not_end() {
    tokio::time::pause();
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), store(folder.path())).await;
    let resize = || daemon.call(Role::Admin, Call::Resize(ResizeParams::default()));
    let refused = async || resize().await.unwrap_err().message;
    let searching = daemon.loading.lock().await;
    // It is not late yet, and becomes so while this waits.
    assert!(refused().await.contains("it takes too long"));
    daemon.stay_without("the disk does not answer".to_owned(), Search::GoesOn);
    let before = tokio::time::Instant::now();
    assert!(
        refused()
            .await
            .contains("while a model is looked for: the disk does not answer")
    );
    assert_eq!(before.elapsed(), Duration::ZERO, "it is known already");
    drop(searching);
    assert!(refused().await.contains("there is no model to plan for"));
}

#[actix::test]
async fn what_a_new_plan_waits_for_is_no_search_that_failed_before() {
    tokio::time::pause();
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), store(folder.path())).await;
    daemon.stay_without("an older problem".to_owned(), Search::IsOver);
    let another_plan = daemon.loading.lock().await;
    let before = tokio::time::Instant::now();
    let resize = daemon.call(Role::Admin, Call::Resize(ResizeParams::default()));
    let refusal = resize.await.unwrap_err().message;
    assert_eq!(
        refusal,
        "there is no new plan while a model is looked for or another plan is made: it takes too long"
    );
    assert!(before.elapsed() >= daemon.deadlines.load(), "that may yet end");
    drop(another_plan);
}

/// A daemon with a model that computes nothing, and a configuration that can be written anew.
struct House {
    folder: TempDir,
    daemon: Arc<Daemon>,
    /// Engines that were started, from first to last.
    started: Rc<Cell<usize>>,
}

impl House {
    async fn with_a_model() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        std::fs::create_dir(&model).unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        for file in std::fs::read_dir(demo).unwrap() {
            let file = file.unwrap();
            std::os::unix::fs::symlink(file.path(), model.join(file.file_name())).unwrap();
        }
        std::fs::write(model.join("simulated.json"), r#"{"seed": 7, "step_ms": 0}"#).unwrap();
        configure(folder.path(), "");
        let source = source(folder.path());
        let settings = Settings::new(config::load(&source).unwrap().config).unwrap();
        let started = Rc::<Cell<usize>>::default();
        let count = Rc::clone(&started);
        let Surroundings {
            connections,
            clock,
            answers_ahead,
            engines,
        } = ordinary(Connections::default());
        let surroundings = Surroundings {
            connections,
            clock,
            answers_ahead,
            engines: move |counters, deadlines, epoch| -> StartEngine {
                let start = engines(counters, deadlines, epoch);
                Box::new(move |newcomer, setup, doors| {
                    count.set(count.get() + 1);
                    start(newcomer, setup, doors)
                })
            },
        };
        let store = store(folder.path());
        let daemon = build(settings, source, store, surroundings, watch::channel(None).0);
        daemon.find_model().await;
        let house = Self {
            folder,
            daemon,
            started,
        };
        house.until_ready(2).await;
        house
    }

    /// Until the one engine has so many slots.
    async fn until_ready(&self, slots: usize) {
        for _ in 0..4_000 {
            let status = ask(&self.daemon, Call::Status).await.unwrap();
            let actors = status["pool"]["actors"].as_array().unwrap();
            let as_planned = |actor: &Value| actor["state"] == "ready" && actor["slots"] == slots;
            if actors.len() == 1 && actors.iter().all(as_planned) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "never has it {slots} slots: {:?}",
            self.daemon.why_without_model().await
        );
    }
}

/// Writes the configuration; `more`: lines of its own.
fn configure(folder: &Path, more: &str) {
    let text = format!(
        "model.path = '{}'\nmodel.check_hashes = false\npool.device = \"cpu\"\npool.slots_per_actor = 2\n{more}",
        folder.join("model").display()
    );
    std::fs::write(folder.join("config.toml"), text).unwrap();
}

#[actix::test]
async fn a_new_plan_keeps_what_is_read_of_the_configuration_while_it_is_made() {
    let house = House::with_a_model().await;
    let mut resize = pin!(house.daemon.resize(slots(3)));
    let begun = resize.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(begun.is_pending());
    configure(
        house.folder.path(),
        "queue.max_queued_answers = 77\npool.memory_reserve_mib = 64",
    );
    let reloaded = house.daemon.reload().await.unwrap();
    assert_eq!(
        reloaded.changed,
        ["pool.memory_reserve_mib", "queue.max_queued_answers"]
    );
    assert_eq!(resize.await.unwrap().actors[0].slots, 3);
    let config = house.daemon.settings().config.clone();
    assert_eq!(config.queue.max_queued_answers, 77);
    assert_eq!(config.pool.memory_reserve_mib, AutoOr::Value(64));
    assert_eq!(config.pool.slots_per_actor, AutoOr::Value(3));
    // The search that the other reserve asks for plans by both.
    house.until_ready(3).await;
}

#[actix::test]
async fn however_often_a_plan_and_a_search_are_asked_for_while_one_goes_on_there_is_one_more_search() {
    let house = House::with_a_model().await;
    let searching = house.daemon.loading.lock().await;
    let mut resizes = Vec::new();
    for number in 1..=10 {
        let reserve = format!("pool.memory_reserve_mib = {}", 64 + number);
        configure(house.folder.path(), &reserve);
        let reloaded = house.daemon.reload().await.unwrap();
        assert_eq!(reloaded.changed, ["pool.memory_reserve_mib"]);
        let daemon = Arc::clone(&house.daemon);
        resizes.push(actix::spawn(async move { daemon.resize(slots(number)).await }));
    }
    assert_eq!(house.started.get(), 1);
    drop(searching);
    for (resize, slots) in resizes.into_iter().zip(1..) {
        assert_eq!(resize.await.unwrap().unwrap().actors[0].slots, slots);
    }
    // Whoever waits for his turn now comes after all of them.
    drop(house.daemon.loading.lock().await);
    house.until_ready(10).await;
    assert_eq!(house.started.get(), 2, "each search ends with engines of its own");
    let config = house.daemon.settings().config.clone();
    assert_eq!(config.pool.memory_reserve_mib, AutoOr::Value(74));
}
