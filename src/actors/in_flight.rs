//! What engines run now, in a small file that outlives the process: so that work which takes the whole process down is found out.
//!
//! Nobody can say afterwards whether a process died of its work or was killed from outside, so this goes by what repeats itself. Work that ran in
//! [`COMPANY_MAX`] deaths in a row is run with nothing beside it in the process. Dying then counts if it happens within a step of the engine, the very
//! one in which it did the time before: what a defect does, and what a kill at some moment does not, for the same answer takes the same steps. What was
//! not running when the process died is forgotten: it died of something else.
//!
//! A record is written when work begins and cleared when it ends, two writes of a few bytes, without waiting for the disk: this is about crashes of
//! the process, and a file survives those. If the file cannot be written, work goes on without it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::message::{Life, Task};

/// Deaths of the process, one after the other, until what ran in all of them is run alone.
const COMPANY_MAX: u32 = 2;
/// Deaths in the same step with nothing beside it, until work is not run again.
const ALONE_MAX: u32 = 3;
/// Deaths in a row with nothing beside it, wherever, until it is not run again either: a defect need not strike at one place. Kills from outside do this
/// only where they come so quickly, one after the other, that nothing could ever be done.
const ANYWHERE_MAX: u32 = 20;

const RECORD: usize = 64;
/// Where in a record the place is at which its work stands.
const PLACE_AT: usize = 56;
const MAGIC: u32 = 0x3146_5649; // IVF1, as the bytes stand in the file
const NARRATIVE: u32 = u32::MAX;
/// More is no file of ours.
const BYTES_MAX: u64 = 1 << 20;

/// Where work stands that runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// In no step of the engine: what happens there does not come of the work, as far as anybody can tell.
    #[default]
    Between,
    /// In the step behind so many tokens of the prompt.
    Reading(u32),
    /// In the step behind so many tokens of the output.
    Writing(u32),
}

impl Place {
    fn words(self) -> [u32; 2] {
        match self {
            Self::Between => [0, 0],
            Self::Reading(tokens) => [1, tokens],
            Self::Writing(tokens) => [2, tokens],
        }
    }

    fn of([kind, tokens]: [u32; 2]) -> Self {
        match kind {
            1 => Self::Reading(tokens),
            2 => Self::Writing(tokens),
            _ => Self::Between,
        }
    }
}

/// What is known of work from processes that died while it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Past {
    /// Deaths in a row in which other work ran as well.
    company: u32,
    /// Deaths in a row in the step at `place`, with nothing beside it.
    alone: u32,
    /// Deaths in a row with nothing beside it.
    anywhere: u32,
    place: Place,
}

impl Past {
    /// Whether it must run with nothing beside it in the whole process.
    pub fn is_suspect(&self) -> bool {
        self.company >= COMPANY_MAX || self.anywhere > 0
    }

    /// Why it is not run again, if it is not.
    pub fn verdict(&self) -> Option<String> {
        let deaths = self.anywhere;
        if self.alone >= ALONE_MAX {
            return Some(format!(
                "the process died {} times while only this ran, each time in the same step of the engine",
                self.alone
            ));
        }
        (deaths >= ANYWHERE_MAX).then(|| format!("the process died {deaths} times in a row while only this ran"))
    }

    /// After one more death, at this place.
    fn after(self, was_alone: bool, place: Place) -> Self {
        if !was_alone {
            return Self {
                company: self.company.saturating_add(1),
                ..Self::default()
            };
        }
        let alone = match place {
            Place::Between => 0,
            _ if place == self.place => self.alone.saturating_add(1),
            _ => 1,
        };
        Self {
            company: self.company,
            alone,
            anywhere: self.anywhere.saturating_add(1),
            place,
        }
    }
}

/// Which work: names of interviews stay out of the file, and a store that was begun anew has other numbers or other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Whose {
    sequence: u64,
    generation: u64,
    name: u64,
    index: u32,
}

impl Whose {
    fn of(life: &Life, task: &Task) -> Self {
        let mut hasher = DefaultHasher::new();
        life.interview_id.as_str().hash(&mut hasher);
        Self {
            sequence: life.sequence,
            generation: life.generation,
            name: hasher.finish(),
            index: match task {
                Task::Answer { index } => u32::try_from(*index).unwrap_or(NARRATIVE),
                Task::Narrative { .. } => NARRATIVE,
            },
        }
    }
}

/// One record of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    whose: Whose,
    past: Past,
    /// Whether nothing ran beside it.
    alone: bool,
    place: Place,
}

impl Record {
    fn encode(&self) -> [u8; RECORD] {
        let Whose {
            sequence,
            generation,
            name,
            index,
        } = self.whose;
        let Past {
            company,
            alone,
            anywhere,
            place,
        } = self.past;
        let (place, now) = (place.words(), self.place.words());
        let small = [MAGIC, index];
        let wide = [sequence, generation, name];
        let rest = [
            company,
            alone,
            anywhere,
            u32::from(self.alone),
            place[0],
            place[1],
            now[0],
            now[1],
        ];
        let bytes = small.into_iter().flat_map(u32::to_le_bytes);
        let bytes = bytes.chain(wide.into_iter().flat_map(u64::to_le_bytes));
        let mut record = [0; RECORD];
        let bytes = bytes.chain(rest.into_iter().flat_map(u32::to_le_bytes));
        record.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        record
    }

