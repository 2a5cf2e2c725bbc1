//! Everything at once on the same few interviews: nothing is stuck afterwards, and all accounts agree.

use serde_json::{Value, json};

use crate::arithmetic;
use crate::common::{Client, eventually};
use crate::support::{House, an_answer, of};

const IDS: [&str; 3] = ["x", "y", "z"];
const TEXTS: [&str; 4] = ["...", "저는 개발자입니다.", "", "로그를 먼저 읽습니다."];
/// What a client may hear that comes too late or too early.
const ALLOWED: [&str; 4] = ["not_found", "conflict", "not_ready", "invalid_params"];

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn request(dice: &mut Dice) -> (&'static str, Value) {
    let id = IDS[dice.roll(IDS.len())];
    let answers: Vec<_> = (0..=dice.roll(3))
        .map(|n| an_answer(&format!("a{n}"), TEXTS[dice.roll(2)]))
        .collect();
    let interview = json!({"interview": {"interview_id": id, "answers": answers}});
    let by_id = json!({"interview_id": id});
    match dice.roll(12) {
        0 | 1 => ("interview.submit", interview),
        2 | 3 => ("interview.open", interview),
        4 | 5 => {
            let answer = an_answer(&format!("a{}", dice.roll(5)), TEXTS[dice.roll(4)]);
            ("interview.answer", json!({"interview_id": id, "answer": answer}))
        }
        6 | 7 => ("interview.finish", by_id),
        8 => ("interview.cancel", by_id),
        9 => ("interview.delete", by_id),
        10 => ("interview.get", by_id),
        _ => ("report.wait", json!({"interview_id": id, "timeout_ms": dice.roll(30)})),
    }
}

/// Sends requests in bursts, as several programs on one connection would.
fn rage(mut client: Client, seed: u64) {
    let mut dice = Dice(seed);
    for burst in 0..40 {
        let requests: Vec<_> = (0..=dice.roll(6)).map(|_| request(&mut dice)).collect();
        for (number, (method, params)) in requests.iter().enumerate() {
            let id = 100 * burst + number;
            client.send_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        }
        for _ in &requests {
            let reply = client.line().unwrap();
            if let Some(error) = reply.get("error") {
                assert!(ALLOWED.contains(&error["data"]["kind"].as_str().unwrap()), "{reply}");
            }
        }
    }
}

#[test]
fn after_a_storm_nothing_is_stuck_and_all_accounts_agree() {
    let house = House::simulated(1);
    let mut watcher = house.connect();
    watcher.call("events.subscribe", json!({})).unwrap();
    std::thread::scope(|scope| {
        for seed in 1..=3 {
            let client = house.connect();
            scope.spawn(move || rage(client, seed));
        }
    });
    let mut client = house.connect();
    let listed = |client: &mut Client| {
        let list = client.call("interview.list", json!({})).unwrap();
        list["interviews"].as_array().unwrap().clone()
    };
    for interview in listed(&mut client) {
        let method = match (&interview["state"], &interview["total"]) {
            (state, total) if *state == "open" && *total == 0 => "interview.cancel",
            (state, _) if *state == "open" => "interview.finish",
            _ => continue,
        };
        of(&mut client, method, interview["interview_id"].as_str().unwrap());
    }
    let settled = eventually("everything has ended", || {
        let all = listed(&mut client);
        all.iter()
            .all(|interview| interview["state"] == "complete" || interview["state"] == "cancelled")
            .then_some(all)
    });
    let status = client.call("status", json!({})).unwrap();
    for state in ["open", "scoring", "reporting", "complete", "partial", "cancelled"] {
        let count = settled.iter().filter(|interview| interview["state"] == state).count();
        assert_eq!(status["interviews"][state], count, "{settled:?} {status}");
    }
    assert_eq!(
        (&status["queue"]["answers"], &status["queue"]["interviews"]),
        (&json!(0), &json!(0))
    );
    for interview in settled.iter().filter(|interview| interview["state"] == "complete") {
        consistent(&mut client, interview["interview_id"].as_str().unwrap());
    }
    told_in_order(&mut watcher);
}

/// The report fits what `interview.get` says, and its numbers each other.
fn consistent(client: &mut Client, id: &str) {
    let seen = of(client, "interview.get", id);
    let report = of(client, "report.get", id)["report"].clone();
    let rows = report["answers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(seen["answers"].as_array().unwrap());
    for (told, seen) in rows {
        assert_eq!(
            (&told["answer_id"], &told["score"]),
            (&seen["answer_id"], &seen["score"])
        );
    }
    let score = |answer: &Value| json!({"answer_id": answer["answer_id"], "stage": "intro", "answer": ""});
    let shell: Vec<_> = report["answers"].as_array().unwrap().iter().map(score).collect();
    let mut without_quotes = report.clone();
    for answer in without_quotes["answers"].as_array_mut().unwrap() {
        for criterion in answer["criteria"].as_array_mut().unwrap() {
            criterion["evidence"] = Value::Null;
        }
    }
    arithmetic::check(&without_quotes, &json!({"interview_id": id, "answers": shell}));
}

/// Of every life: accepted once and first, at most one end, nothing after it but its deletion; `done` never shrinks.
fn told_in_order(watcher: &mut Client) {
    watcher.call("hello", json!({})).unwrap();
    let events = std::mem::take(&mut watcher.events);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index + 1);
        assert!(event["done"].as_u64() <= event["total"].as_u64(), "{event}");
    }
    for id in IDS {
        let (mut lives, mut ended, mut done) = (false, false, 0);
        for event in events.iter().filter(|event| event["interview_id"] == id) {
            let kind = event["kind"].as_str().unwrap();
            match kind {
                "accepted" => assert!(!lives, "a second life before the first was deleted: {events:#?}"),
                "deleted" => assert!(lives, "{events:#?}"),
                _ => assert!(lives && !ended, "{event} after the end in {events:#?}"),
            }
            if kind == "accepted" {
                (ended, done) = (false, 0);
            }
            let now = event["done"].as_u64().unwrap();
            assert!(now >= done, "{event} after {done} were done in {events:#?}");
            lives = kind != "deleted";
            ended |= kind == "cancelled" || kind == "report_ready";
            done = now;
        }
    }
}
