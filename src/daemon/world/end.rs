//! How a process of the world stops in its order, and how a world comes to its end: nothing bad happens any more, and everything that was begun ends.

use std::time::Duration;

use super::clients::Op;
use super::process::{Process, Wanted};
use super::{End, World};
use crate::actors::pool::{Describe, SeatState};
use crate::domain::state::InterviewState;
use crate::store::Phase;

/// Steps after which a world in which nothing goes wrong any more must have come to its end.
const LAST_STEPS_MAX: usize = 8_000;
/// Half seconds within which all engines are there: longer than the longest pause after a death.
const WHOLE_AGAIN_MAX: usize = 200;
/// Passes at once while there is no engine.
const LONG: Duration = Duration::from_secs(20);
/// Slots of the engines at the end.
const LAST_SLOTS: [usize; 2] = [2, 3];

impl World {
    /// Lets the process stop in its order.
    pub(super) async fn stop(&mut self, process: &mut Process) -> End {
        let drain = Duration::from_millis(self.chance.below(4_000) as u64);
        self.history.add(format!("stopping within {drain:?}"));
        process.stop(drain);
        self.stops_since = Some(self.turns);
        for _ in 0..LAST_STEPS_MAX {
            match self.chance.below(8) {
                0..=2 => self.round(process),
                3..=6 => self.turn(process),
                _ => self.wait(process, Duration::from_millis(50)).await,
            }
            self.let_others(1).await;
            self.look(process).await;
            if process.has_stopped() {
                break;
            }
        }
        assert!(process.has_stopped(), "it does not stop");
        // The store does what it was asked before it is closed.
        for _ in 0..10 {
            self.round(process);
            self.let_others(1).await;
            self.look(process).await;
        }
        self.history.add("stopped".to_owned());
        End::Stopped
    }

    /// Nothing bad happens any more: everything comes to its end.
    pub(super) async fn settle(&mut self, process: &mut Process) -> End {
        if process.hand.fails() {
            return self.kill("killed, as the disk fails");
        }
        process.hand.set_full(false);
        process.hand.overflow(None);
        process.hand.shut(None);
        process.rig.is_calm.set(true);
        let _ = process.daemon.set_draining(false).await;
        // Who hangs comes back before the last plan; or never, and then there is memory enough beside it.
        let ever = self.chance.below(2) == 0;
        process.rig.resolve(ever);
        while process.rig.is_held_up() {
            process.rig.go_on();
            self.let_others(20).await;
            self.look(process).await;
        }
        let spare_bytes = process.rig.lost();
        self.history.add(format!("the last plan, beside {spare_bytes} bytes"));
        let engines = LAST_SLOTS.map(|slots| Wanted {
            slots,
            shares: self.chance.below(2) == 0,
            spare_bytes,
        });
        process.adopt(&engines, Some("last"), self.attempts_max);
        for _ in 0..LAST_STEPS_MAX {
            self.round(process);
            self.turn(process);
            self.turn(process);
            if process.rig.is_deserted() {
                // The pauses after deaths in a row grow.
                self.pass(process, LONG, true).await;
            } else if self.chance.below(20) == 0 {
                self.wait(process, Duration::from_millis(500)).await;
            }
            self.let_others(8).await;
            self.look(process).await;
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

    /// Nobody holds anything any more, and the engines are as they were planned.
    async fn check_end(&mut self, process: &mut Process) {
        // The disk is looked at every second.
        self.wait(process, Duration::from_secs(2)).await;
        for _ in 0..50 {
            self.round(process);
            self.turn(process);
            self.let_others(1).await;
            self.look(process).await;
        }
        self.rest(process).await;
        assert_eq!(process.daemon.room.taken(), 0, "places in the queue");
        let unfinished = process.daemon.store.unfinished().unwrap();
        assert!(unfinished.records.is_empty() && unfinished.unreadable.is_empty());
        assert_eq!(process.daemon.store.trouble(), None);
        assert_eq!(process.daemon.lives.line(), Default::default());
        self.check_pool(process).await;
        self.history.add(format!("the end, after {} processes", self.lives));
    }

    async fn check_pool(&mut self, process: &Process) {
        let whole = LAST_SLOTS.map(|slots| (SeatState::Ready, slots, 0_usize));
        let mut pool = process.daemon.pool.send(Describe).await.unwrap();
        for _ in 0..WHOLE_AGAIN_MAX {
            let engines = pool.actors.iter();
            let engines: Vec<_> = engines
                .map(|engine| (engine.state, engine.slots, engine.busy.len() + engine.waiting))
                .collect();
            if engines == whole {
                assert_eq!((pool.queued_interviews, pool.queued_answers), (0, 0));
                return;
            }
            self.wait(process, Duration::from_millis(500)).await;
            pool = process.daemon.pool.send(Describe).await.unwrap();
        }
        panic!("the pool is not whole again: {pool:?}");
    }
}
