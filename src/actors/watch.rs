//! Whether an engine makes progress: its thread counts what it does and is looked at from outside, so that no step reads a clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;
use crate::engine::model::Terminator;

/// How long work may take; another value holds from the next look on.
#[derive(Debug)]
pub struct Deadlines {
    step_ms: AtomicU64,
    answer_ms: AtomicU64,
}

impl Deadlines {
    /// `step`: until an engine that does nothing visible is ended. `answer`: from when an answer is given to an engine until that counts as a failure.
    pub fn new(step: Duration, answer: Duration) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            step_ms: millis(step).into(),
            answer_ms: millis(answer).into(),
        }
    }

    /// From now on, these.
    pub fn follow(&self, other: &Self) {
        self.step_ms
            .store(other.step_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        self.answer_ms
            .store(other.answer_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub fn step(&self) -> Duration {
        Duration::from_millis(self.step_ms.load(Ordering::Relaxed))
    }

    pub fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms.load(Ordering::Relaxed))
    }

    /// How long finding or loading a model may take until that is said: on a machine where a chunk takes long, so does that.
    pub fn load(&self) -> Duration {
        2 * self.step()
    }
}

/// For how long an engine can do nothing until it is given up, where a step may take so long.
pub fn longest_silence(step: Duration) -> Duration {
    step + Watch::grace(step)
}

/// What an engine's thread shows of itself.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    /// Whether it has something to do.
    busy: AtomicBool,
    /// There once the model is loaded.
    engine: OnceLock<(Arc<AtomicU64>, Terminator)>,
}

impl Pulse {
    /// The thread does something now.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the thread is at work, or waits to be told something.
    pub(super) fn set_busy(&self, busy: bool) {
        self.beat();
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// The thread has an engine now: its progress is beats too, and its runs can be ended from here.
    pub(super) fn attach(&self, engine: &Engine) {
        self.engine.get_or_init(|| (engine.progress(), engine.terminator()));
    }

    pub(super) fn terminate(&self) {
        if let Some((_, terminator)) = self.engine.get() {
            terminator.terminate();
        }
    }

    fn beats(&self) -> u64 {
        let of_engine = self.engine.get().map(|(progress, _)| progress.load(Ordering::Relaxed));
        self.beats.load(Ordering::Relaxed).wrapping_add(of_engine.unwrap_or(0))
    }
}

/// How often an engine is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long a run that was told to end may take for that: at most.
const GRACE_MAX: Duration = Duration::from_secs(30);

/// Looks at an engine from time to time.
pub(super) struct Watch {
    beats: u64,
    /// For how long nothing was seen to happen.
    still: Duration,
    /// Whether it was found overdue since: nobody is given up untold, however far apart the looks are.
    told: bool,
    /// For how long it has been watched. What counts as a deadline is measured by this and not by a clock: while the process is stopped or starved
    /// nobody watches, and nothing is anybody's delay.
    passed: Duration,
    looked_at: Instant,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It works, or has nothing to do.
    Well,
    /// It is to be told to end its run. Again at every look, for a call between two runs is of no effect.
    Overdue,
    /// It was told, and does not come back.
    Lost,
}

impl Watch {
    pub fn new(now: Instant) -> Self {
        Self {
            beats: 0,
            still: Duration::ZERO,
            told: false,
            passed: Duration::ZERO,
            looked_at: now,
        }
    }

    pub fn passed(&self) -> Duration {
        self.passed
    }

    /// When to look next: often enough for the shortest deadline.
    pub fn pause(deadlines: &Deadlines) -> Duration {
        let shortest = deadlines.step().min(deadlines.answer());
        (shortest / 4).clamp(Duration::from_millis(1), EVERY)
    }

    /// How long a run may take to end once it is told to.
    fn grace(step: Duration) -> Duration {
        (step / 5).min(GRACE_MAX)
    }

    pub fn look(&mut self, now: Instant, pulse: &Pulse, deadlines: &Deadlines) -> Sight {
        let since = now.saturating_duration_since(self.looked_at);
        let since = since.min(2 * Self::pause(deadlines));
        self.looked_at = now;
        self.passed += since;
        let beats = pulse.beats();
        if !pulse.busy.load(Ordering::Relaxed) || beats != self.beats {
            self.beats = beats;
            (self.still, self.told) = (Duration::ZERO, false);
            return Sight::Well;
        }
        self.still += since;
        let step = deadlines.step();
        if self.still < step {
            return Sight::Well;
        }
        if self.told && self.still >= longest_silence(step) {
            return Sight::Lost;
        }
        self.told = true;
        Sight::Overdue
    }

