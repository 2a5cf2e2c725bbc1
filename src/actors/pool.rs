//! GpuPool: the queue and the engines. Gives work to the engine with the least to do, in order of submission, and decides what a failure means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture};
use tokio::sync::oneshot;

use super::engine_thread::{Gauge, ModelFactory, Planned};
use super::gpu::{Forget, Pool as Doors, Retire, SetSlots};
use super::message::{
    Abandon, AnswerScored, AnswerScorer, Assign, Ended, EngineDown, EngineUp, Moments, NarrativeWritten, Task, Undone,
    WriteNarrative, Written,
};
use super::queue::{Queue, Work};
use crate::domain::gate;
use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::outcome::{Flag, Outcome, Timing, Verdict};
use crate::engine::job::{Disposition, JobId};
use crate::engine::{Options, Phase};
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK, Scorer};

/// An answer that stops the engine so often, with nothing beside it, is not run again.
const DEATHS_ALONE_MAX: u32 = 3;
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// What engines are made of; a new one for every model that is loaded.
pub struct Setup {
    pub scorer: Arc<Scorer>,
    pub factory: Arc<dyn ModelFactory>,
    pub options: Options,
    /// SHA-256 (hex) of the model's model.json.
    pub model_hash: String,
}

/// daemon → GpuPool: from now on, these engines.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Adopt {
    pub setup: Arc<Setup>,
    pub actors: Vec<Planned>,
}

/// daemon → GpuPool: how often work is begun before it is given up, from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetAttempts(pub u32);

/// daemon → GpuPool: give no more work to engines; answered when nothing runs any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// daemon → GpuPool: how it stands.
#[derive(Message)]
#[rtype(result = "Description")]
pub struct Describe;

/// daemon → GpuPool: how the answers of an interview stand that have not ended.
#[derive(Message)]
#[rtype(result = "Vec<Standing>")]
pub struct DescribeLife(pub super::message::Life);

/// An answer that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub index: usize,
    pub running: bool,
    pub attempts: u32,
}

/// The pool at one moment.
#[derive(Debug, Clone, Default)]
pub struct Description {
    pub actors: Vec<Seated>,
    pub queued_interviews: usize,
    pub queued_answers: usize,
    pub oldest_wait: Duration,
}

/// One planned engine.
#[derive(Debug, Clone)]
pub struct Seated {
    pub device: String,
    pub state: SeatState,
    pub slots: usize,
    pub busy: Vec<Busy>,
    pub waiting: usize,
    pub steps: u64,
    pub tokens_per_s: f64,
    pub restarts: u64,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatState {
    Starting,
    Ready,
    Restarting,
    Retiring,
}

/// A slot in use.
#[derive(Debug, Clone)]
pub struct Busy {
    /// The narrative's slots follow those for answers.
    pub slot: usize,
    pub interview_id: InterviewId,
    /// `None`: the narrative.
    pub answer_id: Option<AnswerId>,
    pub decoding: bool,
    pub tokens_done: usize,
}

/// What the pool has of an engine's actor.
pub struct EngineDoors {
    pub assign: Recipient<Assign>,
    pub forget: Recipient<Forget>,
    pub set_slots: Recipient<SetSlots>,
    pub retire: Recipient<Retire>,
    pub gauge: Arc<Gauge>,
}

/// Starts the actor of an engine, given its id. A test puts another in its place.
pub type StartEngine = Box<dyn Fn(usize, &Planned, &Arc<Setup>, Doors) -> EngineDoors>;

/// Whom the pool tells what came of the work.
#[derive(Clone)]
pub struct Outlets {
    pub scored: Recipient<AnswerScored>,
    pub narrative: Recipient<NarrativeWritten>,
}

pub struct GpuPool {
    start: StartEngine,
    outlets: Outlets,
    attempts_max: u32,
    epoch: Instant,
    setup: Option<Arc<Setup>>,
    seats: Vec<Seat>,
    /// Engines that end what they have and then stop.
    leaving: Vec<Member>,
    answers: Queue,
    narratives: Queue,
    next_id: u64,
    paused: bool,
    until_idle: Vec<oneshot::Sender<()>>,
}

/// A planned engine, whether it lives or not.
struct Seat {
    planned: Planned,
    member: Option<Member>,
    restarts: u64,
    /// Deaths since the last work that ended well.
    deaths: u32,
    last_error: Option<String>,
}

/// An engine.
struct Member {
    id: usize,
    setup: Arc<Setup>,
    doors: EngineDoors,
    ready: bool,
    slots: usize,
    running: HashMap<JobId, Work>,
    retiring: bool,
}

impl Member {
    fn busy(&self, bank: usize) -> usize {
        self.running.values().filter(|work| bank_of(&work.task) == bank).count()
    }

