//! Reading an export back: every line is checked before anybody may believe it, and what is wrong is named by its line.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::export::{End, Entry, FORMAT, Header, RubricText, VERSION, entry_of, hex};
use super::record::Phase;
use super::shelf::Shelf;
use super::{Options, Store};
use crate::domain::ids::InterviewId;
use crate::domain::report::Report;
use crate::domain::time::Timestamp;

/// Longest line that is read: far more than an interview at every limit takes.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Why a file is no export that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadLine {
    /// From 1.
    pub line: u64,
    pub reason: String,
}

/// Reads an export line by line. What it has given counts only once it has come to the end.
pub struct ExportReader<R> {
    lines: Lines<R>,
    header: Header,
    rubrics: HashMap<String, Arc<str>>,
    /// The interviews read so far, by the lines that they are on.
    seen: HashMap<InterviewId, u64>,
}

struct Lines<R> {
    input: R,
    /// The number of the line that was read last, from 1, and its text.
    number: u64,
    text: Vec<u8>,
    /// Of the lines read so far.
    digest: Sha256,
}

/// An interview with what it needs to be put into a store.
#[derive(Debug, Clone)]
pub struct Restore {
    pub entry: Entry,
    pub rubric_text: Arc<str>,
    /// Bytes of its line.
    pub bytes: usize,
}

/// How an interview of an export stands to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    New,
    /// All that the line says is there; it may have gone on since.
    AlreadyThere,
    /// Another interview has its id: this differs. The one that is there stays.
    Conflict(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Export(Header),
    Rubric(RubricText),
    Interview(Box<Entry>),
    End(End),
}

/// As much of the first line as every version has.
#[derive(Deserialize)]
struct AnyVersion {
    export: AnyHeader,
}

#[derive(Deserialize)]
struct AnyHeader {
    format: String,
    version: u32,
    #[serde(default)]
    interviewd: String,
}

impl Store {
    /// As [`Store::open`], but damage is an error: the store is left where it is.
    pub fn open_as_it_is(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let options = Options {
            leaves_damage: true,
            ..Options::default()
        };
        Ok(Self::open(path, &options, now)?.store)
    }

    /// How an interview of an export stands to what is here.
    pub fn standing(&self, entry: &Entry) -> Result<Standing, StoreError> {
        let what = format_args!("the interview {}", entry.interview.id);
        self.read_of(&entry.interview.id, what, |shelf| standing(shelf, entry))
    }

    /// Puts interviews of an export in, in their order, after everything that is here; none takes the place of another. Unfinished ones go on
    /// like any others.
    pub async fn restore(&self, interviews: Vec<Restore>) -> Result<Vec<Standing>, StoreError> {
        self.write(move |books| interviews.iter().map(|interview| books.restore(interview)).collect())
            .await
    }
}

pub(super) fn standing(shelf: &Shelf, entry: &Entry) -> Result<Standing, StoreError> {
    Ok(match entry_of(shelf, &entry.interview.id)? {
        None => Standing::New,
        Some(there) => entry
            .difference(&there)
            .map_or(Standing::AlreadyThere, Standing::Conflict),
    })
}

