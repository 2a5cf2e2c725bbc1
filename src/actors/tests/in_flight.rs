//! Processes that die: what takes them down is found out and left out, and what merely ran when they were killed is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tempfile::TempDir;

use super::chance::Chance;
use super::engines::World;
use super::*;
use crate::actors::in_flight::Place;

const SLOTS: [usize; 2] = [2, 2];
/// Steps that an answer takes.
const STEPS: u32 = 100;

/// Processes one after the other, with answers `iv1/a1` to `iv1/a<n>` of which some are done.
struct House {
    folder: TempDir,
    answers: usize,
    done: BTreeSet<String>,
    /// Answers that were not run again, with the reason.
    given_up: Vec<String>,
    /// The answer that ends the process at this step.
    poison: Option<(&'static str, u32)>,
    deaths: usize,
}

/// A process.
struct Process {
    world: World,
    /// Steps of each running answer, by engine.
    steps: Vec<BTreeMap<String, u32>>,
}

impl House {
    fn new(answers: usize, poison: Option<(&'static str, u32)>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            answers,
            done: BTreeSet::new(),
            given_up: Vec::new(),
            poison,
            deaths: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("in-flight")
    }

    async fn start(&self) -> Process {
        let world = World::new();
        world.pool.do_send(Remember(self.path()));
        let plans = SLOTS.map(|slots| planned("cpu", slots));
        world.adopt(&setup("hash", Arc::new(NoModel)), &plans).await;
        for index in 0..SLOTS.len() {
            world.up(index).await;
        }
        let (case, interview) = (case(life(1)), interview(1, &vec![TEXT; self.answers]));
        for index in 0..self.answers {
            if !self.done.contains(&format!("iv1/a{}", index + 1)) {
                world.pool.do_send(AnswerScorer {
                    case: Arc::clone(&case),
                    interview: Arc::clone(&interview),
                    index,
                    queued_at: Instant::now(),
                    place: None,
                });
            }
        }
        settle().await;
        Process {
            world,
            steps: vec![BTreeMap::new(); SLOTS.len()],
        }
    }

    /// A process that takes so many steps at most. Gives whether it has died, of its poison or because it was killed then.
    async fn live(&mut self, steps: usize) -> bool {
        let mut process = self.start().await;
        let mut died = true;
        for _ in 0..steps {
            if process.step(self.poison).await {
                break;
            }
            died = process.world.ended().len() < self.answers - self.done.len();
            if !died {
                break;
            }
        }
        // What a killed process does not do any more, the pool does as it is dropped: clear what it noted.
        let noted = std::fs::read(self.path()).unwrap();
        for line in process.world.ended() {
            let (name, outcome) = line.split_once(' ').unwrap();
            assert!(self.done.insert(name.to_owned()), "{line}: a second time");
            if outcome != "scored" {
                self.given_up.push(line);
            }
        }
        drop(process);
        settle().await;
        std::fs::write(self.path(), noted).unwrap();
        self.deaths += usize::from(died);
        died
    }
}

impl Process {
    /// One step of everything that runs. Gives whether that was the end of the process.
    async fn step(&mut self, poison: Option<(&str, u32)>) -> bool {
        for index in 0..SLOTS.len() {
            for name in self.world.runs(index) {
                let steps = self.steps[index].entry(name.clone()).or_default();
                {
                    let engine = self.world.engine(index);
                    let engine = engine.borrow();
                    let given = engine.given.iter().find(|given| given.name == name);
                    if let Some(trail) = given.and_then(|given| engine.trails.get(&given.job)) {
                        // It stays noted: a kill that comes now looks most like a defect.
                        trail.mark(Place::Writing(*steps));
                    }
                }
                if poison == Some((name.as_str(), *steps)) {
                    return true;
                }
                *steps += 1;
                if *steps == STEPS {
                    self.world.write(index, &name).await;
                }
            }
        }
        false
    }
}

#[actix::test]
async fn what_ends_the_process_whenever_it_runs_is_left_out_and_all_others_are_scored() {
    for (poison, at) in [("iv1/a3", 7), ("iv1/a1", 0), ("iv1/a8", 99)] {
        let mut house = House::new(8, Some((poison, at)));
        while house.live(10_000).await {
            assert!(house.deaths < 10, "{:?}", house.done);
        }
        assert_eq!(
            (house.deaths, house.done.len()),
            (5, 8),
            "two deaths in company, three alone"
        );
        let [given_up] = &house.given_up[..] else {
            panic!("{:?}", house.given_up)
        };
        assert!(
            given_up.starts_with(poison) && given_up.contains("3 times"),
            "{given_up}"
        );
    }
}

#[actix::test]
async fn kills_at_random_moments_are_nobodys_fault() {
    let mut chance = Chance(5);
    let mut kills = 0;
    for round in 0.. {
        // Lives of which many are shorter than an answer takes, or which are long enough for some.
        let mut house = House::new(1 + chance.below(6), None);
        let longest = STEPS as usize * [2, 3, 8][round % 3];
        while house.live(chance.below(longest)).await {}
        assert_eq!(
            (house.given_up, house.done.len()),
            (Vec::<String>::new(), house.answers)
        );
        kills += house.deaths;
        if kills >= 1_000 {
            break;
        }
    }
}

#[actix::test]
async fn what_runs_when_the_process_is_told_to_end_is_not_to_blame() {
    let mut house = House::new(2, None);
    for _ in 0..4 {
        let process = house.start().await;
        let drained = tokio::task::spawn_local(process.world.pool.send(Drain));
        settle().await;
        assert_eq!(std::fs::metadata(house.path()).unwrap().len(), 0);
        drained.abort();
    }
    assert!(!house.live(STEPS as usize).await);
    assert_eq!(house.given_up, Vec::<String>::new());
}

#[actix::test]
async fn a_suspect_has_the_process_to_itself() {
    let mut house = House::new(4, None);
    for _ in 0..2 {
        assert!(house.live(3).await);
    }
    let process = house.start().await;
    assert_eq!(process.world.runs_alone(0), ["iv1/a1"]);
    assert_eq!(
        process.world.runs(1),
        Vec::<String>::new(),
        "not even on another engine"
    );
    process.world.write(0, "iv1/a1").await;
    assert_eq!((process.world.runs(0).len(), process.world.runs(1).len()), (1, 0));
}
