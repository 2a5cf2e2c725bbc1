//! How the pool keeps an eye on what engines at work hold of their devices.

use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext, Handler, Message};

use super::GpuPool;
use crate::actors::memory;

/// How often it is read what engines at work hold of their devices.
pub(super) const WEIGHED_EVERY: Duration = Duration::from_secs(5);

/// GpuPool → itself, now and then: read what the engines that work hold of their devices.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Weigh;

impl Handler<Weigh> for GpuPool {
    type Result = ();

    fn handle(&mut self, _: Weigh, context: &mut Self::Context) {
        let devices = self.seats.devices_at_work();
        let Some(setup) = self.setup.as_ref().filter(|_| !devices.is_empty() && !self.weighing) else {
            return;
        };
        self.weighing = true;
        let meter = Arc::clone(&setup.meter);
        // Asking a driver may take its time.
        let readings = tokio::task::spawn_blocking(move || {
            let own = |device: &str| meter(device).filter(|held| !held.is_guess);
            let read = |device: String| own(&device).map(|held| (device, held.bytes));
            devices.into_iter().filter_map(read).collect::<Vec<_>>()
        });
        context.spawn(wrap_future::<_, Self>(readings).map(|readings, pool, context| {
            pool.weighing = false;
            for (device, held) in readings.unwrap_or_default() {
                memory::weigh(&mut pool.seats, &pool.doors, &device, held);
            }
            pool.reconcile(context);
        }));
    }
}
