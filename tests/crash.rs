//! kill -9 at random moments: whatever was acknowledged is there again, whatever was scored stays scored, and every interview gets one report.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Client, Daemon, World, eventually};

const KILLS: u32 = 50;
const LIFE_MS_MAX: u64 = 300;
/// A client does not begin more while so many of its interviews wait for a report.
const WAITING_MAX: usize = 12;
/// Clients that work at the same time, each on interviews of its own.
const ACTORS: u64 = 2;

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Where an interview stands as far as the daemon has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Finished,
    Cancelled,
    Deleted,
}

/// What a client knows of one of its interviews.
#[derive(Debug)]
struct Known {
    stage: Stage,
    /// As they were sent and acknowledged.
    answers: Vec<Value>,
    scores: BTreeMap<String, Value>,
    /// The report that was read, and whether a retry may be replacing it.
    report: Option<Value>,
    retried: bool,
}

/// A request of which it is not known whether it was carried out.
#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    params: Value,
}

/// A client that remembers everything that it was told.
struct Book {
    name: String,
    dice: Dice,
    known: BTreeMap<String, Known>,
    unanswered: Option<Request>,
    made: u32,
}

fn id_of(request: &Request) -> String {
    let params = &request.params;
    let id = params["interview"]["interview_id"]
        .as_str()
        .or(params["interview_id"].as_str());
    id.unwrap().to_owned()
}

