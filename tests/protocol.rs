//! The protocol to the letter: the real binary, a real socket, every method, every refusal, every line of an interview's life.

mod common;

#[path = "protocol/arithmetic.rs"]
mod arithmetic;
#[path = "protocol/bad_interviews.rs"]
mod bad_interviews;
#[path = "protocol/bad_lines.rs"]
mod bad_lines;
#[path = "protocol/bad_params.rs"]
mod bad_params;
#[path = "protocol/cancel_and_delete.rs"]
mod cancel_and_delete;
#[path = "protocol/connections.rs"]
mod connections;
#[path = "protocol/events.rs"]
mod events;
#[path = "protocol/life.rs"]
mod life;
#[path = "protocol/odd_answers.rs"]
mod odd_answers;
#[path = "protocol/operators.rs"]
mod operators;
#[path = "protocol/queue.rs"]
mod queue;
#[path = "protocol/repeats.rs"]
mod repeats;
#[path = "protocol/reports.rs"]
mod reports;
#[path = "protocol/shapes.rs"]
mod shapes;
#[path = "protocol/storm.rs"]
mod storm;
#[path = "protocol/support.rs"]
mod support;
