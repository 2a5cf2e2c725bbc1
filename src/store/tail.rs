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

    /// Whether the log has it still, or a later one in its place.
    pub fn is_in(&self, log: &Path) -> io::Result<bool> {
        let found = head(&File::open(log)?, self.at)?;
        Ok(found.is_some_and(|found| found == self.head || begin(&found) > begin(&self.head)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head_from(begin: i64) -> [u8; HEAD_BYTES] {
        let mut head = [7; HEAD_BYTES];
        head[4..12].copy_from_slice(&(begin ^ i64::MAX).to_le_bytes());
        let sum = !crc32fast::hash(&head[4..]);
        head[..4].copy_from_slice(&sum.to_le_bytes());
        head
    }

    #[test]
    fn the_last_segment_may_have_become_a_later_one_but_not_another() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let write = |head: &[u8; HEAD_BYTES], segment: u64| {
            log.as_file().write_all_at(head, segment * SEGMENT_BYTES).unwrap();
        };
        [10, 30, 20]
            .iter()
            .zip(0..)
            .for_each(|(begin, segment)| write(&head_from(*begin), segment));
        let tail = Tail::of(log.path()).unwrap().unwrap();
        assert_eq!(
            tail,
            Tail {
                at: SEGMENT_BYTES,
                head: head_from(30)
            }
        );
        let mut flipped = head_from(30);
        flipped[13] ^= 1;
        for (head, expected) in [
            (head_from(30), true),
            (head_from(40), true),
            (head_from(25), false),
            (flipped, false),
        ] {
            write(&head, 1);
            assert_eq!(tail.is_in(log.path()).unwrap(), expected);
        }
        log.as_file().set_len(SEGMENT_BYTES).unwrap();
        assert!(!tail.is_in(log.path()).unwrap());
    }
}