    /// Ends the run that is overdue. `false` if something has happened since that was seen: then it is another run, or one that moves on.
    pub fn end_run(&self, pulse: &Pulse) -> bool {
        let is_still = pulse.beats() == self.beats;
        if is_still {
            pulse.terminate();
        }
        is_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    struct Scene {
        now: Instant,
        pulse: Pulse,
        deadlines: Deadlines,
        watch: Watch,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                now,
                pulse: Pulse::default(),
                deadlines: Deadlines::new(STEP, 100 * STEP),
                watch: Watch::new(now),
            }
        }

        fn after(&mut self, seconds: u64) -> Sight {
            self.now += Duration::from_secs(seconds);
            self.watch.look(self.now, &self.pulse, &self.deadlines)
        }

        /// What is seen at each of so many looks, one a second.
        fn looks(&mut self, looks: usize) -> Vec<Sight> {
            (0..looks).map(|_| self.after(1)).collect()
        }
    }

    #[test]
    fn who_stands_still_at_work_is_told_to_end_and_then_given_up() {
        let mut scene = Scene::new();
        scene.pulse.set_busy(true);
        assert_eq!(scene.looks(10), [Sight::Well; 10], "the first look sees the last beat");
        assert_eq!(scene.looks(2), [Sight::Overdue; 2]);
        assert_eq!(scene.looks(2), [Sight::Lost; 2]);
    }

    #[test]
    fn nobody_is_given_up_untold_where_looks_are_far_apart() {
        let mut scene = Scene::new();
        scene.deadlines = Deadlines::new(Duration::from_secs(1), 100 * STEP);
        scene.pulse.set_busy(true);
        let mut sights = (0..5).map(|_| {
            scene.now += Duration::from_millis(450);
            scene.watch.look(scene.now, &scene.pulse, &scene.deadlines)
        });
        let sights: [_; 5] = std::array::from_fn(|_| sights.next().unwrap());
        assert_eq!(
            sights,
            [Sight::Well, Sight::Well, Sight::Well, Sight::Overdue, Sight::Lost]
        );
    }

    #[test]
    fn one_beat_in_time_is_enough_and_who_waits_for_work_may_wait() {
        let mut scene = Scene::new();
        scene.pulse.set_busy(true);
        for _ in 0..5 {
            assert_eq!(scene.looks(9), [Sight::Well; 9]);
            scene.pulse.beat();
        }
        scene.pulse.set_busy(false);
        assert_eq!(scene.looks(50), [Sight::Well; 50]);
    }

    #[test]
    fn a_run_that_moves_on_after_all_is_not_ended() {
        let mut scene = Scene::new();
        let ended = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&ended);
        let terminator = Terminator::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let progress = Arc::new(AtomicU64::new(0));
        assert!(scene.pulse.engine.set((Arc::clone(&progress), terminator)).is_ok());
        scene.pulse.set_busy(true);
        assert_eq!(scene.looks(11)[10], Sight::Overdue);
        progress.fetch_add(1, Ordering::Relaxed);
        assert!(!scene.watch.end_run(&scene.pulse));
        assert_eq!(ended.load(Ordering::Relaxed), 0);
        assert_eq!(scene.looks(11)[10], Sight::Overdue);
        assert!(scene.watch.end_run(&scene.pulse));
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_process_that_was_stopped_for_an_hour_has_lost_no_time() {
        let mut scene = Scene::new();
        scene.pulse.set_busy(true);
        scene.looks(5);
        assert_eq!(scene.after(3_600), Sight::Well);
        assert_eq!(scene.watch.passed(), Duration::from_secs(7));
    }

    #[test]
    fn a_shorter_deadline_is_looked_after_more_often() {
        let pause = |step, answer| Watch::pause(&Deadlines::new(step, answer));
        assert_eq!(pause(STEP, STEP), EVERY);
        assert_eq!(pause(STEP / 10, STEP), Duration::from_millis(250));
        assert_eq!(pause(STEP, Duration::ZERO), Duration::from_millis(1));
    }
}
