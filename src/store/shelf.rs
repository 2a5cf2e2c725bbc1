//! Reading from and putting into sled: values in chunks, heads, interviews, outcomes.

use std::collections::HashSet;
use std::fmt::Display;
use std::iter;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sled::{Batch, IVec};

use super::error::{StoreError, is_damage};
use super::format;
use super::keys;
use super::record::{Head, Record};
use crate::domain::ids::{AnswerId, InterviewId};
use crate::domain::interview::{Answer, Candidate, Company, Interview, Language};
use crate::domain::outcome::Outcome;
use crate::domain::privacy::place_of;
use crate::domain::state::InterviewState;

/// The open database.
pub(super) struct Shelf {
    pub db: sled::Db,
    /// What became of the round that failed; there is no other after it.
    pub doubt: Option<Doubt>,
}

/// Changes that sled shows and that may not last.
pub(super) struct Doubt {
    /// The interviews that they are of.
    pub of: HashSet<InterviewId>,
    /// Why nobody knows.
    pub reason: String,
}

/// A key of sled's and its value.
pub(super) type Entry = (IVec, IVec);

/// A value, put together, with its key without the chunk.
type KeyAndValue = (Vec<u8>, Vec<u8>);

/// Writes that become visible and durable together.
#[derive(Default)]
pub(super) struct Changes {
    pub batch: Batch,
    /// Of keys and values.
    pub bytes: u64,
}

/// An interview without its answers.
#[derive(Serialize)]
pub(super) struct Words<'a> {
    id: &'a InterviewId,
    language: Language,
    position: &'a Option<String>,
    company: &'a Option<Company>,
    candidate: &'a Option<Candidate>,
}

/// An interview's parts on their way back into one text.
#[derive(Serialize, Deserialize)]
pub(super) struct Parts {
    id: Box<RawValue>,
    language: Box<RawValue>,
    position: Box<RawValue>,
    company: Box<RawValue>,
    candidate: Box<RawValue>,
    #[serde(default)]
    answers: Vec<Box<RawValue>>,
}

impl<'a> Words<'a> {
    pub fn of(interview: &'a Interview) -> Self {
        Self {
            id: &interview.id,
            language: interview.language,
            position: &interview.position,
            company: &interview.company,
            candidate: &interview.candidate,
        }
    }
}

impl Parts {
    /// `what` names the interview in errors.
    pub fn interview(&self, what: &impl Display) -> Result<Interview, StoreError> {
        let text = serde_json::to_string(self).expect("a field of JSON texts is a JSON text");
        serde_json::from_str(&text).map_err(|error| format::unreadable(what, place_of(&error)))
    }
}

impl Shelf {
    pub fn of(db: sled::Db) -> Self {
        Self { db, doubt: None }
    }

    /// An error if what is shown of this interview may not last.
    pub fn sure_of(&self, id: &InterviewId) -> Result<(), StoreError> {
        match &self.doubt {
            Some(doubt) if doubt.of.contains(id) => Err(doubt.told(format!("the last change of the interview {id}"))),
            _ => Ok(()),
        }
    }

    /// An error if what is shown of any interview may not last.
    pub fn sure_of_all(&self) -> Result<(), StoreError> {
        match &self.doubt {
            Some(doubt) if !doubt.of.is_empty() => {
                Err(doubt.told(format!("the last change of {} interviews", doubt.of.len())))
            }
            _ => Ok(()),
        }
    }

    // What sled is asked for, and how it may fail, is all here.