impl Book {
    fn new(name: &str, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            dice: Dice(seed),
            known: BTreeMap::new(),
            unanswered: None,
            made: 0,
        }
    }

    /// Works until the daemon is gone.
    fn work(&mut self, mut client: Client) {
        let again = self.unanswered.take();
        if let Some(request) = again
            && self.carry_out(&mut client, request, true).is_none()
        {
            return;
        }
        loop {
            let request = self.choose();
            if self.carry_out(&mut client, request, false).is_none() {
                return;
            }
            std::thread::sleep(Duration::from_millis(self.dice.below(25)));
        }
    }

    /// `None`: the daemon is gone, and nobody knows whether it was done.
    fn carry_out(&mut self, client: &mut Client, request: Request, again: bool) -> Option<()> {
        let Some(reply) = client.try_call(request.method, request.params.clone()) else {
            if request.method == "interview.retry" {
                self.known.get_mut(&id_of(&request)).unwrap().retried = true;
            }
            self.unanswered = Some(request);
            return None;
        };
        let id = id_of(&request);
        match reply {
            Ok(result) => self.learn(&request, &id, &result),
            Err(fault) => {
                let expected = match request.method {
                    "report.get" => ["not_ready", "conflict"].contains(&fault.kind()),
                    "interview.cancel" | "interview.retry" => fault.kind() == "conflict",
                    // It was deleted, and this is known now.
                    "interview.delete" => again && fault.kind() == "not_found",
                    _ => false,
                };
                assert!(expected, "{request:?}: {fault:?}");
                if request.method == "interview.delete" {
                    self.known.get_mut(&id).unwrap().stage = Stage::Deleted;
                }
            }
        }
        Some(())
    }

    fn learn(&mut self, request: &Request, id: &str, result: &Value) {
        let new = |stage, answers: &Value| Known {
            stage,
            answers: answers.as_array().unwrap().clone(),
            scores: BTreeMap::new(),
            report: None,
            retried: false,
        };
        let sent = &request.params["interview"]["answers"];
        match request.method {
            "interview.submit" => drop(self.known.insert(id.to_owned(), new(Stage::Finished, sent))),
            "interview.open" => drop(self.known.insert(id.to_owned(), new(Stage::Open, sent))),
            _ => {}
        }
        let known = self.known.get_mut(id).unwrap();
        match request.method {
            "interview.answer" => known.answers.push(request.params["answer"].clone()),
            "interview.finish" => known.stage = Stage::Finished,
            "interview.cancel" => known.stage = Stage::Cancelled,
            "interview.delete" => known.stage = Stage::Deleted,
            "interview.retry" => known.retried = true,
            "interview.get" => known.see(id, result),
            "report.get" => known.report = Some(result["report"].clone()),
            _ => {}
        }
    }

    fn choose(&mut self) -> Request {
        let choice = self.dice.below(13);
        let pick = self.dice.next();
        let of = |stages: &[Stage]| {
            let fitting: Vec<_> = self
                .known
                .iter()
                .filter(|(_, known)| stages.contains(&known.stage))
                .collect();
            let index = pick as usize % fitting.len().max(1);
            fitting
                .get(index)
                .map(|(id, known)| ((*id).clone(), known.answers.len()))
        };
        let asked = |method, id: &str| Request {
            method,
            params: json!({"interview_id": id}),
        };
        let waits = |known: &&Known| matches!(known.stage, Stage::Open | Stage::Finished) && known.report.is_none();
        let may_begin = self.known.values().filter(waits).count() < WAITING_MAX;
        match (choice, of(&[Stage::Open]), of(&[Stage::Finished])) {
            (0..2, ..) if may_begin => self.make("interview.submit", 1),
            (2, ..) if may_begin => self.make("interview.open", 0),
            (3..5, Some((id, answers)), _) if answers < 6 => Request {
                method: "interview.answer",
                params: json!({"interview_id": id, "answer": self.answer(answers)}),
            },
            (5, Some((id, answers)), _) if answers > 0 => asked("interview.finish", &id),
            (6, Some((id, _)), _) if pick % 8 == 3 => asked("interview.cancel", &id),
            (7, _, Some((id, _))) if pick % 8 == 1 => asked("interview.cancel", &id),
            (8, _, Some((id, _))) if pick % 8 == 2 => asked("interview.delete", &id),
            (9, _, Some((id, _))) => asked("interview.retry", &id),
            (10.., _, Some((id, _))) => asked("report.get", &id),
            (_, _, Some((id, _))) => asked("interview.get", &id),
            _ => self.make("interview.submit", 1),
        }
    }

    fn make(&mut self, method: &'static str, answers_min: u64) -> Request {
        self.made += 1;
        let id = format!("{}-{}", self.name, self.made);
        let gated = self.dice.below(5) == 0;
        let answers: Vec<_> = (0..answers_min + self.dice.below(4))
            .map(|index| match gated {
                true => self.gated(index as usize),
                false => self.answer(index as usize),
            })
            .collect();
        Request {
            method,
            params: json!({"interview": {"interview_id": id, "answers": answers}}),
        }
    }

    fn answer(&mut self, index: usize) -> Value {
        let mut answer = self.gated(index);
        answer["answer"] = json!(format!("{} 건의 장애를 줄였습니다.", self.dice.below(1_000)));
        answer
    }

    /// Scored without the model; an interview of nothing else has no narrative and can be retried.
    fn gated(&self, index: usize) -> Value {
        json!({"answer_id": format!("a{}", index + 1), "stage": "intro", "question": "말씀해 주세요.", "answer": "..."})
    }

    /// Everything that was acknowledged is there.
    fn check(&mut self, client: &mut Client) {
        let pending = self.unanswered.as_ref().map(|request| (id_of(request), request.method));
        for (id, known) in &mut self.known {
            let unsure = pending.as_ref().filter(|(of, _)| of == id).map(|(_, method)| *method);
            let got = client.call("interview.get", json!({"interview_id": id}));
            match (known.stage, &got) {
                (Stage::Deleted, Err(fault)) => assert_eq!(fault.kind(), "not_found"),
                (_, Err(fault)) if unsure == Some("interview.delete") => assert_eq!(fault.kind(), "not_found"),
                (_, Ok(now)) => known.see_after_crash(id, now, unsure),
                (_, Err(fault)) => panic!("{id} was acknowledged and is lost: {fault:?}; {known:?}"),
            }
            if let (Some(report), Ok(now)) = (&known.report, &got)
                && !known.retried
                && known.stage != Stage::Cancelled
                && unsure.is_none()
            {
                let stored = client.call("report.get", json!({"interview_id": id})).unwrap();
                assert_eq!(&stored["report"], report, "{now}");
            }
        }
    }
}

impl Known {
    /// What is scored stays as it is.
    fn see(&mut self, id: &str, now: &Value) {
        for answer in now["answers"].as_array().unwrap() {
            let answer_id = answer["answer_id"].as_str().unwrap();
            match (self.scores.get(answer_id), answer["score"].is_null()) {
                (Some(score), _) => assert_eq!(&answer["score"], score, "{id} {answer_id}: {now}"),
                (None, false) => drop(self.scores.insert(answer_id.to_owned(), answer["score"].clone())),
                (None, true) => {}
            }
        }
    }

