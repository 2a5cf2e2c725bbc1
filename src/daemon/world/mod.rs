//! Whole worlds from a seed: clients, operators, engines, disk and clock do what chance says, the process dies and starts again, and after every step
//! everything that was promised must hold.
//!
//! Real are the daemon's answers to requests, its lives, actors and pool, the engines with the watch over them, and the store. There is no thread: the
//! store does a round and an engine takes a turn, or hangs, when the world says so, and time passes when it says so. So a seed is a history, to the
//! last message: `INTERVIEWD_WORLD_SEED=17` repeats one, `INTERVIEWD_WORLD_SEEDS=5000` tries so many, from that one or from 0.

mod clients;
mod end;
mod exam;
mod face;
mod member;
mod model;
mod process;
mod rig;
mod rules;
mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::System;
use tempfile::TempDir;

use self::clients::{Asked, Op};
use self::process::{Patience, Process, Wanted, now, set_clock};
use self::rig::{Dangers, Rig, WorkId};
use self::rules::Truth;
use self::story::Story;
use crate::actors::message::Life;
use crate::actors::pool::{Describe, DescribeLife};
use crate::actors::tests::chance::Chance;
use crate::daemon::tending::IN_FLIGHT;
use crate::domain::ids::InterviewId;
use crate::store::by_hand::{Overflow, Shut};

const INTERVIEWS: usize = 7;
const STEPS: usize = 500;
/// Looks at an engine within which it forgets what was cancelled or deleted.
const IN_VAIN_MAX: usize = 25;
/// Turns of everybody after which nobody remembers what was cancelled or deleted, and after which everything that was said is heard.
const FORGOTTEN_AFTER: u64 = 40;
const QUIET_AFTER: usize = 60;
/// Rounds of a store that takes everything within which it has what was written.
const ROUNDS_MAX: usize = 8;
/// While so much time passes, engines take a turn, and the watch looks once.
const MOMENT: Duration = Duration::from_secs(1);
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
    /// Whether some answers can be scored by nothing.
    has_poison: bool,
    dangers: Dangers,
    truth: Truth,
    story: Story,
    asked: Vec<Asked>,
    /// Work that engines have though its interview was cancelled or deleted, and for how many looks.
    vain: BTreeMap<WorkId, usize>,
    /// Lives that were cancelled, deleted or retried, and when; and those that nobody may remember.
    over: VecDeque<(u64, Life)>,
    forgotten: BTreeSet<(InterviewId, u64)>,
    /// Answers that were written and are not stored, and for how many rounds that went well.
    unstored: BTreeMap<WorkId, usize>,
    /// Turns of everybody; and how many there were when the process began to stop.
    turns: u64,
    stops_since: Option<u64>,
    last_ticket: u64,
    attempts_max: u32,
    steps: usize,
    lives: u32,
    history: History,
}

/// What worlds must come to, or they do not try it; and how a history tells of it.
const TRIED: [(&str, &str); 11] = [
    ("engines given up", "its thread is given up"),
    ("threads that came back", "is down: it has ended"),
    ("runs ended", "runtime.step_timeout_s) and was ended"),
    ("answers late", "scoring.answer_timeout_s"),
    ("models late", " is late: "),
    ("runs out of memory", "out of memory on"),
    ("plans with shared memory", "shares: true"),
    ("works that end engines", "it stopped the engine 3 times"),
    (
        "changes in doubt",
        "it is not known whether what was asked for is stored",
    ),
    (
        "reads of what is in doubt",
        "it is not known whether the last change of the interview",
    ),
    ("questions to a store that cannot be opened", "it was told not to open"),
];

/// A history: its hash, its end in words, and how often it came to what is tried.
#[derive(Default)]
struct History {
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    tried: [usize; TRIED.len()],
}

