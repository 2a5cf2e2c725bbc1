//! How the pool and an engine's actor reach each other, by whatever actor stands on either side.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Recipient};

use super::engine_thread::Gauge;
use super::gpu::{Forget, Retire, SetSlots};
use super::message::{Assign, Ended, EngineDown, EngineLate, EngineUp};

/// Whom a GpuActor tells what happened.
#[derive(Clone)]
pub struct PoolDoors {
    pub up: Recipient<EngineUp>,
    pub late: Recipient<EngineLate>,
    pub down: Recipient<EngineDown>,
    pub ended: Recipient<Ended>,
}

impl PoolDoors {
    pub fn of<A>(actor: Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<EngineUp> + Handler<EngineLate> + Handler<EngineDown> + Handler<Ended>,
    {
        Self {
            up: actor.clone().recipient(),
            late: actor.clone().recipient(),
            down: actor.clone().recipient(),
            ended: actor.recipient(),
        }
    }
}

/// What the pool has of an engine's actor.
pub struct EngineDoors {
    pub assign: Recipient<Assign>,
    pub forget: Recipient<Forget>,
    pub set_slots: Recipient<SetSlots>,
    pub retire: Recipient<Retire>,
    pub gauge: Arc<Gauge>,
}

impl EngineDoors {
    pub fn of<A>(actor: Addr<A>, gauge: Arc<Gauge>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Assign> + Handler<Forget> + Handler<SetSlots> + Handler<Retire>,
    {
        Self {
            assign: actor.clone().recipient(),
            forget: actor.clone().recipient(),
            set_slots: actor.clone().recipient(),
            retire: actor.recipient(),
            gauge,
        }
    }
}
