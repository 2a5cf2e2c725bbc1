//! What the demo model makes of interviews, end to end: all answers at once, the narrative after them, and the same judgement in whatever company.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use common::{Client, World, demo_interview, eventually, judgement};

const ANSWERS: usize = 17;

/// What was seen of the slots while interviews ran.
#[derive(Default)]
struct Seen {
    /// Most answers of one interview that had slots of one actor at one moment.
    together: usize,
    busy: u64,
    narratives: BTreeSet<String>,
    /// Narratives that were in a slot although answers had not ended.
    early: Vec<String>,
}

/// Looks at the slots as often as possible until told to stop.
fn watch(mut client: Client, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let status = client.call("status", json!({})).unwrap();
        for actor in status["pool"]["actors"].as_array().unwrap() {
            look(actor, &mut client, &mut seen);
        }
    }
    seen
}

fn look(actor: &Value, client: &mut Client, seen: &mut Seen) {
    let mut answers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut narratives = Vec::new();
    for row in actor["slot_table"].as_array().unwrap() {
        let interview = row["interview_id"].as_str().unwrap();
        match row["answer_id"].as_str() {
            Some(answer) => assert!(answers.entry(interview).or_default().insert(answer), "{actor}"),
            None => narratives.push(interview.to_owned()),
        }
    }
    seen.busy = seen.busy.max(actor["slots_busy"].as_u64().unwrap());
    seen.together = seen
        .together
        .max(answers.values().map(BTreeSet::len).max().unwrap_or(0));
    for id in narratives {
        // What has ended by now had not ended when the narrative was seen, or had: more of the truth is not to be had from outside.
        let now = client.call("interview.get", json!({"interview_id": id})).unwrap();
        if answers.contains_key(id.as_str()) || now["done"] != now["total"] {
            seen.early.push(format!("{id}: {actor} then {now}"));
        }
        seen.narratives.insert(id);
    }
}

/// The events up to the report of each interview, by interview.
fn events_until_reports(subscriber: &mut Client, ids: &[&str]) -> BTreeMap<String, Vec<Value>> {
    let mut events: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut missing: BTreeSet<_> = ids.iter().map(|id| (*id).to_owned()).collect();
    let mut seq = 0;
    while !missing.is_empty() {
        let event = subscriber.event();
        seq += 1;
        assert_eq!(event["seq"], seq, "{event}");
        let id = event["interview_id"].as_str().unwrap().to_owned();
        if event["kind"] == "report_ready" {
            missing.remove(&id);
        }
        events.entry(id).or_default().push(event);
    }
    events
}

/// One after the other: accepted, every answer once, the report's start, the report.
fn assert_whole_story(events: &[Value]) {
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let mut expected = vec!["accepted"];
    expected.extend([vec!["answer_scored"; ANSWERS], vec!["report_started", "report_ready"]].concat());
    assert_eq!(kinds, expected);
    let scored = &events[1..=ANSWERS];
    let answers: BTreeSet<_> = scored
        .iter()
        .map(|event| event["answer_id"].as_str().unwrap())
        .collect();
    assert_eq!(answers.len(), ANSWERS, "each answer once");
    for (index, event) in scored.iter().enumerate() {
        assert_eq!(
            (&event["done"], &event["total"]),
            (&json!(index + 1), &json!(ANSWERS)),
            "{event}"
        );
    }
    assert_eq!(
        events[ANSWERS + 1]["done"],
        ANSWERS,
        "the narrative begins when all answers have ended"
    );
}