    /// Whether it may have such work now. `wanted_slots`: what the plan gives it; while that differs, no answer is begun.
    fn takes(&self, bank: usize, alone: bool, wanted_slots: usize) -> bool {
        let free = match bank {
            SCORING_BANK => self.slots == wanted_slots && self.busy(bank) < self.slots,
            _ => self.busy(bank) == 0,
        };
        let quiet = !self.running.values().any(|work| work.alone) && (!alone || self.running.is_empty());
        self.ready && free && quiet
    }
}

fn bank_of(task: &Task) -> usize {
    match task {
        Task::Answer { .. } => SCORING_BANK,
        Task::Narrative { .. } => NARRATIVE_BANK,
    }
}

impl GpuPool {
    /// `attempts_max`: how often work is begun before it is given up. `epoch`: from where the engines' rates count.
    pub fn new(start: StartEngine, outlets: Outlets, attempts_max: u32, epoch: Instant) -> Self {
        Self {
            start,
            outlets,
            attempts_max,
            epoch,
            setup: None,
            seats: Vec::new(),
            leaving: Vec::new(),
            answers: Queue::default(),
            narratives: Queue::default(),
            next_id: 0,
            paused: false,
            until_idle: Vec::new(),
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Brings the engines into line with the plan: leave, resize, start.
    fn reconcile(&mut self, context: &mut Context<Self>) {
        let Some(setup) = self.setup.clone() else { return };
        for seat in &mut self.seats {
            let outdated = seat
                .member
                .as_ref()
                .is_some_and(|member| !Arc::ptr_eq(&member.setup, &setup));
            if outdated {
                self.leaving.extend(seat.member.take());
            }
            if let Some(member) = &mut seat.member
                && member.ready
                && member.slots != seat.planned.slots
                && member.busy(SCORING_BANK) == 0
            {
                member.slots = seat.planned.slots;
                member.doors.set_slots.do_send(SetSlots(member.slots));
            }
        }
        self.retire_idle(context);
        // The memory of those who leave is not free before they have left.
        if self.leaving.is_empty() && !self.paused {
            for index in 0..self.seats.len() {
                self.start_member(index, &setup, context);
            }
        }
        self.dispatch();
    }

    fn retire_idle(&mut self, context: &mut Context<Self>) {
        for member in &mut self.leaving {
            if member.retiring || !member.running.is_empty() {
                continue;
            }
            member.retiring = true;
            let id = member.id;
            let left = actix::fut::wrap_future::<_, Self>(member.doors.retire.send(Retire));
            context.spawn(left.map(move |_, pool, context: &mut Context<Self>| {
                pool.leaving.retain(|member| member.id != id);
                pool.reconcile(context);
            }));
        }
    }

    fn start_member(&mut self, index: usize, setup: &Arc<Setup>, context: &mut Context<Self>) {
        if self.seats[index].member.is_some() || self.seats[index].deaths > 0 {
            return; // the dead come back after their back-off
        }
        self.revive(index, setup, context);
    }

    fn revive(&mut self, index: usize, setup: &Arc<Setup>, context: &mut Context<Self>) {
        let id = self.new_id() as usize;
        let address = context.address();
        let pool = Doors {
            up: address.clone().recipient(),
            down: address.clone().recipient(),
            ended: address.recipient(),
        };
        let planned = &self.seats[index].planned;
        let slots = planned.slots;
        let doors = (self.start)(id, planned, setup, pool);
        self.seats[index].member = Some(Member {
            id,
            setup: Arc::clone(setup),
            doors,
            ready: false,
            slots,
            running: HashMap::new(),
            retiring: false,
        });
    }

    /// Hands out work while a slot is free for the first in line.
    fn dispatch(&mut self) {
        if self.paused {
            return;
        }
        for bank in [SCORING_BANK, NARRATIVE_BANK] {
            while let Some(seat) = self.seat_for_first(bank) {
                let Some(mut work) = self.queue(bank).pop() else { break };
                work.attempts += 1;
                work.place = None;
                let job = JobId(self.new_id());
                let Some(member) = &mut self.seats[seat].member else {
                    break;
                };
                member.doors.assign.do_send(Assign {
                    job,
                    case: Arc::clone(&work.case),
                    interview: Arc::clone(&work.interview),
                    task: work.task.clone(),
                    alone: work.alone,
                });
                member.running.insert(job, work);
            }
        }
    }

    fn queue(&mut self, bank: usize) -> &mut Queue {
        match bank {
            SCORING_BANK => &mut self.answers,
            _ => &mut self.narratives,
        }
    }

    fn seat_for_first(&mut self, bank: usize) -> Option<usize> {
        let alone = self.queue(bank).first()?.alone;
        let free = self.seats.iter().enumerate().filter_map(|(index, seat)| {
            let member = seat.member.as_ref()?;
            member
                .takes(bank, alone, seat.planned.slots)
                .then_some((member.running.len(), index))
        });
        free.min().map(|(_, index)| index)
    }

    /// The engine that has a job, and the job.
    fn take_running(&mut self, job: JobId) -> Option<Work> {
        let seated = self.seats.iter_mut().filter_map(|seat| seat.member.as_mut());
        seated
            .chain(&mut self.leaving)
            .find_map(|member| member.running.remove(&job))
    }

    fn failed(&mut self, mut work: Work, undone: Undone, moments: Option<Moments>) {
        let again = undone.disposition == Disposition::Retry && work.attempts < self.attempts_max;
        if again {
            // The last attempt is made without company, in case the company was the trouble.
            work.alone |= work.attempts + 1 >= self.attempts_max;
            self.queue(bank_of(&work.task)).push(work);
        } else {
            self.give_up(work, undone.reason, moments);
        }
    }

    fn give_up(&mut self, work: Work, reason: String, moments: Option<Moments>) {
        let life = work.case.life.clone();
        match &work.task {
            Task::Narrative { .. } => self.outlets.narrative.do_send(NarrativeWritten {
                life,
                narrative: Err(reason),
            }),
            Task::Answer { index } => {
                let timing = timing(&work, moments, 0, 0);
                self.report(&work, *index, Verdict::Unscored { reason }, None, timing, None);
            }
        }
    }

    fn written(&mut self, work: Work, written: Written, moments: Moments, model_hash: String) {
        match (written, &work.task) {
            (Written::Narrative { narrative, .. }, Task::Narrative { .. }) => {
                self.outlets.narrative.do_send(NarrativeWritten {
                    life: work.case.life.clone(),
                    narrative: Ok(narrative),
                })
            }
            (
                Written::Answer {
                    criteria,
                    feedback,
                    judged_code_points,
                    tokens_in,
                    tokens_out,
                },
                Task::Answer { index },
            ) => {
                let timing = timing(&work, Some(moments), tokens_in, tokens_out);
                let verdict = Verdict::Scored { criteria, feedback };
                self.report(&work, *index, verdict, judged_code_points, timing, Some(model_hash));
            }
            _ => self.give_up(
                work,
                "the engine wrote something else than it was asked for".into(),
                Some(moments),
            ),
        }
    }

    fn report(
        &self,
        work: &Work,
        index: usize,
        verdict: Verdict,
        judged_code_points: Option<usize>,
        timing: Timing,
        model_hash: Option<String>,
    ) {
        let answer = &work.interview.answers()[index];
        let mut flags = gate::flags(&answer.question, &answer.text);
        if judged_code_points.is_some() {
            flags.push(Flag::Truncated);
        }
        self.outlets.scored.do_send(AnswerScored {
            life: work.case.life.clone(),
            answer_id: answer.id.clone(),
            outcome: Outcome {
                verdict,
                flags,
                judged_code_points,
                timing,
                model_hash,
            },
        });
    }

    fn tell_if_idle(&mut self) {
        let seated = self.seats.iter().filter_map(|seat| seat.member.as_ref());
        if seated.chain(&self.leaving).all(|member| member.running.is_empty()) {
            for waiting in self.until_idle.drain(..) {
                let _ = waiting.send(()); // whoever asked may have stopped waiting
            }
        }
    }

    /// After work has ended: the slot may serve another.
    fn went_on(&mut self, context: &mut Context<Self>) {
        self.reconcile(context);
        self.tell_if_idle();
    }
}

fn timing(work: &Work, moments: Option<Moments>, tokens_in: usize, tokens_out: usize) -> Timing {
    let between = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
    let (mut queued_ms, mut prefill_ms, mut decode_ms) = (0, 0, 0);
    if let Some(moments) = moments {
        let admitted = moments.admitted_at.unwrap_or(moments.ended_at);
        let prefilled = moments.prefilled_at.unwrap_or(moments.ended_at);
        queued_ms = between(work.queued_at, admitted);
        prefill_ms = between(admitted, prefilled);
        decode_ms = between(prefilled, moments.ended_at);
    }
    Timing {
        queued_ms,
        prefill_ms,
        decode_ms,
        tokens_in: tokens_in as u64,
        tokens_out: tokens_out as u64,
        attempts: work.attempts,
    }
}

impl Actor for GpuPool {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1_024);
    }
}

impl Handler<Adopt> for GpuPool {
    type Result = ();

