//! What the pool makes of failures: whose they are, what is run again, and what is given up.

use std::collections::HashMap;
use std::time::Duration;

use actix::{AsyncContext, Context};

use super::GpuPool;
use crate::actors::message::{Cause, Moments, Outage, Undone};
use crate::actors::queue::{Key, Work};
use crate::actors::seats::{Death, Finding, Sick, bank_of};
use crate::actors::trial::Blame;
use crate::crash_points::CrashPoint;
use crate::engine::job::{Disposition, JobId};

/// An answer that stops the engine so often, with nothing beside it, is not run again.
const DEATHS_ALONE_MAX: u32 = 3;
/// So often work is forgiven what it failed in, because the engine fails whatever it runs. Then it counts: should all that is left be unfit to be run,
/// that must come to an end as well. More would help nobody, for an engine that follows such a one has shown that it runs before it is given work.
const PARDONS_MAX: u32 = 3;
/// So many times more than it may fail work is run at most, until it has shown whether the engine is to blame: a verdict takes three runs.
const RUNS_IN_DOUBT: u32 = 2;

/// Whether it counts that work has failed.
pub(super) enum Toll {
    Counts,
    /// It counts, but ends nothing before it has shown whether the engine is to blame.
    Open,
    /// The engine is to blame, and goes: until it is forgiven it counts, but it ends nothing.
    Forgiven(Sick),
    /// The engine is to blame, and goes already.
    Pardoned,
    Free,
}

/// How long an engine that died is left alone: doubled with every death in a row.
#[derive(Debug, Clone, Copy)]
pub struct BackOff {
    pub min: Duration,
    pub max: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        }
    }
}

impl BackOff {
    /// `deaths` in a row.
    pub(in crate::actors) fn after(self, deaths: u32) -> Duration {
        let doubled = 1_u32 << deaths.saturating_sub(1).min(16);
        self.min.saturating_mul(doubled).min(self.max)
    }
}

impl Work {
    fn may_be_forgiven(&self) -> bool {
        self.pardons < PARDONS_MAX
    }
}

impl GpuPool {
    /// What it counts that a job has failed.
    pub(super) fn toll(&mut self, job: JobId, undone: &Undone) -> Toll {
        if undone.cause == Cause::Memory && self.seats.ran_out(job, &undone.reason) {
            return Toll::Free;
        }
        if undone.cause == Cause::Time || undone.disposition != Disposition::Retry {
            return Toll::Counts;
        }
        match self.seats.blame(job, self.last_job, [&self.answers, &self.narratives]) {
            Finding::Work => Toll::Counts,
            Finding::Open => Toll::Open,
            Finding::Condemned => Toll::Pardoned,
            Finding::Sick(sick) => Toll::Forgiven(sick),
        }
    }

    /// Work has failed by itself.
    pub(super) fn failed(&mut self, mut work: Work, undone: Undone, moments: Moments, toll: &Toll) {
        let interview = work.case.life.interview_id.as_str();
        let (answer, attempt, reason) = (work.answer_id(), work.attempts, &undone.reason);
        tracing::warn!(interview, answer, attempt, reason, "work was not done");
        match toll {
            Toll::Free => return self.queue(bank_of(&work.task)).push(work),
            Toll::Pardoned if work.may_be_forgiven() => {
                work.pardons += 1;
                return self.queue(bank_of(&work.task)).push(work);
            }
            _ => work.failures += 1,
        }
        let may_again = undone.disposition == Disposition::Retry && work.failures < self.attempts_max;
        let may_be_the_engine = match toll {
            Toll::Forgiven(_) => true,
            Toll::Open => work.failures < self.attempts_max.saturating_add(RUNS_IN_DOUBT),
            _ => false,
        };
        let is_run_again = may_again || may_be_the_engine && work.may_be_forgiven();
        if !is_run_again {
            return self.outlets.given_up(work, undone.reason, Some(moments));
        }
        work.last_failure = Some((undone.reason, moments));
        // The last attempt is made without company, in case the company was the trouble.
        work.alone |= work.failures + 1 >= self.attempts_max;
        self.queue(bank_of(&work.task)).push(work);
        CrashPoint::WorkPutBack.reached();
    }

    /// An engine is sound: of what has failed on it, what has used up its attempts is given up.
    pub(super) fn convict(&mut self, guilty: &[Key]) {
        for key in guilty {
            for line in [&mut self.answers, &mut self.narratives] {
                let is_over = |work: &Work| work.failures >= self.attempts_max && work.last_failure.is_some();
                if line.get(key).is_some_and(is_over)
                    && let Some(mut work) = line.take(key)
                    && let Some((reason, moments)) = work.last_failure.take()
                {
                    self.outlets.given_up(work, reason, Some(moments));
                }
            }
        }
    }

    /// What an engine that died was given is run again, alone: a death in company counts for nobody. For slots that could not be had, no work is to
    /// blame.
    pub(super) fn bury(&mut self, death: Death, Outage { reason, out_of_memory }: Outage) {
        let was_alone = death.running.len() == 1;
        let is_sick = death.forgiven.is_some();
        for mut work in death.running {
            if out_of_memory {
                self.queue(bank_of(&work.task)).push(work);
                continue;
            }
            match death.was_condemned && work.may_be_forgiven() {
                true => work.pardons += u32::from(was_alone),
                false => work.deaths_alone += u32::from(was_alone),
            }
            work.alone = true;
            if work.deaths_alone >= DEATHS_ALONE_MAX && !(is_sick && work.may_be_forgiven()) {
                let reason = format!(
                    "it stopped the engine {DEATHS_ALONE_MAX} times with nothing beside it; the last time: {reason}"
                );
                self.outlets.given_up(work, reason, None);
            } else {
                self.queue(bank_of(&work.task)).push(work);
            }
        }
        self.forgive(&death.forgiven.unwrap_or_default());
    }

    /// An engine fails whatever it runs: that counts for nobody, and another comes in its place.
    pub(super) fn replace(&mut self, sick: Sick, reason: &str, context: &mut Context<Self>) {
        self.forgive(&sick.forgiven);
        if let Some(in_a_row) = self.seats.condemn(sick.id, reason) {
            self.mourn(sick.id, in_a_row, context);
        }
    }

    /// Lets another engine come after a pause.
    pub(super) fn mourn(&mut self, id: usize, in_a_row: u32, context: &mut Context<Self>) {
        context.run_later(self.back_off.after(in_a_row), move |pool, context| {
            pool.seats.mourned(id);
            pool.reconcile(context);
        });
    }

    fn forgive(&mut self, forgiven: &HashMap<Key, Blame>) {
        if forgiven.is_empty() {
            return;
        }
        let queued = self.answers.iter_mut().chain(self.narratives.iter_mut());
        for work in queued
            .chain(self.seats.running_mut())
            .filter(|work| work.may_be_forgiven())
        {
            let Some(blame) = forgiven.get(&work.key()).filter(|blame| blame.counts()) else {
                continue;
            };
            work.failures = work.failures.saturating_sub(blame.failures);
            work.deaths_alone = work.deaths_alone.saturating_sub(blame.deaths_alone);
            work.pardons += 1;
        }
    }
}
