//! What stands between the pool and the actor of an engine: it passes on what one tells the other, and sees to it that it makes sense.

use std::cell::RefCell;
use std::rc::Rc;

use actix::{Actor, Context, Handler, ResponseFuture};

use super::member::{Held, Member};
use super::rig::Rig;
use crate::actors::doors::PoolDoors;
use crate::actors::gpu::{Forget, GpuActor, Retire, SetSlots};
use crate::actors::message::{Assign, Cause, Ended, EngineDown, EngineLate, EngineUp};

pub struct Face {
    pub rig: Rc<Rig>,
    pub member: Rc<RefCell<Member>>,
    pub pool: PoolDoors,
    pub engine: actix::Addr<GpuActor>,
}

impl Actor for Face {
    type Context = Context<Self>;
}

impl Handler<Assign> for Face {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Self::Context) {
        let (job, held) = (assign.job, Held::of(&assign, &self.rig));
        let is_down = self.member.borrow().is_down;
        if is_down {
            // For the pool it was there when the engine died; that nothing else was is possible.
            self.rig.accuse(&held.work, |blame| {
                blame.deaths += 1;
                blame.deaths_alone += 1;
            });
        } else {
            let id = self.member.borrow().id;
            self.rig.give(&held, assign.alone);
            self.rig.note(format!(
                "engine {id} is given {job:?}, {:?}, alone: {}",
                held.work, assign.alone
            ));
            self.member.borrow_mut().takes(job, held);
        }
        self.engine.do_send(assign);
    }
}

impl Handler<Forget> for Face {
    type Result = ();

    fn handle(&mut self, Forget(job): Forget, _: &mut Self::Context) {
        self.member.borrow_mut().jobs.remove(&job);
        self.engine.do_send(Forget(job));
    }
}

impl Handler<SetSlots> for Face {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, SetSlots(slots): SetSlots, _: &mut Self::Context) -> Self::Result {
        let grows = self.member.borrow_mut().resizes(slots);
        if grows {
            self.rig.check_memory(&format!("an engine gets {slots} slots"));
        }
        let resized = self.engine.send(SetSlots(slots));
        Box::pin(async move { resized.await.unwrap_or(false) })
    }
}

impl Handler<Retire> for Face {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, _: &mut Self::Context) -> Self::Result {
        self.member.borrow_mut().jobs.clear();
        let retired = self.engine.send(Retire);
        Box::pin(async move {
            let _ = retired.await; // one that is gone has stopped
        })
    }
}

impl Handler<EngineUp> for Face {
    type Result = ();

    fn handle(&mut self, up: EngineUp, _: &mut Self::Context) {
        self.rig.note(format!("engine {} is up", up.actor));
        self.pool.up.do_send(up);
    }
}

impl Handler<EngineLate> for Face {
    type Result = ();

    fn handle(&mut self, late: EngineLate, _: &mut Self::Context) {
        let member = self.member.borrow();
        let lasted = self.rig.lasted(member.since_most);
        let limit = self.rig.deadlines().load();
        assert!(lasted >= limit, "{lasted:?} is not late: {}", member.described());
        self.rig.note(format!("engine {} is late: {}", late.actor, late.reason));
        self.pool.late.do_send(late);
    }
}

impl Handler<Ended> for Face {
    type Result = ();

    fn handle(&mut self, ended: Ended, _: &mut Self::Context) {
        let mut member = self.member.borrow_mut();
        if let Some(held) = member.jobs.remove(&ended.job) {
            let words = ended
                .result
                .as_ref()
                .map(|_| "written")
                .map_err(|undone| &undone.reason);
            self.rig
                .note(format!("engine {} is done with {:?}: {words:?}", member.id, ended.job));
            match &ended.result {
                Ok(_) => self.rig.wrote(&held.work),
                Err(undone) => {
                    assert!(!undone.reason.contains("contract"), "{}", undone.reason);
                    self.check_time(&member, &held, undone.cause, &undone.reason);
                    self.rig.accuse(&held.work, |blame| {
                        // Where there are slots to give up, want of memory is nobody's fault.
                        let is_its_own = undone.cause != Cause::Memory || member.has_one_slot();
                        blame.failures += u32::from(is_its_own);
                        blame.reasons.insert(undone.reason.clone());
                    });
                }
            }
        }
        self.pool.ended.do_send(ended);
    }
}

impl Handler<EngineDown> for Face {
    type Result = ();

    fn handle(&mut self, down: EngineDown, _: &mut Self::Context) {
        let mut member = self.member.borrow_mut();
        self.rig
            .note(format!("engine {} is down: {}", member.id, down.outage.reason));
        if down.is_stuck {
            self.check_hang(&member);
        }
        if !member.is_down {
            member.is_down = true;
            let waited_for = member.jobs.values().filter(|held| held.is_waited_for()).count();
            for held in member.jobs.values() {
                self.rig.accuse(&held.work, |blame| {
                    blame.deaths += 1;
                    blame.deaths_alone += u32::from(waited_for <= 1);
                });
                if !down.outage.out_of_memory {
                    self.rig.survives(&held.work);
                }
            }
            member.jobs.clear();
        }
        self.pool.down.do_send(down);
    }
}

impl Face {
    /// Who is told to have been late was late, and of a run that was ended somebody knows why.
    fn check_time(&self, member: &Member, held: &Held, cause: Cause, reason: &str) {
        if cause == Cause::Time {
            let had = self.rig.lasted(held.since_most);
            assert!(had >= self.rig.deadlines().answer(), "{had:?} is not late: {reason}");
        }
        let overdue = reason.contains("runtime.step_timeout_s");
        assert!(!overdue || member.was_ended, "nothing hung: {reason}");
    }

    /// Who is given up has hung for so long.
    fn check_hang(&self, member: &Member) {
        let hang = member.hang.as_ref();
        let still = hang.map(|hang| self.rig.lasted(hang.since_most));
        let step = self.rig.deadlines().step();
        assert!(still >= Some(step), "{still:?} of {step:?}: {}", member.described());
    }
}
