//! What an interview is: ids, answers, rubric, and the arithmetic from levels to a report. Pure: no I/O, no async.

pub mod fold;
pub mod ids;
pub mod interview;
pub mod rubric;
pub mod score;