    fn handle(&mut self, adopt: Adopt, context: &mut Self::Context) {
        let mut old = std::mem::take(&mut self.seats).into_iter();
        self.seats = adopt
            .actors
            .into_iter()
            .map(|planned| {
                let seat = old.next();
                let same_device = seat.as_ref().is_some_and(|seat| seat.planned.device == planned.device);
                let (member, restarts) = seat.map_or((None, 0), |seat| (seat.member, seat.restarts));
                let member = match same_device {
                    true => member,
                    false => {
                        self.leaving.extend(member);
                        None
                    }
                };
                Seat {
                    planned,
                    member,
                    restarts,
                    deaths: 0,
                    last_error: None,
                }
            })
            .collect();
        self.leaving.extend(old.filter_map(|seat| seat.member));
        self.setup = Some(adopt.setup);
        self.reconcile(context);
    }
}

impl Handler<SetAttempts> for GpuPool {
    type Result = ();

    fn handle(&mut self, SetAttempts(attempts_max): SetAttempts, _: &mut Self::Context) {
        self.attempts_max = attempts_max;
    }
}

impl Handler<AnswerScorer> for GpuPool {
    type Result = ();

    fn handle(&mut self, asked: AnswerScorer, _: &mut Self::Context) {
        let task = Task::Answer { index: asked.index };
        self.answers.push(Work::new(
            asked.case,
            asked.interview,
            task,
            asked.queued_at,
            asked.place,
        ));
        self.dispatch();
    }
}

impl Handler<WriteNarrative> for GpuPool {
    type Result = ();

