//! The properties that fuzz targets and `cargo test` share.

#[path = "../../tests/outside/mod.rs"]
pub mod outside;
