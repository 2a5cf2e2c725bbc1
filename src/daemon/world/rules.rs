//! What must hold of the store after every round: each change was asked for or earned, and nothing that was there is lost or altered.

use std::collections::{BTreeMap, BTreeSet};

use super::clients::{Asked, Op, interview_of, is_same};
use super::exam;
use super::process::{OPEN_TTL_S, Process, now};
use super::rig::{Blame, WorkId};
use crate::actors::message::Life;
use crate::actors::tests::rubric;
use crate::daemon::lives::life_of;
use crate::domain::fold::fold;
use crate::domain::gate;
use crate::domain::ids::InterviewId;
use crate::domain::interview::Opening;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::report::Report;
use crate::domain::state::InterviewState;
use crate::store::{Phase, ReportHead, View};

/// What was last seen in the store.
#[derive(Default)]
pub struct Truth {
    seen: BTreeMap<InterviewId, View>,
    reports: BTreeMap<InterviewId, String>,
    /// Generations that there were before the round that is looked at, end exclusive; and of that round.
    generations_before: u64,
    generations: BTreeSet<u64>,
    /// Interviews that were created, and of which no client was told so.
    uncreated: BTreeMap<InterviewId, u32>,
    /// The fewest attempts that work had since the process began.
    pub attempts_max: u32,
    /// Lives that have ended since somebody asked.
    over: Vec<Life>,
    /// Deaths of the process in a row while something ran.
    deaths: BTreeMap<WorkId, u32>,
}

impl Truth {
    pub fn view(&self, id: &InterviewId) -> Option<&View> {
        self.seen.get(id)
    }

    pub fn views(&self) -> impl Iterator<Item = &View> {
        self.seen.values()
    }

    /// Lives that were cancelled, deleted or retried since this was asked before.
    pub fn over(&mut self) -> Vec<Life> {
        std::mem::take(&mut self.over)
    }

    /// The process dies while this runs.
    pub fn dies_with(&mut self, running: BTreeSet<WorkId>) {
        let mut before = std::mem::take(&mut self.deaths);
        let deaths = running.into_iter().map(|work| {
            let deaths = before.remove(&work).unwrap_or(0) + 1;
            (work, deaths)
        });
        self.deaths = deaths.collect();
    }

    /// Whether an answer has its outcome.
    pub fn has_ended(&self, (id, _, index): &WorkId) -> bool {
        let outcome = |view: &View| index.and_then(|index| view.outcomes[index].clone());
        self.seen.get(id).and_then(outcome).is_some()
    }

    /// Another process has the store: what was seen is there, to the letter.
    pub fn after_restart(&mut self, ids: &[InterviewId], process: &Process) {
        for id in ids {
            let found = process.daemon.store.view(id).unwrap();
            assert_eq!(found.as_ref(), self.seen.get(id), "{id} after a restart");
            let report = process.daemon.store.report_json(id).unwrap();
            assert_eq!(
                report.as_ref(),
                self.reports.get(id),
                "the report of {id} after a restart"
            );
        }
        self.uncreated.clear();
        self.check_counts(process);
    }

    /// Looks at everything. Gives what has changed, for people.
    pub fn observe(&mut self, ids: &[InterviewId], asked: &mut [Asked], process: &Process) -> Vec<String> {
        let mut changes = Vec::new();
        if !process.hand.is_open() {
            return changes;
        }
        let newest = std::mem::take(&mut self.generations).pop_last();
        self.generations_before = newest.map_or(self.generations_before, |newest| newest + 1);
        for id in ids {
            let found = process.hand.view(id);
            let before = self.seen.get(id).cloned();
            if found == before {
                continue;
            }
            let of_this: Vec<_> = asked.iter().filter(|asked| asked.id == *id).map(|a| &a.op).collect();
            self.check_change(id, before.as_ref(), found.as_ref(), &of_this, process);
            changes.push(described(id, found.as_ref()));
            for asked in asked.iter_mut().filter(|asked| asked.id == *id) {
                asked.views.push(found.clone());
            }
            match process.hand.report_json(id) {
                Some(report) => drop(self.reports.insert(id.clone(), report)),
                None => drop(self.reports.remove(id)),
            }
            match found {
                Some(view) => drop(self.seen.insert(id.clone(), view)),
                None => drop(self.seen.remove(id)),
            }
        }
        self.check_counts(process);
        changes
    }

