//! Whole worlds from a seed: clients, operators, engines, disk and clock do what chance says, the process dies and starts again, and after every step
//! everything that was promised must hold.
//!
//! Real are the daemon's answers to requests, its lives, actors and pool, the engines, and the store. There is no thread: the store does a round and an
//! engine takes a turn when the world says so, and time passes when it says so. So a seed is a history, to the last message:
//! `INTERVIEWD_WORLD_SEED=17` repeats one, `INTERVIEWD_WORLD_SEEDS=5000` tries so many.

mod clients;
mod exam;
mod process;
mod rig;
mod rules;
mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::System;
use tempfile::TempDir;

use self::clients::{Asked, Op};
use self::process::{Process, now, set_clock};
use self::rig::{Rig, WorkId};
use self::rules::Truth;
use self::story::Story;
use crate::actors::pool::Describe;
use crate::actors::tests::chance::Chance;
use crate::domain::ids::InterviewId;
use crate::domain::state::InterviewState;
use crate::store::Phase;

const INTERVIEWS: usize = 7;
const STEPS: usize = 500;
/// Steps after which a world in which nothing goes wrong any more must have come to its end.
const LAST_STEPS_MAX: usize = 8_000;
/// Looks at an engine within which it forgets what was cancelled or deleted.
const IN_VAIN_MAX: usize = 25;
/// What is remembered of a history, for people; all of it if it is repeated.
const LINES_MAX: usize = 120;

/// How a life of the process ends.
enum End {
    Killed,
    Stopped,
    Done,
}

/// What goes on over the deaths of the process.
struct World {
    chance: Chance,
    folder: TempDir,
    ids: Vec<InterviewId>,
    /// Whether some answers can be scored by nothing, and whether engines fail by chance.
    has_poison: bool,
    has_faults: bool,
    truth: Truth,
    story: Story,
    asked: Vec<Asked>,
    /// Work that engines have though its interview was cancelled or deleted, and for how many looks.
    vain: BTreeMap<WorkId, usize>,
    last_ticket: u64,
    attempts_max: u32,
    steps: usize,
    lives: u32,
    history: History,
}

/// A history: its hash, and its end in words.
#[derive(Default)]
struct History {
    hasher: DefaultHasher,
    lines: VecDeque<String>,
}

