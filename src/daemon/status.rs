//! The status object: everything an operator asks first.

use std::sync::atomic::Ordering;

use super::Daemon;
use crate::actors::pool::{Busy, Describe, Description, SeatState, Seated};
use crate::domain::state::InterviewState;
use crate::hardware::devices::{Device, DeviceKind, refresh};
use crate::socket::view::{
    ActorState, ActorView, DaemonState, DeviceView, InterviewCounts, PoolView, QueueView, SlotRow, StatusView,
    StoreView, Totals,
};

const MIB: u64 = 1 << 20;

impl Daemon {
    pub(super) async fn status(&self) -> StatusView {
        let pool = self.describe_pool().await;
        let (state, reason) = self.state_of(&pool);
        if reason
            .as_ref()
            .is_some_and(|reason| self.losses().are_first_told_by(reason))
        {
            self.store.told();
        }
        let condition = self.condition();
        let line = self.lives.line();
        let line_wait = line.oldest.map(|oldest| oldest.elapsed()).unwrap_or_default();
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            state,
            reason,
            model: condition
                .loaded
                .as_ref()
                .filter(|_| is_loaded(&pool))
                .map(|loaded| loaded.model.clone()),
            devices: self.devices().await,
            queue: QueueView {
                interviews: pool.queued_interviews + line.interviews,
                answers: pool.queued_answers + line.answers,
                max: self.room.max(),
                oldest_wait_s: pool.oldest_wait.max(line_wait).as_secs(),
            },
            pool: PoolView {
                planned_actors: condition.loaded.as_ref().map_or(0, |loaded| loaded.plan.actors.len()),
                actors: pool.actors.into_iter().enumerate().map(actor_view).collect(),
            },
            interviews: self.interview_counts(),
            totals: self.totals(),
            store: StoreView {
                path: self.store.path().display().to_string(),
                size_bytes: self.store.size_bytes().unwrap_or(0),
                free_bytes: self.store.free_bytes().unwrap_or(0),
            },
            connections: self.connections.count(),
        }
    }

    async fn describe_pool(&self) -> Description {
        self.pool.send(Describe).await.unwrap_or_default() // a pool that is gone has nothing to describe
    }

    /// The name of the model that takes work.
    pub(super) async fn model_name(&self) -> Option<String> {
        let pool = self.describe_pool().await;
        let loaded = self.condition().loaded.filter(|_| is_loaded(&pool))?;
        Some(loaded.model.name)
    }

    /// The daemon's state, and why it is degraded.
    pub(super) async fn state(&self) -> (DaemonState, Option<String>) {
        self.state_of(&self.describe_pool().await)
    }

    fn state_of(&self, pool: &Description) -> (DaemonState, Option<String>) {
        let trouble = self
            .store
            .trouble()
            .or_else(|| self.without_model(pool))
            .or_else(|| self.losses().in_words());
        match trouble {
            _ if self.draining.load(Ordering::Relaxed) => (DaemonState::Draining, None),
            Some(reason) => (DaemonState::Degraded, Some(reason)),
            None if is_loaded(pool) => (DaemonState::Ready, None),
            None => (DaemonState::Starting, None),
        }
    }

    /// Why there is no model, draining or not: a search that failed, or engines that do not come up.
    pub(super) async fn why_without_model(&self) -> Option<String> {
        self.without_model(&self.describe_pool().await)
    }

    fn without_model(&self, pool: &Description) -> Option<String> {
        let dead = || match is_loaded(pool) {
            true => None,
            false => pool.actors.iter().find_map(|actor| actor.last_error.clone()),
        };
        self.condition().problem.or_else(dead)
    }

    async fn devices(&self) -> Vec<DeviceView> {
        let Some(loaded) = self.condition().loaded else {
            return Vec::new();
        };
        let all = loaded.detected.cards.iter().chain([&loaded.detected.cpu]);
        let used = all.filter_map(|device| {
            let here = |index: u32| device.kind == DeviceKind::Cpu || device.index == index;
            let actors = loaded
                .plan
                .actors
                .iter()
                .filter(|actor| loaded.plan.device == device.kind && here(actor.device_index));
            let budgets: Vec<_> = actors.map(|actor| actor.budget_bytes).collect();
            (!budgets.is_empty()).then(|| (device.clone(), budgets.iter().sum::<u64>()))
        });
        let (devices, budgets): (Vec<_>, Vec<u64>) = used.unzip();
        let free = match loaded.plan.device {
            DeviceKind::Cpu => devices.iter().map(refresh).collect(),
            DeviceKind::Cuda => self.free_memory.of(devices.clone()).await,
        };
        let views = devices.iter().zip(budgets).zip(free);
        views
            .map(|((device, budget), free)| device_view(device, budget, free.unwrap_or(0)))
            .collect()
    }

    fn interview_counts(&self) -> InterviewCounts {
        let counts = self.store.counts();
        let of = |state: InterviewState| {
            counts
                .iter()
                .find(|(of, _)| *of == state)
                .map_or(0, |(_, count)| *count)
        };
        InterviewCounts {
            open: of(InterviewState::Open),
            scoring: of(InterviewState::Scoring),
            reporting: of(InterviewState::Reporting),
            complete: of(InterviewState::Complete),
            partial: of(InterviewState::Partial),
            cancelled: of(InterviewState::Cancelled),
        }
    }

    fn totals(&self) -> Totals {
        let counted = self.counters.snapshot();
        Totals {
            answers_scored: counted.answers_scored,
            answers_unscored: counted.answers_unscored,
            reports: counted.reports,
            tokens_in: counted.tokens_in,
            tokens_out: counted.tokens_out,
        }
    }
}

/// Whether an engine has the model in memory.
fn is_loaded(pool: &Description) -> bool {
    pool.actors.iter().any(|actor| actor.state == SeatState::Ready)
}

fn device_view(device: &Device, budget: u64, free: u64) -> DeviceView {
    DeviceView {
        kind: match device.kind {
            DeviceKind::Cuda => "cuda".to_owned(),
            DeviceKind::Cpu => "cpu".to_owned(),
        },
        index: device.index,
        name: device.name.clone(),
        memory_total_mib: device.memory_total / MIB,
        memory_free_mib: free / MIB,
        budget_mib: budget / MIB,
    }
}

fn actor_view((id, seated): (usize, Seated)) -> ActorView {
    let scoring = seated.busy.iter().filter(|busy| busy.slot < seated.slots).count();
    ActorView {
        id,
        device: seated.device,
        state: match seated.state {
            SeatState::Starting => ActorState::Starting,
            SeatState::Ready => ActorState::Ready,
            SeatState::Restarting => ActorState::Restarting,
            SeatState::Retiring => ActorState::Retiring,
        },
        slots: seated.slots,
        slots_busy: scoring,
        queue: seated.waiting,
        steps: seated.steps,
        tokens_per_s: (seated.tokens_per_s * 10.0).round() / 10.0,
        restarts: seated.restarts,
        last_error: seated.last_error,
        slot_table: seated.busy.into_iter().map(slot_row).collect(),
    }
}

fn slot_row(busy: Busy) -> SlotRow {
    SlotRow {
        slot: busy.slot,
        interview_id: busy.interview_id,
        answer_id: busy.answer_id,
        phase: if busy.decoding { "decode" } else { "prefill" }.to_owned(),
        tokens_done: busy.tokens_done,
    }
}
