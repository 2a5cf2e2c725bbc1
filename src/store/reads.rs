//! What is read from the store without the writer.

use std::ops::Bound;

use super::error::StoreError;
use super::format;
use super::keys;
use super::open::guarded;
use super::record::{Page, Summary, Unfinished, Unreadable, View};
use super::shelf::{Entry, Shelf, missing};
use crate::domain::ids::InterviewId;
use crate::domain::report::Report;
use crate::domain::state::InterviewState;

/// Interviews that are looked at for one page of a list, at most: writers wait meanwhile.
const LOOKED_AT_MAX: usize = 200;

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
    if let Some(index) = outcomes.iter().position(Option::is_none)
        && head.settled().is_some_and(InterviewState::is_reported)
    {
        return Err(missing(format!(
            "the outcome of the answer {} of the interview {id}",
            index + 1
        )));
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
    let Some((sequence, head)) = shelf.find(id)? else {
        return Ok(None);
    };
    match (shelf.value(&keys::report(sequence))?, head.report) {
        (None, Some(_)) => Err(missing(format!("the report of the interview {id}"))),
        (found, _) => Ok(found),
    }
}

pub(super) fn rubric(shelf: &Shelf, hash: &str) -> Result<Option<String>, StoreError> {
    let bytes = shelf.value(&keys::rubric(hash))?;
    bytes
        .map(|bytes| format::decode(format!("the rubric {hash}"), &bytes))
        .transpose()
}

/// All that are neither reported nor cancelled, first submitted first. What cannot be read keeps no other from being found.
pub(super) fn unfinished(shelf: &Shelf) -> Result<Unfinished, StoreError> {
    let mut found = Unfinished::default();
    for entry in shelf.scan(keys::UNFINISHED) {
        let sequence = sequence(&entry?.0)?;
        let read = guarded(format_args!("the interview no. {sequence}"), || {
            shelf.record(sequence, &shelf.head(sequence)?)
        });
        match read {
            Ok(record) => found.records.push(record),
            Err(error) => {
                let name = name(shelf, sequence);
                let error = error.about(format_args!("the interview {name}"));
                found.unreadable.push(Unreadable { name, error });
            }
        }
    }
    Ok(found)
}

/// The id that leads to a sequence, found even if the head cannot be read.
pub(super) fn name(shelf: &Shelf, sequence: u64) -> String {
    let of_head = guarded("its head", || Ok(shelf.head(sequence)?.id.to_string()));
    of_head.unwrap_or_else(|_| {
        let ids = shelf.scan(keys::IDS).map_while(Result::ok);
        let mut names = ids.filter(|(_, value)| keys::number(value) == Some(sequence));
        match names.next() {
            Some((key, _)) => String::from_utf8_lossy(&key[keys::IDS.len()..]).into_owned(),
            None => format!("no. {sequence}"),
        }
    })
}

/// At most `limit` interviews (at least one), in that state if one is given, from the cursor on; fewer, or none, where it takes more than
/// [`LOOKED_AT_MAX`] to find them.
pub(super) fn list(
    shelf: &Shelf,
    state: Option<InterviewState>,
    limit: usize,
    after: Option<&str>,
) -> Result<Page, StoreError> {
    let limit = limit.max(1);
    let mut from = after.map(sequence_of_cursor).transpose()?;
    let mut page = Page::default();
    for (looked_at, key) in candidates(shelf, state, from).enumerate() {
        if page.interviews.len() == limit || looked_at == LOOKED_AT_MAX {
            page.next = from.map(cursor);
            break;
        }
        let (key, value) = key?;
        let sequence = sequence(&key)?;
        from = Some(sequence);
        let found = guarded(format_args!("the interview no. {sequence}"), || {
            let head = match value.is_empty() {
                true => shelf.head(sequence)?,
                false => shelf.head_from(sequence, &value)?,
            };
            let (state, done) = shelf.standing(sequence, &head)?;
            Ok((head, state, done))
        });
        let (head, of_this, done) = match found {
            Ok(found) => found,
            Err(error) => {
                // Its id would have to be looked for among all.
                let name = format!("no. {sequence}");
                let error = error.about(format_args!("the interview {name}"));
                page.unreadable.push(Unreadable { name, error });
                continue;
            }
        };
        if state.is_none_or(|wanted| wanted == of_this) {
            page.interviews.push(Summary {
                id: head.id,
                state: of_this,
                done,
                total: head.answers,
                submitted_at: head.submitted_at,
            });
        }
    }
    Ok(page)
}

/// Index entries of those that may be in that state, in the order of submission: states that end an interview are looked for everywhere, others in
/// their index.
fn candidates(
    shelf: &Shelf,
    state: Option<InterviewState>,
    after: Option<u64>,
) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
    use InterviewState::{Cancelled, Complete, Open, Partial, Reporting, Scoring};
    let key = match state {
        None | Some(Complete | Partial | Cancelled) => keys::head as fn(u64) -> Vec<u8>,
        Some(Open | Scoring | Reporting) => keys::unfinished,
    };
    let from = after.map_or(Bound::Included(key(0)), |after| Bound::Excluded(key(after)));
    shelf.range(from, Bound::Included(key(u64::MAX)))
}

pub(super) fn sequence(key: &[u8]) -> Result<u64, StoreError> {
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
