//! What subscribers were told: in an order that makes sense, of what is stored, and nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::Truth;
use crate::domain::event::{Event, EventKind};
use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::state::InterviewState;
use crate::socket::notification::Told;
use crate::store::View;

/// What was told of an interview since it was submitted.
#[derive(Default)]
struct Heard {
    sequence: u64,
    over: bool,
    scored: BTreeSet<AnswerId>,
    unscored: BTreeMap<AnswerId, usize>,
    reports: usize,
    generations: BTreeSet<u64>,
}

#[derive(Default)]
pub struct Story(BTreeMap<InterviewId, Heard>);

impl Heard {
    fn of(view: &View) -> Self {
        Self {
            sequence: view.record.sequence,
            over: view.state() == InterviewState::Cancelled,
            generations: BTreeSet::from([view.record.generation]),
            ..Self::default()
        }
    }
}

impl Story {
    /// A process may have died before it told of what it had stored.
    pub fn after_restart(&mut self, truth: &Truth) {
        let views = truth.views().map(|view| (view.record.interview.id.clone(), view));
        let mut before = std::mem::take(&mut self.0);
        for (id, view) in views {
            let heard = before
                .remove(&id)
                .filter(|heard| heard.sequence == view.record.sequence);
            let mut heard = heard.unwrap_or_else(|| Heard::of(view));
            heard.over = view.state() == InterviewState::Cancelled;
            self.0.insert(id, heard);
        }
    }

    /// Generations are counted as they are stored.
    pub fn observe(&mut self, truth: &Truth) {
        for view in truth.views() {
            if let Some(heard) = self.0.get_mut(&view.record.interview.id)
                && heard.sequence == view.record.sequence
            {
                heard.generations.insert(view.record.generation);
            }
        }
    }

    /// Everything was told: which interviews there are, and which of them were cancelled.
    pub fn check_whole(&self, truth: &Truth) {
        let standing = |view: &View| {
            let is_over = view.state() == InterviewState::Cancelled;
            (view.record.interview.id.clone(), view.record.sequence, is_over)
        };
        let stored: Vec<_> = truth.views().map(standing).collect();
        let told: Vec<_> = self
            .0
            .iter()
            .map(|(id, heard)| (id.clone(), heard.sequence, heard.over))
            .collect();
        assert_eq!(told, stored, "what was told, and what is stored");
    }

    /// Gives it in words.
    pub fn hear(&mut self, told: Told, truth: &Truth) -> String {
        let Told::Event(event) = told else {
            panic!("a subscriber that reads everything lagged: {told:?}")
        };
        let words = format!("told {event:?}");
        assert!(event.done <= event.total, "{words}");
        self.check(event, truth, &words);
        words
    }

    fn check(&mut self, event: Event, truth: &Truth, words: &str) {
        let view = truth.view(&event.interview_id);
        let heard = self.0.get_mut(&event.interview_id);
        if matches!(event.kind, EventKind::Accepted) {
            assert!(heard.is_none(), "accepted twice: {words}");
            let mut new = view.map_or_else(Heard::default, Heard::of);
            new.over = false; // that is told by itself
            self.0.insert(event.interview_id, new);
            return;
        }
        let heard = heard.unwrap_or_else(|| panic!("of an interview that is not there: {words}"));
        let view = view.filter(|view| view.record.sequence == heard.sequence);
        match event.kind {
            EventKind::Deleted => {
                self.0.remove(&event.interview_id);
                return;
            }
            EventKind::Cancelled => {
                assert!(!heard.over, "{words}");
                heard.over = true;
                return;
            }
            _ => assert!(!heard.over, "after its end: {words}"),
        }
        let outcome_of = |view: &View, id: &AnswerId| {
            let index = view
                .record
                .interview
                .answers()
                .iter()
                .position(|answer| answer.id == *id);
            index.and_then(|index| view.outcomes[index].clone())
        };
        match event.kind {
            EventKind::AnswerScored { answer_id, score } => {
                if let Some(view) = view {
                    let stored = outcome_of(view, &answer_id).and_then(|outcome| outcome.verdict.score());
                    assert_eq!(stored, Some(score), "{words}");
                }
                assert!(heard.scored.insert(answer_id), "scored twice: {words}");
            }
            EventKind::AnswerUnscored { answer_id, .. } => {
                let times = heard.unscored.entry(answer_id).or_default();
                *times += 1;
                assert!(*times <= heard.generations.len(), "{words}");
            }
            EventKind::ReportReady { .. } => {
                heard.reports += 1;
                assert!(heard.reports <= heard.generations.len(), "a second report: {words}");
                assert!(view.is_none_or(|view| view.report.is_some()), "{words}");
            }
            _ => {}
        }
    }
}
