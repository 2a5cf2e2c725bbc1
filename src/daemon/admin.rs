//! What operators do: reload, resize, drain, stop; and the search for a model that start and reload share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bring_up::{Loaded, bring_up, make_plan, name_of, planned};
use super::faults::with_causes;
use super::{Condition, Daemon, Settings};
use crate::actors::memory::Meter;
use crate::actors::message::Provide;
use crate::actors::pool::{Adopt, SetAttempts};
use crate::config::{self, AutoOr, PoolSection};
use crate::hardware::devices::{Device, DeviceKind, detect};
use crate::hardware::held;
use crate::socket::call::{Count, ResizeParams};
use crate::socket::fault::{Fault, Kind};
use crate::socket::view::{Accepting, DaemonState, PlanView, PlannedActor, Reloaded};

/// Keys that need no other model and no other plan.
const LIGHT: [&str; 8] = [
    "daemon.",
    "backup.",
    "queue.",
    "interview.",
    "log.",
    "scoring.max_attempts",
    "scoring.answer_timeout_s",
    "runtime.step_timeout_s",
];

/// Whether a model that there is not yet may still be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    GoesOn,
    IsOver,
}

impl Daemon {
    /// Looks for a model and hands it to the pool, or remembers why there is none.
    pub(super) async fn find_model(self: &Arc<Self>) {
        let mine = self.searches.fetch_add(1, Ordering::Relaxed) + 1;
        let _one_at_a_time = self.loading.lock().await;
        // Whoever asked later looks by newer settings, and once is enough.
        if self.searches.load(Ordering::Relaxed) != mine {
            return;
        }
        self.condition_mut().problem = None;
        let (settings, meter) = (self.settings(), self.meter_in_use().await);
        let path = settings.config.model.path.clone();
        let mut search =
            tokio::task::spawn_blocking(move || bring_up(&settings, &|device| held_of(device, meter.as_ref())));
        let limit = self.deadlines.load();
        let found = match tokio::time::timeout(limit, &mut search).await {
            Ok(found) => found,
            Err(_) => {
                let problem = format!(
                    "the model of {} has been looked for for more than {} s (twice runtime.step_timeout_s): its disk, ONNX Runtime's or the \
                     device may not answer; it goes on once they do",
                    path.display(),
                    limit.as_secs()
                );
                self.stay_without(problem, Search::GoesOn);
                search.await
            }
        };
        let problem = match found {
            Ok(Ok(loaded)) => return self.adopt(loaded, None),
            Ok(Err(problem)) => {
                format!("{problem}; once that is mended, `interviewd config reload` has the daemon look again")
            }
            Err(panic) => format!("looking for the model failed: {panic}"),
        };
        self.stay_without(problem, Search::IsOver);
    }

    pub(super) fn stay_without(&self, problem: String, search: Search) {
        tracing::error!(
            reason = problem,
            "degraded: there is no model; interviews are accepted and held"
        );
        let mut condition = self.condition_mut();
        (condition.problem, condition.is_late) = (Some(problem), search == Search::GoesOn);
    }

    /// `problem`: why this is not the model that is configured.
    fn adopt(&self, loaded: Loaded, problem: Option<String>) {
        let settings = self.settings();
        self.reports.do_send(Provide {
            making: Arc::clone(&loaded.setup.making),
        });
        self.pool.do_send(Adopt {
            setup: Arc::clone(&loaded.setup),
            actors: planned(&loaded.plan, settings.threads()),
            attempts_max: settings.config.scoring.max_attempts,
        });
        *self.condition_mut() = Condition {
            loaded: Some(loaded),
            problem,
            is_late: false,
        };
    }

    /// Reads what this process holds for its engines: a new plan may count it as free, since the old engines go first.
    async fn meter_in_use(&self) -> Option<Meter> {
        let in_use = self.model_name().await.is_some();
        let loaded = self.condition().loaded.filter(|_| in_use)?;
        Some(Arc::clone(&loaded.setup.meter))
    }

    pub(super) async fn reload(self: &Arc<Self>) -> Result<Reloaded, Fault> {
        let refuse = |reason: String| {
            tracing::warn!(reason, "the configuration was not taken over; the old one stays");
            Fault::new(Kind::InvalidParams, format!("nothing was changed: {reason}"))
        };
        let loaded = config::load(&self.source).map_err(|error| refuse(with_causes(&error)))?;
        let settings = Settings::new(loaded.config).map_err(|error| refuse(with_causes(&error)))?;
        if let Some(loaded) = self.condition().loaded {
            let checked = loaded.setup.scorer.check_rubric(&settings.rubric.rubric);
            checked.map_err(|error| refuse(with_causes(&error)))?;
        }
        let old = self.settings();
        let differences = config::differences(&old.config, &settings.config);
        let from_start = config::differences(&self.started_with, &settings.config);
        let rubric_changed = old.rubric.hash != settings.rubric.hash;
        let heavy = differences
            .iter()
            .any(|d| !d.needs_restart && !LIGHT.iter().any(|light| d.key.starts_with(light)));
        let without_model = self.why_without_model().await.is_some();
        self.room.set_max(settings.config.queue.max_queued_answers as usize);
        self.pool.do_send(SetAttempts(settings.config.scoring.max_attempts));
        self.deadlines.follow(&settings.deadlines());
        self.replace_settings(settings);
        if heavy || rubric_changed || without_model {
            let daemon = Arc::clone(self);
            tokio::spawn(async move { daemon.find_model().await });
        }
        tracing::info!("the configuration was read again");
        let keys = |list: Vec<config::Difference>, needs_restart: bool| {
            let those = list.into_iter().filter(|d| d.needs_restart == needs_restart);
            those.map(|d| d.key).collect()
        };
        Ok(Reloaded {
            changed: keys(differences, false),
            needs_restart: keys(from_start, true),
        })
    }