    fn handle(&mut self, asked: WriteNarrative, _: &mut Self::Context) {
        let task = Task::Narrative {
            outcomes: asked.outcomes,
        };
        self.narratives
            .push(Work::new(asked.case, asked.interview, task, Instant::now(), None));
        self.dispatch();
    }
}

impl Handler<EngineUp> for GpuPool {
    type Result = ();

    fn handle(&mut self, up: EngineUp, context: &mut Self::Context) {
        let seat = self
            .seats
            .iter_mut()
            .find_map(|seat| seat.member.as_mut().filter(|member| member.id == up.actor));
        if let Some(member) = seat {
            member.ready = true;
        }
        self.reconcile(context);
    }
}

impl Handler<EngineDown> for GpuPool {
    type Result = ();

    fn handle(&mut self, down: EngineDown, context: &mut Self::Context) {
        tracing::error!(engine = down.actor, reason = down.reason, "an engine went down");
        if let Some(place) = self.leaving.iter().position(|member| member.id == down.actor) {
            let member = self.leaving.remove(place);
            self.bury(member, &down.reason);
        }
        let seat = self
            .seats
            .iter()
            .position(|seat| seat.member.as_ref().is_some_and(|m| m.id == down.actor));
        if let Some(index) = seat {
            let seat = &mut self.seats[index];
            seat.deaths += 1;
            seat.restarts += 1;
            seat.last_error = Some(down.reason.clone());
            let wait = BACK_OFF_MIN
                .saturating_mul(1 << (seat.deaths - 1).min(16))
                .min(BACK_OFF_MAX);
            if let Some(member) = seat.member.take() {
                let setup = Arc::clone(&member.setup);
                self.bury(member, &down.reason);
                context.run_later(wait, move |pool, context| pool.come_back(index, &setup, context));
            }
        }
        self.went_on(context);
    }
}

impl GpuPool {
    /// What an engine that died was given is run again, alone: a death in company counts for nobody.
    fn bury(&mut self, member: Member, reason: &str) {
        let was_alone = member.running.len() == 1;
        for mut work in member.running.into_values() {
            work.deaths_alone += u32::from(was_alone);
            work.alone = true;
            if work.deaths_alone >= DEATHS_ALONE_MAX {
                let reason = format!(
                    "it stopped the engine {DEATHS_ALONE_MAX} times with nothing beside it; the last time: {reason}"
                );
                self.give_up(work, reason, None);
            } else {
                self.queue(bank_of(&work.task)).push(work);
            }
        }
    }

