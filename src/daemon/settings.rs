//! What of the configuration the daemon looks at while it runs; replaced as a whole when the configuration is read again.

use std::time::Duration;

use super::rubrics::{LoadedRubric, RubricsError};
use crate::actors::watch::Deadlines;
use crate::config::{AutoOr, Config, Device as ConfigDevice};
use crate::domain::interview::Limits;
use crate::hardware::wanted::{DeviceWanted, PoolWanted, Wanted};

#[derive(Debug, Clone)]
pub struct Settings {
    pub config: Config,
    /// What new interviews are accepted under.
    pub rubric: LoadedRubric,
    pub limits: Limits,
}

impl Settings {
    /// Reads the rubric that the configuration names.
    pub fn new(config: Config) -> Result<Self, RubricsError> {
        let rubric = LoadedRubric::load(config.scoring.rubric.as_deref())?;
        let limits = Limits {
            answers: config.interview.answers_max as usize,
            question: config.interview.question_chars_max as usize,
            answer: config.interview.answer_chars_max as usize,
            text: config.interview.text_chars_max as usize,
            ..Limits::default()
        };
        Ok(Self { config, rubric, limits })
    }

    pub fn pool_wanted(&self) -> PoolWanted {
        let pool = &self.config.pool;
        PoolWanted {
            device: match pool.device {
                ConfigDevice::Auto => DeviceWanted::Auto,
                ConfigDevice::Cuda => DeviceWanted::Cuda,
                ConfigDevice::Cpu => DeviceWanted::Cpu,
            },
            actors: wanted(pool.actors),
            slots_per_actor: wanted(pool.slots_per_actor),
            memory_budget_mib: pool.memory_budget_mib.value(),
            memory_reserve_mib: pool.memory_reserve_mib.value(),
        }
    }

    /// How long work of the engines may take.
    pub fn deadlines(&self) -> Deadlines {
        Deadlines::new(
            Duration::from_secs(self.config.runtime.step_timeout_s),
            Duration::from_secs(self.config.scoring.answer_timeout_s),
        )
    }

    /// CPU threads of an actor, if the number was chosen.
    pub fn threads(&self) -> Option<usize> {
        self.config.runtime.threads.value().map(|threads| threads as usize)
    }
}

fn wanted(number: AutoOr<u32>) -> Wanted {
    number.value().map_or(Wanted::Auto, Wanted::Number)
}