#[test]
fn all_answers_of_an_interview_run_together_and_its_narrative_only_after_them() {
    let world = World::demo().set("pool.actors=1").set("pool.slots_per_actor=17");
    let daemon = world.start_ready();
    let mut subscriber = daemon.connect();
    subscriber.call("events.subscribe", json!({})).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (client, stop) = (daemon.connect(), Arc::clone(&stop));
        std::thread::spawn(move || watch(client, &stop))
    };
    let ids = ["first", "second", "third"];
    let mut client = daemon.connect();
    for id in ids {
        client
            .call("interview.submit", json!({"interview": demo_interview(id)}))
            .unwrap();
    }
    let events = events_until_reports(&mut subscriber, &ids);
    stop.store(true, Ordering::Relaxed);
    let seen = watcher.join().unwrap();
    assert_eq!(
        (seen.busy, seen.together),
        (17, ANSWERS),
        "all answers of one interview in slots at one moment"
    );
    assert!(
        seen.early.is_empty(),
        "narratives before the last answer had ended: {:#?}",
        seen.early
    );
    assert!(!seen.narratives.is_empty(), "no narrative was ever seen in its slot");
    ids.iter().for_each(|id| assert_whole_story(&events[*id]));

    let reports: Vec<_> = ids.iter().map(|id| client.wait_for_report(id)).collect();
    for report in &reports {
        assert_eq!(
            (&report["status"], &report["coverage"]),
            (&json!("complete"), &json!(1.0)),
            "{report}"
        );
        assert!(report["narrative"].is_object(), "{report}");
        assert_eq!(
            content(report),
            content(&reports[0]),
            "equal answers, equal provenance: an equal report"
        );
    }
}

/// Of a report, everything that the answers and the provenance decide.
fn content(report: &Value) -> Value {
    let answers: Vec<_> = report["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| {
            json!([
                answer["answer_id"],
                judgement(answer),
                answer["final_score"],
                answer["adjustment"]
            ])
        })
        .collect();
    let names = [
        "status",
        "coverage",
        "overall",
        "band",
        "pass_likelihood",
        "areas",
        "competencies",
        "narrative",
        "provenance",
    ];
    let parts: BTreeMap<_, _> = names.iter().map(|name| (*name, report[*name].clone())).collect();
    json!({"answers": answers, "parts": parts})
}

/// Sends the answers from `opened` on one by one and finishes; what is scored before the finish is waited for first.
fn score_as_it_goes(client: &mut Client, id: &str, opened: usize) -> Value {
    let mut interview = demo_interview(id);
    let answers = interview["answers"].as_array().unwrap().clone();
    interview["answers"] = json!(answers[..opened]);
    client.call("interview.open", json!({"interview": interview})).unwrap();
    for (index, answer) in answers.iter().enumerate().skip(opened) {
        let answered = client
            .call("interview.answer", json!({"interview_id": id, "answer": answer}))
            .unwrap();
        assert_eq!(answered["created"], true);
        if index == opened {
            let open = eventually("an answer is scored while the interview is open", || {
                let now = client.call("interview.get", json!({"interview_id": id})).unwrap();
                (now["done"].as_u64().unwrap() == opened as u64 + 1).then_some(now)
            });
            assert_eq!(
                (&open["state"], &open["answers"][0]["state"]),
                (&json!("open"), &json!("scored")),
                "{open}"
            );
            let early = client.call("report.get", json!({"interview_id": id})).unwrap_err();
            assert_eq!(early.kind(), "not_ready");
        }
    }
    client.call("interview.finish", json!({"interview_id": id})).unwrap();
    client.wait_for_report(id)
}

#[test]
fn an_interview_that_is_scored_as_it_goes_gets_the_report_of_one_that_is_submitted_whole() {
    let world = World::demo();
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let whole = client.report(demo_interview("whole"));
    assert_eq!(whole["status"], "complete");
    for (id, opened) in [("empty-at-first", 0), ("three-at-first", 3)] {
        let report = score_as_it_goes(&mut client, id, opened);
        assert_eq!(content(&report), content(&whole), "{id}");
    }
}

/// Answers whose lengths lie around the multiples of a query tile, from 5 to 1,000 characters; two of them have follow-ups.
fn answers_of_many_lengths() -> Vec<Value> {
    let demo = demo_interview("text");
    let text: Vec<char> = demo["answers"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|a| a["answer"].as_str().unwrap().chars())
        .collect();
    let stages = [
        "intro",
        "motivation",
        "skill",
        "skill_followup",
        "experience",
        "problem_solving",
        "problem_solving_followup",
        "communication",
        "responsibility",
        "growth",
        "final_statement",
        "intro",
        "motivation",
        "skill",
        "experience",
        "growth",
    ];
    let lengths = [
        5, 31, 60, 64, 95, 128, 130, 190, 256, 257, 333, 400, 512, 640, 800, 1_000,
    ];
    let answer = |(index, (stage, length)): (usize, (&&str, &usize))| {
        let answer: String = text.iter().cycle().skip(index * 97).take(*length).collect();
        let parent = stage.ends_with("_followup").then(|| format!("n{}", index - 1));
        json!({"answer_id": format!("n{index}"), "stage": stage, "question": "구체적으로 말씀해 주세요.", "answer": answer,
               "follow_up_of": parent})
    };
    stages.iter().zip(&lengths).enumerate().map(answer).collect()
}

