//! The socket: JSON-RPC 2.0, one object a line, as the protocol's contract has it. Knows no actor: whoever answers is a [`service::Service`].

pub mod call;
pub mod fault;
pub mod service;
pub mod view;
