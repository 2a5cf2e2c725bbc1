//! The census at opening: counts what is there and holds its parts against one another, and against what was written down at the last clean
//! stop, since sled takes a log that it cannot read to its end for a shorter one.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{failed, sync};
use super::error::StoreError;
use super::format;
use super::keys;
use super::open::guarded;
use super::reads::{name, sequence};
use super::record::Head;
use super::shelf::{Shelf, missing};
use super::tail::Tail;
use super::verbs::Counts;
use crate::domain::state::InterviewState;

/// The file that is there while the store is closed and was closed well.
const FACTS: &str = "facts";

/// Its name from when sled may have touched the store's files until it is known that all is there: what was written down holds for what is stored then,
/// and for the files no more, of which sled may have cut off what nothing lies in.
const FACTS_OF_CONTENT: &str = "facts.content";

/// Whether this is the name of what was written down at a clean stop.
pub(super) fn is_facts(name: &str) -> bool {
    [FACTS, FACTS_OF_CONTENT].contains(&name)
}

/// What the store holds, as of its opening.
pub(super) struct Census {
    pub counts: Counts,
    /// Interviews whose head cannot be understood: nothing of them can be read.
    pub unreadable: Vec<String>,
    held: Held,
}

/// What a store that was closed well must be found with.
#[derive(Serialize, Deserialize)]
struct Facts {
    /// Of sled's data file.
    data_bytes: u64,
    /// Unknown to older versions.
    #[serde(default)]
    tail: Option<Tail>,
    held: Held,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    interviews: u64,
    next_number: u64,
    /// Of everything but interviews, outcomes and reports themselves, and of how many outcomes each unfinished interview has.
    checksum: u32,
}

/// Reads everything but interviews, outcomes and reports. Contradictions are errors.
pub(super) fn take(shelf: &Shelf) -> Result<Census, StoreError> {
    let mut checksum = crc32fast::Hasher::new();
    let mut counts = Counts::default();
    let (mut sequences, mut going_on, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    let next_number = shelf.next_number()?;
    for entry in shelf.scan(keys::HEADS) {
        let (key, value) = entry?;
        checksum.update(&key);
        checksum.update(&value);
        let number = sequence(&key)?;
        sequences.push(number);
        match shelf.head_from(number, &value) {
            Ok(head) => {
                if number.max(head.generation) >= next_number {
                    return Err(missing(format!("the newest value of the counter, above {number},")));
                }
                let (state, ended) = standing(shelf, number, &head);
                counts.moved(None, Some(state));
                if state.goes_on() {
                    checksum.update(&(ended as u64).to_be_bytes());
                    going_on.push(number);
                }
            }
            Err(error @ StoreError::NewerVersion { .. }) => return Err(error),
            Err(_) => unreadable.push(number),
        }
    }
    let mut ids = 0;
    for entry in shelf.scan(keys::IDS) {
        let (key, value) = entry?;
        ids += 1;
        checksum.update(&key);
        checksum.update(&value);
        if keys::number(&value).is_none_or(|number| sequences.binary_search(&number).is_err()) {
            return Err(missing("the head of an interview that has an id"));
        }
    }
    if ids != sequences.len() {
        return Err(missing(format!("the id of one of {} interviews", sequences.len())));
    }
    check_unfinished(shelf, &going_on, &unreadable)?;
    for entry in shelf.scan(keys::RUBRICS) {
        let (key, value) = entry?;
        checksum.update(&key);
        checksum.update(&value);
    }
    // The page that the next interview goes into.
    shelf.get(&keys::words(next_number))?;
    Ok(Census {
        counts,
        unreadable: unreadable.into_iter().map(|number| name(shelf, number)).collect(),
        held: Held {
            interviews: sequences.len() as u64,
            next_number,
            checksum: checksum.finalize(),
        },
    })
}

/// State and ended answers. An unfinished interview whose outcomes cannot be read counts as having none.
pub(super) fn standing(shelf: &Shelf, sequence: u64, head: &Head) -> (InterviewState, usize) {
    let read = guarded("outcomes", || shelf.standing(sequence, head));
    read.unwrap_or_else(|_| (head.state(false), 0))
}

/// The index of what is to go on has these interviews, and maybe ones whose head cannot be understood.
fn check_unfinished(shelf: &Shelf, going_on: &[u64], unreadable: &[u64]) -> Result<(), StoreError> {
    let mut listed = Vec::new();
    for entry in shelf.scan(keys::UNFINISHED) {
        let number = sequence(&entry?.0)?;
        if !unreadable.contains(&number) {
            listed.push(number);
        }
    }
    match listed == going_on {
        true => Ok(()),
        false => Err(missing(format!(
            "the agreement of {} unfinished interviews with their index of {}",
            going_on.len(),
            listed.len()
        ))),
    }
}

/// What was written down at the last clean stop, if there is that and it is not damaged itself.
fn facts(store: &Path, name: &str) -> Result<Option<Facts>, Disagreement> {
    let path = store.join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Disagreement::Unknown(failed("read", &path, source))),
    };
    let facts = format::decode("what was written down at the last stop", &bytes);
    Ok(facts
        .inspect_err(|error| tracing::warn!(%error, "the store cannot be held against its last stop"))
        .ok())
}