fn interview_of(id: &str, answers: &[Value]) -> Value {
    json!({"interview_id": id, "position": "백엔드 개발자", "answers": answers})
}

/// The other way round, but every follow-up behind its parent.
fn reversed(answers: &[Value]) -> Vec<Value> {
    let mut reversed: Vec<Value> = Vec::new();
    for answer in answers.iter().rev() {
        let child = reversed
            .iter()
            .position(|later| later["follow_up_of"] == answer["answer_id"]);
        reversed.insert(child.unwrap_or(reversed.len()), answer.clone());
    }
    reversed
}

/// The answers with other ends: what is left of them in the slots begins like the real ones.
fn with_other_ends(answers: &[Value]) -> Vec<Value> {
    let cut = |answer: &Value| {
        let mut answer = answer.clone();
        let text: Vec<char> = answer["answer"].as_str().unwrap().chars().collect();
        let kept: String = text[..text.len() * 2 / 3].iter().collect();
        answer["answer"] = json!(format!("{kept} 다른 결말입니다."));
        answer
    };
    answers.iter().map(cut).collect()
}

/// The answer, behind its parent if it has one.
fn alone(answers: &[Value], index: usize) -> Vec<Value> {
    let parent = answers
        .iter()
        .find(|other| other["answer_id"] == answers[index]["follow_up_of"]);
    parent.into_iter().chain([&answers[index]]).cloned().collect()
}

/// Judgements by answer id.
fn judgements(report: &Value) -> BTreeMap<String, Value> {
    let answers = report["answers"].as_array().unwrap();
    answers
        .iter()
        .map(|answer| (answer["answer_id"].as_str().unwrap().to_owned(), judgement(answer)))
        .collect()
}

fn assert_same(company: &str, found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    for (id, judgement) in found {
        assert_eq!(judgement.to_string(), expected[id].to_string(), "{id}, {company}");
    }
}

#[test]
fn an_answer_is_judged_the_same_alone_in_company_in_any_order_after_a_restart_and_whatever_was_in_the_slots() {
    let answers = answers_of_many_lengths();
    let mut world = World::demo().set("pool.slots_per_actor=17");
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    let first = client.report(interview_of("together", &answers));
    let expected = judgements(&first);
    assert_eq!(expected.len(), answers.len());
    assert!(
        expected.values().all(|judgement| judgement["state"] == "scored"),
        "{expected:#?}"
    );

    client.report(interview_of("other-ends", &with_other_ends(&answers)));
    let after_similar = client.report(interview_of("again", &answers));
    assert_eq!(
        content(&after_similar),
        content(&first),
        "after answers that begin alike"
    );
    for index in [0, 2, 3, 6, 11, 15] {
        let report = client.report(interview_of(&format!("alone-{index}"), &alone(&answers, index)));
        assert_same("alone", &judgements(&report), &expected);
    }
    drop((client, daemon));

    // One slot has had everything in it; with two actors each computes on fewer threads.
    for (name, settings) in [
        ("one-slot", ["pool.slots_per_actor=1", "pool.actors=1"]),
        ("two-actors", ["pool.slots_per_actor=3", "pool.actors=2"]),
    ] {
        world = settings.iter().fold(world, |world, setting| world.set(setting));
        let daemon = world.start_ready();
        let mut client = daemon.connect();
        let before = demo_interview(&format!("before-{name}"));
        client.call("interview.submit", json!({"interview": before})).unwrap();
        let report = client.report(interview_of(&format!("reversed-{name}"), &reversed(&answers)));
        assert_eq!(report["provenance"], first["provenance"]);
        assert_same(name, &judgements(&report), &expected);
    }
}
