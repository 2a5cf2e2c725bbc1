//! What a step runs, as values: one chunk after the other while the step's budgets last, then joint decodes of all rows that are ready.

use std::ops::Range;

use super::sequence::Sequence;
use super::slots::{Reuse, Slots};

/// What may still go through the model as chunks before the rows that decode have their turn, in tokens. What is forced between choices has a
/// budget of its own: it is short, and rows stand idle until it is through. No sequence has two of its stretches fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    openings: usize,
    forced: usize,
    /// Sequences before this one have had their turn with what is forced.
    forced_from: usize,
}

/// The joint decodes of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decodes {
    /// Sequences that decode, by slot. All sequences are named by their place in admission order.
    pub rows: Vec<usize>,
    pub runs: Vec<Decode>,
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
    /// Which part of the rows.
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

    /// What a step may feed: of each kind, at least one chunk.
    pub fn budget(&self) -> Budget {
        Budget {
            openings: self.chunk_tokens,
            forced: self.chunk_tokens,
            forced_from: 0,
        }
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

/// The next chunk, and takes its tokens out of the budget. What goes as a chunk and what decodes follows from each sequence alone: 1 pending token
/// decodes, more are a chunk. Chunks go in admission order, so an opening is through before the next one begins, and can be reused by it.
pub(super) fn next_chunk(running: &[Sequence], slots: &Slots, cutting: Cutting, budget: &mut Budget) -> Option<Chunk> {
    let pending = |(_, sequence): &(usize, &Sequence)| !sequence.has_ended() && sequence.pending() > 1;
    let mut waiting = running.iter().enumerate().filter(pending);
    waiting.find_map(|(index, sequence)| {
        let left = match sequence.is_open() {
            true if index < budget.forced_from => return None,
            true => &mut budget.forced,
            false => &mut budget.openings,
        };
        let chunk = chunk_of(index, sequence, slots, cutting);
        let rest = left.checked_sub(chunk.tokens);
        *left = rest.unwrap_or(0); // nobody passes the one that does not fit
        if sequence.is_open() {
            budget.forced_from = index + 1;
        }
        rest.map(|_| chunk)
    })
}

/// What bounds a decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Most idle slots between two rows.
    pub gap: usize,
    /// Most slots from the first row to the last.
    pub slots_max: usize,
    /// Which piece of a longer one has its turn.
    pub turn: usize,
}

/// Plans the decodes of all rows that wait for one token. Rows of a bank go together unless more than `gap` idle slots lie between two of them. Of
/// more than `slots_max` only a piece runs, another one in each turn: when a row is decoded changes nothing of what it gives.
pub(super) fn plan_decodes(decodes: &mut Decodes, running: &[Sequence], span: Span) {
    let Decodes { rows, runs } = decodes;
    rows.clear();
    runs.clear();
    let ready = running
        .iter()
        .enumerate()
        .filter(|(_, sequence)| !sequence.has_ended() && sequence.pending() == 1);
    rows.extend(ready.map(|(index, _)| index));
    rows.sort_unstable_by_key(|row| running[*row].slot);
    for (place, row) in rows.iter().enumerate() {
        let slot = running[*row].slot;
        match runs.last_mut() {
            Some(run) if run.bank == slot.bank && slot.index - run.slots.end <= span.gap => {
                run.slots.end = slot.index + 1;
                run.rows.end = place + 1;
            }
            _ => runs.push(Decode {
                bank: slot.bank,
                slots: slot.index..slot.index + 1,
                rows: place..place + 1,
            }),
        }
    }
    for run in runs.iter_mut().filter(|run| run.slots.len() > span.slots_max) {
        run.slots = piece(&run.slots, span);
        let is_before = |slot: usize| move |row: &usize| running[*row].slot.index < slot;
        let of_run = &rows[run.rows.clone()];
        let (start, end) = (
            of_run.partition_point(is_before(run.slots.start)),
            of_run.partition_point(is_before(run.slots.end)),
        );
        run.rows = run.rows.start + start..run.rows.start + end;
    }
    runs.retain(|run| !run.rows.is_empty());
}

/// The piece of a long run that has its turn; pieces are of equal length, and the last two may overlap.
fn piece(slots: &Range<usize>, Span { slots_max, turn, .. }: Span) -> Range<usize> {
    let pieces = slots.len().div_ceil(slots_max);
    let start = (slots.start + turn % pieces * slots_max).min(slots.end - slots_max);
    start..start + slots_max
}

fn chunk_of(index: usize, sequence: &Sequence, slots: &Slots, cutting: Cutting) -> Chunk {
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
    fn in_turns_every_slot_of_a_long_run_is_in_a_piece() {
        for (slots, slots_max) in [(0..17, 16), (3..43, 16), (0..32, 16), (5..7, 1)] {
            let pieces: Vec<_> = (0..slots.len().div_ceil(slots_max))
                .map(|turn| {
                    let gap = usize::MAX;
                    piece(&slots, Span { gap, slots_max, turn })
                })
                .collect();
            assert!(
                pieces
                    .iter()
                    .all(|piece| piece.len() == slots_max && piece.end <= slots.end)
            );
            assert!(
                slots
                    .clone()
                    .all(|slot| pieces.iter().any(|piece| piece.contains(&slot)))
            );
        }
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