    fn see_after_crash(&mut self, id: &str, now: &Value, unsure: Option<&str>) {
        let state = now["state"].as_str().unwrap();
        let allowed: &[&str] = match self.stage {
            Stage::Open => &["open"],
            Stage::Finished => &["scoring", "reporting", "complete"],
            Stage::Cancelled => &["cancelled"],
            Stage::Deleted => &[],
        };
        let maybe = match unsure {
            Some("interview.cancel") => state == "cancelled",
            Some("interview.finish") => self.stage == Stage::Open,
            _ => false,
        };
        assert!(maybe || allowed.contains(&state), "{id} is {state}: {self:?}");
        let total = now["total"].as_u64().unwrap() as usize;
        let one_more = unsure == Some("interview.answer") && total == self.answers.len() + 1;
        assert!(
            one_more || total == self.answers.len(),
            "{id} has {total} answers: {self:?}"
        );
        self.see(id, now);
    }
}

/// Listens to everything until the daemon is gone.
fn listen(daemon: &Daemon) -> std::thread::JoinHandle<Vec<Value>> {
    let mut client = daemon.connect();
    client.call("events.subscribe", json!({})).unwrap();
    std::thread::spawn(move || {
        let mut events = std::mem::take(&mut client.events);
        while let Some(line) = client.try_line() {
            events.push(line["params"].clone());
        }
        events
    })
}

/// One life of the daemon: everybody works, then it is killed, perhaps before its model is loaded.
fn live_and_die(world: &World, books: &mut [Book], dice: &mut Dice) -> Vec<Value> {
    let lasting = Duration::from_millis(dice.below(LIFE_MS_MAX + 1));
    let daemon = match dice.below(3) {
        0 => world.start(),
        _ => world.start_ready(),
    };
    let listener = listen(&daemon);
    let mut client = daemon.connect();
    books.iter_mut().for_each(|book| book.check(&mut client));
    std::thread::scope(|scope| {
        for book in books {
            let client = daemon.connect();
            scope.spawn(move || book.work(client));
        }
        std::thread::sleep(lasting);
        daemon.kill();
    });
    listener.join().unwrap()
}

/// The interviews that must have a report, after everything that was left open has been finished.
fn finish_everything(daemon: &Daemon, books: &mut [Book]) -> BTreeSet<String> {
    let mut client = daemon.connect();
    let mut due = BTreeSet::new();
    for book in books {
        book.check(&mut client);
        if let Some(request) = book.unanswered.take() {
            book.carry_out(&mut client, request, true).unwrap();
        }
        for (id, known) in &mut book.known {
            let method = match (known.stage, known.answers.is_empty()) {
                (Stage::Open, true) => "interview.cancel",
                (Stage::Open, false) => "interview.finish",
                _ => "interview.get",
            };
            let reply = client.call(method, json!({"interview_id": id}));
            match (known.stage, known.answers.is_empty()) {
                (Stage::Open, true) => known.stage = Stage::Cancelled,
                (Stage::Open, false) => known.stage = Stage::Finished,
                _ => {}
            }
            match known.stage {
                Stage::Deleted => assert_eq!(reply.unwrap_err().kind(), "not_found"),
                Stage::Cancelled => assert_eq!(reply.unwrap()["state"], "cancelled"),
                _ => drop((reply.unwrap(), due.insert(id.clone()))),
            }
        }
    }
    due
}

fn assert_report(known: &Known, report: &Value) {
    assert_eq!(report["status"], "complete", "{report}");
    let answers = report["answers"].as_array().unwrap();
    let ids: Vec<_> = answers.iter().map(|answer| answer["answer_id"].clone()).collect();
    let sent: Vec<_> = known.answers.iter().map(|answer| answer["answer_id"].clone()).collect();
    assert_eq!(ids, sent);
    for answer in answers {
        let score = &known.scores[answer["answer_id"].as_str().unwrap()];
        assert_eq!(&answer["score"], score, "{answer}");
        assert_eq!(
            answer["timing"]["attempts"] == 0,
            answer["state"] == "gated",
            "{answer}"
        );
    }
}