    /// Waits until nobody looks for a model or makes another plan, but not for one who takes too long.
    async fn until_found(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Fault> {
        // What else is wrong is not what is waited for.
        let late = || {
            let condition = self.condition();
            condition.problem.filter(|_| condition.is_late)
        };
        if let Ok(nobody) = self.loading.try_lock() {
            return Ok(nobody);
        }
        let found = match late() {
            Some(_) => None,
            None => tokio::time::timeout(self.deadlines.load(), self.loading.lock())
                .await
                .ok(),
        };
        found.ok_or_else(|| {
            let what = match late() {
                Some(late) => format!("a model is looked for: {late}"),
                None => "a model is looked for or another plan is made: it takes too long".to_owned(),
            };
            Fault::conflict(format!("there is no new plan while {what}"))
        })
    }

    pub(super) async fn resize(&self, params: ResizeParams) -> Result<PlanView, Fault> {
        let _one_at_a_time = self.until_found().await?;
        let condition = self.condition();
        let Some(mut loaded) = condition.loaded else {
            let why = condition
                .problem
                .unwrap_or_else(|| "it is still being looked for".to_owned());
            return Err(Fault::conflict(format!("there is no model to plan for: {why}")));
        };
        let mut settings = Settings::clone(&self.settings());
        let problem = condition.problem;
        let number = |count: Count| match count {
            Count::Auto => AutoOr::Auto,
            Count::Number(number) => AutoOr::Value(number),
        };
        let set_in = |pool: &mut PoolSection| {
            pool.actors = params.actors.map_or(pool.actors, number);
            pool.slots_per_actor = params.slots_per_actor.map_or(pool.slots_per_actor, number);
        };
        set_in(&mut settings.config.pool);
        let (meter, footprint) = (self.meter_in_use().await, loaded.footprint.clone());
        let planning = tokio::task::spawn_blocking(move || {
            let detected = Arc::new(detect());
            let held = |device: &Device| held_of(device, meter.as_ref());
            let plan = make_plan(&settings, &detected, &footprint, &held)?;
            Ok::<_, String>((detected, plan))
        });
        let limit = self.deadlines.load();
        let planned = tokio::time::timeout(limit, planning).await.map_err(|_| {
            Fault::conflict(format!(
                "there is no new plan: the device has not answered for {} s; the old plan stays",
                limit.as_secs()
            ))
        })?;
        let planned = planned.map_err(|panic| Fault::new(Kind::Internal, format!("planning failed: {panic}")))?;
        let refuse = |text| Fault::new(Kind::InvalidParams, text);
        (loaded.detected, loaded.plan) = planned.map_err(refuse)?;
        let view = plan_view(&loaded);
        self.change_settings(|settings| set_in(&mut settings.config.pool));
        self.adopt(loaded, problem);
        Ok(view)
    }

    pub(super) async fn set_draining(&self, draining: bool) -> Result<Accepting, Fault> {
        if self.stop.borrow().is_some() {
            return Err(Fault::new(
                Kind::Draining,
                "the daemon is stopping; what was accepted goes on at the next start",
            ));
        }
        self.draining.store(draining, Ordering::Relaxed);
        tracing::info!(draining, "told whether to accept");
        Ok(Accepting {
            state: self.state().await.0,
        })
    }

    pub(super) async fn ask_to_stop(&self, timeout_s: Option<u64>) -> Accepting {
        let drain = timeout_s.unwrap_or(self.settings().config.daemon.drain_s);
        self.draining.store(true, Ordering::Relaxed);
        self.stop.send_replace(Some(Duration::from_secs(drain)));
        Accepting {
            state: DaemonState::Draining,
        }
    }
}

/// Bytes of a device that this process's engines give back when they go; 0 if nobody can say: then nothing more than what is free is planned with.
fn held_of(device: &Device, meter: Option<&Meter>) -> u64 {
    let read = meter.and_then(|meter| match device.kind {
        DeviceKind::Cpu => held::anonymous(),
        DeviceKind::Cuda => meter(&name_of(device.kind, device.index)).map(|held| held.bytes),
    });
    read.unwrap_or(0)
}

fn plan_view(loaded: &Loaded) -> PlanView {
    let plan = &loaded.plan;
    let actors = plan.actors.iter().map(|actor| PlannedActor {
        device: name_of(plan.device, actor.device_index),
        slots: actor.slots as usize,
    });
    PlanView {
        device: match plan.device {
            DeviceKind::Cuda => "cuda".to_owned(),
            DeviceKind::Cpu => "cpu".to_owned(),
        },
        actors: actors.collect(),
        explanation: plan.explanation.clone(),
    }
}