    /// Whether a result of this work still means something.
    pub fn is_live(&self, (id, generation, _): &WorkId) -> bool {
        let view = self.seen.get(id);
        view.is_some_and(|view| view.record.generation == *generation && view.record.phase != Phase::Cancelled)
    }

    /// What has ended is not begun again; and what ran when the process died twice in a row has the next one to itself.
    pub fn check_given(&self, work: &WorkId, is_suspect: bool) {
        let deaths = self.deaths.get(work).copied().unwrap_or(0);
        assert!(
            is_suspect || deaths < 2,
            "{work:?} ran in {deaths} deaths of the process, and has company"
        );
        let (id, generation, index) = work;
        let view = self.seen.get(id);
        let Some(view) = view.filter(|view| view.record.generation == *generation) else {
            return;
        };
        let ended = match index {
            Some(index) => view.outcomes[*index].is_some(),
            None => view.state().is_reported(),
        };
        assert!(!ended, "{index:?} of {id} is done and was begun again: {view:?}");
    }

    /// A client was told that it created the interview, or that it was there.
    pub fn created(&mut self, id: &InterviewId, created: bool) {
        let untold = self.uncreated.entry(id.clone()).or_default();
        if created {
            *untold = untold
                .checked_sub(1)
                .unwrap_or_else(|| panic!("two clients were told that they created {id}"));
        }
    }

    fn check_counts(&self, process: &Process) {
        if process.hand.is_stopped() {
            return; // they are of the last round that went well
        }
        for (state, count) in process.daemon.store.counts() {
            let seen = self.seen.values().filter(|view| view.state() == state).count();
            assert_eq!(count, seen as u64, "interviews that are {}", state.as_str());
        }
    }

    fn check_change(
        &mut self,
        id: &InterviewId,
        before: Option<&View>,
        after: Option<&View>,
        ops: &[&Op],
        process: &Process,
    ) {
        let asked = |is: &dyn Fn(&Op) -> bool| ops.iter().any(|op| is(op));
        let tell = || format!("{id}: from {before:?} to {after:?}, while asked for {ops:?}");
        let goes_on = |old: &View| {
            let same = after.filter(|new| new.record.generation == old.record.generation);
            same.is_some_and(|new| new.record.phase != Phase::Cancelled)
        };
        let over = before.filter(|old| old.record.phase != Phase::Cancelled && !goes_on(old));
        self.over.extend(over.map(|old| life_of(&old.record)));
        match (before, after) {
            (None, Some(new)) => {
                assert!(asked(&|op| begins(op, new)), "{}", tell());
                self.check_generation(new, &tell);
                *self.uncreated.entry(id.clone()).or_default() += 1;
            }
            (Some(_), None) => assert!(asked(&|op| matches!(op, Op::Delete)), "{}", tell()),
            (Some(old), Some(new)) if old.record.generation == new.record.generation => {
                assert!(old.record.phase != Phase::Cancelled, "after its end: {}", tell());
                check_words(old, new, ops, &tell);
                self.check_outcomes(id, old, new, process);
                if old.report != new.report && new.record.phase != Phase::Cancelled {
                    self.check_report(id, new, process);
                }
            }
            (Some(old), Some(new)) => {
                assert!(asked(&|op| matches!(op, Op::Retry)), "{}", tell());
                self.check_retry(id, old, new, process, &tell);
            }
            (None, None) => {}
        }
    }

    /// No generation is anybody's twice, even if its interview was deleted.
    fn check_generation(&mut self, new: &View, tell: &dyn Fn() -> String) {
        let generation = new.record.generation;
        assert!(generation >= self.generations_before, "{}", tell());
        assert!(self.generations.insert(generation), "{}", tell());
    }