/// Before sled sees its data file, which it would take for whole: whether it ends as it did when the store was closed well. From then on sled may
/// change it.
pub(super) fn check_log(store: &Path) -> Result<(), Disagreement> {
    if let Some(facts) = facts(store, FACTS)? {
        check_end(store, &facts)?;
    }
    let (from, to) = (store.join(FACTS), store.join(FACTS_OF_CONTENT));
    match fs::rename(&from, to).and_then(|()| sync(store)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| Disagreement::Unknown(failed("rename", &from, source))),
    }
}

fn check_end(store: &Path, facts: &Facts) -> Result<(), Disagreement> {
    let log = store.join("db");
    let found = data_bytes(&log).unwrap_or(0);
    if found < facts.data_bytes {
        return Err(Disagreement::Damage(format!(
            "its data file has {found} bytes, when it was closed it had {}",
            facts.data_bytes
        )));
    }
    let unread = |source| Disagreement::Unknown(failed("read", &log, source));
    match &facts.tail {
        Some(tail) if !tail.is_in(&log).map_err(unread)? => Err(Disagreement::Damage(
            "the last segment of its log does not begin as it did when it was closed".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn data_bytes(log: &Path) -> io::Result<u64> {
    Ok(fs::metadata(log)?.len())
}

impl Census {
    /// Holds it against what was written down at the last clean stop, if there is that; then takes that away, before anything changes.
    pub fn check(&self, store: &Path) -> Result<(), Disagreement> {
        if let Some(Facts { held, .. }) = facts(store, FACTS_OF_CONTENT)?
            && held != self.held
        {
            return Err(Disagreement::Damage(format!(
                "when it was closed it held {} interviews, now it holds {}, or others",
                held.interviews, self.held.interviews
            )));
        }
        let path = store.join(FACTS_OF_CONTENT);
        match fs::remove_file(&path).and_then(|()| sync(store)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| Disagreement::Unknown(failed("remove", &path, source))),
        }
    }

    /// Writes down what the store, which is closed, must be found with.
    pub fn write_down(self, store: &Path) -> io::Result<()> {
        let log = store.join("db");
        let facts = Facts {
            data_bytes: data_bytes(&log)?,
            tail: Tail::of(&log)?,
            held: self.held,
        };
        let mut file = File::create(store.join(FACTS))?;
        file.write_all(&format::encode(&facts))?;
        file.sync_all()?;
        sync(store)
    }
}

/// Why it is not known that a store is as it was closed.
pub(super) enum Disagreement {
    Damage(String),
    Unknown(StoreError),
}
