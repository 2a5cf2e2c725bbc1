//! Clients that remember everything that they were told, and hold the daemon to it after every crash.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Client, STAR};

/// A client does not begin more while so many of its interviews wait for a report.
const WAITING_MAX: usize = 12;

/// How many of those that have ended are looked at after a crash.
const SAMPLE: u64 = 40;

/// Numbers that look random and are the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Where an interview stands as far as the daemon has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Open,
    Finished,
    Cancelled,
    Deleted,
}

/// What a client knows of one of its interviews.
#[derive(Debug)]
pub struct Known {
    pub stage: Stage,
    /// As they were sent and acknowledged.
    pub answers: Vec<Value>,
    /// Of what is scored or gated: state, score and attempts.
    scores: BTreeMap<String, Value>,
    /// The report that was read; a retry may be replacing it.
    report: Option<Value>,
    /// Generations that there may be.
    pub generations: u32,
}

/// A request of which it is not known whether it was carried out.
#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    params: Value,
}

/// A client that remembers everything that it was told.
pub struct Book {
    name: String,
    dice: Dice,
    pause_ms_max: u64,
    pub known: BTreeMap<String, Known>,
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

/// Whether no prompt with this answer gets past the model.
fn is_poison(answer: &Value) -> bool {
    answer["answer"].as_str().unwrap().contains(STAR)
}

impl Book {
    pub fn new(name: &str, seed: u64, pause_ms_max: u64) -> Self {
        Self {
            name: name.to_owned(),
            dice: Dice(seed),
            pause_ms_max,
            known: BTreeMap::new(),
            unanswered: None,
            made: 0,
        }
    }

    /// Works until the daemon is gone or about to go.
    pub fn work(&mut self, mut client: Client) {
        let mut goes_on = self.ask_again(&mut client);
        while goes_on.is_some() {
            std::thread::sleep(Duration::from_millis(self.dice.below(self.pause_ms_max)));
            let request = self.choose();
            goes_on = self.carry_out(&mut client, request, false);
        }
    }

    /// Repeats what got no reply. `None`: the daemon is gone.
    pub fn ask_again(&mut self, client: &mut Client) -> Option<()> {
        match self.unanswered.take() {
            Some(request) => self.carry_out(client, request, true),
            None => Some(()),
        }
    }

