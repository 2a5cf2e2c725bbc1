//! Clients that mean ill, or only behave so: each attack goes on until it is told to stop. The tests run them for a moment, the bench for longer.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

/// An interview of this id is there, and its report too.
pub const KNOWN: &str = "known";

/// By how much the daemon may grow in any of them.
pub const GROWTH_MIB_MAX: u64 = 64;

pub struct Attack {
    pub name: &'static str,
    run: fn(&Target),
}

/// What is attacked, and whether it has been enough.
pub struct Target<'a> {
    pub socket: &'a Path,
    pub enough: &'a AtomicBool,
}

/// How many of [`ATTACKS`] the tests take: in a debug build the others take a minute to be worked off.
pub const SHORT: usize = 14;

pub const ATTACKS: [Attack; 16] = [
    attack("500 slow clients", slow_clients),
    attack("64 MiB line", long_line),
    attack("endless line", endless_line),
    attack("bad UTF-8", bad_utf8),
    attack("100,000 brackets", brackets),
    attack("10,000 values", values),
    attack("deaf subscribers", deaf_subscribers),
    attack("10,000 connects", connects),
    // These fill all that may be held.
    attack("200 lines that never end", partial_lines),
    attack("16 × 15 MiB in one text", large_texts),
    attack("16 × 15 MiB in many texts", many_texts),
    attack("15 MiB for a number", quoted_texts),
    attack("deaf readers", deaf_readers),
    attack("deaf readers of little", deaf_readers_of_little),
    attack("16 floods of questions", flood_of_questions),
    attack("16 floods of submits", flood_of_submits),
];

const fn attack(name: &'static str, run: fn(&Target)) -> Attack {
    Attack { name, run }
}

impl Attack {
    /// Returns when the target has had enough.
    pub fn run(&self, target: &Target) {
        (self.run)(target);
    }
}

