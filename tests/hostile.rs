//! Clients that mean ill: the daemon neither grows nor dies, and whoever behaves is answered meanwhile.

mod common;

#[path = "hostile/attacks.rs"]
mod attacks;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use attacks::{ATTACKS, Attack, GROWTH_MIB_MAX, KNOWN, SHORT, Target};
use common::process::{Peak, memory};
use common::{Client, Daemon, World, eventually, interview};

/// Of each attack: long enough to fill what it can fill.
const MOMENT: Duration = Duration::from_millis(500);

fn until_alone(client: &mut Client) {
    eventually("the attackers are gone", || {
        let status = client.call("status", json!({})).unwrap();
        (status["connections"] == 1).then_some(())
    });
}

/// How long `status` took meanwhile, the longest last.
fn attacked(daemon: &Daemon, client: &mut Client, attack: &Attack) -> Vec<Duration> {
    let enough = AtomicBool::new(false);
    let target = Target {
        socket: &daemon.socket,
        enough: &enough,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| attack.run(&target));
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < MOMENT {
            let asked = Instant::now();
            client.call("status", json!({})).unwrap();
            times.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        enough.store(true, Ordering::Relaxed);
        times.sort_unstable();
        times
    })
}

#[test]
fn no_attack_makes_the_daemon_grow_or_die_or_deaf_to_those_who_behave() {
    let world = World::simulated(0).set("model.check_hashes=false");
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client.report(interview(
        KNOWN,
        &["저는 백엔드 개발자입니다.", "...", "로그를 먼저 읽습니다."],
    ));
    let before = memory(daemon.pid()).anonymous;
    for attack in &ATTACKS[..SHORT] {
        let peak = Peak::of(daemon.pid());
        let times = attacked(&daemon, &mut client, attack);
        until_alone(&mut client);
        let grown = peak.anonymous().saturating_sub(before) >> 10;
        let (answered, longest) = (times.len(), times.last().expect("it was answered"));
        println!(
            "{}: {grown} MiB; status was answered {answered} times, at the latest after {longest:?}",
            attack.name
        );
        // Half as much again as is promised: what is given back is seen later on a loaded machine. The bench holds it to the promise.
        assert!(grown <= GROWTH_MIB_MAX * 3 / 2, "{}: {grown} MiB", attack.name);
    }
    assert_eq!(client.report(interview("after", &["..."]))["status"], "complete");
    let log = world.log();
    assert!(!log.contains("panicked") && !log.contains("internal error"), "{log}");
    let complaints = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert!(complaints.count() < 20, "a flood is no reason to flood the log: {log}");
}
