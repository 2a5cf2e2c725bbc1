//! Measures whether this processor computes the same bits however a prompt is cut, as the model's query tile promises.

use super::super::TokenId;
use super::super::model::{Model, SlotId};
use super::OnnxModel;
use super::error::OnnxError;

/// Prefills one made-up prompt as a whole, then as a chunk of every length up to a tile, then cut at the tile, and compares what each leaves in
/// the cache. The cost is that of some T² / 2 tokens. A slot shorter than a tile is measured as far as it goes. Does nothing where the cache is
/// on a card: bits there are promised by nobody.
pub(super) fn check_query_tile(model: &mut OnnxModel) -> Result<(), OnnxError> {
    let tile = model.shape.query_tile;
    let banks = model.shape.banks.iter().enumerate().filter(|(_, bank)| bank.slots > 0);
    let Some((bank, shape)) = banks.max_by_key(|(_, bank)| bank.context) else {
        return Ok(());
    };
    let slot = SlotId { bank, index: 0 };
    let length = shape.context.min(tile.saturating_mul(2));
    if length < 2 {
        return Ok(());
    }
    let vocabulary = model.shape.vocabulary;
    let prompt: Vec<_> = (0..length)
        .map(|index| ((index * 7919 + 11) % vocabulary) as TokenId)
        .collect();
    feed(model, slot, 0, &prompt)?;
    let whole: Option<Vec<_>> = (0..length)
        .map(|position| model.position_bits(slot, position))
        .collect();
    let Some(whole) = whole else {
        return Ok(());
    };
    let differs =
        |model: &OnnxModel, position: usize| model.position_bits(slot, position).as_ref() != Some(&whole[position]);
    for rows in 2..=tile.min(length) {
        feed(model, slot, 0, &prompt[..rows])?;
        if differs(model, rows - 1) {
            return Err(wrong(tile, rows));
        }
    }
    if length >= tile.saturating_add(2) {
        feed(model, slot, tile, &prompt[tile..])?;
        if let Some(position) = (tile..length).find(|position| differs(model, *position)) {
            return Err(wrong(tile, position + 1));
        }
    }
    Ok(())
}

fn feed(model: &mut OnnxModel, slot: SlotId, past: usize, tokens: &[TokenId]) -> Result<(), OnnxError> {
    model
        .prefill(slot, past, tokens, false)
        .map(drop)
        .map_err(OnnxError::Probe)
}

fn wrong(claimed: usize, changes_at: usize) -> OnnxError {
    OnnxError::QueryTile {
        claimed,
        changes_at,
        // A last tile of one row is what changes bits: the first length to have one is a tile and one more.
        holds: (changes_at - 1).max(2),
    }
}
