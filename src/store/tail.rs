//! The segment that sled's log ends in. sled writes on in it whether or not its head is damaged, and if that is, finds neither it nor what was
//! written there when it is opened again.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Bytes of a segment, and of its head: a checksum, how far the log reached when it began, and up to where it was certain by then.
pub(super) const SEGMENT_BYTES: u64 = 512 * 1024;
const HEAD_BYTES: usize = 20;

/// Where the last segment is, and its head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    pub at: u64,
    head: [u8; HEAD_BYTES],
}

impl Tail {
    /// Of a log that is closed; `None` if it has no segment.
    pub fn of(log: &Path) -> io::Result<Option<Self>> {
        let file = File::open(log)?;
        let segments = file.metadata()?.len().div_ceil(SEGMENT_BYTES);
        let mut last = None;
        for at in (0..segments).map(|segment| segment * SEGMENT_BYTES) {
            if let Some(head) = head(&file, at)?
                && let Some(begin) = begin(&head)
                && last.as_ref().is_none_or(|(latest, _)| *latest < begin)
            {
                last = Some((begin, Self { at, head }));
            }
        }
        Ok(last.map(|(_, tail)| tail))
    }

    /// Whether the log has it still.
    pub fn is_in(&self, log: &Path) -> io::Result<bool> {
        Ok(head(&File::open(log)?, self.at)? == Some(self.head))
    }
}

/// `None` at the end of the file.
fn head(log: &File, at: u64) -> io::Result<Option<[u8; HEAD_BYTES]>> {
    let mut head = [0; HEAD_BYTES];
    match log.read_exact_at(&mut head, at) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(head)),
    }
}

/// How far the log reached when the segment with this head began; `None` if it is none.
fn begin(head: &[u8; HEAD_BYTES]) -> Option<i64> {
    let (sum, rest) = head.split_first_chunk::<4>()?;
    let begin = rest.first_chunk::<8>()?;
    // sled has the bits of all of them flipped, so that zeros are no head.
    let is_whole = crc32fast::hash(rest) == !u32::from_le_bytes(*sum);
    is_whole.then(|| i64::from_le_bytes(*begin) ^ i64::MAX)
}
