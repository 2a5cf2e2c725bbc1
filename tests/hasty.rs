//! Clients that go away before they are answered: what they asked for is done as a whole or not at all.

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;

use common::{World, eventually, interview};
use serde_json::json;

const CLIENTS: usize = 20;

#[test]
fn what_was_stored_is_set_to_work_even_if_nobody_waits_for_the_answer() {
    let world = World::simulated(0);
    let daemon = world.start_ready();
    for client in 0..CLIENTS {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        let interview = interview(&format!("iv{client}"), &[""]);
        let request =
            json!({"jsonrpc": "2.0", "id": 1, "method": "interview.submit", "params": {"interview": interview}});
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    }
    let mut client = daemon.connect();
    eventually("no interview is left lying", || {
        let status = client.call("status", json!({})).unwrap();
        let interviews = &status["interviews"];
        let left = interviews["scoring"].as_u64().unwrap() + interviews["reporting"].as_u64().unwrap();
        (left == 0 && status["connections"] == 1).then_some(())
    });
}