impl<R: BufRead> ExportReader<R> {
    /// Reads the first line.
    pub fn open(input: R) -> Result<Self, BadLine> {
        let mut lines = Lines {
            input,
            number: 0,
            text: Vec::new(),
            digest: Sha256::new(),
        };
        let header = lines.first()?;
        Ok(Self {
            lines,
            header,
            rubrics: HashMap::new(),
            seen: HashMap::new(),
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next interview; `None` once the last line has vouched for all of them.
    pub fn next_interview(&mut self) -> Result<Option<Restore>, BadLine> {
        loop {
            let before = self.lines.digest.clone();
            if !self.lines.read()? {
                return Err(self.lines.bad("the file ends before its last line: it is not whole"));
            }
            match self.lines.parsed()? {
                Line::Export(_) => return Err(self.lines.bad("a first line in the midst of the file")),
                Line::Rubric(rubric) => self.take_rubric(rubric)?,
                Line::Interview(entry) => return self.take_interview(*entry).map(Some),
                Line::End(end) => {
                    self.take_end(&end, before)?;
                    return Ok(None);
                }
            }
        }
    }

    fn take_rubric(&mut self, rubric: RubricText) -> Result<(), BadLine> {
        if hex(Sha256::new_with_prefix(&rubric.text)) != rubric.hash {
            return Err(self.lines.bad("the rubric's text is not the one of its hash"));
        }
        match self.rubrics.insert(rubric.hash, rubric.text.into()) {
            None => Ok(()),
            Some(_) => Err(self.lines.bad("the rubric was there before")),
        }
    }

    fn take_interview(&mut self, entry: Entry) -> Result<Restore, BadLine> {
        let id = &entry.interview.id;
        if let Some(problem) = problem(&entry) {
            return Err(self.lines.bad(format!("the interview {id} {problem}")));
        }
        let Some(rubric_text) = self.rubrics.get(&entry.rubric).cloned() else {
            let text = format!("the rubric of the interview {id} was on no line before");
            return Err(self.lines.bad(text));
        };
        if let Some(line) = self.seen.insert(id.clone(), self.lines.number) {
            return Err(self.lines.bad(format!("the interview {id} was on line {line} already")));
        }
        Ok(Restore {
            entry,
            rubric_text,
            bytes: self.lines.text.len(),
        })
    }

    fn take_end(&mut self, end: &End, before: Sha256) -> Result<(), BadLine> {
        let found = End {
            interviews: self.seen.len() as u64,
            rubrics: self.rubrics.len() as u64,
            sha256: hex(before),
        };
        if *end != found {
            return Err(self.lines.bad(
                "the lines before are not the ones that were written: the file was changed or damaged (SHA-256)",
            ));
        }
        match self.lines.read()? {
            false => Ok(()),
            true => Err(self.lines.bad("something stands behind the last line")),
        }
    }
}

impl<R: BufRead> Lines<R> {
    fn first(&mut self) -> Result<Header, BadLine> {
        self.read()?;
        let found = serde_json::from_slice(&self.text)
            .ok()
            .filter(|AnyVersion { export }| export.format == FORMAT);
        let Some(AnyVersion { export }) = found else {
            return Err(self.bad("the file is no export of interviewd"));
        };
        if export.version > VERSION {
            return Err(self.bad(format!(
                "the export has the format version {}, written by interviewd {}; this program knows up to {VERSION}: use the newer interviewd",
                export.version,
                short(&export.interviewd)
            )));
        }
        match self.parsed()? {
            Line::Export(header) if header.version == VERSION => Ok(header),
            _ => Err(self.bad("the file is no export of interviewd")),
        }
    }

    /// Reads a line without its break; false at the end of the file.
    fn read(&mut self) -> Result<bool, BadLine> {
        self.text.clear();
        self.number += 1;
        let read = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.text);
        read.map_err(|error| self.bad(format!("the file cannot be read on: {error}")))?;
        self.digest.update(&self.text);
        match self.text.pop() {
            None => Ok(false),
            Some(b'\n') => Ok(true),
            Some(_) => Err(self.bad("the line has no end: the file is not whole")),
        }
    }

    fn parsed(&self) -> Result<Line, BadLine> {
        let mut json = serde_json::Deserializer::from_slice(&self.text);
        let line = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            // serde_json's own words may quote a candidate.
            let (path, column) = (error.path().to_string(), error.inner().column());
            self.bad(format!(
                "not what an export holds, at column {column} ({})",
                short(&path)
            ))
        })?;
        json.end()
            .map_err(|_| self.bad("something stands behind the JSON object"))?;
        Ok(line)
    }

    fn bad(&self, reason: impl Into<String>) -> BadLine {
        BadLine {
            line: self.number,
            reason: reason.into(),
        }
    }
}

/// What contradicts itself in an interview, if anything does.
fn problem(entry: &Entry) -> Option<String> {
    let answers = entry.interview.answers();
    let mut earlier = HashSet::new();
    for answer in answers {
        if answer
            .follow_up_of
            .as_ref()
            .is_some_and(|parent| !earlier.contains(parent))
        {
            return Some(format!("has the answer {} that follows up none before it", answer.id));
        }
        if !earlier.insert(&answer.id) {
            return Some(format!("has the answer {} twice", answer.id));
        }
    }
    if entry.outcomes.len() != answers.len() || entry.opened > answers.len() {
        let (answers, outcomes, opened) = (answers.len(), entry.outcomes.len(), entry.opened);
        return Some(format!(
            "has {answers} answers, but {outcomes} outcomes and {opened} answers at its opening"
        ));
    }
    let is_due = entry.due_since.is_some();
    let phase = match entry.phase {
        Phase::Open => !is_due && entry.report.is_none(),
        Phase::Finished => is_due && !answers.is_empty(),
        Phase::Cancelled => entry.report.is_none(),
    };
    if !phase {
        return Some("is in a phase that what is stored of it does not fit".to_owned());
    }
    match &entry.report {
        None if entry.report_is_earlier => Some("has no report, but an earlier one".to_owned()),
        None => None,
        Some(report) => problem_of_report(entry, report.get()),
    }
}

fn problem_of_report(entry: &Entry, report: &str) -> Option<String> {
    let Ok(report) = serde_json::from_str::<Report>(report) else {
        return Some("has a report that is none".to_owned());
    };
    let answers = entry.interview.answers().iter().map(|answer| &answer.id);
    let is_its_own = report.interview_id == entry.interview.id
        && report.submitted_at == entry.submitted_at
        && report.answers.iter().map(|answer| &answer.answer_id).eq(answers);
    if !is_its_own {
        return Some("has the report of another one".to_owned());
    }
    let has_ended = entry.report_is_earlier || entry.outcomes.iter().all(Option::is_some);
    (!has_ended).then(|| "has a report, but answers that have not ended".to_owned())
}

/// As much of a text from outside as a message may repeat, without control characters.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(CHARS_MAX).map(visible).collect()
}
