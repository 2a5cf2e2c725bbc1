//! Where things lie in sled's one key space.
//!
//! | key | value |
//! |---|---|
//! | `c` | the next number for a sequence or a generation |
//! | `i` id | the interview's sequence |
//! | `h` sequence | its head: what lists and states need |
//! | `u` sequence | nothing; is there while the interview has neither its report nor been cancelled |
//! | `d` sequence `w` chunk | language, position, company, candidate |
//! | `d` sequence `a` answer chunk | an answer |
//! | `d` sequence `o` generation answer chunk | an outcome |
//! | `d` sequence `r` chunk | the report |
//! | `r` hash-length hash chunk | a rubric's text |
//!
//! Numbers are big-endian, so that keys are in their order. A chunk is the last four bytes of a key, an answer four as well.

/// Longest value of one key, in bytes. sled keeps up to about 20 neighbours in one page, and a page beyond 128 KiB would become a file of its
/// own that sled does not sync.
pub(super) const CHUNK_BYTES: usize = 5_000;

pub(super) const COUNTER: &[u8] = b"c";
pub(super) const IDS: &[u8] = b"i";
pub(super) const HEADS: &[u8] = b"h";
pub(super) const UNFINISHED: &[u8] = b"u";
pub(super) const RUBRICS: &[u8] = b"r";

pub(super) fn id(id: &str) -> Vec<u8> {
    [IDS, id.as_bytes()].concat()
}

pub(super) fn head(sequence: u64) -> Vec<u8> {
    [HEADS, &sequence.to_be_bytes()].concat()
}

pub(super) fn unfinished(sequence: u64) -> Vec<u8> {
    [UNFINISHED, &sequence.to_be_bytes()].concat()
}

/// The sequence of a key of [`head`] or [`unfinished`].
pub(super) fn sequence(key: &[u8]) -> Option<u64> {
    number(key.get(1..)?)
}

/// Eight bytes as a number.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Everything of an interview but its head and its index entries.
pub(super) fn interview(sequence: u64) -> Vec<u8> {
    [b"d".as_slice(), &sequence.to_be_bytes()].concat()
}

pub(super) fn words(sequence: u64) -> Vec<u8> {
    [&interview(sequence), b"w".as_slice()].concat()
}

pub(super) fn answers(sequence: u64) -> Vec<u8> {
    [&interview(sequence), b"a".as_slice()].concat()
}

pub(super) fn answer(sequence: u64, index: usize) -> Vec<u8> {
    [answers(sequence), position(index)].concat()
}

pub(super) fn outcomes(sequence: u64, generation: u64) -> Vec<u8> {
    [&interview(sequence), b"o".as_slice(), &generation.to_be_bytes()].concat()
}

pub(super) fn outcome(sequence: u64, generation: u64, index: usize) -> Vec<u8> {
    [outcomes(sequence, generation), position(index)].concat()
}

pub(super) fn report(sequence: u64) -> Vec<u8> {
    [&interview(sequence), b"r".as_slice()].concat()
}

pub(super) fn rubric(hash: &str) -> Vec<u8> {
    [RUBRICS, &(hash.len() as u64).to_be_bytes(), hash.as_bytes()].concat()
}

/// The chunk of a value, from 0.
pub(super) fn chunk(key: &[u8], index: usize) -> Vec<u8> {
    [key, &u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes()].concat()
}

/// A chunk's key, as the value's key and whether it is the first chunk.
pub(super) fn of_chunk(key: &[u8]) -> (&[u8], bool) {
    let (value, index) = key.split_at(key.len().saturating_sub(4));
    (value, index.iter().all(|byte| *byte == 0))
}

/// The answer's index at the end of a key of [`answer`] or [`outcome`].
pub(super) fn index(key: &[u8]) -> Option<usize> {
    let (_, index) = key.split_last_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*index)).ok()
}

fn position(index: usize) -> Vec<u8> {
    u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        assert!(head(255) < head(256));
        assert!(answer(7, 9) < answer(7, 10));
        assert!(outcome(7, 1, 300) < outcome(7, 2, 0));
    }

    #[test]
    fn no_key_of_a_value_begins_another_one() {
        assert!(!rubric("ab").starts_with(&rubric("a")));
        assert!(!outcome(1, 1, 1).starts_with(&outcome(1, 1, 0)));
    }

    #[test]
    fn a_key_tells_what_it_was_made_of() {
        assert_eq!(sequence(&head(77)), Some(77));
        assert_eq!(sequence(b"h12"), None);
        assert_eq!(index(&outcome(1, 2, 33)), Some(33));
        let key = chunk(&answer(1, 2), 1);
        assert_eq!(of_chunk(&key), (answer(1, 2).as_slice(), false));
        assert!(of_chunk(&chunk(b"x", 0)).1);
    }
}