impl History {
    fn add(&mut self, line: String) {
        line.hash(&mut self.hasher);
        if self.lines.len() >= LINES_MAX && number("INTERVIEWD_WORLD_SEED").is_none() {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl World {
    fn new(seed: u64) -> Self {
        // Nothing here is about the disk: where there is a file system in memory, that will do.
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => TempDir::new_in(memory),
            false => TempDir::new(),
        };
        let mut chance = Chance(seed);
        set_clock(1_700_000_000_000);
        Self {
            has_poison: chance.below(2) == 0,
            has_faults: chance.below(3) != 0,
            chance,
            folder: folder.unwrap(),
            ids: (1..=INTERVIEWS)
                .map(|number| InterviewId::parse(&format!("iv{number}")).unwrap())
                .collect(),
            truth: Truth::default(),
            story: Story::default(),
            asked: Vec::new(),
            vain: BTreeMap::new(),
            last_ticket: 0,
            attempts_max: 3,
            steps: 0,
            lives: 0,
            history: History::default(),
        }
    }

    /// From the first start to the end of everything.
    fn run(&mut self) {
        loop {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .max_blocking_threads(1)
                .build()
                .unwrap();
            let system = System::with_tokio_rt(|| runtime);
            // Everything of this life is dropped with the system, as it stands.
            if let End::Done = system.block_on(self.live()) {
                return;
            }
        }
    }

    async fn live(&mut self) -> End {
        self.lives += 1;
        let rig = Rig::new(self.chance.below(usize::MAX) as u64, !self.has_faults);
        let mut process = Process::start(self.folder.path(), rig);
        self.history.add(format!("process {}", self.lives));
        self.truth.attempts_max = self.attempts_max;
        self.truth.after_restart(&self.ids, &process);
        self.story.after_restart(&self.truth);
        self.asked.clear();
        self.vain.clear();
        self.adopt(&mut process);
        // Every actor begins, or it would begin as it is dropped.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        let end = self.go_on(&mut process).await;
        match end {
            End::Killed => process.hand.die(),
            End::Stopped | End::Done => process.hand.stop(),
        }
        end
    }

    async fn go_on(&mut self, process: &mut Process) -> End {
        while self.steps < STEPS {
            self.steps += 1;
            if let Some(end) = self.step(process).await {
                return end;
            }
            for _ in 0..self.chance.below(6) {
                tokio::task::yield_now().await;
            }
            self.look(process);
        }
        self.settle(process).await
    }

    /// Something happens.
    async fn step(&mut self, process: &mut Process) -> Option<End> {
        match self.chance.below(100) {
            0..=15 => self.ask_for_change(process),
            16..=20 => self.ask_to_read(process),
            21..=42 => self.round(process),
            43..=78 => self.turn(process),
            79..=84 => {
                let millis = self.chance.below(3_000) as u64;
                self.wait(Duration::from_millis(millis)).await;
            }
            85 => {
                let seconds = self.chance.below(400) as u64;
                self.wait(Duration::from_secs(seconds)).await;
            }
            86..=88 => self.adopt(process),
            89 => {
                let draining = self.chance.below(2) == 0;
                self.history.add(format!("draining {draining}"));
                let _ = process.daemon.set_draining(draining).await;
            }
            90 => return Some(self.kill("killed")),
            91 if self.chance.below(3) == 0 => {
                self.history.add("the disk fails".to_owned());
                process.hand.fail();
            }
            // An operator starts again what takes no more writes.
            92 if process.is_broken() => return Some(self.kill("killed, as the disk has failed")),
            93 if self.chance.below(2) == 0 => return Some(self.stop(process).await),
            94..=95 => {
                let is_full = self.chance.below(3) == 0;
                self.history.add(format!("the disk is full: {is_full}"));
                process.hand.set_full(is_full);
            }
            _ => {}
        }
        None
    }

    fn kill(&mut self, how: &str) -> End {
        self.history.add(how.to_owned());
        End::Killed
    }

    fn round(&mut self, process: &mut Process) {
        let verbs = process.hand.round();
        self.history.add(format!("a round of {verbs}"));
    }

    fn turn(&mut self, process: &mut Process) {
        let did = process.rig.turn();
        self.history.add(did);
    }

    async fn wait(&mut self, time: Duration) {
        self.history.add(format!("{time:?} pass"));
        set_clock(now() + time.as_millis() as i64);
        tokio::time::advance(time).await;
        // What time has made due may ask another thread to read a device. That one has done it when it has done this.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }

    /// As a reload or a resize makes it.
    fn adopt(&mut self, process: &mut Process) {
        let engines = 1 + self.chance.below(2);
        let slots: Vec<_> = (0..engines).map(|_| 1 + self.chance.below(4)).collect();
        let model = ["first", "second", "third"][self.chance.below(3)];
        let model = (self.chance.below(3) == 0).then_some(model);
        if self.chance.below(4) == 0 {
            self.attempts_max = 2 + self.chance.below(2) as u32;
        }
        self.truth.attempts_max = self.truth.attempts_max.min(self.attempts_max);
        self.history.add(format!("a plan of {slots:?} of {model:?}"));
        process.adopt(&slots, model, self.attempts_max);
    }

    // ---- Clients.

    fn any_id(&mut self) -> InterviewId {
        self.ids[self.chance.below(self.ids.len())].clone()
    }

    fn ask_for_change(&mut self, process: &Process) {
        let id = self.any_id();
        // Of one interview one thing is changed at a time, if perhaps by several clients that ask for the same.
        let pending = self.asked.iter().find(|asked| asked.id == id && asked.op.changes());
        if let Some(asked) = pending {
            let (op, again) = (asked.op.clone(), self.chance.below(3) == 0);
            return if again {
                self.ask(process, id, op)
            };
        }
        let op = self.choose(&id);
        self.ask(process, id, op);
    }

    fn choose(&mut self, id: &InterviewId) -> Op {
        let (variant, answers) = (self.chance.below(3), 1 + self.chance.below(5));
        let (choice, poison) = (self.chance.below(24), self.has_poison);
        let draft = |answers| exam::draft(id.as_str(), variant, answers, poison);
        let view = self.truth.view(id);
        match (choice, view.map(|view| (view.record.phase, view.state()))) {
            (0..=11, None) => Op::Submit(draft(answers)),
            (12..=20, None) => Op::Open(draft(answers - 1)),
            (0..=14, Some((Phase::Open, _))) => {
                let index = view.map_or(0, |view| view.total());
                Op::Answer(exam::answer(id.as_str(), variant, index, poison))
            }
            (15..=20, Some((Phase::Open, _))) => Op::Finish,
            (0..=12, Some((_, InterviewState::Complete | InterviewState::Partial))) => Op::Retry,
            (0..=4, Some((Phase::Cancelled, _))) => Op::Delete,
            (13..=17, _) => Op::Submit(draft(answers)),
            (18, _) => Op::Open(draft(answers)),
            (19..=20, _) => Op::Retry,
            (21, _) => Op::Cancel,
            (22, _) => Op::Delete,
            _ => Op::Finish,
        }
    }

    fn ask_to_read(&mut self, process: &Process) {
        let id = self.any_id();
        let until = now() + 1 + self.chance.below(5_000) as i64;
        let op = match self.chance.below(3) {
            0 => Op::Get,
            1 => Op::Report,
            _ => Op::Wait { until },
        };
        self.ask(process, id, op);
    }

    fn ask(&mut self, process: &Process, id: InterviewId, op: Op) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.history.add(format!("client {ticket} asks of {id}: {op:?}"));
        let draining = process.daemon.draining.load(Ordering::Relaxed);
        process.ask(ticket, op.call(&id, now()));
        self.asked.push(Asked {
            ticket,
            views: vec![self.truth.view(&id).cloned()],
            id,
            op,
            taken_max: process.daemon.room.taken(),
            was_draining: draining,
            was_in_trouble: process.is_in_trouble(),
            draining_only: draining,
        });
    }

    // ---- What must hold.

    fn look(&mut self, process: &mut Process) {
        process.assert_alive();
        assert_eq!(
            process.hand.has_failed(),
            process.is_broken(),
            "after a failed sync nothing is taken"
        );
        for change in self.truth.observe(&self.ids, &mut self.asked, process) {
            self.history.add(change);
        }
        for work in process.rig.given() {
            self.truth.check_given(&work);
        }
        // Of what was not acknowledged, nobody was told to forget.
        let running = match process.is_broken() {
            true => BTreeSet::new(),
            false => process.rig.running(),
        };
        self.vain.retain(|work, _| running.contains(work));
        for work in running.into_iter().filter(|work| !self.truth.is_live(work)) {
            let looks = self.vain.entry(work.clone()).or_default();
            *looks += 1;
            assert!(*looks < IN_VAIN_MAX, "an engine still runs {work:?}, for nobody");
        }
        self.story.observe(&self.truth);
        while let Some(notification) = process.events.try_next() {
            self.history.add(self.story.hear(notification.told, &self.truth));
        }
        let (taken, draining) = (
            process.daemon.room.taken(),
            process.daemon.draining.load(Ordering::Relaxed),
        );
        for asked in &mut self.asked {
            asked.taken_max = asked.taken_max.max(taken);
            asked.was_draining |= draining;
            asked.was_in_trouble |= process.is_in_trouble();
            asked.draining_only &= draining;
        }
        for (ticket, reply) in process.replies() {
            let index = self.asked.iter().position(|asked| asked.ticket == ticket);
            let asked = self.asked.remove(index.expect("what is answered was asked"));
            self.history.add(asked.heard(&reply));
            asked.check(&reply, process, now());
            if let (Op::Submit(_) | Op::Open(_), Ok(reply)) = (&asked.op, &reply) {
                self.truth.created(&asked.id, reply.get().contains(r#""created":true"#));
            }
        }
    }

    /// Lets the process stop in its order.
    async fn stop(&mut self, process: &mut Process) -> End {
        let drain = Duration::from_millis(self.chance.below(4_000) as u64);
        self.history.add(format!("stopping within {drain:?}"));
        process.stop(drain);
        for _ in 0..LAST_STEPS_MAX {
            match self.chance.below(8) {
                0..=2 => self.round(process),
                3..=6 => self.turn(process),
                _ => self.wait(Duration::from_millis(50)).await,
            }
            tokio::task::yield_now().await;
            self.look(process);
            if process.has_stopped() {
                break;
            }
        }
        assert!(process.has_stopped(), "it does not stop");
        // The store does what it was asked before it is closed.
        for _ in 0..10 {
            self.round(process);
            tokio::task::yield_now().await;
            self.look(process);
        }
        self.history.add("stopped".to_owned());
        End::Stopped
    }

    /// Nothing bad happens any more: everything comes to its end.
    async fn settle(&mut self, process: &mut Process) -> End {
        if process.hand.fails() {
            return self.kill("killed, as the disk fails");
        }
        process.hand.set_full(false);
        process.rig.is_calm.set(true);
        let _ = process.daemon.set_draining(false).await;
        // Engines that still have something before them go.
        self.history.add("the last plan".to_owned());
        process.adopt(&[2, 3], Some("last"), self.attempts_max);
        for _ in 0..LAST_STEPS_MAX {
            self.round(process);
            self.turn(process);
            self.turn(process);
            if self.chance.below(20) == 0 {
                self.wait(Duration::from_millis(500)).await;
            }
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            self.look(process);
            let busy: Vec<_> = self.asked.iter().map(|asked| asked.id.clone()).collect();
            let open = self.truth.views().find(|view| view.record.phase == Phase::Open);
            let open = open.map(|view| (view.record.interview.id.clone(), view.total()));
            match open {
                Some((id, answers)) if !busy.contains(&id) => {
                    let op = if answers == 0 { Op::Cancel } else { Op::Finish };
                    self.ask(process, id, op);
                }
                None if busy.is_empty() && self.has_settled() => {
                    self.check_end(process).await;
                    return End::Done;
                }
                _ => {}
            }
        }
        let states: Vec<_> = self
            .truth
            .views()
            .map(|view| (&view.record.interview.id, view.state()))
            .collect();
        let pool = process.daemon.pool.send(Describe).await;
        panic!("it does not come to its end: {states:?}, {:?}; {pool:?}", self.asked);
    }

    fn has_settled(&self) -> bool {
        use InterviewState::{Cancelled, Complete, Partial};
        let mut views = self.truth.views();
        views.all(|view| matches!(view.state(), Complete | Partial | Cancelled))
    }

    /// Nobody holds anything any more.
    async fn check_end(&mut self, process: &mut Process) {
        // The disk is looked at every second.
        self.wait(Duration::from_secs(2)).await;
        for _ in 0..50 {
            self.round(process);
            self.turn(process);
            tokio::task::yield_now().await;
            self.look(process);
        }
        assert_eq!(process.daemon.room.taken(), 0, "places in the queue");
        let pool = process.daemon.pool.send(Describe).await.unwrap();
        assert_eq!((pool.queued_interviews, pool.queued_answers), (0, 0));
        let unfinished = process.daemon.store.unfinished().unwrap();
        assert!(unfinished.records.is_empty() && unfinished.unreadable.is_empty());
        assert_eq!(process.daemon.store.trouble(), None);
        assert_eq!(process.daemon.lives.line(), Default::default());
        self.history.add(format!("the end, after {} processes", self.lives));
    }
}

/// What became of a world: the hash of its history, how many processes it had, and how many reports.
fn history_of(seed: u64) -> (u64, u32, usize) {
    let mut world = World::new(seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        for line in &world.history.lines {
            eprintln!("  {line}");
        }
        eprintln!("INTERVIEWD_WORLD_SEED={seed} repeats this world");
        resume_unwind(panic);
    }
    let reported = world.truth.views().filter(|view| view.state().is_reported());
    (world.history.hasher.finish(), world.lives, reported.count())
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

#[test]
fn in_any_world_what_was_promised_holds_after_every_step() {
    let seeds = match number("INTERVIEWD_WORLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("INTERVIEWD_WORLD_SEEDS").unwrap_or(20),
    };
    let (mut processes, mut reports, worlds) = (0, 0, seeds.clone().count());
    for seed in seeds {
        let (_, lives, reported) = history_of(seed);
        (processes, reports) = (processes + lives, reports + reported);
    }
    eprintln!("{worlds} worlds with {processes} processes ended with {reports} reports");
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..3 {
        assert_eq!(history_of(seed), history_of(seed), "seed {seed}");
    }
}
