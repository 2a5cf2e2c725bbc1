//! What each verb checks and changes. Only the writer calls these, one after the other, so a check holds until its change.

mod restore;

use std::collections::HashSet;

use super::census;
use super::erasing::erasure;
use super::error::{Reach, StoreError};
use super::format;
use super::keys;
use super::open::guarded;
use super::reads;
use super::record::{Accept, Accepted, Added, Finished, Head, Moved, Phase, Record, Recorded, ReportHead, View};
use super::shelf::{Changes, Shelf};
use super::space::{Purpose, Room};
use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::interview::{Answer, Interview};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::report::Report;
use crate::domain::state::InterviewState;
use crate::domain::time::Timestamp;

/// How often what is written lies on the disk until sled has collected the older copies.
const COPIES: u64 = 2;
/// What a verb costs beside its own bytes: pages around them that sled writes anew.
const PAGES_BYTES: u64 = 64 * 1024;

/// How many interviews are in each state, in the order of [`InterviewState::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts(pub [u64; InterviewState::ALL.len()]);

/// The store as the writer sees it during a round.
pub(super) struct Books<'a> {
    shelf: &'a Shelf,
    counts: Counts,
    changed: bool,
    /// Whether the counts are to be taken anew.
    is_miscounted: bool,
    room: Room,
    /// The interviews that were changed, or were about to be.
    touched: HashSet<InterviewId>,
    failure: Option<sled::Error>,
}

impl Counts {
    /// One more in the state `to`, one less in `from`.
    pub fn moved(&mut self, from: Option<InterviewState>, to: Option<InterviewState>) {
        for (count, state) in self.0.iter_mut().zip(InterviewState::ALL) {
            *count += u64::from(to == Some(state));
            *count = count.saturating_sub(u64::from(from == Some(state)));
        }
    }
}

