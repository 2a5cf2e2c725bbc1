//! The path of an answer: every message in the order in which it travels, and the actors that it meets.
//!
//! `daemon → InterviewActor → GpuPool → GpuActor → GpuPool → ReportActor → store`, and from there the report's own way: narrative, fold, store.
//! Neighbours know each other as [`actix::Recipient`]s only, so a test or another machine can stand in for any of them.

pub mod age;
mod describe;
pub mod doors;
mod endings;
pub mod engine_thread;
pub mod gpu;
pub mod in_flight;
pub mod interview;
pub mod memory;
pub mod message;
pub mod pool;
pub mod prompts;
mod queue;
mod rehearsal;
pub mod report;
pub mod room;
mod seats;
#[cfg(test)]
pub(crate) mod tests;
mod trial;
pub mod watch;
