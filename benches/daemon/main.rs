//! The real binary under load, as an operator sees it: how soon it is there, what it costs idle, how quickly it answers while it works or is
//! attacked, and what a rush of interviews or hours of them cost in memory.
//!
//! `cargo bench --bench daemon` measures everything, `cargo bench --bench daemon -- start queue` only what is named. No timing library: each
//! figure is taken from outside, of one process that runs for seconds or minutes.

#[path = "../../tests/common/mod.rs"]
mod common;
mod hostile;
mod idle;
mod opening;
mod queue;
mod soak;
mod start;
mod status;
#[path = "../support/mod.rs"]
mod support;

/// What can be measured, by the name that selects it.
const PARTS: [(&str, fn()); 7] = [
    ("start", start::measure),
    ("opening", opening::measure),
    ("idle", idle::measure),
    ("status", status::measure),
    ("queue", queue::measure),
    ("soak", soak::measure),
    ("hostile", hostile::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` and `--all-targets` run this without it: minutes that no test is worth.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let named: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|a| !a.starts_with('-'))
        .collect();
    if let Some(unknown) = named.iter().find(|name| PARTS.iter().all(|(part, _)| part != *name)) {
        eprintln!(
            "{unknown:?} cannot be measured; {} can",
            PARTS.map(|(part, _)| part).join(", ")
        );
        std::process::exit(64);
    }
    for (part, measure) in PARTS {
        if named.is_empty() || named.contains(&part) {
            println!("\n{part}");
            measure();
        }
    }
}

/// A number from the environment, for longer or shorter runs.
fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
        Err(_) => default,
    }
}
