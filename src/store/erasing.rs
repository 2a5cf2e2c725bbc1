//! Erasing an interview, also where sled cannot read all of it.
//!
//! sled joins a page on which little is left to the page before it. If it cannot read that one it has begun and cannot end, and from then on it fails
//! whatever it is asked for. So nothing is taken away right behind a page that it cannot read: values are emptied there.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::error::StoreError;
use super::keys;
use super::shelf::{Changes, Shelf};
use crate::domain::ids::InterviewId;

/// With fewer keys a page is joined to the one before it.
const KEYS_MIN: usize = 4;

/// The changes after which there is nothing of the interview but what sled cannot read. An error where it cannot be had.
pub(super) fn erasure(shelf: &Shelf, id: &InterviewId, sequence: u64) -> Result<Changes, StoreError> {
    let (within, unread) = shelf.keys(&keys::interview(sequence));
    let within: BTreeSet<Vec<u8>> = within.into_iter().map(|key| key.to_vec()).collect();
    let around = BTreeSet::from([keys::head(sequence), keys::unfinished(sequence), keys::id(id.as_str())]);
    // A write to a page that cannot be read would be the last of this store.
    for key in &around {
        shelf.get(key)?;
    }
    let all: BTreeSet<_> = within.union(&around).cloned().collect();
    let mut changes = Changes::default();
    if unread.is_none() && can_go(shelf, sequence, &all).is_ok() {
        all.iter().for_each(|key| changes.remove(key));
        return Ok(changes);
    }
    can_go(shelf, sequence, &around)?;
    if let Some(error) = unread {
        let reason = error.in_full();
        tracing::warn!(
            interview = id.as_str(),
            reason,
            "some of an interview that is erased cannot be read: that stays in the store's files, and what is exported and imported into a new \
             store.path has nothing of it"
        );
    }
    within.iter().for_each(|key| changes.insert(key, b""));
    around.iter().for_each(|key| changes.remove(key));
    Ok(changes)
}

/// An error if one of the keys of this interview lies on a page that may be joined to one that cannot be read.
fn can_go(shelf: &Shelf, sequence: u64, gone: &BTreeSet<Vec<u8>>) -> Result<(), StoreError> {
    let within = gone.range(keys::interview(sequence)..).next();
    let around = gone.iter().filter(|key| !key.starts_with(&keys::interview(sequence)));
    for key in within.into_iter().chain(around) {
        let before = shelf.back_from(Bound::Excluded(key.clone()));
        // Either so many stay on its page, or the page before it is read.
        let stay = before.filter(|entry| entry.as_ref().map_or(true, |(key, _)| !gone.contains(&**key)));
        stay.take(KEYS_MIN).try_for_each(|entry| entry.map(drop))?;
    }
    Ok(())
}