impl History {
    fn add(&mut self, line: String) {
        line.hash(&mut self.hasher);
        for (count, (_, words)) in self.tried.iter_mut().zip(TRIED) {
            *count += usize::from(line.contains(words));
        }
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
        let has_faults = chance.below(3) != 0;
        Self {
            has_poison: chance.below(2) == 0,
            dangers: Dangers {
                faults: has_faults,
                hangs: has_faults && chance.below(3) != 0,
            },
            chance,
            folder: folder.unwrap(),
            ids: (1..=INTERVIEWS)
                .map(|number| InterviewId::parse(&format!("iv{number}")).unwrap())
                .collect(),
            truth: Truth::default(),
            story: Story::default(),
            asked: Vec::new(),
            vain: BTreeMap::new(),
            over: VecDeque::new(),
            forgotten: BTreeSet::new(),
            unstored: BTreeMap::new(),
            turns: 0,
            stops_since: None,
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
            let end = system.block_on(self.live());
            // Everything of this life is dropped with the system, as it stands; and what is dropped takes itself off the list of what ran, as it would
            // not where a process is killed.
            let ran = fs::read(self.in_flight());
            drop(system);
            match end {
                End::Killed => fs::write(self.in_flight(), ran.unwrap()).unwrap(),
                End::Stopped => {}
                End::Done => return,
            }
        }
    }

    /// The file in which the daemon notes what runs.
    fn in_flight(&self) -> PathBuf {
        self.folder.path().join("store").join(IN_FLIGHT)
    }

    async fn live(&mut self) -> End {
        self.lives += 1;
        let rig = Rig::new(self.chance.below(usize::MAX) as u64, self.dangers);
        // No answer pays for an engine that hangs.
        let step_s = [3, 8, 20][self.chance.below(3)];
        let patience = Patience {
            step_s,
            answer_s: step_s + step_s / 5 + [4, 30, 600][self.chance.below(3)],
        };
        let mut process = Process::start(self.folder.path(), rig, patience);
        self.history.add(format!("process {}, with {patience:?}", self.lives));
        self.truth.attempts_max = self.attempts_max;
        self.truth.after_restart(&self.ids, &process);
        self.story.after_restart(&self.truth);
        self.asked.clear();
        self.vain.clear();
        self.over.clear();
        self.forgotten.clear();
        self.stops_since = None;
        self.unstored.clear();
        self.adopt(&mut process);
        // Every actor begins, or it would begin as it is dropped.
        self.let_others(5).await;
        let end = self.go_on(&mut process).await;
        match end {
            End::Killed => {
                self.truth.dies_with(process.rig.running());
                process.hand.die();
            }
            End::Stopped | End::Done => {
                self.truth.dies_with(BTreeSet::new());
                process.hand.stop();
            }
        }
        end
    }

