//! Everything durable as JSON lines, for backups and for moving house: what the lines are, and reading them out portion by portion.
//!
//! | line | what it says |
//! |---|---|
//! | `{"export":…}` | the first one: the format, its version, which interviewd wrote it and when |
//! | `{"rubric":…}` | a rubric's text, once, before the first interview that was accepted under it |
//! | `{"interview":…}` | all that is stored of an interview; first submitted first |
//! | `{"end":…}` | the last one: how many there were, and the SHA-256 of all lines before it |
//!
//! Numbers that a store gives (sequences, generations) are not in it: the store that takes it in gives its own.

use std::collections::HashSet;
use std::io::{self, Write};
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::error::{Reach, StoreError};
use super::open::guarded;
use super::record::Phase;
use super::shelf::{Shelf, missing};
use super::{Store, format, keys, reads};
use crate::domain::ids::InterviewId;
use crate::domain::interview::Interview;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::privacy::place_of;
use crate::domain::time::Timestamp;

/// What the first line says it is.
pub const FORMAT: &str = "interviewd-export";
/// The version in which everything is written.
pub const VERSION: u32 = 1;

/// A portion is full once it has so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub format: String,
    pub version: u32,
    /// interviewd's version.
    pub interviewd: String,
    pub exported_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RubricText {
    /// SHA-256 (hex) of the text.
    pub hash: String,
    pub text: String,
}

/// All that is stored of an interview.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub interview: Interview,
    pub submitted_at: Timestamp,
    pub due_since: Option<Timestamp>,
    /// How many of the answers came with the opening.
    pub opened: usize,
    pub phase: Phase,
    /// The hash of the rubric that it was accepted under.
    pub rubric: String,
    /// One for each answer; `None` while it has not ended.
    pub outcomes: Vec<Option<Outcome>>,
    /// To the byte as it is stored.
    pub report: Option<Box<RawValue>>,
    /// Whether the report is of an earlier generation, as it is while a retry runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub report_is_earlier: bool,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    pub interviews: u64,
    pub rubrics: u64,
    /// Of all lines before this one, line breaks included.
    pub sha256: String,
}

/// Some interviews, first submitted first, with the rubrics that they need.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub rubrics: Vec<RubricText>,
    /// Each an [`Entry`].
    pub interviews: Vec<Box<RawValue>>,
    /// What cannot be read any more, for people.
    pub unreadable: Vec<String>,
    /// Where the next portion begins; `None` after the last one.
    pub next: Option<String>,
}

/// What became of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub interviews: u64,
    /// What is not in it because it cannot be read any more, for people.
    pub unreadable: Vec<String>,
}

