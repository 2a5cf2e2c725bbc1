//! interviewd turns AI mock interviews into scored, evidence-backed reports.
//!
//! The rooms, and who may use whom (`tests/architecture.rs` holds them to it):
//!
//! ```text
//! main → cli → bench → daemon → everything
//! actors → scoring, store, engine, domain          scoring → domain, engine (types)
//! store → domain     socket → domain
//! domain, engine, runtime, hardware → no other room; store, actors and daemon mark their crash_points
//! ```
//!
//! Begin reading at [`domain::interview`] for what is judged, at [`engine`] for how, at [`actors`] for the path of an answer.

pub mod actors;
pub mod bench;
pub mod cli;
pub mod config;
pub mod crash_points;
pub mod daemon;
pub mod domain;
pub mod engine;
pub mod hardware;
pub mod runtime;
pub mod scoring;
pub mod socket;
pub mod store;
pub mod telemetry;
