//! Whatever happens to a pool, in whatever order: every answer ends exactly once, no engine has more than it can hold, and no memory is used twice.

use std::collections::BTreeMap;

use super::engines::World;
use super::*;
use crate::engine::job::Disposition;

/// Numbers without pattern (SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// A pool, and what it must come to.
struct Run {
    world: World,
    chance: Chance,
    setup: Arc<Setup>,
    planned_slots: usize,
    submitted: BTreeMap<u64, usize>,
    narrated: usize,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let mut run = Self {
            world: World::with(BackOff {
                min: Duration::from_millis(1),
                max: Duration::from_millis(1),
            }),
            chance: Chance(seed),
            setup: setup("hash", Arc::new(NoModel)),
            planned_slots: 0,
            submitted: BTreeMap::new(),
            narrated: 0,
        };
        run.adopt().await;
        run
    }

    async fn adopt(&mut self) {
        if self.chance.below(3) == 0 {
            self.setup = setup("other", Arc::new(NoModel));
        }
        let engines = 1 + self.chance.below(3);
        let plans: Vec<_> = (0..engines).map(|_| planned("cpu", 1 + self.chance.below(4))).collect();
        self.planned_slots = plans.iter().map(|plan| plan.slots).sum();
        self.world.adopt(&self.setup, &plans).await;
    }

    /// An engine of which something holds, by chance.
    fn any(&mut self, is: impl Fn(&engines::Engine) -> bool) -> Option<usize> {
        let fits = |index: &usize| is(&self.world.engine(*index).borrow());
        let fitting: Vec<_> = (0..self.world.started()).filter(fits).collect();
        (!fitting.is_empty()).then(|| fitting[self.chance.below(fitting.len())])
    }

    /// A job that runs, by chance.
    fn any_job(&mut self) -> Option<(usize, String)> {
        let engine = self.any(|engine| !engine.gone && !engine.given.is_empty())?;
        let runs = self.world.runs(engine);
        Some((engine, runs[self.chance.below(runs.len())].clone()))
    }

    async fn happen(&mut self) {
        match self.chance.below(20) {
            0..=3 => {
                let (number, answers) = (self.submitted.len() as u64, 1 + self.chance.below(5));
                self.submitted.insert(number, answers);
                self.world.submit(number, answers).await;
            }
            4 => {
                self.narrated += 1;
                self.world.narrate(1_000 + self.narrated as u64).await;
            }
            5..=7 => {
                if let Some(engine) = self.any(|engine| !engine.gone && !engine.loaded) {
                    // A plan of tests allows no byte.
                    let held = (self.chance.below(4) == 0).then_some(1);
                    self.world.up_holding(engine, held).await;
                }
            }
            8 => {
                if let Some(engine) = self.any(|engine| !engine.gone) {
                    let outage = Outage {
                        reason: "it died".to_owned(),
                        out_of_memory: self.chance.below(3) == 0,
                    };
                    self.world.outage(engine, outage).await;
                }
            }
            9 => self.adopt().await,
            10 => {
                if let Some(engine) = self.any(|engine| !engine.gone) {
                    self.world.engine(engine).borrow_mut().prompt ^= true;
                    self.world.relent(engine).await;
                }
            }
            11 => tokio::time::sleep(Duration::from_millis(2)).await,
            12 => {
                if let Some((engine, name)) = self.any_job() {
                    match self.chance.below(2) {
                        0 => self.world.fail(engine, &name, Disposition::Retry).await,
                        _ => self.world.run_out(engine, &name).await,
                    }
                }
            }
            _ => {
                if let Some((engine, name)) = self.any_job() {
                    self.world.write(engine, &name).await;
                }
            }
        }
    }

    fn check(&self, started_before: usize) {
        let mut slots_in_use = 0;
        for index in 0..self.world.started() {
            let engine = self.world.engine(index);
            let engine = engine.borrow();
            if engine.gone {
                assert_eq!(engine.given, [], "a dead engine was given work");
                continue;
            }
            let slots = engine.resized.last().copied().unwrap_or(engine.plan.slots);
            slots_in_use += slots;
            let narratives = engine
                .given
                .iter()
                .filter(|given| given.name.ends_with("/narrative"))
                .count();
            let answers = engine.given.len() - narratives;
            assert!(
                answers <= slots && narratives <= 1,
                "{:?} in {slots} slots",
                engine.given
            );
            assert!(engine.loaded || engine.given.is_empty());
            assert!(
                engine.given.iter().all(|given| !given.alone) || engine.given.len() == 1,
                "{:?}",
                engine.given
            );
        }
        if self.world.started() > started_before {
            assert!(
                slots_in_use <= self.planned_slots,
                "{slots_in_use} of {} slots",
                self.planned_slots
            );
        }
    }

    /// Nothing bad happens any more.
    async fn end(&mut self) {
        for _ in 0..100_000 {
            for index in 0..self.world.started() {
                self.world.engine(index).borrow_mut().prompt = true;
                self.world.relent(index).await;
            }
            if let Some((engine, name)) = self.any_job() {
                self.world.write(engine, &name).await;
            } else if let Some(engine) = self.any(|engine| !engine.gone && !engine.loaded) {
                self.world.up(engine).await;
            } else if self.is_done() {
                return;
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        panic!("the pool does not come to an end");
    }

    fn is_done(&self) -> bool {
        let answers: usize = self.submitted.values().sum();
        self.world.scored.borrow().len() >= answers && self.world.narratives.borrow().len() >= self.narrated
    }
}

#[actix::test]
async fn every_answer_ends_exactly_once() {
    for seed in 0..25 {
        let mut run = Run::new(seed).await;
        for _ in 0..120 {
            let started = run.world.started();
            run.happen().await;
            run.check(started);
        }
        run.end().await;
        let mut ended: Vec<_> = run
            .world
            .scored
            .borrow()
            .iter()
            .map(|scored| (scored.life.sequence, scored.answer_id.to_string()))
            .collect();
        ended.sort();
        let all = run.submitted.iter().flat_map(|(number, answers)| {
            let names = (1..=*answers).map(|answer| format!("a{answer}"));
            names.map(|name| (*number, name))
        });
        let mut all: Vec<_> = all.collect();
        all.sort();
        assert_eq!(ended, all, "seed {seed}");
        assert_eq!(run.world.narratives.borrow().len(), run.narrated);
        assert_eq!(run.world.room.taken(), 0);
    }
}
