//! Who may come in: the socket's file, sockets that are handed over, roles by user, a second daemon, and too few descriptors for everybody.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, getuid, prlimit};
use serde_json::json;

use common::{Client, Daemon, World, binary, eventually, interview};

/// A user that is neither root nor the one that runs the tests.
const NOBODY: u32 = 65_534;
const TEXT: &str = "저는 백엔드 개발자입니다.";

fn fast() -> World {
    World::simulated(0).set("model.check_hashes=false")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Hands a listening socket over as systemd does: as descriptor 3, meant for this very process.
fn handed_over(world: &World, listener: &UnixListener) -> Command {
    let mut command = world.serve_after("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$");
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
    command
}

/// A socket of a service manager, at the path where clients look.
fn managed(world: &World, mode: u32) -> UnixListener {
    let path = world.path("d.sock");
    let listener = UnixListener::bind(&path).unwrap();
    set_mode(&path, mode);
    listener
}

#[test]
fn a_socket_that_is_handed_over_is_served_and_outlives_the_daemon() {
    let world = fast();
    let listener = managed(&world, 0o660);
    // Whoever comes before the daemon waits.
    let mut early = Client::connect(&world.path("d.sock"));
    let asked = early.send("hello", json!({}));
    let daemon = world.start_by(handed_over(&world, &listener));
    assert_eq!(early.reply(asked).unwrap()["role"], "admin");
    daemon.signal("-TERM");
    assert_eq!(daemon.wait().code(), Some(0), "{}", world.log());
    assert!(!world.path("d.sock.lock").exists(), "what is handed over needs no lock");
    let mut between = Client::connect(&world.path("d.sock"));
    let submitted = between.send("interview.submit", json!({"interview": interview("iv", &[TEXT])}));
    let _daemon = world.start_by(handed_over(&world, &listener));
    assert_eq!(between.reply(submitted).unwrap()["created"], true);
    assert_eq!(between.wait_for_report("iv")["status"], "complete");
}

#[test]
fn a_socket_that_is_handed_over_open_to_more_people_than_allowed_is_refused() {
    let world = fast();
    let listener = managed(&world, 0o666);
    let output = handed_over(&world, &listener).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("SocketMode=0660"), "{}", said(&output));
    set_mode(&world.path("d.sock"), 0o600);
    world.start_by(handed_over(&world, &listener)).connect();
}

#[test]
fn what_is_handed_over_and_no_listening_socket_is_refused() {
    let world = fast();
    let file = std::fs::File::create(world.path("letter")).unwrap();
    let mut command = handed_over(&world, &managed(&world, 0o600));
    let output = command.stdin(file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("hands over"), "{}", said(&output));
    let (one, _other) = UnixStream::pair().unwrap();
    let mut command = handed_over(&world, &UnixListener::bind(world.path("unused")).unwrap());
    let output = command.stdin(std::os::fd::OwnedFd::from(one)).output().unwrap();
    assert!(said(&output).contains("is not listened at"), "{}", said(&output));
}

#[test]
fn what_was_handed_to_another_process_is_left_alone() {
    let world = fast();
    let mut command = world.serve();
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    world.start_by(command).connect().call("hello", json!({})).unwrap();
}

#[test]
fn a_second_daemon_ends_soon_and_says_why_and_the_first_does_not_notice() {
    let world = fast();
    let daemon = world.start_ready();
    let mut watcher = daemon.connect();
    watcher.call("events.subscribe", json!({})).unwrap();
    for (sets, words) in [
        (vec![], vec!["store", "in use"]),
        (vec!["socket.path=other.sock"], vec!["store", "in use"]),
        (vec!["store.path=other"], vec!["d.sock", "already"]),
    ] {
        let mut second = world.serve();
        for set in &sets {
            second.args(["--set", set]);
        }
        let begun = Instant::now();
        let output = second.output().unwrap();
        let took = begun.elapsed();
        assert_eq!(output.status.code(), Some(1), "{sets:?}: {}", said(&output));
        assert!(took < Duration::from_secs(20), "{sets:?}: {took:?}"); // one, on a machine that has time
        for word in words {
            assert!(said(&output).contains(word), "{word} is not in {}", said(&output));
        }
        assert!(output.stdout.is_empty() && world.path("d.sock").exists(), "{sets:?}");
    }
    assert_eq!(daemon.connect().report(interview("iv", &[TEXT]))["status"], "complete");
    assert_eq!(watcher.event()["kind"], "accepted");
}

