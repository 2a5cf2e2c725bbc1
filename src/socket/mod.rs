//! The socket: JSON-RPC 2.0, one object a line, as the protocol's contract has it. Knows no actor: whoever answers is a [`service::Service`].
//!
//! A line's way: [`listener`] → [`server`] → `connection` → [`frame`] → [`wire`] and [`params`] → the service → [`lines`] → the writer.

pub mod activation;
mod answering;
pub mod call;
pub mod client;
mod connection;
pub mod descriptors;
pub mod fault;
pub mod frame;
pub mod hub;
pub mod ledger;
pub mod lines;
pub mod listener;
pub mod notification;
pub mod options;
mod outgoing;
pub mod params;
pub mod seldom;
pub mod server;
pub mod service;
#[cfg(test)]
mod tests;
mod turns;
pub mod view;
pub mod wire;
