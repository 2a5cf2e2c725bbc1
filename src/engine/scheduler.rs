//! What a step runs, as a value: at most one prefill chunk, and one joint decode for each bank that has rows to decode.

use std::ops::Range;

use super::sequence::Sequence;
use super::slots::{Reuse, Slots};

/// The runs of one step, planned from the state before it. Sequences are named by their place in admission order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StepPlan {
    pub chunk: Option<Chunk>,
    /// Sequences that decode, by slot.
    pub rows: Vec<usize>,
    pub decodes: Vec<Decode>,
}

/// A run of one sequence's next tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub sequence: usize,
    /// For the first chunk of a sequence: what it takes over before.
    pub begin: Option<Reuse>,
    /// Tokens that are in the slot by then.
    pub past: usize,
    pub tokens: usize,
}

/// A run of one token for each of some sequences of a bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decode {
    pub bank: usize,
    /// Slots, from the lowest with a row to the highest.
    pub slots: Range<usize>,
    /// Which part of the plan's rows.
    pub rows: Range<usize>,
}

/// How stretches of tokens are cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cutting {
    chunk_tokens: usize,
    tile: usize,
}

impl Cutting {
    /// Rounds the largest chunk down to a multiple of the tile; it is at least one tile, and at least 3.
    ///
    /// # Panics
    /// With a tile of 0 or 2: an odd stretch could not be cut at all. A tile of 1 means that all lengths are alike.
    pub fn new(chunk_tokens: usize, tile: usize) -> Self {
        assert!(tile == 1 || tile > 2, "a query tile of {tile} tokens");
        let chunk_tokens = (chunk_tokens / tile * tile).max(tile).max(3);
        Self { chunk_tokens, tile }
    }

    pub fn next(&self, remaining: usize) -> usize {
        chunk(remaining, self.chunk_tokens, self.tile)
    }
}

/// Length of the next chunk of a stretch of which `remaining` tokens (at least 2) are left. No chunk has 1 token nor a last query tile with 1 row,
/// and none leaves 1 token behind: two tokens are moved to the next chunk, or one.
pub(super) fn chunk(remaining: usize, chunk_tokens: usize, tile: usize) -> usize {
    let most = remaining.min(chunk_tokens);
    if remaining - most == 1 {
        most - 1
    } else if most % tile == 1 {
        most - 2
    } else {
        most
    }
}

/// Plans a step. What goes as a chunk and what decodes follows from each sequence alone: 1 pending token decodes, more are a chunk. Chunks go in
/// admission order, so an opening is through before the next one begins, and can be reused by it.
pub(super) fn plan(plan: &mut StepPlan, running: &[Sequence], slots: &Slots, cutting: Cutting) {
    plan.rows.clear();
    plan.decodes.clear();
    let live = || {
        let numbered = running.iter().enumerate();
        numbered.filter(|(_, sequence)| !sequence.has_ended())
    };
    let next = live().find(|(_, sequence)| sequence.pending() > 1);
    plan.chunk = next.map(|(index, sequence)| next_chunk(index, sequence, slots, cutting));
    let ready = live().filter(|(_, sequence)| sequence.pending() == 1);
    plan.rows.extend(ready.map(|(index, _)| index));
    plan.rows.sort_unstable_by_key(|row| running[*row].slot);
    for (place, row) in plan.rows.iter().enumerate() {
        let slot = running[*row].slot;
        match plan.decodes.last_mut() {
            Some(decode) if decode.bank == slot.bank => {
                decode.slots.end = slot.index + 1;
                decode.rows.end = place + 1;
            }
            _ => plan.decodes.push(Decode {
                bank: slot.bank,
                slots: slot.index..slot.index + 1,
                rows: place..place + 1,
            }),
        }
    }
}

fn next_chunk(index: usize, sequence: &Sequence, slots: &Slots, cutting: Cutting) -> Chunk {
    let begin = (!sequence.begun).then(|| slots.reuse(sequence.slot, &sequence.tokens));
    let past = begin.map_or(sequence.fed, |reuse| reuse.tokens);
    Chunk {
        sequence: index,
        begin,
        past,
        tokens: cutting.next(sequence.tokens.len() - past),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_never_end_in_a_tile_of_one_row() {
        for tile in (3..=256).chain([1]) {
            for tiles in [1, 2, 5] {
                let cutting = Cutting::new(tiles * tile, tile);
                for length in 2..=1_000 {
                    let mut remaining = length;
                    while remaining > 0 {
                        let size = cutting.next(remaining);
                        let fine = size >= 2 && size % tile != 1 && size <= cutting.chunk_tokens && size <= remaining;
                        assert!(fine, "{length}: {size} of {remaining}, tile {tile}");
                        remaining -= size;
                    }
                }
            }
        }
    }

    #[test]
    fn two_tokens_move_to_the_next_chunk_where_one_would_stand_alone() {
        let all = |mut remaining| {
            let mut sizes = Vec::new();
            while remaining > 0 {
                sizes.push(chunk(remaining, 128, 64));
                remaining -= sizes[sizes.len() - 1];
            }
            sizes
        };
        assert_eq!(all(64), [64]);
        assert_eq!(all(65), [63, 2]);
        assert_eq!(all(128), [128]);
        assert_eq!(all(129), [127, 2]);
        assert_eq!(all(130), [128, 2]);
        assert_eq!(all(193), [128, 63, 2]);
    }

    #[test]
    fn the_largest_chunk_is_a_multiple_of_the_tile() {
        let largest = |chunk_tokens, tile| Cutting::new(chunk_tokens, tile).chunk_tokens;
        assert_eq!(
            [largest(256, 64), largest(255, 64), largest(0, 64), largest(1, 1)],
            [256, 192, 64, 3]
        );
    }
}