    fn come_back(&mut self, index: usize, setup: &Arc<Setup>, context: &mut Context<Self>) {
        let current = self.setup.as_ref().is_some_and(|current| Arc::ptr_eq(current, setup));
        let vacant = self.seats.get(index).is_some_and(|seat| seat.member.is_none());
        if current && vacant && !self.paused {
            self.revive(index, setup, context);
        }
    }
}

impl Handler<Ended> for GpuPool {
    type Result = ();

    fn handle(&mut self, ended: Ended, context: &mut Self::Context) {
        let hash = self.model_hash_of(ended.job);
        let Some(work) = self.take_running(ended.job) else {
            return;
        };
        match (ended.result, hash) {
            (Ok(written), Some(hash)) => self.written(work, written, ended.moments, hash),
            (Ok(_), None) => self.give_up(
                work,
                "the engine that wrote it is not known".into(),
                Some(ended.moments),
            ),
            (Err(undone), _) => {
                let id = work.case.life.interview_id.as_str();
                tracing::warn!(
                    interview = id,
                    attempt = work.attempts,
                    reason = undone.reason,
                    "work was not done"
                );
                self.failed(work, undone, Some(ended.moments));
            }
        }
        self.went_on(context);
    }
}

impl GpuPool {
    fn model_hash_of(&mut self, job: JobId) -> Option<String> {
        for seat in &mut self.seats {
            if seat
                .member
                .as_ref()
                .is_some_and(|member| member.running.contains_key(&job))
            {
                seat.deaths = 0;
            }
        }
        let seated = self.seats.iter().filter_map(|seat| seat.member.as_ref());
        let member = seated
            .chain(&self.leaving)
            .find(|member| member.running.contains_key(&job));
        member.map(|member| member.setup.model_hash.clone())
    }

