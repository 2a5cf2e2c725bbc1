//! What an interview is: ids, answers, rubric, outcomes, and the arithmetic from levels to a report. Pure: no I/O, no async.

pub mod event;
pub mod fold;
pub mod gate;
pub mod ids;
pub mod interview;
pub mod markdown;
pub mod object;
pub mod outcome;
pub mod privacy;
pub mod report;
pub mod rubric;
pub mod score;
pub mod state;
pub mod time;
pub mod wording;