    fn check_outcomes(&self, id: &InterviewId, old: &View, new: &View, process: &Process) {
        for (index, outcome) in new.outcomes.iter().enumerate() {
            match (old.outcomes.get(index).cloned().flatten(), outcome) {
                (Some(before), now) => assert_eq!(Some(&before), now.as_ref(), "answer {index} of {id}"),
                (None, Some(outcome)) => self.check_outcome(id, new, index, outcome, process),
                (None, None) => {}
            }
        }
    }

    /// The verdict is the one of an undisturbed run; or there is none, for a reason.
    fn check_outcome(&self, id: &InterviewId, view: &View, index: usize, outcome: &Outcome, process: &Process) {
        let answer = &view.record.interview.answers()[index];
        let tell = || format!("{} of {id} ({}): {outcome:?}", answer.id, answer.text);
        let work = (id.clone(), view.record.generation, Some(index));
        let blame = process.rig.blame(&work);
        match &outcome.verdict {
            Verdict::Gated { .. } => {
                assert!(gate::gate(&answer.text), "{}", tell());
                assert_eq!(outcome.timing.attempts, 0, "{}", tell());
            }
            Verdict::Scored { .. } => {
                assert!(
                    !gate::gate(&answer.text) && !exam::is_poison(&answer.text),
                    "{}",
                    tell()
                );
                let due = exam::due_verdict(&view.record.interview, index);
                assert_eq!(outcome.verdict, due, "{}", tell());
                assert_eq!(outcome.flags, gate::flags(&answer.question, &answer.text), "{}", tell());
                assert!(outcome.timing.attempts > blame.failures, "{}; {blame:?}", tell());
            }
            Verdict::Unscored { reason } => {
                assert!(self.is_reason(&work, &blame, reason), "{}; {blame:?}", tell());
            }
        }
    }

    /// Whether work was given up for what really happened, and often enough.
    fn is_reason(&self, work: &WorkId, blame: &Blame, reason: &str) -> bool {
        if let Some(said) = reason.strip_prefix("it stopped the engine ") {
            return said.starts_with("3 times with nothing beside it") && blame.deaths_alone >= 3;
        }
        if reason.starts_with("the process died ") {
            // In two deaths it may have been in company; of what was just given to an engine nothing is known here.
            return self.deaths.get(work).is_some_and(|deaths| *deaths >= 4);
        }
        blame.failures >= self.attempts_max && blame.reasons.contains(reason)
    }

    /// A new generation keeps what has a score, and the report.
    fn check_retry(&mut self, id: &InterviewId, old: &View, new: &View, process: &Process, tell: &dyn Fn() -> String) {
        self.check_generation(new, tell);
        assert_eq!(old.record.sequence, new.record.sequence, "{}", tell());
        assert_eq!(old.record.interview, new.record.interview, "{}", tell());
        assert_eq!(new.record.phase, Phase::Finished, "{}", tell());
        match old.state() {
            InterviewState::Complete | InterviewState::Partial => assert_eq!(old.report, new.report, "{}", tell()),
            // The report came in the same round, before.
            InterviewState::Reporting => {
                let mut between = old.clone();
                between.report = new.report;
                self.check_report(id, &between, process);
            }
            _ => panic!("{}", tell()),
        }
        for (old, new) in old.outcomes.iter().zip(&new.outcomes) {
            let kept = old.clone().filter(|o| !matches!(o.verdict, Verdict::Unscored { .. }));
            assert_eq!(*new, kept, "{}", tell());
        }
    }

