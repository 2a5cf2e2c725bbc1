//! Who is to blame where runs fail: the work, or the engine that fails whatever it runs. Pure counting.

use std::collections::HashMap;

use super::queue::Key;
use crate::engine::job::JobId;

/// So many runs in a row must fail, of so many different works, until the engine is to blame.
const SUSPECTS_MIN: usize = 3;

/// What has failed on an engine since it last wrote something.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// Runs that failed in a row; what fails together counts once.
    runs: usize,
    /// Jobs up to this one were begun before the last of these runs failed.
    begun: JobId,
    suspects: HashMap<Key, Blame>,
    /// Whether engines were to blame, and nothing was written since.
    is_doubted: bool,
}

/// What a work is blamed for since it was last forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Blame {
    pub failures: u32,
    pub deaths_alone: u32,
    /// Grows with every blame: who was blamed longest ago has the least.
    at: u64,
}

impl Blame {
    /// Whether it is blamed for anything.
    pub fn counts(&self) -> bool {
        self.failures + self.deaths_alone > 0
    }
}

impl Trial {
    /// A job has failed by itself. `begun`: the newest job that there is.
    pub fn failed(&mut self, job: JobId, begun: JobId, key: Key) {
        self.count(job, begun);
        let suspect = self.suspects.entry(key).or_default();
        (suspect.failures, suspect.at) = (suspect.failures + 1, begun.0);
    }

    /// The engine died while a job ran with nothing beside it.
    pub fn died(&mut self, job: JobId, begun: JobId, key: Key) {
        self.count(job, begun);
        let suspect = self.suspects.entry(key).or_default();
        (suspect.deaths_alone, suspect.at) = (suspect.deaths_alone + 1, begun.0);
    }

    fn count(&mut self, job: JobId, begun: JobId) {
        if job > self.begun {
            self.runs += 1;
            self.begun = begun;
        }
    }

    /// Whether it is the engine.
    pub fn is_sick(&self) -> bool {
        self.runs >= SUSPECTS_MIN && self.suspects_missing() == 0
    }

    /// How many more works must fail until it can be the engine.
    pub fn suspects_missing(&self) -> usize {
        let blamed = self.suspects.values().filter(|blame| blame.counts());
        SUSPECTS_MIN.saturating_sub(blamed.count())
    }

    /// Whether a work is blamed for anything that it was not forgiven.
    pub fn blames(&self, key: &Key) -> bool {
        self.suspects.get(key).is_some_and(Blame::counts)
    }

    /// Of the same place under a new plan: only the doubt stays.
    pub fn anew(&self) -> Self {
        Self {
            is_doubted: self.is_doubted,
            ..Self::default()
        }
    }

    /// Whether an engine has to show first that it runs.
    pub fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// The engine is to blame: gives what everybody was blamed for. They stay suspects, so that others are run before them.
    pub fn forgive(&mut self) -> HashMap<Key, Blame> {
        (self.runs, self.is_doubted) = (0, true);
        let forgiven = self.suspects.clone();
        for blame in self.suspects.values_mut() {
            (blame.failures, blame.deaths_alone) = (0, 0);
        }
        forgiven
    }

    /// When it was last blamed; `None`: it is no suspect.
    pub fn blamed_at(&self, key: &Key) -> Option<u64> {
        self.suspects.get(key).map(|blame| blame.at)
    }

    /// The engine has written something: it is sound. Gives those that are to blame.
    pub fn acquit(&mut self) -> Vec<Key> {
        let suspects = std::mem::take(self).suspects.into_iter();
        let guilty = suspects.filter(|(_, blame)| blame.counts());
        guilty.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::message::Life;
    use crate::domain::ids::InterviewId;

    fn key(index: usize) -> Key {
        let life = Life {
            sequence: 1,
            generation: 1,
            interview_id: InterviewId::parse("iv").unwrap(),
        };
        (life, index)
    }

    /// Runs of one job each fail, one after the other.
    fn after_failures(of: &[usize]) -> Trial {
        let mut trial = Trial::default();
        for (job, index) in (1..).zip(of) {
            trial.failed(JobId(job), JobId(job), key(*index));
        }
        trial
    }

    #[test]
    fn an_engine_is_sick_once_three_different_works_failed_in_three_runs() {
        assert!(!after_failures(&[1, 2]).is_sick());
        assert!(!after_failures(&[1, 2, 1, 2, 1]).is_sick());
        assert!(after_failures(&[1, 1, 2, 3]).is_sick());
        let mut trial = after_failures(&[1, 2]);
        trial.died(JobId(3), JobId(3), key(3));
        assert!(trial.is_sick());
    }

    #[test]
    fn what_fails_together_is_one_run() {
        let mut trial = Trial::default();
        for job in 1..=17 {
            trial.failed(JobId(job), JobId(17), key(job as usize));
        }
        assert!(!trial.is_sick());
        for job in 18..=34 {
            trial.failed(JobId(job), JobId(34), key(job as usize - 17));
        }
        assert!(!trial.is_sick());
        trial.failed(JobId(35), JobId(35), key(1));
        assert!(trial.is_sick());
    }

    #[test]
    fn who_wrote_something_is_sound() {
        let mut trial = after_failures(&[1, 2]);
        let mut guilty = trial.acquit();
        guilty.sort();
        assert_eq!(guilty, [key(1), key(2)]);
        trial.failed(JobId(3), JobId(3), key(3));
        assert!(!trial.is_sick() && trial.blamed_at(&key(1)).is_none());
    }

    #[test]
    fn the_forgiven_stay_suspects_and_who_was_blamed_longest_ago_is_known() {
        let mut trial = after_failures(&[1, 1, 2, 3]);
        let forgiven = trial.forgive();
        assert_eq!(forgiven[&key(1)].failures, 2);
        assert!(!trial.is_sick() && trial.forgive()[&key(1)].failures == 0);
        assert_eq!((trial.suspects_missing(), trial.blames(&key(1))), (3, false));
        assert!(trial.blamed_at(&key(1)) < trial.blamed_at(&key(3)));
        assert_eq!(trial.blamed_at(&key(4)), None);
        // Three more runs make another case.
        (5..=6).for_each(|job| trial.failed(JobId(job), JobId(job), key(1)));
        trial.failed(JobId(7), JobId(7), key(2));
        assert!(!trial.is_sick());
        trial.failed(JobId(8), JobId(8), key(3));
        assert!(trial.is_sick());
    }
}