impl<'a> Books<'a> {
    pub fn new(shelf: &'a Shelf, counts: Counts, room: Room) -> Self {
        Self {
            shelf,
            counts,
            changed: false,
            is_miscounted: false,
            room,
            touched: HashSet::new(),
            failure: None,
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn has_changed(&self) -> bool {
        self.changed
    }

    pub fn is_miscounted(&self) -> bool {
        self.is_miscounted
    }

    pub fn into_touched(self) -> HashSet<InterviewId> {
        self.touched
    }

    /// An error if a write went wrong.
    pub fn failure(&mut self) -> Result<(), sled::Error> {
        self.failure.take().map_or(Ok(()), Err)
    }

    pub fn accept(&mut self, new: &Accept) -> Result<Accepted, StoreError> {
        let id = &new.interview.id;
        if let Some((sequence, head)) = self.shelf.find(id)? {
            let record = self.shelf.record(sequence, &head)?;
            if let Some(field) = difference(&record, &new.interview) {
                let text = format!("the interview {id} is there already, with another {field}");
                return Err(StoreError::Conflict(text));
            }
            let (state, _) = self.shelf.standing(sequence, &head)?;
            return Ok(Accepted {
                record,
                state,
                created: false,
            });
        }
        let answers = new.interview.answers();
        if answers.is_empty() && !new.stays_open {
            return Err(StoreError::Empty(id.clone()));
        }
        let number = self.shelf.next_number()?;
        let head = Head {
            id: id.clone(),
            generation: number,
            opened: answers.len(),
            answers: answers.len(),
            phase: if new.stays_open { Phase::Open } else { Phase::Finished },
            submitted_at: new.at,
            due_since: (!new.stays_open).then_some(new.at),
            rubric_hash: new.rubric_hash.clone(),
            report: None,
        };
        let mut changes = Changes::default();
        changes.put_number(number + 1);
        changes.put_head(number, &head);
        changes.put_words(number, &new.interview);
        for (index, answer) in answers.iter().enumerate() {
            changes.put_answer(number, index, answer);
        }
        changes.insert(keys::id(id.as_str()), number.to_be_bytes());
        changes.insert(keys::unfinished(number), b"");
        let rubric = keys::rubric(&head.rubric_hash);
        if self.shelf.value(&rubric)?.is_none() {
            changes.put(&rubric, &new.rubric_text.as_ref());
        }
        self.commit(id, changes, Purpose::New)?;
        let state = head.state(false);
        self.counts.moved(None, Some(state));
        Ok(Accepted {
            record: head.record(number, new.interview.clone()),
            state,
            created: true,
        })
    }

    pub fn add_answer(&mut self, id: &InterviewId, answer: &Answer, expected: usize) -> Result<Added, StoreError> {
        let (sequence, mut head) = self.known(id)?;
        let record = self.shelf.record(sequence, &head)?;
        if let Some(present) = record.interview.answer(&answer.id) {
            if present == answer {
                return Ok(Added { record, created: false });
            }
            let text = format!(
                "the answer {} of the interview {id} is there already, with other content",
                answer.id
            );
            return Err(StoreError::Conflict(text));
        }
        let ended = match head.phase {
            Phase::Open => None,
            Phase::Finished => Some("finished"),
            Phase::Cancelled => Some("cancelled"),
        };
        if let Some(ended) = ended {
            let text = format!("the interview {id} is {ended}; it takes no more answers");
            return Err(StoreError::Conflict(text));
        }
        if head.answers != expected {
            return Err(StoreError::Changed {
                id: id.clone(),
                expected,
                found: head.answers,
            });
        }
        let mut changes = Changes::default();
        changes.put_answer(sequence, head.answers, answer);
        head.answers += 1;
        changes.put_head(sequence, &head);
        // Not read back: an error must mean that nothing was stored.
        let record = head.record(sequence, record.interview.with(answer.clone()));
        self.commit(id, changes, Purpose::New)?;
        Ok(Added { record, created: true })
    }

    pub fn close(&mut self, id: &InterviewId, at: Timestamp) -> Result<Moved, StoreError> {
        let (sequence, mut head) = self.known(id)?;
        match head.phase {
            Phase::Finished => return self.moved(sequence, &head, false),
            Phase::Cancelled => {
                let text = format!("the interview {id} is cancelled; it cannot be finished");
                return Err(StoreError::Conflict(text));
            }
            Phase::Open if head.answers == 0 => return Err(StoreError::Empty(id.clone())),
            Phase::Open => {}
        }
        head.phase = Phase::Finished;
        head.due_since = Some(at);
        // Read before the change: an error must mean that there was none.
        let moved = self.moved(sequence, &head, true)?;
        let mut changes = Changes::default();
        changes.put_head(sequence, &head);
        self.commit(id, changes, Purpose::Rest)?;
        self.counts.moved(Some(InterviewState::Open), Some(moved.state));
        Ok(moved)
    }

    pub fn record(
        &mut self,
        id: &InterviewId,
        generation: u64,
        answer: &AnswerId,
        outcome: &Outcome,
    ) -> Result<Recorded, StoreError> {
        let Some((sequence, head)) = self.current(id, generation)? else {
            return Ok(Recorded::Stale);
        };
        let Some(index) = self.shelf.position(sequence, answer)? else {
            return Ok(Recorded::Stale);
        };
        let key = keys::outcome(sequence, generation, index);
        if let Some(bytes) = self.shelf.value(&key)? {
            let first = format::decode(format_args!("the outcome of {answer} of the interview {id}"), &bytes)?;
            return Ok(Recorded::AlreadyThere(Box::new(first)));
        }
        let (before, ended) = self.shelf.standing(sequence, &head)?;
        let mut changes = Changes::default();
        changes.put(&key, outcome);
        self.commit(id, changes, Purpose::Rest)?;
        let after = head.state(ended + 1 == head.answers);
        self.counts.moved(Some(before), Some(after));
        Ok(Recorded::Stored)
    }

    pub fn finish(&mut self, id: &InterviewId, generation: u64, report: &Report) -> Result<Finished, StoreError> {
        let Some((sequence, mut head)) = self.current(id, generation)? else {
            return Ok(Finished::Stale);
        };
        let (before, _) = self.shelf.standing(sequence, &head)?;
        if before.is_reported() {
            return Ok(Finished::AlreadyThere);
        }
        if before != InterviewState::Reporting {
            let text = format!("the interview {id} is {}; its report is not due", before.as_str());
            return Err(StoreError::Conflict(text));
        }
        head.report = Some(ReportHead::of(report, generation));
        let key = keys::report(sequence);
        let mut changes = Changes::default();
        changes.clear(self.shelf, &key)?;
        changes.put(&key, report);
        changes.put_head(sequence, &head);
        changes.remove(keys::unfinished(sequence));
        self.commit(id, changes, Purpose::Rest)?;
        self.counts.moved(Some(before), Some(head.state(true)));
        Ok(Finished::Stored)
    }

    pub fn reopen(&mut self, id: &InterviewId, at: Timestamp) -> Result<Moved, StoreError> {
        let (sequence, mut head) = self.known(id)?;
        let (before, _) = self.shelf.standing(sequence, &head)?;
        let narrated = head.report.is_some_and(|report| report.has_narrative);
        let refusal = match before {
            InterviewState::Partial => None,
            InterviewState::Complete if !narrated => None,
            InterviewState::Complete => Some("complete, with its narrative".to_owned()),
            other => Some(other.as_str().to_owned()),
        };
        if let Some(state) = refusal {
            let text = format!(
                "the interview {id} is {state}; only a partial one, or a complete one without a narrative, can be retried"
            );
            return Err(StoreError::Conflict(text));
        }
        let earlier = self.shelf.outcomes(sequence, head.generation)?;
        let number = self.shelf.next_number()?;
        let mut changes = Changes::default();
        changes.put_number(number + 1);
        changes.clear(self.shelf, &keys::outcomes(sequence, head.generation))?;
        let kept = earlier
            .iter()
            .filter(|(_, o)| !matches!(o.verdict, Verdict::Unscored { .. }));
        let kept: Vec<_> = kept.collect();
        for (index, outcome) in &kept {
            changes.put(&keys::outcome(sequence, number, *index), outcome);
        }
        head.generation = number;
        head.due_since = Some(at);
        changes.put_head(sequence, &head);
        changes.insert(keys::unfinished(sequence), b"");
        let moved = Moved {
            record: self.shelf.record(sequence, &head)?,
            state: head.state(kept.len() == head.answers),
            newly: true,
        };
        self.commit(id, changes, Purpose::New)?;
        self.counts.moved(Some(before), Some(moved.state));
        Ok(moved)
    }

    pub fn cancel(&mut self, id: &InterviewId) -> Result<(Record, bool), StoreError> {
        let (sequence, mut head) = self.known(id)?;
        let (before, _) = self.shelf.standing(sequence, &head)?;
        if before.is_reported() {
            let text = format!(
                "the interview {id} is {}; there is nothing left to cancel",
                before.as_str()
            );
            return Err(StoreError::Conflict(text));
        }
        if before == InterviewState::Cancelled {
            return Ok((self.shelf.record(sequence, &head)?, false));
        }
        head.phase = Phase::Cancelled;
        head.report = None;
        // What cannot be read is not half cancelled: it can be deleted.
        let record = self.shelf.record(sequence, &head)?;
        let mut changes = Changes::default();
        // A retry may have left the report of an earlier generation.
        changes.clear(self.shelf, &keys::report(sequence))?;
        changes.put_head(sequence, &head);
        changes.remove(keys::unfinished(sequence));
        self.commit(id, changes, Purpose::Rest)?;
        self.counts.moved(Some(before), Some(InterviewState::Cancelled));
        Ok((record, true))
    }

    /// Gives what it was; `None` if that could not be read, which does not keep what can be read from being erased.
    pub fn delete(&mut self, id: &InterviewId) -> Result<Option<View>, StoreError> {
        let sequence = self.shelf.sequence(id)?;
        let sequence = sequence.ok_or_else(|| StoreError::NotFound(id.clone()))?;
        let was = guarded("the interview", || reads::view(self.shelf, id)).unwrap_or_else(|error| {
            tracing::warn!(interview = id.as_str(), %error, "what is erased could not be read");
            None
        });
        let head = guarded("its head", || self.shelf.head(sequence)).ok();
        let before = head.map(|head| census::standing(self.shelf, sequence, &head).0);
        let changes = guarded("the interview", || erasure(self.shelf, id, sequence));
        let changes = changes.map_err(|error| match error.reach() {
            Reach::Part => StoreError::Unerasable {
                id: id.clone(),
                why: error.in_full(),
            },
            _ => error,
        })?;
        self.commit(id, changes, Purpose::Rest)?;
        match before {
            Some(_) => self.counts.moved(before, None),
            // It may have been counted before it was damaged, and nobody knows as what.
            None => self.is_miscounted = true,
        }
        // Its outcomes may be what could not be read: then its state was a guess.
        self.is_miscounted |= was.is_none();
        Ok(was)
    }

    fn moved(&self, sequence: u64, head: &Head, newly: bool) -> Result<Moved, StoreError> {
        Ok(Moved {
            record: self.shelf.record(sequence, head)?,
            state: self.shelf.standing(sequence, head)?.0,
            newly,
        })
    }

    fn known(&self, id: &InterviewId) -> Result<(u64, Head), StoreError> {
        self.shelf.find(id)?.ok_or_else(|| StoreError::NotFound(id.clone()))
    }

    /// The interview, if results of this generation still mean something to it.
    fn current(&self, id: &InterviewId, generation: u64) -> Result<Option<(u64, Head)>, StoreError> {
        let found = self.shelf.find(id)?;
        Ok(found.filter(|(_, head)| head.generation == generation && head.phase != Phase::Cancelled))
    }

    /// Nothing is tried that would leave the disk too full.
    fn commit(&mut self, id: &InterviewId, changes: Changes, purpose: Purpose) -> Result<(), StoreError> {
        let needed = changes.bytes.saturating_mul(COPIES).saturating_add(PAGES_BYTES);
        if needed > self.room.of(purpose) {
            return Err(StoreError::Full(format!(
                "about {} KiB are needed, and that would leave less free than store.free_floor_mib keeps",
                needed.div_ceil(1024)
            )));
        }
        self.room.take(needed);
        self.changed = true;
        self.touched.insert(id.clone());
        self.shelf.apply(changes).map_err(|source| {
            self.failure = Some(source.clone());
            StoreError::Sled {
                doing: "write to the store".to_owned(),
                source,
            }
        })
    }
}

/// The field in which an opening differs from the one that was accepted.
fn difference(record: &Record, again: &Interview) -> Option<&'static str> {
    let first = &record.interview;
    let fields = [
        ("language", first.language == again.language),
        ("position", first.position == again.position),
        ("company", first.company == again.company),
        ("candidate", first.candidate == again.candidate),
        (
            "list of answers",
            first.answers().get(..record.opened) == Some(again.answers()),
        ),
    ];
    fields.into_iter().find_map(|(field, equal)| (!equal).then_some(field))
}
