//! How a pool stands, for status: its engines with their slots, its queue, and the answers of one interview that have not ended.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::Message;

use super::doors::EngineDoors;
use super::engine_thread::millis_since;
use super::message::{Life, Task};
use super::queue::{Queue, Work};
use super::seats::{Member, Seat, Seats};
use crate::domain::ids::{AnswerId, InterviewId};
use crate::engine::Phase;

/// daemon → GpuPool: how it stands.
#[derive(Message)]
#[rtype(result = "Description")]
pub struct Describe;

/// daemon → GpuPool: how the answers of an interview stand that have not ended.
#[derive(Message)]
#[rtype(result = "Vec<Standing>")]
pub struct DescribeLife(pub Life);

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

/// One engine, planned or leaving.
#[derive(Debug, Clone)]
pub struct Seated {
    /// Empty for one that leaves.
    pub device: String,
    pub state: SeatState,
    pub slots: usize,
    pub busy: Vec<Busy>,
    /// Work that it was given and that has no slot yet.
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

/// `epoch`: from where the engines' rates count.
pub(super) fn describe(
    seats: &Seats,
    doors: &HashMap<usize, EngineDoors>,
    answers: &Queue,
    epoch: Instant,
) -> Description {
    let fill = |seated: &mut Seated, member: &Member| {
        if let Some(doors) = doors.get(&member.id) {
            seated.fill(member, doors, epoch);
        }
    };
    let planned = seats.planned().iter().map(|seat| {
        let mut seated = Seated::planned(seat);
        seat.member.iter().for_each(|member| fill(&mut seated, member));
        seated
    });
    let leaving = seats.leaving().iter().map(|member| {
        let mut seated = Seated {
            last_error: member.late.clone(),
            ..Seated::new(String::new(), SeatState::Retiring, member.plan.slots)
        };
        fill(&mut seated, member);
        seated
    });
    Description {
        actors: planned.chain(leaving).collect(),
        queued_interviews: answers.lives(),
        queued_answers: answers.len(),
        oldest_wait: answers.oldest().map_or(Duration::ZERO, |oldest| oldest.elapsed()),
    }
}

/// The answers of a life that wait or run.
pub(super) fn standings(seats: &Seats, answers: &Queue, life: &Life) -> Vec<Standing> {
    let queued = answers.of(life).map(|work| (work, false));
    let running = seats.running().filter(|work| work.case.life == *life);
    let all = queued.chain(running.map(|work| (work, true)));
    all.filter_map(|(work, running)| standing(work, running)).collect()
}

fn standing(work: &Work, running: bool) -> Option<Standing> {
    match work.task {
        Task::Answer { index } => Some(Standing {
            index,
            running,
            attempts: work.attempts,
        }),
        Task::Narrative { .. } => None,
    }
}

impl Seated {
    fn new(device: String, state: SeatState, slots: usize) -> Self {
        Self {
            device,
            state,
            slots,
            busy: Vec::new(),
            waiting: 0,
            steps: 0,
            tokens_per_s: 0.0,
            restarts: 0,
            last_error: None,
        }
    }

    fn planned(seat: &Seat) -> Self {
        let state = match &seat.member {
            Some(member) if member.ready => SeatState::Ready,
            _ if seat.restarts > 0 => SeatState::Restarting,
            _ => SeatState::Starting,
        };
        let late = seat.member.as_ref().and_then(|member| member.late.clone());
        Self {
            restarts: seat.restarts,
            last_error: late.or_else(|| seat.last_error.clone()),
            ..Self::new(seat.plan.device.clone(), state, seat.plan.slots)
        }
    }

    fn fill(&mut self, member: &Member, doors: &EngineDoors, epoch: Instant) {
        self.slots = member.plan.slots;
        let mut reading = doors.gauge.read();
        self.steps = reading.steps;
        self.tokens_per_s = reading.rate.per_second(millis_since(epoch));
        for view in &reading.slots {
            let Some(work) = view.job.and_then(|job| member.running.get(&job)) else {
                continue;
            };
            let (slot, answer) = match work.task {
                Task::Answer { index } => (view.slot.index, work.interview.answers().get(index)),
                Task::Narrative { .. } => (member.plan.slots + view.slot.index, None),
            };
            self.busy.push(Busy {
                slot,
                interview_id: work.case.life.interview_id.clone(),
                answer_id: answer.map(|answer| answer.id.clone()),
                decoding: view.phase == Phase::Decode,
                tokens_done: view.tokens_done,
            });
        }
        self.waiting = member.running.len().saturating_sub(self.busy.len());
    }
}