    fn seated(&self, seat: &Seat) -> Seated {
        let mut seated = Seated {
            device: seat.planned.device.clone(),
            state: match &seat.member {
                Some(member) if member.ready => SeatState::Ready,
                _ if seat.restarts > 0 => SeatState::Restarting,
                _ => SeatState::Starting,
            },
            slots: seat.planned.slots,
            busy: Vec::new(),
            waiting: 0,
            steps: 0,
            tokens_per_s: 0.0,
            restarts: seat.restarts,
            last_error: seat.last_error.clone(),
        };
        if let Some(member) = &seat.member {
            self.fill(&mut seated, member);
        }
        seated
    }

    fn fill(&self, seated: &mut Seated, member: &Member) {
        seated.slots = member.slots;
        let mut reading = member.doors.gauge.read();
        seated.steps = reading.steps;
        seated.tokens_per_s = reading.rate.per_second(super::engine_thread::millis_since(self.epoch));
        for view in &reading.slots {
            let Some(work) = view.job.and_then(|job| member.running.get(&job)) else {
                continue;
            };
            let (slot, answer) = match work.task {
                Task::Answer { index } => (view.slot.index, work.interview.answers().get(index)),
                Task::Narrative { .. } => (member.slots + view.slot.index, None),
            };
            seated.busy.push(Busy {
                slot,
                interview_id: work.case.life.interview_id.clone(),
                answer_id: answer.map(|answer| answer.id.clone()),
                decoding: view.phase == Phase::Decode,
                tokens_done: view.tokens_done,
            });
        }
        seated.waiting = member.running.len().saturating_sub(seated.busy.len());
    }
}

impl Handler<Abandon> for GpuPool {
    type Result = ();

    fn handle(&mut self, Abandon { life }: Abandon, context: &mut Self::Context) {
        self.answers.remove(&life);
        self.narratives.remove(&life);
        let seated = self.seats.iter_mut().filter_map(|seat| seat.member.as_mut());
        for member in seated.chain(&mut self.leaving) {
            let forget = &member.doors.forget;
            member.running.retain(|job, work| {
                let stays = work.case.life != life;
                if !stays {
                    forget.do_send(Forget(*job));
                }
                stays
            });
        }
        self.went_on(context);
    }
}

impl Handler<Drain> for GpuPool {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.paused = true;
        let (idle, waiting) = oneshot::channel();
        self.until_idle.push(idle);
        self.tell_if_idle();
        Box::pin(async move {
            let _ = waiting.await; // a pool that is gone has nothing running
        })
    }
}

impl Handler<Describe> for GpuPool {
    type Result = actix::MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> Self::Result {
        let mut actors: Vec<_> = self.seats.iter().map(|seat| self.seated(seat)).collect();
        actors.extend(self.leaving.iter().map(|member| {
            let mut seated = Seated {
                device: String::new(),
                state: SeatState::Retiring,
                slots: member.slots,
                busy: Vec::new(),
                waiting: 0,
                steps: 0,
                tokens_per_s: 0.0,
                restarts: 0,
                last_error: None,
            };
            self.fill(&mut seated, member);
            seated
        }));
        actix::MessageResult(Description {
            actors,
            queued_interviews: self.answers.lives(),
            queued_answers: self.answers.len(),
            oldest_wait: self.answers.oldest().map_or(Duration::ZERO, |oldest| oldest.elapsed()),
        })
    }
}

impl Handler<DescribeLife> for GpuPool {
    type Result = Vec<Standing>;

    fn handle(&mut self, DescribeLife(life): DescribeLife, _: &mut Self::Context) -> Self::Result {
        let queued = self.answers.iter().map(|work| (work, false));
        let seated = self.seats.iter().filter_map(|seat| seat.member.as_ref());
        let running = seated
            .chain(&self.leaving)
            .flat_map(|member| member.running.values())
            .map(|work| (work, true));
        let mine = queued.chain(running).filter(|(work, _)| work.case.life == life);
        mine.filter_map(|(work, running)| match work.task {
            Task::Answer { index } => Some(Standing {
                index,
                running,
                attempts: work.attempts,
            }),
            Task::Narrative { .. } => None,
        })
        .collect()
    }
}