impl Target<'_> {
    fn goes_on(&self) -> bool {
        !self.enough.load(Ordering::Relaxed)
    }

    /// `None`: there are too many connections already.
    fn connect(&self) -> Option<UnixStream> {
        let stream = UnixStream::connect(self.socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        Some(stream)
    }

    fn connections(&self, number: usize) -> Vec<UnixStream> {
        (0..number).filter_map(|_| self.connect()).collect()
    }

    /// Sends the same again and again, also on a new connection if the last was closed, and reads whatever comes.
    fn send_again_and_again(&self, bytes: &[u8]) {
        while self.goes_on() {
            let Some(stream) = self.connect() else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let reading = stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| self.read_all(&reading));
                while self.send(&stream, bytes) {}
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    }

    /// Whether all was taken, and more is wanted.
    fn send(&self, mut stream: &UnixStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && self.goes_on() {
            match stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_slow(&error) => {}
                Err(_) => return false,
            }
        }
        self.goes_on()
    }

    fn read_all(&self, mut stream: &UnixStream) {
        let mut buffer = vec![0; 256 << 10];
        while self.goes_on() {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_slow(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn by_many(&self, number: usize, attack: impl Fn(usize) + Sync) {
        std::thread::scope(|scope| {
            for index in 0..number {
                let attack = &attack;
                scope.spawn(move || attack(index));
            }
        });
    }

    fn until_enough(&self) {
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn is_slow(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn request(id: usize, method: &str, params: serde_json::Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string() + "\n"
}

/// A byte of a request from time to time, from each of 500.
fn slow_clients(target: &Target) {
    let clients = target.connections(500);
    let line = request(1, "interview.list", json!({}));
    for byte in line.trim().bytes().cycle() {
        for mut client in &clients {
            let _ = client.write(&[byte]);
        }
        std::thread::sleep(Duration::from_millis(20));
        if !target.goes_on() {
            return;
        }
    }
}

fn long_line(target: &Target) {
    let mut line = vec![b'x'; 64 << 20];
    line.push(b'\n');
    target.send_again_and_again(&line);
}

fn endless_line(target: &Target) {
    target.send_again_and_again(&[b' '; 1 << 20]);
}

/// Just short of the longest line each, and then nothing.
fn partial_lines(target: &Target) {
    let clients = target.connections(200);
    let part = vec![b' '; 1 << 20];
    for _ in 0..15 {
        for client in &clients {
            target.send(client, &part);
        }
    }
    target.until_enough();
}

fn bad_utf8(target: &Target) {
    target.send_again_and_again(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\xff\xfe\"}\n");
}

fn brackets(target: &Target) {
    let mut line = "[".repeat(100_000);
    line.push('\n');
    target.send_again_and_again(line.as_bytes());
}

/// As many values as a line may have, which become many times its length.
fn values(target: &Target) {
    let line = request(
        1,
        "interview.submit",
        json!({"interview": {"company": {"ideal": vec![""; 9_900]}, "answers": []}}),
    );
    target.by_many(4, |_| target.send_again_and_again(line.as_bytes()));
}

/// Texts that no request may have. Decoding an escape takes their memory once more.
fn large_texts(target: &Target) {
    let text = "가".repeat(5 << 20);
    submits(
        target,
        json!({"interview_id": "large", "position": format!("\n{text}")}),
    );
}

/// Of such lengths that only a look at all of it tells that it is too much.
fn many_texts(target: &Target) {
    let text = format!("\n{}", "가".repeat(40_000));
    let answer = json!({"stage": "intro", "question": text, "answer": text});
    submits(target, json!({"interview_id": "many", "answers": vec![answer; 64]}));
}

/// Texts where a number belongs. A refusal that quoted one would say six bytes for each of its own.
fn quoted_texts(target: &Target) {
    let line = request(1, "interview.list", json!({"limit": "\u{7f}".repeat(15 << 20)}));
    target.by_many(4, |_| target.send_again_and_again(line.as_bytes()));
}

fn submits(target: &Target, interview: serde_json::Value) {
    let line = request(1, "interview.submit", json!({"interview": interview}));
    target.by_many(16, |_| target.send_again_and_again(line.as_bytes()));
}

/// Subscribe as often as they may, and never read.
fn deaf_subscribers(target: &Target) {
    let clients = target.connections(100);
    for client in &clients {
        for id in 0..64 {
            target.send(client, request(id, "events.subscribe", json!({})).as_bytes());
        }
    }
    // Something for them to hear of.
    let open = request(1, "interview.open", json!({"interview": {"interview_id": "heard"}}));
    let delete = request(2, "interview.delete", json!({"interview_id": "heard"}));
    target.send_again_and_again((open + &delete).as_bytes());
}

/// Ask for reports, and never read.
fn deaf_readers(target: &Target) {
    never_read(target, "report.get", &json!({"interview_id": KNOWN}));
}

/// The same with replies that are too short for memory of their own.
fn deaf_readers_of_little(target: &Target) {
    never_read(target, "interview.get", &json!({"interview_id": KNOWN}));
}

fn never_read(target: &Target, method: &str, params: &serde_json::Value) {
    let clients = target.connections(200);
    for id in 0..64 {
        let request = request(id, method, params.clone());
        for client in &clients {
            target.send(client, request.as_bytes());
        }
    }
    target.until_enough();
}

fn connects(target: &Target) {
    let mut made = 0;
    while target.goes_on() {
        drop(target.connect());
        made += 1;
        if made % 10_000 == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Thousands of questions one after the other, on each of 16 connections.
fn flood_of_questions(target: &Target) {
    let known = json!({"interview_id": KNOWN});
    let questions = [
        request(1, "interview.get", known.clone()),
        request(2, "report.get", known.clone()),
        request(3, "report.get", json!({"interview_id": KNOWN, "format": "markdown"})),
        request(4, "interview.list", json!({"limit": 1_000})),
        request(5, "report.wait", known),
    ];
    target.by_many(16, |index| {
        let lines = questions[index % questions.len()].repeat(1_000);
        target.send_again_and_again(lines.as_bytes());
    });
}

/// The same interview under one id from all of them, and another one under it.
fn flood_of_submits(target: &Target) {
    target.by_many(16, |index| {
        let answer = json!({"stage": "intro", "question": "?", "answer": "...".repeat(100 + index % 2)});
        let interview = json!({"interview_id": "flooded", "answers": [answer]});
        let lines = request(1, "interview.submit", json!({"interview": interview})).repeat(100);
        target.send_again_and_again(lines.as_bytes());
    });
}
