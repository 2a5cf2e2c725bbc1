//! What must hold of everything that reads bytes from outside, whatever the bytes: one function for each, which `cargo test` and the fuzz targets share.
//! It panics where something does not hold, and says whether the bytes were accepted.

mod answer;
mod config;
mod export;
mod interview;
mod manifest;
mod protocol;
mod record;
mod rubric;

pub use answer::answer;
pub use config::config;
pub use export::export;
pub use interview::interview;
pub use manifest::manifest;
pub use protocol::protocol;
pub use record::record;
pub use rubric::rubric;

pub type Property = fn(&[u8]) -> bool;

/// By name: that of the fuzz target, and of the folder of its seeds.
pub const PROPERTIES: [(&str, Property); 8] = [
    ("answer", answer),
    ("config", config),
    ("export", export),
    ("interview", interview),
    ("manifest", manifest),
    ("protocol", protocol),
    ("record", record),
    ("rubric", rubric),
];