#[test]
fn a_lock_that_leads_elsewhere_is_refused() {
    let world = fast();
    std::fs::write(world.path("precious"), "").unwrap();
    symlink(world.path("precious"), world.path("d.sock.lock")).unwrap();
    let output = world.serve().output().unwrap();
    assert!(said(&output).contains("d.sock.lock"), "{}", said(&output));
}

/// `interviewd` as another user, at this daemon.
fn as_nobody(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--socket").arg(world.path("d.sock"));
    command.current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap()
}

#[test]
fn other_users_come_in_where_the_mode_lets_them_and_are_no_admins() {
    if !getuid().is_root() {
        eprintln!("only root can be somebody else");
        return;
    }
    let world = fast();
    set_mode(world.folder.path(), 0o755);
    let daemon = world.start_ready();
    let kept_out = as_nobody(&world, &["status"]);
    assert!(said(&kept_out).contains("ermission denied"), "{}", said(&kept_out));
    drop(daemon);

    let world = world.set("socket.mode=0666");
    let daemon = world.start_ready();
    assert!(as_nobody(&world, &["status"]).status.success());
    let refused = as_nobody(&world, &["drain"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("admin"), "{}", said(&refused));
    drop(daemon);

    let world = world.set(&format!("socket.admin_uids=[{NOBODY}]"));
    let _daemon = world.start_ready();
    assert!(as_nobody(&world, &["drain"]).status.success());
}

/// So many connections, and how many of them are served.
fn crowd(daemon: &Daemon, number: usize) -> (Vec<UnixStream>, usize) {
    let crowd: Vec<_> = (0..number)
        .map(|_| UnixStream::connect(&daemon.socket).unwrap())
        .collect();
    let is_served = |mut stream: &UnixStream| {
        // One that is refused may be closed already; why stands there to be read all the same.
        let _ = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\n");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("\"result\"") || line.contains("\"busy\""), "{line}");
        line.contains("\"result\"")
    };
    let served = crowd.iter().filter(|stream| is_served(stream)).count();
    (crowd, served)
}

#[test]
fn with_few_descriptors_the_store_and_the_model_go_before_connections() {
    let world = fast();
    let daemon = world.start_by(world.serve_after("ulimit -n 64"));
    let mut client = daemon.connect();
    let (crowd, served) = crowd(&daemon, 200);
    assert!((8..64).contains(&served), "{served}");
    // All are taken, and the daemon can still do everything that it is there for.
    assert_eq!(client.report(interview("iv", &[TEXT]))["status"], "complete");
    client
        .call("pool.resize", json!({"actors": 2, "slots_per_actor": 2}))
        .unwrap();
    assert_eq!(client.report(interview("iv-2", &[TEXT]))["status"], "complete");
    let warnings = world.log().lines().filter(|line| line.contains("WARN")).count();
    assert!((1..5).contains(&warnings), "{}", world.log());
    drop(crowd);
    eventually("there is room again", || {
        let status = client.call("status", json!({})).unwrap();
        (status["connections"] == 1).then_some(())
    });
    daemon.connect().call("hello", json!({})).unwrap();
}

#[test]
fn where_no_connection_can_be_accepted_it_is_said_once_and_they_wait() {
    let world = fast();
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    client.call("hello", json!({})).unwrap();
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    let limit = |files: Option<u64>| {
        let limit = Rlimit {
            current: files,
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(pid, Resource::Nofile, limit).unwrap().current
    };
    // The next descriptor would have the lowest number that is free.
    let held = |number: &u64| {
        Path::new(&format!("/proc/{}/fd/{number}", daemon.pid()))
            .symlink_metadata()
            .is_ok()
    };
    let before = limit((0..).find(|number| !held(number)));
    let mut waiting = daemon.connect();
    let asked = waiting.send("hello", json!({}));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(client.call("status", json!({})).unwrap()["connections"], 1);
    limit(before);
    assert_eq!(waiting.reply(asked).unwrap()["protocol"], 1);
    let told = world
        .log()
        .lines()
        .filter(|line| line.contains("cannot be accepted"))
        .count();
    assert_eq!(told, 1, "{}", world.log());
}