    pub fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        Ok(insisting(|| self.db.get(key))?)
    }

    /// Every key that begins so with its value, in the keys' order.
    pub fn scan(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        entries(self.db.scan_prefix(prefix))
    }

    /// Every key in the range with its value, in the keys' order.
    pub fn range(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        entries(self.db.range((from, to)))
    }

    /// Every key with its value from there on, in the opposite of the keys' order.
    pub fn back_from(&self, to: Bound<Vec<u8>>) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        entries(self.db.range((Bound::Unbounded, to)).rev())
    }

    /// Every key that begins so and can be read from one end or the other, up to what cannot be: then with the error.
    pub fn keys(&self, prefix: &[u8]) -> (Vec<IVec>, Option<StoreError>) {
        let mut keys = Vec::new();
        for entry in self.scan(prefix) {
            match entry {
                Ok((key, _)) => keys.push(key),
                Err(error) => {
                    let from_behind = entries(self.db.scan_prefix(prefix).rev());
                    keys.extend(from_behind.map_while(Result::ok).map(|(key, _)| key));
                    return (keys, Some(error));
                }
            }
        }
        (keys, None)
    }

    /// All of the changes at once, unless there is an error: then nobody knows. If damage is met in passing, what was changed before it is there by
    /// itself, and a process that is killed until the rest is there, too, leaves half of it.
    pub fn apply(&self, changes: Changes) -> sled::Result<()> {
        // What is there already is not written again.
        insisting(|| self.db.apply_batch(changes.batch.clone()))
    }

    /// The number that the next interview or generation gets.
    pub fn next_number(&self) -> Result<u64, StoreError> {
        let what = "the store's counter";
        let bytes = self.get(keys::COUNTER)?.ok_or_else(|| missing(what))?;
        format::decode(what, &bytes)
    }

    pub fn sequence(&self, id: &InterviewId) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.get(&keys::id(id.as_str()))? else {
            return Ok(None);
        };
        let sequence = keys::number(&bytes).ok_or_else(|| missing(format!("the sequence of the interview {id}")))?;
        Ok(Some(sequence))
    }

    /// The interview's sequence and head.
    pub fn find(&self, id: &InterviewId) -> Result<Option<(u64, Head)>, StoreError> {
        match self.sequence(id)? {
            Some(sequence) => Ok(Some((sequence, self.head(sequence)?))),
            None => Ok(None),
        }
    }

    pub fn head(&self, sequence: u64) -> Result<Head, StoreError> {
        let bytes = self.get(&keys::head(sequence))?;
        let bytes = bytes.ok_or_else(|| missing(format!("the head of the interview no. {sequence}")))?;
        self.head_from(sequence, &bytes)
    }

    pub fn head_from(&self, sequence: u64, bytes: &[u8]) -> Result<Head, StoreError> {
        format::decode(format_args!("the head of the interview no. {sequence}"), bytes)
    }

    pub fn record(&self, sequence: u64, head: &Head) -> Result<Record, StoreError> {
        Ok(head.record(sequence, self.interview(sequence, head)?))
    }

    fn interview(&self, sequence: u64, head: &Head) -> Result<Interview, StoreError> {
        let what = format!("the interview {}", head.id);
        let words = self
            .value(&keys::words(sequence))?
            .ok_or_else(|| missing(what.as_str()))?;
        let mut parts: Parts = format::decode(&what, &words)?;
        for (_, bytes) in self.values(&keys::answers(sequence))? {
            parts
                .answers
                .push(format::decode(format!("an answer of {what}"), &bytes)?);
        }
        if parts.answers.len() != head.answers {
            return Err(missing(format!("one of the {} answers of {what}", head.answers)));
        }
        parts.interview(&what)
    }

    /// Where the answer stands in the interview's order.
    pub fn position(&self, sequence: u64, answer: &AnswerId) -> Result<Option<usize>, StoreError> {
        #[derive(Deserialize)]
        struct Named {
            id: AnswerId,
        }
        for (key, bytes) in self.values(&keys::answers(sequence))? {
            let found: Named = format::decode(format!("an answer of the interview no. {sequence}"), &bytes)?;
            if found.id == *answer {
                return Ok(keys::index(&key));
            }
        }
        Ok(None)
    }

    /// The outcomes of a generation with the indices of their answers.
    pub fn outcomes(&self, sequence: u64, generation: u64) -> Result<Vec<(usize, Outcome)>, StoreError> {
        let values = self.values(&keys::outcomes(sequence, generation))?;
        let outcomes = values.into_iter().map(|(key, bytes)| {
            let what = format!("an outcome of the interview no. {sequence}");
            let index = keys::index(&key).ok_or_else(|| missing(what.as_str()))?;
            Ok((index, format::decode(what, &bytes)?))
        });
        outcomes.collect()
    }

    /// How many answers have an outcome in this generation.
    pub fn ended(&self, sequence: u64, generation: u64) -> Result<usize, StoreError> {
        let mut ended = 0;
        for entry in self.scan(&keys::outcomes(sequence, generation)) {
            ended += usize::from(keys::of_chunk(&entry?.0).1);
        }
        Ok(ended)
    }

    /// The state and how many answers have ended.
    pub fn standing(&self, sequence: u64, head: &Head) -> Result<(InterviewState, usize), StoreError> {
        if let Some(state) = head.settled()
            && state != InterviewState::Open
        {
            return Ok((state, head.answers));
        }
        let ended = self.ended(sequence, head.generation)?;
        Ok((head.state(ended == head.answers), ended))
    }

    /// The chunks of one value, put together.
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values(key)?.pop().map(|(_, bytes)| bytes))
    }

    /// Every value whose key begins so, in the keys' order.
    fn values(&self, prefix: &[u8]) -> Result<Vec<KeyAndValue>, StoreError> {
        let mut values: Vec<KeyAndValue> = Vec::new();
        for entry in self.scan(prefix) {
            let (key, part) = entry?;
            match (keys::of_chunk(&key), values.last_mut()) {
                ((_, false), Some((_, bytes))) => bytes.extend_from_slice(&part),
                ((key, _), _) => values.push((key.to_vec(), part.to_vec())),
            }
        }
        Ok(values)
    }
}

