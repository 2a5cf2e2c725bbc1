//! A rush: hundreds of interviews at once, far more than there are slots. What is queued must cost little more memory than its texts, come out in
//! the order of submission, and leave nothing behind.
//!
//! Before it, every slot is given an answer: what their grammars take, some 2 MiB each, is the price of scoring and not of queueing. The same rush
//! comes several times to one daemon, for caches and arenas that fill once. INTERVIEWD_BENCH_INTERVIEWS, _ROUNDS, _CODE_POINTS (of an answer) and
//! _STEP_MS change it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::process::{Peak, memory, mib};
use crate::common::{self, Client, World};
use crate::setting;

const ANSWERS: usize = 17;
/// Long enough for the slowest machine: a rush takes minutes.
const PATIENCE: Duration = Duration::from_secs(1_800);

pub fn measure() {
    let interviews = setting("INTERVIEWD_BENCH_INTERVIEWS", 200);
    let code_points = setting("INTERVIEWD_BENCH_CODE_POINTS", 600);
    let world = World::simulated(setting("INTERVIEWD_BENCH_STEP_MS", 1) as u64).set("pool.slots_per_actor=17");
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    println!("  {interviews} interviews of {ANSWERS} answers, {code_points} code points each; heap and stacks in MiB:");
    let idle = memory(daemon.pid()).anonymous;
    for number in 0..2 {
        let interview = interview(&format!("before-{number}"), number, code_points);
        client
            .call("interview.submit", json!({"interview": interview}))
            .unwrap();
    }
    std::thread::sleep(Duration::from_secs(3));
    let busy = memory(daemon.pid()).anonymous;
    println!("  idle {:.1}; all slots busy {:.1}", mib(idle), mib(busy));
    for round in 1..=setting("INTERVIEWD_BENCH_ROUNDS", 2) {
        let rush = Rush::new(round, interviews, code_points);
        let before = memory(daemon.pid()).anonymous;
        let peak = Peak::of(daemon.pid());
        let begun = Instant::now();
        let mut watcher = daemon.connect();
        watcher.call("events.subscribe", json!({})).unwrap();
        for interview in &rush.interviews {
            client
                .call("interview.submit", json!({"interview": interview}))
                .unwrap();
        }
        let (queued, submitted) = (memory(daemon.pid()).anonymous, begun.elapsed());
        let in_order = rush.wait(&mut watcher);
        let wall = begun.elapsed();
        std::thread::sleep(Duration::from_secs(1));
        let after = memory(daemon.pid()).anonymous;
        let texts = rush.texts_kib;
        let grown = |to: u64| mib(to.saturating_sub(before));
        println!(
            "  {round}. texts {:.2}; before {:.1}, queued +{:.1}, peak +{:.1} ({:.1} × texts), after +{:.1}; submitted in {:.1} s, done in {:.1} s; reports {}",
            mib(texts),
            mib(before),
            grown(queued),
            grown(peak.anonymous()),
            grown(peak.anonymous()) / mib(texts),
            grown(after),
            submitted.as_secs_f64(),
            wall.as_secs_f64(),
            if in_order { "in order" } else { "OUT OF ORDER" },
        );
    }
}

struct Rush {
    interviews: Vec<Value>,
    /// Of questions and answers.
    texts_kib: u64,
}

impl Rush {
    fn new(round: usize, interviews: usize, code_points: usize) -> Self {
        let interviews: Vec<_> = (0..interviews)
            .map(|number| interview(&format!("rush-{round}-{number:05}"), number, code_points))
            .collect();
        let bytes = |value: &Value| value.as_str().map_or(0, str::len);
        let answers = interviews
            .iter()
            .flat_map(|interview| interview["answers"].as_array().unwrap());
        let texts: usize = answers
            .map(|answer| bytes(&answer["question"]) + bytes(&answer["answer"]))
            .sum();
        Self {
            interviews,
            texts_kib: texts as u64 / 1024,
        }
    }

    /// Waits for every report. Whether they came in the order of submission.
    fn wait(&self, watcher: &mut Client) -> bool {
        let begun = Instant::now();
        let mut ready = Vec::new();
        while ready.len() < self.interviews.len() {
            assert!(begun.elapsed() < PATIENCE, "{} reports only", ready.len());
            let event = watcher.event();
            assert_ne!(event["kind"], "lagged", "{event}");
            let is_of_before = event["interview_id"]
                .as_str()
                .is_some_and(|id| id.starts_with("before"));
            if event["kind"] == "report_ready" && !is_of_before {
                ready.push(event["interview_id"].clone());
            }
        }
        let submitted = self.interviews.iter().map(|interview| &interview["interview_id"]);
        ready.iter().eq(submitted)
    }
}

/// Texts differ from interview to interview: nothing can be shared between them.
fn interview(id: &str, number: usize, code_points: usize) -> Value {
    let sentence = "저는 추측하지 않고 먼저 재 본 다음에 고치며, 고친 뒤에는 꼭 글로 남깁니다. ";
    let texts: Vec<String> = (0..ANSWERS)
        .map(|index| {
            let begin = format!("{number}번 지원자의 {index}번째 대답입니다. ");
            begin
                .chars()
                .chain(sentence.chars().cycle())
                .take(code_points)
                .collect()
        })
        .collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    common::interview(id, &texts)
}
