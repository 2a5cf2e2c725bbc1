//! Putting an interview of an export into the store, with everything that was known about it.

use super::{Books, keys};
use crate::domain::privacy::place_of;
use crate::domain::report::Report;
use crate::store::error::StoreError;
use crate::store::format;
use crate::store::import::{Restore, Standing, standing};
use crate::store::record::{Head, ReportHead};
use crate::store::shelf::Changes;
use crate::store::space::Purpose;

impl Books<'_> {
    /// Nothing that is there is changed.
    pub fn restore(&mut self, new: &Restore) -> Result<Standing, StoreError> {
        let entry = &new.entry;
        let standing = standing(self.shelf, entry)?;
        if standing != Standing::New {
            return Ok(standing);
        }
        let (id, answers) = (&entry.interview.id, entry.interview.answers());
        let sequence = self.shelf.next_number()?;
        // A report of an earlier generation is still there while a retry runs.
        let generation = sequence + u64::from(entry.report_is_earlier);
        let report = entry.report.as_ref().map(|report| {
            let report: Report = serde_json::from_str(report.get())
                .map_err(|error| format::unreadable(&format!("the report of the interview {id}"), place_of(&error)))?;
            Ok::<_, StoreError>(ReportHead::of(&report, sequence))
        });
        let head = Head {
            id: id.clone(),
            generation,
            opened: entry.opened,
            answers: answers.len(),
            phase: entry.phase,
            submitted_at: entry.submitted_at,
            due_since: entry.due_since,
            rubric_hash: entry.rubric.clone(),
            report: report.transpose()?,
        };
        let state = head.state(entry.outcomes.iter().all(Option::is_some));
        let mut changes = Changes::default();
        changes.put_number(generation + 1);
        changes.put_head(sequence, &head);
        changes.put_words(sequence, &entry.interview);
        for (index, answer) in answers.iter().enumerate() {
            changes.put_answer(sequence, index, answer);
        }
        for (index, outcome) in entry.outcomes.iter().enumerate() {
            if let Some(outcome) = outcome {
                changes.put(&keys::outcome(sequence, generation, index), outcome);
            }
        }
        if let Some(report) = &entry.report {
            changes.put(&keys::report(sequence), report);
        }
        changes.insert(keys::id(id.as_str()), sequence.to_be_bytes());
        if state.goes_on() {
            changes.insert(keys::unfinished(sequence), b"");
        }
        let rubric = keys::rubric(&entry.rubric);
        if self.shelf.value(&rubric)?.is_none() {
            changes.put(&rubric, &new.rubric_text.as_ref());
        }
        self.commit(id, changes, Purpose::New)?;
        self.counts.moved(None, Some(state));
        Ok(Standing::New)
    }
}