impl Changes {
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.bytes += (key.len() + value.len()) as u64;
        self.batch.insert(key, value);
    }

    pub fn remove(&mut self, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        self.bytes += key.len() as u64;
        self.batch.remove(key);
    }

    pub fn put_head(&mut self, sequence: u64, head: &Head) {
        self.insert(keys::head(sequence), format::encode(head));
    }

    pub fn put_number(&mut self, next: u64) {
        self.insert(keys::COUNTER, format::encode(&next));
    }

    pub fn put_words(&mut self, sequence: u64, interview: &Interview) {
        self.put(&keys::words(sequence), &Words::of(interview));
    }

    pub fn put_answer(&mut self, sequence: u64, index: usize, answer: &Answer) {
        self.put(&keys::answer(sequence, index), answer);
    }

    /// A new value in chunks. One that was there before must be cleared first: it may have had more of them.
    pub fn put<T: Serialize>(&mut self, key: &[u8], body: &T) {
        for (index, part) in format::encode(body).chunks(keys::CHUNK_BYTES).enumerate() {
            self.insert(keys::chunk(key, index), part);
        }
    }

    /// Removes whatever has a key that begins so; what is put afterwards stays.
    pub fn clear(&mut self, shelf: &Shelf, prefix: &[u8]) -> Result<(), StoreError> {
        for entry in shelf.scan(prefix) {
            self.remove(entry?.0);
        }
        Ok(())
    }
}

impl Doubt {
    fn told(&self, what: String) -> StoreError {
        StoreError::Uncertain {
            what,
            reason: self.reason.clone(),
        }
    }
}

fn entries(mut found: impl Iterator<Item = sled::Result<Entry>>) -> impl Iterator<Item = Result<Entry, StoreError>> {
    // It goes on from the last key that it gave.
    iter::from_fn(move || insisting(|| found.next().transpose()).transpose()).map(|entry| Ok(entry?))
}

/// So often it is tried at most, for damage in ever other places, or in turns.
const ATTEMPTS_MAX: usize = 64;

/// Tries again where sled has met damage, until it meets the same thrice in a row, or has met some far too often. Whatever it is asked for, sled now and then moves another page to
/// free a segment of its log; if that page is damaged, it fails what it was asked for, which has nothing to do with it, and moves on. (Its own thread, if
/// it is the one that meets it, frees no more segments.)
fn insisting<T>(mut attempt: impl FnMut() -> sled::Result<T>) -> sled::Result<T> {
    let (mut met, mut times) = (None, 0);
    for _ in 1..ATTEMPTS_MAX {
        let error = match attempt() {
            Err(error) if is_damage(&error) => error,
            other => return other,
        };
        // No two errors of the file system are the same to sled.
        times = if met.as_ref() == Some(&error) { times + 1 } else { 1 };
        let same_max = match &error {
            sled::Error::Corruption { at: Some(_), .. } => 3,
            // It does not say where: these may be many places.
            _ => 12,
        };
        if times == same_max {
            return Err(error);
        }
        met = Some(error);
    }
    attempt()
}

pub(super) fn missing(what: impl Into<String>) -> StoreError {
    StoreError::Missing { what: what.into() }
}

#[cfg(test)]
mod tests {
    use sled::{Error, Result};

    use super::*;

    #[test]
    fn damage_that_sled_meets_in_passing_fails_nothing_and_what_stays_is_told() {
        let damage = |at: u64| Error::Corruption {
            at: Some(sled::DiskPtr::Inline(at)),
            bt: (),
        };
        let mut met = vec![damage(3), damage(2), damage(2), damage(1)];
        assert_eq!(insisting(|| met.pop().map_or(Ok(7), Err)), Ok(7));
        let mut nowhere = vec![Error::Corruption { at: None, bt: () }; 11];
        assert_eq!(insisting(|| nowhere.pop().map_or(Ok(7), Err)), Ok(7));
        let mut tries = 0;
        let failed: Result<()> = insisting(|| {
            tries += 1;
            Err(damage(if tries == 1 { 1 } else { 2 }))
        });
        assert_eq!((failed, tries), (Err(damage(2)), 4));
        // A file that ends too early is another error each time, and two places may take turns.
        let endless: [fn(u64) -> Error; 2] = [
            |_| Error::Io(std::io::ErrorKind::UnexpectedEof.into()),
            |tries| Error::Corruption {
                at: Some(sled::DiskPtr::Inline(tries % 2)),
                bt: (),
            },
        ];
        for error in endless {
            tries = 0;
            let failed: Result<()> = insisting(|| {
                tries += 1;
                Err(error(tries))
            });
            assert!(failed.is_err() && tries == ATTEMPTS_MAX as u64);
        }
        tries = 0;
        let failed: Result<()> = insisting(|| {
            tries += 1;
            Err(Error::Unsupported("a thing".into()))
        });
        assert!(failed.is_err() && tries == 1, "nothing else is tried again");
    }
}
