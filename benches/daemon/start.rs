//! From the start of the process to the line `ready`, when clients may connect, and to the state `ready`, when the demo model takes work: the
//! pause that a restart means for everybody.

use std::time::Instant;

use serde_json::json;

use crate::common::{World, eventually};

const ROUNDS: usize = 5;

pub fn measure() {
    let mut times: Vec<_> = (0..ROUNDS).map(|_| once()).collect();
    times.sort_by_key(|(_, state)| *state);
    for (line, state) in times {
        println!("  line ready after {line:>5} ms   state ready after {state:>5} ms   (at most 2000)");
    }
}

/// Milliseconds to the line and to the state.
fn once() -> (u128, u128) {
    let world = World::demo();
    let begun = Instant::now();
    let daemon = world.start();
    let line = begun.elapsed();
    let mut client = daemon.connect();
    eventually("the daemon is ready", || {
        let status = client.call("status", json!({})).unwrap();
        (status["state"] == "ready").then_some(())
    });
    (line.as_millis(), begun.elapsed().as_millis())
}