    /// `None`: nothing ran there.
    fn decode(bytes: &[u8; RECORD]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let small = |word: usize| u32::from_le_bytes(words[word]);
        let wide = |word: usize| u64::from(small(word)) | u64::from(small(word + 1)) << 32;
        (small(0) == MAGIC).then(|| Self {
            whose: Whose {
                index: small(1),
                sequence: wide(2),
                generation: wide(4),
                name: wide(6),
            },
            past: Past {
                company: small(8),
                alone: small(9),
                anywhere: small(10),
                place: Place::of([small(12), small(13)]),
            },
            alone: small(11) == 1,
            place: Place::of([small(14), small(15)]),
        })
    }
}

/// The file, and what the last process left in it.
#[derive(Default)]
pub struct InFlight {
    file: Option<Arc<Records>>,
    past: HashMap<Whose, Past>,
}

struct Records {
    file: File,
    /// Whether a record is somebody's.
    taken: Mutex<Vec<bool>>,
    /// Whether nothing more is written.
    closed: AtomicBool,
    /// Whether that is because something could not be written.
    failed: AtomicBool,
}

/// A record of work that runs; cleared when dropped.
pub struct Row {
    records: Arc<Records>,
    index: usize,
}

/// Notes where work stands that runs alone.
#[derive(Clone)]
pub struct Trail(Arc<Records>, usize);

impl InFlight {
    /// Reads what a process left that did not end by itself, and begins anew.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let mut bytes = Vec::new();
        (&file).take(BYTES_MAX).read_to_end(&mut bytes)?;
        file.set_len(0)?;
        let records: Vec<_> = bytes.as_chunks().0.iter().filter_map(Record::decode).collect();
        let past = |record: &Record| {
            let was_alone = record.alone && records.len() == 1;
            (record.whose, record.past.after(was_alone, record.place))
        };
        Ok(Self {
            past: records.iter().map(past).collect(),
            file: Some(Arc::new(Records {
                file,
                taken: Mutex::default(),
                closed: AtomicBool::new(false),
                failed: AtomicBool::new(false),
            })),
        })
    }

    /// Whether there is a file, and all could be written to it.
    pub fn is_open(&self) -> bool {
        let failed = |records: &Arc<Records>| records.failed.load(Ordering::SeqCst);
        self.file.as_ref().is_some_and(|records| !failed(records))
    }

    /// Goes on with this, which has just been opened.
    pub fn take_over(&mut self, opened: Self) {
        if self.file.is_none() {
            self.past = opened.past;
        } // else what stood in it was of this very process, and nothing to blame anybody for
        self.file = opened.file;
    }

    /// What earlier processes tell of work that is to be done.
    pub fn past(&mut self, life: &Life, task: &Task) -> Past {
        match self.past.is_empty() {
            true => Past::default(),
            false => self.past.remove(&Whose::of(life, task)).unwrap_or_default(),
        }
    }

    /// Work begins, `alone` if nothing runs beside it in the whole process.
    pub fn begin(&self, life: &Life, task: &Task, past: Past, alone: bool) -> Option<Row> {
        let records = Arc::clone(self.file.as_ref()?);
        let index = {
            let mut taken = records.taken();
            let index = taken.iter().position(|taken| !taken).unwrap_or_else(|| {
                taken.push(false);
                taken.len() - 1
            });
            taken[index] = true;
            index
        };
        let record = Record {
            whose: Whose::of(life, task),
            past,
            alone,
            place: Place::default(),
        };
        records.write(&record.encode(), index * RECORD);
        Some(Row { records, index })
    }

    /// The process is about to end because it was told to: what still runs is not to blame.
    pub fn close(&self) {
        if let Some(records) = &self.file {
            records.close();
        }
    }
}

impl Records {
    fn taken(&self) -> MutexGuard<'_, Vec<bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8], at: usize) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let written = self.file.write_all_at(bytes, at as u64);
        if let Err(error) = &written {
            tracing::warn!(%error, "what engines run cannot be noted any more: work that ends the process would not be found out");
            self.failed.store(true, Ordering::SeqCst);
            self.close();
        } else if self.closed.load(Ordering::SeqCst) {
            self.close(); // this came too late
        }
    }

    /// Nothing is written from now on, and nothing stays that somebody might be blamed for: what could not be cleared looks as if it ran.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.file.set_len(0); // at worst what runs now is run alone at the next start
    }
}

impl Row {
    /// For whoever sees where the work stands.
    pub fn trail(&self) -> Trail {
        Trail(Arc::clone(&self.records), self.index)
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.records.write(&[0; RECORD], self.index * RECORD);
        if let Some(taken) = self.records.taken().get_mut(self.index) {
            *taken = false;
        }
    }
}

impl Trail {
    pub fn mark(&self, place: Place) {
        let [kind, tokens] = place.words();
        let mut bytes = [0; RECORD - PLACE_AT];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..].copy_from_slice(&tokens.to_le_bytes());
        self.0.write(&bytes, self.1 * RECORD + PLACE_AT);
    }
}

#[cfg(test)]
mod tests;