/// Writes the lines.
pub struct ExportWriter<W> {
    out: W,
    digest: Sha256,
    rubrics: HashSet<String>,
    summary: Summary,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Export(&'a Header),
    Rubric(&'a RubricText),
    Interview(&'a RawValue),
    End(&'a End),
}

/// How far an export has come. What is accepted after it began is not in it, so that it ends whatever is submitted meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    after: u64,
    until: u64,
}

/// What there was next.
struct Found {
    sequence: u64,
    read: Result<(Entry, RubricText), StoreError>,
}

impl Store {
    /// The next portion of everything that is stored; `after` is the `next` of the one before. Each interview is read as of one moment, and
    /// writes wait for no more than one.
    pub fn export(&self, after: Option<&str>) -> Result<Page, StoreError> {
        let mut place = match after {
            Some(text) => Place::parse(text)?,
            None => Place {
                after: 0,
                until: self.read_all("the store's counter", Shelf::next_number)?,
            },
        };
        let (mut page, mut bytes) = (Page::default(), 0);
        while bytes < PAGE_BYTES {
            let Some(found) = self.read_all("the next interview", |shelf| next(shelf, place))? else {
                return Ok(page);
            };
            place.after = found.sequence;
            match found.read {
                Ok((entry, rubric)) => {
                    let text = serde_json::value::to_raw_value(&entry).expect("records have no keys but strings");
                    bytes += text.get().len();
                    page.interviews.push(text);
                    if !page.rubrics.contains(&rubric) {
                        page.rubrics.push(rubric);
                    }
                }
                Err(error) if error.reach() == Reach::Whole => return Err(error),
                Err(error) => page.unreadable.push(error.to_string()),
            }
        }
        page.next = Some(place.text());
        Ok(page)
    }
}

/// The first interview behind a place.
fn next(shelf: &Shelf, place: Place) -> Result<Option<Found>, StoreError> {
    let first = place.after.saturating_add(1);
    let (from, to) = (keys::head(first), keys::head(place.until.max(first)));
    let Some(head) = shelf.range(Bound::Included(from), Bound::Excluded(to)).next() else {
        return Ok(None);
    };
    let sequence = keys::sequence(&head?.0).ok_or_else(|| missing("the number of an interview"))?;
    let read = guarded(format_args!("the interview no. {sequence}"), || {
        let entry = entry(shelf, sequence)?;
        let text = reads::rubric(shelf, &entry.rubric)?;
        let text = text.ok_or_else(|| missing(format!("the rubric of the interview {}", entry.interview.id)))?;
        let hash = entry.rubric.clone();
        Ok((entry, RubricText { hash, text }))
    });
    Ok(Some(Found { sequence, read }))
}

/// What is stored of the interview with this id.
pub(super) fn entry_of(shelf: &Shelf, id: &InterviewId) -> Result<Option<Entry>, StoreError> {
    shelf.sequence(id)?.map(|sequence| entry(shelf, sequence)).transpose()
}

fn entry(shelf: &Shelf, sequence: u64) -> Result<Entry, StoreError> {
    let id = shelf.head(sequence)?.id;
    let what = format!("the interview {id}");
    let view = reads::view(shelf, &id)?.filter(|view| view.record.sequence == sequence);
    let view = view.ok_or_else(|| missing(what.as_str()))?;
    let report = match view.report {
        None => None,
        Some(_) => Some(reads::report_json(shelf, &id)?.ok_or_else(|| missing(format!("the report of {what}")))?),
    };
    let report = report.map(RawValue::from_string).transpose();
    Ok(Entry {
        report: report.map_err(|error| format::unreadable(&what, place_of(&error)))?,
        report_is_earlier: view
            .report
            .is_some_and(|head| head.generation != view.record.generation),
        interview: view.record.interview,
        submitted_at: view.record.submitted_at,
        due_since: view.record.due_since,
        opened: view.record.opened,
        phase: view.record.phase,
        rubric: view.record.rubric_hash,
        outcomes: view.outcomes,
    })
}

impl Place {
    fn text(self) -> String {
        format!("e{:x}-{:x}", self.after, self.until)
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        const CHARS_MAX: usize = 40;
        let number = |hex: &str| u64::from_str_radix(hex, 16).ok();
        let parts = text.strip_prefix('e').and_then(|rest| rest.split_once('-'));
        let place = parts.and_then(|(after, until)| {
            Some(Self {
                after: number(after)?,
                until: number(until)?,
            })
        });
        place.ok_or_else(|| StoreError::BadCursor(text.chars().take(CHARS_MAX).collect()))
    }
}

impl Entry {
    /// In what the interview of this line is another one than the one that is there, if it is. One that has gone on since this line was written
    /// is the same.
    pub fn difference(&self, there: &Self) -> Option<&'static str> {
        let (line, stored) = (&self.interview, &there.interview);
        let fields = [
            ("language", line.language == stored.language),
            ("position", line.position == stored.position),
            ("company", line.company == stored.company),
            ("candidate", line.candidate == stored.candidate),
            ("list of answers", stored.answers().starts_with(line.answers())),
            ("opening", self.opened == there.opened),
            ("rubric", self.rubric == there.rubric),
            ("time of submission", self.submitted_at == there.submitted_at),
            ("phase", self.may_become(there)),
            ("report", self.report_may_become(there)),
            ("scores", self.outcomes_may_become(there)),
        ];
        fields.into_iter().find_map(|(field, equal)| (!equal).then_some(field))
    }

    fn may_become(&self, there: &Self) -> bool {
        let phase = match self.phase {
            Phase::Open => true,
            Phase::Finished => there.phase != Phase::Open,
            Phase::Cancelled => there.phase == Phase::Cancelled,
        };
        phase && (self.due_since.is_none() || self.due_since == there.due_since || self.was_retried(there))
    }

    fn report_may_become(&self, there: &Self) -> bool {
        let is_replaced = self.was_retried(there) || (self.report_is_earlier && !there.report_is_earlier);
        match (&self.report, &there.report) {
            (None, _) => true,
            (Some(line), Some(stored)) => is_replaced || line.get() == stored.get(),
            // A retry that was cancelled drops the report.
            (Some(_), None) => is_replaced && there.phase == Phase::Cancelled,
        }
    }

    fn outcomes_may_become(&self, there: &Self) -> bool {
        let is_scored_again =
            |outcome: &Outcome| self.was_retried(there) && matches!(outcome.verdict, Verdict::Unscored { .. });
        self.outcomes
            .iter()
            .zip(&there.outcomes)
            .all(|(line, stored)| match line {
                None => true,
                Some(outcome) => is_scored_again(outcome) || stored.as_ref() == Some(outcome),
            })
    }

    /// Whether the one that is there is of a later generation.
    fn was_retried(&self, there: &Self) -> bool {
        self.due_since.is_some() && there.due_since > self.due_since
    }
}

impl<W: Write> ExportWriter<W> {
    /// Writes the first line.
    pub fn begin(out: W, at: Timestamp) -> io::Result<Self> {
        let mut writer = Self {
            out,
            digest: Sha256::new(),
            rubrics: HashSet::new(),
            summary: Summary::default(),
        };
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            interviewd: env!("CARGO_PKG_VERSION").to_owned(),
            exported_at: at,
        };
        writer.line(&Line::Export(&header))?;
        Ok(writer)
    }

    pub fn page(&mut self, page: Page) -> io::Result<()> {
        for rubric in &page.rubrics {
            if self.rubrics.insert(rubric.hash.clone()) {
                self.line(&Line::Rubric(rubric))?;
            }
        }
        for interview in &page.interviews {
            self.line(&Line::Interview(interview))?;
        }
        self.summary.interviews += page.interviews.len() as u64;
        self.summary.unreadable.extend(page.unreadable);
        Ok(())
    }

    /// Writes the last line, without which the others count for nothing.
    pub fn end(mut self) -> io::Result<(W, Summary)> {
        let end = End {
            interviews: self.summary.interviews,
            rubrics: self.rubrics.len() as u64,
            sha256: hex(self.digest.clone()),
        };
        self.line(&Line::End(&end))?;
        self.out.flush()?;
        Ok((self.out, self.summary))
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.digest.update(&text);
        self.out.write_all(&text)
    }
}

/// A digest in lower-case hexadecimal.
pub(super) fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        let place = Place {
            after: 17,
            until: 4_096,
        };
        assert_eq!(Place::parse(&place.text()).unwrap(), place);
        for wrong in ["", "e", "e1", "s1-2", "e1-", "e-1", "ex-1", "e1-2-3"] {
            assert!(matches!(Place::parse(wrong), Err(StoreError::BadCursor(_))), "{wrong}");
        }
    }
}