    /// `None`: the daemon is gone or about to go, and what is `unanswered` may have been done or not.
    fn carry_out(&mut self, client: &mut Client, request: Request, again: bool) -> Option<()> {
        let Some(reply) = client.try_call(request.method, request.params.clone()) else {
            if request.method == "interview.retry" {
                self.known.get_mut(&id_of(&request)).unwrap().generations += 1;
            }
            self.unanswered = Some(request);
            return None;
        };
        let id = id_of(&request);
        match reply {
            Ok(result) => self.learn(&request, &id, &result),
            // It stops in an orderly way: nothing was done now, but perhaps before.
            Err(fault) if fault.kind() == "draining" => {
                self.unanswered = again.then_some(request);
                return None;
            }
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
            generations: 1,
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
            "interview.retry" => known.generations += 1,
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

    /// Now and then one that no model gets past.
    fn answer(&mut self, index: usize) -> Value {
        let mut answer = self.gated(index);
        let poison = if self.dice.below(16) == 0 { STAR } else { "" };
        answer["answer"] = json!(format!("{} 건의 장애를 줄였습니다.{poison}", self.dice.below(1_000)));
        answer
    }

    /// Scored without the model; an interview of nothing else has no narrative and can be retried.
    fn gated(&self, index: usize) -> Value {
        json!({"answer_id": format!("a{}", index + 1), "stage": "intro", "question": "말씀해 주세요.", "answer": "..."})
    }

    /// What was acknowledged is there. `None`: the daemon is gone before all was seen.
    pub fn check(&mut self, client: &mut Client) -> Option<()> {
        let pending = self.unanswered.as_ref().map(|request| (id_of(request), request.method));
        // Of what has come to its end long ago, a sample each time.
        let one_in = (self.known.len() as u64 / SAMPLE).max(1);
        for (id, known) in &mut self.known {
            if known.has_ended() && self.dice.below(one_in) != 0 {
                continue;
            }
            let unsure = pending.as_ref().filter(|(of, _)| of == id).map(|(_, method)| *method);
            let got = client.try_call("interview.get", json!({"interview_id": id}))?;
            match (known.stage, &got) {
                (Stage::Deleted, Err(fault)) => assert_eq!(fault.kind(), "not_found"),
                (_, Err(fault)) if unsure == Some("interview.delete") => assert_eq!(fault.kind(), "not_found"),
                (_, Ok(now)) => known.see_after_crash(id, now, unsure),
                (_, Err(fault)) => panic!("{id} was acknowledged and is lost: {fault:?}; {known:?}"),
            }
            if let (Some(report), Ok(now)) = (&known.report, &got)
                && known.generations == 1
                && known.stage != Stage::Cancelled
                && unsure.is_none()
            {
                let stored = client.try_call("report.get", json!({"interview_id": id}))?.unwrap();
                assert_eq!(&stored["report"], report, "{now}");
            }
        }
        Some(())
    }
}

impl Known {
    fn has_ended(&self) -> bool {
        self.report.is_some() || matches!(self.stage, Stage::Cancelled | Stage::Deleted)
    }

    /// What its report must be.
    pub fn due_status(&self) -> &'static str {
        match self.answers.iter().any(is_poison) {
            true => "partial",
            false => "complete",
        }
    }

    /// The score that an answer was last seen with.
    pub fn score(&self, answer_id: &str) -> Option<&Value> {
        self.scores.get(answer_id).map(|seen| &seen["score"])
    }

    /// What is scored stays as it is, and is scored no second time. Nothing fails but what fails always.
    pub fn see(&mut self, id: &str, now: &Value) {
        for (sent, answer) in self.answers.iter().zip(now["answers"].as_array().unwrap()) {
            let answer_id = answer["answer_id"].as_str().unwrap();
            assert_eq!(sent["answer_id"], answer_id, "{id}: {now}");
            assert!(
                answer["state"] != "unscored" || is_poison(sent),
                "nothing was wrong with {answer_id} of {id}: {now}"
            );
            let seen = json!({"state": answer["state"], "score": answer["score"], "attempts": answer["attempts"]});
            match self.scores.get(answer_id) {
                Some(before) => assert_eq!(&seen, before, "{id} {answer_id}: {now}"),
                None if answer["score"].is_null() => {}
                None => drop(self.scores.insert(answer_id.to_owned(), seen)),
            }
        }
    }

    fn see_after_crash(&mut self, id: &str, now: &Value, unsure: Option<&str>) {
        let state = now["state"].as_str().unwrap();
        let allowed: &[&str] = match self.stage {
            Stage::Open => &["open"],
            Stage::Finished => &["scoring", "reporting", self.due_status()],
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
        if state != "cancelled" {
            self.see(id, now);
        }
    }

    /// The report agrees with everything that was sent and seen.
    pub fn check_report(&self, report: &Value) {
        assert_eq!(report["status"], self.due_status(), "{report}");
        let answers = report["answers"].as_array().unwrap();
        let ids: Vec<_> = answers.iter().map(|answer| answer["answer_id"].clone()).collect();
        let sent: Vec<_> = self.answers.iter().map(|answer| answer["answer_id"].clone()).collect();
        assert_eq!(ids, sent);
        for (sent, answer) in self.answers.iter().zip(answers) {
            let (state, attempts) = match (is_poison(sent), sent["answer"] == "...") {
                (true, _) => ("unscored", answer["timing"]["attempts"] != 0),
                (false, true) => ("gated", answer["timing"]["attempts"] == 0),
                (false, false) => ("scored", answer["timing"]["attempts"] != 0),
            };
            assert!(answer["state"] == state && attempts, "{state}: {answer}");
            let score = self.score(answer["answer_id"].as_str().unwrap());
            assert_eq!(&answer["score"], score.unwrap_or(&Value::Null), "{answer}");
        }
    }
}