/// Every answer was scored at most once in all lives, with the score that it has; every report was made at most once, or once more by a retry.
fn assert_once(events: &[Value], books: &[Book]) {
    let known: BTreeMap<_, _> = books.iter().flat_map(|book| &book.known).collect();
    let mut scored = BTreeSet::new();
    let mut reports: BTreeMap<&str, u32> = BTreeMap::new();
    for event in events {
        let id = event["interview_id"].as_str().unwrap();
        let of = known.get(&id.to_owned());
        match event["kind"].as_str().unwrap() {
            "answer_scored" => {
                let answer = event["answer_id"].as_str().unwrap();
                assert!(scored.insert((id, answer)), "scored again: {event}");
                if let Some(score) = of.and_then(|known| known.scores.get(answer)) {
                    assert_eq!(&event["score"], score, "{event}");
                }
            }
            "report_ready" => *reports.entry(id).or_default() += 1,
            "lagged" | "answer_unscored" => panic!("{event}"),
            _ => {}
        }
    }
    for (id, count) in reports {
        let retried = known.get(&id.to_owned()).is_some_and(|known| known.retried);
        assert!(count == 1 || retried, "{count} reports of {id}");
    }
}

fn all_listed(client: &mut Client) -> BTreeMap<String, String> {
    let mut listed = BTreeMap::new();
    let mut after = Value::Null;
    loop {
        let mut params = json!({"limit": 7});
        if !after.is_null() {
            params["after"] = after;
        }
        let page = client.call("interview.list", params).unwrap();
        for interview in page["interviews"].as_array().unwrap() {
            let text = |name: &str| interview[name].as_str().unwrap().to_owned();
            assert!(
                listed.insert(text("interview_id"), text("state")).is_none(),
                "listed twice: {interview}"
            );
        }
        after = page["next"].clone();
        if after.is_null() {
            return listed;
        }
    }
}

#[test]
fn after_fifty_kills_nothing_acknowledged_is_lost_nothing_is_scored_twice_and_every_interview_has_one_report() {
    let seed = match std::env::var("CRASH_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    eprintln!("CRASH_SEED={seed} repeats this choice of requests and moments");
    let world = World::simulated(0);
    let mut dice = Dice(seed);
    let mut books: Vec<_> = (0..ACTORS)
        .map(|actor| Book::new(&format!("c{actor}"), dice.next()))
        .collect();
    let mut events = Vec::new();
    for _ in 0..KILLS {
        events.extend(live_and_die(&world, &mut books, &mut dice));
    }
    let before = events.iter().filter(|event| event["kind"] == "answer_scored").count();
    let begun = Instant::now();
    let daemon = world.start_ready();
    let listener = listen(&daemon);
    let mut client = daemon.connect();
    let due = finish_everything(&daemon, &mut books);
    for book in &mut books {
        for (id, known) in book.known.iter_mut().filter(|(id, _)| due.contains(*id)) {
            let report = client.wait_for_report(id);
            let now = client.call("interview.get", json!({"interview_id": id})).unwrap();
            known.see(id, &now);
            assert_eq!(now["state"], "complete", "{now}");
            assert_report(known, &report);
        }
    }
    let listed = all_listed(&mut client);
    let complete: BTreeSet<_> = listed
        .iter()
        .filter(|(_, state)| *state == "complete")
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(
        complete, due,
        "each interview that was to have a report has one, and no other has"
    );
    let idle = eventually("nothing is left to do", || {
        let status = client.call("status", json!({})).unwrap();
        (status["queue"]["answers"] == 0 && status["interviews"]["scoring"] == 0).then_some(status)
    });
    assert_eq!(idle["interviews"]["complete"], due.len(), "{idle}");
    daemon.kill();
    events.extend(listener.join().unwrap());
    assert_once(&events, &books);
    let scored = events.iter().filter(|event| event["kind"] == "answer_scored").count();
    eprintln!(
        "{} interviews; answers seen scored: {before} in lives that were killed, {scored} in all; the last life took {:?}",
        listed.len(),
        begun.elapsed()
    );
    assert!(
        !due.is_empty() && before > 0,
        "too little happened: {} reports, {before} answers before kills",
        due.len()
    );
}