    /// One report for this generation, of just these outcomes.
    fn check_report(&self, id: &InterviewId, view: &View, process: &Process) {
        let report: Report = process.hand.report(id).unwrap();
        let tell = || format!("{id}: {report:?} of {view:?}");
        let earlier = self.seen.get(id).and_then(|seen| seen.report);
        assert!(
            earlier.is_none_or(|head| head.generation < view.record.generation),
            "{}",
            tell()
        );
        assert_eq!(
            view.report,
            Some(ReportHead {
                generation: view.record.generation,
                status: report.status,
                overall: report.overall,
                finished_at: report.finished_at,
                has_narrative: report.narrative.is_some(),
            }),
            "{}",
            tell()
        );
        let outcomes: Vec<_> = view.outcomes.iter().flatten().cloned().collect();
        assert_eq!(outcomes.len(), view.total(), "{}", tell());
        let judged: Vec<_> = outcomes.iter().map(|outcome| outcome.verdict.judged()).collect();
        let numbers = fold(&view.record.interview, &judged, &rubric()).unwrap();
        assert_eq!(
            (report.overall, report.band),
            (numbers.overall, numbers.band),
            "{}",
            tell()
        );
        assert_eq!(report.competencies, numbers.competencies, "{}", tell());
        let areas: Vec<_> = report.areas.iter().map(|area| area.score).collect();
        assert_eq!(areas, numbers.areas, "{}", tell());
        for ((answer, outcome), numbers) in report.answers.iter().zip(&outcomes).zip(&numbers.answers) {
            assert_eq!(answer.state, outcome.verdict.state(), "{}", tell());
            assert_eq!(
                (answer.score, answer.final_score),
                (numbers.score, numbers.final_score),
                "{}",
                tell()
            );
        }
        let scored = outcomes.iter().any(|o| matches!(o.verdict, Verdict::Scored { .. }));
        let work = (id.clone(), view.record.generation, None);
        let blame = process.rig.blame(&work);
        match &report.narrative {
            Some(narrative) => {
                assert!(scored, "{}", tell());
                let due = exam::due_narrative(&view.record.interview, &outcomes);
                assert_eq!(*narrative, due, "{}", tell());
            }
            None => {
                let reason = report.narrative_reason.as_deref();
                let is_reason = reason.is_some_and(|reason| self.is_reason(&work, &blame, reason));
                assert!(!scored || is_reason, "{}; {blame:?}", tell());
            }
        }
    }
}

/// Whether this is what a question begins.
fn begins(op: &Op, new: &View) -> bool {
    let (draft, opening, phase) = match op {
        Op::Submit(draft) => (draft, Opening::Whole, Phase::Finished),
        Op::Open(draft) => (draft, Opening::StaysOpen, Phase::Open),
        _ => return false,
    };
    new.record.interview == interview_of(draft, opening)
        && new.record.phase == phase
        && new.outcomes.iter().all(Option::is_none)
        && new.report.is_none()
}

/// Within a generation answers are added, and the end may come, if somebody asks for it or nobody does for long.
fn check_words(old: &View, new: &View, ops: &[&Op], tell: &dyn Fn() -> String) {
    let (before, after) = (&old.record, &new.record);
    assert_eq!(
        (before.sequence, before.submitted_at, before.opened, &before.rubric_hash),
        (after.sequence, after.submitted_at, after.opened, &after.rubric_hash),
        "{}",
        tell()
    );
    let (known, now_known) = (before.interview.answers(), after.interview.answers());
    assert_eq!(now_known.get(..known.len()), Some(known), "{}", tell());
    for added in &now_known[known.len()..] {
        let is_asked = |op: &&Op| matches!(op, Op::Answer(draft) if is_same(added, draft));
        assert!(before.phase == Phase::Open && ops.iter().any(is_asked), "{}", tell());
    }
    let aged = now() - before.submitted_at.millis() >= OPEN_TTL_S as i64 * 1_000;
    let finished = ops.iter().any(|op| matches!(op, Op::Finish)) || aged;
    let cancelled = ops.iter().any(|op| matches!(op, Op::Cancel)) || (aged && known.is_empty());
    let may = match (before.phase, after.phase) {
        (Phase::Open, Phase::Finished) => finished && !now_known.is_empty(),
        (Phase::Open | Phase::Finished, Phase::Cancelled) => cancelled && !old.state().is_reported(),
        (before, after) => before == after,
    };
    assert!(may, "{}", tell());
    if after.phase == Phase::Cancelled {
        assert_eq!(new.report, None, "{}", tell());
    }
}

fn described(id: &InterviewId, view: Option<&View>) -> String {
    match view {
        None => format!("{id} is gone"),
        Some(view) => format!(
            "{id}#{} is {} {}/{}",
            view.record.generation,
            view.state().as_str(),
            view.done(),
            view.total()
        ),
    }
}
