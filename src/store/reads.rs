//! What is read from the store without the writer.

use std::ops::Bound;

use super::error::StoreError;
use super::format;
use super::keys;
use super::record::{Head, Page, Record, Summary, View};
use super::shelf::{Shelf, missing};
use super::verbs::Counts;
use crate::domain::ids::InterviewId;
use crate::domain::report::Report;
use crate::domain::state::InterviewState;

pub(super) fn view(shelf: &Shelf, id: &InterviewId) -> Result<Option<View>, StoreError> {
    let Some((sequence, head)) = shelf.find(id)? else {
        return Ok(None);
    };
    let mut outcomes = vec![None; head.answers];
    for (index, outcome) in shelf.outcomes(sequence, head.generation)? {
        *outcomes
            .get_mut(index)
            .ok_or_else(|| missing(format!("the answer {} of the interview {id}", index + 1)))? = Some(outcome);
    }
    Ok(Some(View {
        record: shelf.record(sequence, &head)?,
        outcomes,
        report: head.report,
    }))
}

pub(super) fn report(shelf: &Shelf, id: &InterviewId) -> Result<Option<Report>, StoreError> {
    let bytes = report_bytes(shelf, id)?;
    bytes
        .map(|bytes| format::decode(format!("the report of the interview {id}"), &bytes))
        .transpose()
}

pub(super) fn report_json(shelf: &Shelf, id: &InterviewId) -> Result<Option<String>, StoreError> {
    let what = format!("the report of the interview {id}");
    let bytes = report_bytes(shelf, id)?;
    bytes
        .map(|bytes| Ok(format::body(&what, &bytes)?.into_owned()))
        .transpose()
}

fn report_bytes(shelf: &Shelf, id: &InterviewId) -> Result<Option<Vec<u8>>, StoreError> {
    match shelf.sequence(id)? {
        Some(sequence) => shelf.value(&keys::report(sequence)),
        None => Ok(None),
    }
}

pub(super) fn rubric(shelf: &Shelf, hash: &str) -> Result<Option<String>, StoreError> {
    let bytes = shelf.value(&keys::rubric(hash))?;
    bytes
        .map(|bytes| format::decode(format!("the rubric {hash}"), &bytes))
        .transpose()
}

/// All that are neither reported nor cancelled, first submitted first.
pub(super) fn unfinished(shelf: &Shelf) -> Result<Vec<Record>, StoreError> {
    let keys = shelf.db.scan_prefix(keys::UNFINISHED).keys();
    let records = keys.map(|key| {
        let sequence = sequence(&key?)?;
        shelf.record(sequence, &shelf.head(sequence)?)
    });
    records.collect()
}

/// At most `limit` interviews (at least one), in that state if one is given, from the cursor on.
pub(super) fn list(
    shelf: &Shelf,
    state: Option<InterviewState>,
    limit: usize,
    after: Option<&str>,
) -> Result<Page, StoreError> {
    let limit = limit.max(1);
    let mut from = after.map(sequence_of_cursor).transpose()?;
    let mut page = Page {
        interviews: Vec::new(),
        next: None,
    };
    for found in candidates(shelf, state, from) {
        let (sequence, head) = found?;
        let (of_this, done) = shelf.standing(sequence, &head)?;
        if state.is_some_and(|wanted| wanted != of_this) {
            continue;
        }
        if page.interviews.len() == limit {
            page.next = from.map(cursor);
            break;
        }
        from = Some(sequence);
        page.interviews.push(Summary {
            id: head.id,
            state: of_this,
            done,
            total: head.answers,
            submitted_at: head.submitted_at,
        });
    }
    Ok(page)
}

/// Those that may be in that state, in the order of submission: states that end an interview are looked for everywhere, others in their index.
fn candidates(
    shelf: &Shelf,
    state: Option<InterviewState>,
    after: Option<u64>,
) -> Box<dyn Iterator<Item = Result<(u64, Head), StoreError>> + '_> {
    use InterviewState::{Cancelled, Complete, Open, Partial, Reporting, Scoring};
    let key = match state {
        None | Some(Complete | Partial | Cancelled) => keys::head as fn(u64) -> Vec<u8>,
        Some(Open | Scoring | Reporting) => keys::unfinished,
    };
    let range = (
        after.map_or(Bound::Included(key(0)), |after| Bound::Excluded(key(after))),
        Bound::Included(key(u64::MAX)),
    );
    Box::new(shelf.db.range(range).map(move |entry| {
        let (key, value) = entry?;
        let sequence = sequence(&key)?;
        let head = match value.is_empty() {
            true => shelf.head(sequence)?,
            false => format::decode(format!("the head of the interview no. {sequence}"), &value)?,
        };
        Ok((sequence, head))
    }))
}

/// How many interviews are in each state, from what is stored.
pub(super) fn recount(shelf: &Shelf) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for found in candidates(shelf, None, None) {
        let (sequence, head) = found?;
        let (state, _) = shelf.standing(sequence, &head)?;
        counts.moved(None, Some(state));
    }
    Ok(counts)
}

fn sequence(key: &[u8]) -> Result<u64, StoreError> {
    keys::sequence(key).ok_or_else(|| missing("the number of an interview in an index"))
}

/// Where a page ended. Opaque to clients.
fn cursor(sequence: u64) -> String {
    format!("s{sequence:x}")
}

fn sequence_of_cursor(text: &str) -> Result<u64, StoreError> {
    const CHARS_MAX: usize = 40;
    let hex = text
        .strip_prefix('s')
        .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    hex.and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .ok_or_else(|| StoreError::BadCursor(text.chars().take(CHARS_MAX).collect()))
}