    /// Everybody who has heard something takes so many turns.
    async fn let_others(&mut self, turns: usize) {
        self.turns += turns as u64;
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    async fn go_on(&mut self, process: &mut Process) -> End {
        while self.steps < STEPS {
            self.steps += 1;
            if let Some(end) = self.step(process).await {
                return end;
            }
            let turns = self.chance.below(6);
            self.let_others(turns).await;
            self.look(process).await;
        }
        self.settle(process).await
    }

    /// Something happens.
    async fn step(&mut self, process: &mut Process) -> Option<End> {
        match self.chance.below(100) {
            0..=15 => self.ask_for_change(process),
            16..=19 => self.ask_to_read(process),
            20..=21 => self.ask_to_end(process),
            22..=42 => self.round(process),
            43..=76 => self.turn(process),
            77..=82 => {
                let millis = self.chance.below(3_000) as u64;
                self.wait(process, Duration::from_millis(millis)).await;
            }
            83..=84 => {
                let seconds = 1 + self.chance.below(12) as u64;
                self.wait(process, Duration::from_secs(seconds)).await;
            }
            85 => {
                let time = Duration::from_secs(self.chance.below(400) as u64);
                self.history.add(format!("the process stands still for {time:?}"));
                self.pass(process, time, true).await;
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
            92 => {
                let overflow = [Overflow::Lasts, Overflow::IsLost][self.chance.below(2)];
                self.history
                    .add(format!("the next round meets the end of the disk, and {overflow:?}"));
                process.hand.overflow(Some(overflow));
            }
            93 if self.chance.below(2) == 0 => return Some(self.stop(process).await),
            94..=95 => {
                let is_full = self.chance.below(3) == 0;
                self.history.add(format!("the disk is full: {is_full}"));
                process.hand.set_full(is_full);
                let shut = [None, None, Some(Shut::Full), Some(Shut::Otherwise)][self.chance.below(4)];
                self.history
                    .add(format!("what keeps the store from being opened: {shut:?}"));
                process.hand.shut(shut);
            }
            96..=97 => self.rest(process).await,
            98..=99 if process.rig.is_watching() => {
                let seconds = 5 + self.chance.below(25) as u64;
                self.wait(process, Duration::from_secs(seconds)).await;
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
        if process.is_in_trouble() || process.hand.held() > 0 {
            return;
        }
        for (work, rounds) in &mut self.unstored {
            *rounds += 1;
            assert!(*rounds < ROUNDS_MAX, "{work:?} was written, and is not stored");
        }
    }

    fn turn(&mut self, process: &mut Process) {
        let did = process.rig.turn();
        self.history.add(did);
    }

    /// Time passes while engines go on.
    async fn wait(&mut self, process: &Process, time: Duration) {
        self.history.add(format!("{time:?} pass"));
        let mut left = time;
        while !left.is_zero() {
            let moment = left.min(MOMENT);
            self.pass(process, moment, false).await;
            left -= moment;
        }
    }

    async fn pass(&mut self, process: &Process, time: Duration, stands_still: bool) {
        set_clock(now() + time.as_millis() as i64);
        process.rig.passed(time, stands_still);
        tokio::time::advance(time).await;
        // What time has made due may ask another thread to read a device. That one has done it when it has done this.
        self.let_others(10).await;
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        process.rig.go_on();
    }

    /// As a reload or a resize makes it.
    fn adopt(&mut self, process: &mut Process) {
        let engines = 1 + self.chance.below(2);
        let engines: Vec<_> = (0..engines)
            .map(|_| Wanted {
                slots: 1 + self.chance.below(4),
                shares: self.chance.below(3) == 0,
                spare_bytes: [0, 0, 15, 90][self.chance.below(4)],
            })
            .collect();
        let model = ["first", "second", "third"][self.chance.below(3)];
        let model = (self.chance.below(3) == 0).then_some(model);
        if self.chance.below(4) == 0 {
            self.attempts_max = 2 + self.chance.below(2) as u32;
        }
        self.truth.attempts_max = self.truth.attempts_max.min(self.attempts_max);
        self.history.add(format!("a plan of {engines:?} of {model:?}"));
        process.adopt(&engines, model, self.attempts_max);
    }

    // ---- What must hold.

    async fn look(&mut self, process: &mut Process) {
        process.assert_alive();
        assert_eq!(
            process.hand.has_failed(),
            process.is_broken(),
            "after a failed sync nothing is taken"
        );
        for line in process.rig.log() {
            self.history.add(line);
        }
        for change in self.truth.observe(&self.ids, &mut self.asked, process) {
            self.history.add(change);
        }
        process.rig.look();
        self.look_at_work(process);
        self.look_for_forgotten(process).await;
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
            asked.was_hidden |= process.hand.hides(&asked.id);
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

    /// What engines have is wanted, and what they have written is stored.
    fn look_at_work(&mut self, process: &Process) {
        for (work, is_suspect) in process.rig.given() {
            self.truth.check_given(&work, is_suspect);
            let begins_late = self
                .stops_since
                .is_some_and(|since| since + FORGOTTEN_AFTER < self.turns);
            assert!(!begins_late, "{work:?} is begun, and the process stops");
            let life = (work.0, work.1);
            assert!(
                !self.forgotten.contains(&life),
                "{:?} of {life:?} is begun, for nobody",
                work.2
            );
        }
        // Of what was not acknowledged, nobody was told to forget.
        let running = match process.hand.is_stopped() {
            true => BTreeSet::new(),
            false => process.rig.running(),
        };
        self.vain.retain(|work, _| running.contains(work));
        for work in running.into_iter().filter(|work| !self.truth.is_live(work)) {
            let looks = self.vain.entry(work.clone()).or_default();
            *looks += 1;
            assert!(*looks < IN_VAIN_MAX, "an engine still runs {work:?}, for nobody");
        }
        let written = process.rig.written().into_iter().map(|work| (work, 0));
        self.unstored.extend(written);
        let (truth, is_stopping) = (&self.truth, process.is_stopping());
        self.unstored
            .retain(|work, _| truth.is_live(work) && !truth.has_ended(work) && !process.is_broken() && !is_stopping);
    }

    /// Nobody remembers what was cancelled or deleted a while ago.
    async fn look_for_forgotten(&mut self, process: &Process) {
        let over = self.truth.over();
        self.over.extend(over.into_iter().map(|life| (self.turns, life)));
        if process.hand.is_stopped() {
            // It is not known what was, and nobody was told; nor will be, before it is known.
            self.over.iter_mut().for_each(|(when, _)| *when = self.turns);
        }
        let is_due = |(when, _): &(u64, Life)| *when + FORGOTTEN_AFTER < self.turns;
        while self.over.front().is_some_and(is_due)
            && let Some((_, life)) = self.over.pop_front()
        {
            let left = process.daemon.pool.send(DescribeLife(life.clone())).await.unwrap();
            assert_eq!(left, [], "the pool still has work of {life:?}");
            self.forgotten.insert((life.interview_id, life.generation));
        }
    }

    /// Everything that was said is heard. Then who counts the same things counts alike.
    async fn rest(&mut self, process: &mut Process) {
        self.let_others(QUIET_AFTER).await;
        self.look(process).await;
        if !process.hand.is_stopped() {
            self.story.check_whole(&self.truth);
        }
        let pool = process.daemon.pool.send(Describe).await.unwrap();
        let line = process.daemon.lives.line();
        let asked: usize = self.asked.iter().filter_map(|asked| asked.op.places()).sum();
        let taken = process.daemon.room.taken();
        assert!(
            taken <= pool.queued_answers + line.answers + asked,
            "{taken} places are taken, by {} answers, {line:?}, and {asked} to come",
            pool.queued_answers
        );
        let run: usize = pool.actors.iter().map(|actor| actor.busy.len() + actor.waiting).sum();
        assert_eq!(run, process.rig.running().len(), "{pool:?}");
    }
}

/// What became of a world.
#[derive(Debug, PartialEq)]
struct Outcome {
    history: u64,
    processes: u32,
    reports: usize,
    tried: [usize; TRIED.len()],
}

fn outcome_of(seed: u64) -> Outcome {
    let mut world = World::new(seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        for line in &world.history.lines {
            eprintln!("  {line}");
        }
        eprintln!("INTERVIEWD_WORLD_SEED={seed} repeats this world");
        resume_unwind(panic);
    }
    let reported = world.truth.views().filter(|view| view.state().is_reported());
    Outcome {
        history: world.history.hasher.finish(),
        processes: world.lives,
        reports: reported.count(),
        tried: world.history.tried,
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

#[test]
fn in_any_world_what_was_promised_holds_after_every_step() {
    let begin = number("INTERVIEWD_WORLD_SEED");
    let many = number("INTERVIEWD_WORLD_SEEDS").unwrap_or(if begin.is_some() { 1 } else { 20 });
    let seeds = begin.unwrap_or(0)..begin.unwrap_or(0) + many;
    let (mut processes, mut reports, mut tried, worlds) = (0, 0, [0; TRIED.len()], seeds.clone().count());
    for seed in seeds {
        let outcome = outcome_of(seed);
        (processes, reports) = (processes + outcome.processes, reports + outcome.reports);
        tried.iter_mut().zip(outcome.tried).for_each(|(all, more)| *all += more);
    }
    eprintln!("{worlds} worlds with {processes} processes ended with {reports} reports");
    for (count, (what, _)) in tried.into_iter().zip(TRIED) {
        eprintln!("{count} {what}");
        assert!(worlds < 20 || count > 0, "no {what} in {worlds} worlds");
    }
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..3 {
        assert_eq!(outcome_of(seed), outcome_of(seed), "seed {seed}");
    }
}
