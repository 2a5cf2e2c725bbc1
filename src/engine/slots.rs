//! Which slot belongs to whom and which prefix its key/values hold: what a new sequence need not compute again.

use std::ops::Range;

use super::TokenId;
use super::job::JobId;
use super::model::{BankShape, OVER, SlotId, UNDER, covered};

/// All slots of a model.
pub(super) struct Slots {
    banks: Vec<Bank>,
    /// The last slots of [`UNDER`], whose memory is that of [`OVER`]. Empty where every bank has its own.
    covered: Range<usize>,
    is_overlaid: bool,
    /// Whether somebody waits for a slot of [`OVER`]: those under it are not given away any more.
    is_claimed: bool,
}

struct Bank {
    context: usize,
    slots: Vec<Slot>,
    /// Another number of slots that it shall have once its last sequence has ended. Until then it takes no new one.
    target: Option<usize>,
}

/// A slot whose sequence has ended keeps what it holds until another sequence begins there.
#[derive(Default)]
pub(super) struct Slot {
    pub occupant: Option<JobId>,
    /// Tokens whose key/values are in the slot and were computed as the opening of a sequence, so that anyone may use them.
    pub prefix: Vec<TokenId>,
}

/// What a sequence need not compute: the first `tokens` of its opening, from another slot or (`None`) already in its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reuse {
    pub from: Option<SlotId>,
    pub tokens: usize,
}

impl Slots {
    /// `is_overlaid`: as [`Model::is_overlaid`](super::model::Model::is_overlaid).
    pub fn new(banks: &[BankShape], is_overlaid: bool) -> Self {
        let bank = |shape: &BankShape| Bank {
            context: shape.context,
            slots: empty(shape.slots),
            target: None,
        };
        let mut slots = Self {
            banks: banks.iter().map(bank).collect(),
            covered: 0..0,
            is_overlaid,
            is_claimed: false,
        };
        slots.cover(banks);
        slots
    }

    fn cover(&mut self, banks: &[BankShape]) {
        if self.is_overlaid {
            let all = banks[UNDER].slots;
            self.covered = all - covered(banks)..all;
        }
    }

    /// Tokens that a slot of the bank holds; `None` if there is no such bank.
    pub fn context(&self, bank: usize) -> Option<usize> {
        self.banks.get(bank).map(|bank| bank.context)
    }

    /// Slots that a new sequence may have now.
    pub fn free(&self, bank: usize) -> usize {
        let slots = self.banks.get(bank).map_or(0, |bank| bank.slots.len());
        (0..slots).filter(|index| self.is_free(bank, *index)).count()
    }

    fn is_free(&self, bank: usize, index: usize) -> bool {
        let of = &self.banks[bank];
        of.target.is_none() && of.slots[index].occupant.is_none() && !self.is_shadowed(bank, index)
    }

    /// Whether the slot's memory is in use, or will be next, by a slot of another bank.
    fn is_shadowed(&self, bank: usize, index: usize) -> bool {
        let taken = |slot: &Slot| slot.occupant.is_some();
        match bank {
            UNDER => self.covered.contains(&index) && (self.is_claimed || self.banks[OVER].slots.iter().any(taken)),
            OVER if self.is_overlaid => {
                let under = &self.banks[UNDER];
                under.target.is_some() || under.slots[self.covered.clone()].iter().any(taken)
            }
            _ => false,
        }
    }

    /// Slots of [`UNDER`] that share their memory with those of [`OVER`].
    pub fn covered(&self) -> Range<usize> {
        self.covered.clone()
    }

    /// Somebody waits for a slot of [`OVER`], or nobody any more.
    pub fn claim_over(&mut self, is_claimed: bool) {
        self.is_claimed = is_claimed;
    }

    /// Whether the bank has no slots and will get none.
    pub fn is_barren(&self, bank: usize) -> bool {
        self.banks[bank].slots.is_empty() && self.banks[bank].target.is_none()
    }

    /// Gives a free slot away: the one that begins like the opening, if that is most of what it holds; otherwise the one whose overwriting loses
    /// least. The lowest of equals, so that rows that decode together lie close together. The slot's prefix stays until the sequence begins.
    ///
    /// # Panics
    /// If no slot is free.
    pub fn take(&mut self, bank: usize, occupant: JobId, opening: &[TokenId]) -> SlotId {
        let slots = &self.banks[bank].slots;
        let shared: Vec<_> = slots.iter().map(|slot| common(&slot.prefix, opening)).collect();
        let most = shared.iter().copied().max().unwrap_or(0);
        let is_free = |index: &usize| self.is_free(bank, *index);
        let fits = |index: &usize| shared[*index] == most && most > 0 && 2 * most >= slots[*index].prefix.len();
        let index = (0..slots.len())
            .filter(is_free)
            .find(fits)
            .or_else(|| {
                let lost = |index: &usize| loss(slots, *index, shared[*index]);
                (0..slots.len()).filter(is_free).min_by_key(lost)
            })
            .expect("a slot of the bank is free");
        self.banks[bank].slots[index].occupant = Some(occupant);
        self.overwrite(bank, index);
        SlotId { bank, index }
    }

    /// A sequence begins in a slot: what slots of another bank hold in the same memory is gone.
    fn overwrite(&mut self, bank: usize, index: usize) {
        let lost = match bank {
            UNDER if self.covered.contains(&index) => &mut self.banks[OVER].slots[..],
            OVER if self.is_overlaid => &mut self.banks[UNDER].slots[self.covered.clone()],
            _ => return,
        };
        lost.iter_mut().for_each(|slot| slot.prefix.clear());
    }

    /// The longest prefix of an opening that some slot of the bank holds, the own slot before others. At least 2 tokens are left to compute: the
    /// last one's logits are wanted, and a prefill has 2.
    pub fn reuse(&self, own: SlotId, opening: &[TokenId]) -> Reuse {
        let slots = &self.banks[own.bank].slots;
        let most = opening.len().saturating_sub(2);
        let shared = |index: usize| common(&slots[index].prefix, opening).min(most);
        let mut best = Reuse {
            from: None,
            tokens: shared(own.index),
        };
        for index in 0..slots.len() {
            let tokens = shared(index);
            if tokens > best.tokens {
                let from = Some(SlotId { bank: own.bank, index });
                best = Reuse { from, tokens };
            }
        }
        best
    }

    /// Tokens whose key/values the slot holds for anyone to use.
    pub fn prefix(&self, slot: SlotId) -> &[TokenId] {
        &self.banks[slot.bank].slots[slot.index].prefix
    }

    /// Every slot, bank by bank.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.banks.iter().enumerate().flat_map(|(bank, of)| {
            let slots = of.slots.iter().enumerate();
            slots.map(move |(index, slot)| (SlotId { bank, index }, slot))
        })
    }

    /// The slot holds these tokens, and nothing else of use.
    pub fn hold(&mut self, slot: SlotId, tokens: &[TokenId]) {
        let prefix = &mut self.slot(slot).prefix;
        prefix.clear();
        prefix.extend_from_slice(tokens);
    }

    /// These tokens of an opening were computed behind what the slot holds.
    pub fn extend(&mut self, slot: SlotId, tokens: &[TokenId]) {
        self.slot(slot).prefix.extend_from_slice(tokens);
    }

    /// What the slot holds is of no use.
    pub fn forget(&mut self, slot: SlotId) {
        self.slot(slot).prefix.clear();
    }

    /// What the bank's free slots hold is not to be trusted.
    pub fn forget_free(&mut self, bank: usize) {
        let free = self.banks[bank].slots.iter_mut().filter(|slot| slot.occupant.is_none());
        free.for_each(|slot| slot.prefix.clear());
    }

    /// The sequence has left; what its slot holds stays.
    pub fn release(&mut self, slot: SlotId) {
        self.slot(slot).occupant = None;
    }

    /// The bank shall have another number of slots.
    pub fn plan_resize(&mut self, bank: usize, slots: usize) {
        let bank = &mut self.banks[bank];
        bank.target = (slots != bank.slots.len()).then_some(slots);
    }

    /// Whether a bank waits for another number of slots.
    pub fn is_resizing(&self) -> bool {
        self.banks.iter().any(|bank| bank.target.is_some())
    }

    /// How many slots the bank shall have, if it can be resized now.
    pub fn resizable(&self, bank: usize) -> Option<usize> {
        let unused = |bank: &Bank| bank.slots.iter().all(|slot| slot.occupant.is_none());
        let both = self.is_overlaid.then(|| [&self.banks[UNDER], &self.banks[OVER]]);
        let bank = &self.banks[bank];
        bank.target
            .filter(|_| unused(bank) && both.is_none_or(|both| both.into_iter().all(unused)))
    }

    /// The bank has as many slots now as `banks` says, all empty; so has one that shares its memory.
    pub fn resized(&mut self, bank: usize, banks: &[BankShape]) {
        let renewed = match self.is_overlaid {
            true => 0..banks.len(),
            false => bank..bank + 1,
        };
        renewed.for_each(|index| self.banks[index].slots = empty(banks[index].slots));
        self.banks[bank].target = None;
        self.cover(banks);
    }

    fn slot(&mut self, slot: SlotId) -> &mut Slot {
        &mut self.banks[slot.bank].slots[slot.index]
    }
}

fn empty(slots: usize) -> Vec<Slot> {
    (0..slots).map(|_| Slot::default()).collect()
}

/// Length of the longest common prefix.
fn common(one: &[TokenId], other: &[TokenId]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Tokens whose key/values nobody would hold any more if the slot were overwritten by an opening that begins with its first `kept`.
fn loss(slots: &[Slot], index: usize, kept: usize) -> usize {
    let own = &slots[index].prefix;
    let others = slots.iter().enumerate().filter(|(other, _)| *other != index);
    let elsewhere = others.map(|(_, slot)| common(&slot.prefix, own)).max().unwrap_or(0);
    own.len() - elsewhere.max(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(held: &[&[TokenId]]) -> Slots {
        let shape = BankShape {
            slots: held.len(),
            context: 100,
        };
        let mut slots = Slots::new(&[shape], false);
        for (index, tokens) in held.iter().enumerate() {
            slots.hold(SlotId { bank: 0, index }, tokens);
        }
        slots
    }

    fn taken(slots: &mut Slots, opening: &[TokenId]) -> usize {
        slots.take(0, JobId(opening.len() as u64), opening).index
    }

    fn reuse(from: Option<usize>, tokens: usize) -> Reuse {
        let from = from.map(|index| SlotId { bank: 0, index });
        Reuse { from, tokens }
    }

    #[test]
    fn empty_slots_are_given_from_the_lowest() {
        let mut slots = slots(&[&[], &[], &[]]);
        assert_eq!([0; 3].map(|_| taken(&mut slots, &[1, 2, 3])), [0, 1, 2]);
        assert_eq!(slots.free(0), 0);
        slots.release(SlotId { bank: 0, index: 1 });
        assert_eq!((slots.free(0), taken(&mut slots, &[7, 7])), (1, 1));
    }

    #[test]
    fn the_slot_that_begins_like_the_opening_is_taken_if_that_is_most_of_it() {
        let mut like = slots(&[&[], &[1, 2, 3, 4, 9], &[1, 2, 8]]);
        assert_eq!(taken(&mut like, &[1, 2, 3, 4, 5, 6]), 1);
        let mut beginning_only = slots(&[&[1, 2, 3, 4, 9], &[]]);
        assert_eq!(taken(&mut beginning_only, &[1, 5, 6]), 1);
    }

    #[test]
    fn what_is_held_elsewhere_too_is_overwritten_before_what_is_not() {
        let mut held = slots(&[&[5, 6, 7, 8], &[1, 2, 3, 4], &[1, 2, 3, 9]]);
        assert_eq!(taken(&mut held, &[9, 9, 9]), 1);
    }

    #[test]
    fn the_longest_common_prefix_is_reused_the_own_slot_before_others() {
        let held = slots(&[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3, 4, 5], &[]]);
        let of = |index, opening: &[TokenId]| held.reuse(SlotId { bank: 0, index }, opening);
        assert_eq!(of(1, &[1, 2, 3, 9, 9, 9]), reuse(None, 3));
        assert_eq!(of(1, &[1, 2, 3, 4, 9, 9]), reuse(Some(2), 4));
        assert_eq!(of(3, &[1, 2, 3, 9, 9, 9]), reuse(Some(0), 3));
        assert_eq!(of(3, &[8, 9]), reuse(None, 0));
    }

    #[test]
    fn two_tokens_are_always_left_to_compute() {
        let held = slots(&[&[1, 2, 3, 4]]);
        for (opening, tokens) in [(&[1, 2, 3, 4][..], 2), (&[1, 2, 3], 1), (&[1, 2], 0)] {
            let own = SlotId { bank: 0, index: 0 };
            assert_eq!(held.reuse(own, opening), reuse(None, tokens));
        }
    }

    #[test]
    fn a_bank_that_is_to_be_resized_gives_no_slot_away() {
        let mut slots = slots(&[&[1, 2], &[]]);
        let slot = slots.take(0, JobId(1), &[1, 2]);
        slots.plan_resize(0, 5);
        assert_eq!((slots.free(0), slots.resizable(0)), (0, None));
        slots.release(slot);
        assert_eq!(slots.resizable(0), Some(5));
        slots.resized(0, &[BankShape { slots: 5, context: 100 }]);
        assert_eq!((slots.free(0), slots.is_resizing()), (5, false));
        assert!(slots.iter().all(|(_, slot)| slot.prefix.is_empty()));
        slots.plan_resize(0, 5);
        assert!(!slots.is_resizing());
    }

    /// Five slots, over the last two of which lies one of another bank.
    fn overlaid() -> Slots {
        let under = BankShape { slots: 5, context: 100 };
        let over = BankShape { slots: 1, context: 150 };
        Slots::new(&[under, over], true)
    }

    #[test]
    fn only_those_under_a_slot_or_the_one_over_them_may_be_taken() {
        let mut slots = overlaid();
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (5, 1));
        let over = slots.take(OVER, JobId(1), &[1, 2]);
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (3, 0));
        slots.release(over);
        let under: Vec<_> = (0..4).map(|job| slots.take(UNDER, JobId(job), &[1, 2])).collect();
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (1, 0));
        slots.release(under[3]);
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (2, 1));
    }

    #[test]
    fn who_waits_for_the_slot_over_others_keeps_them_from_being_given_away() {
        let mut slots = overlaid();
        let under: Vec<_> = (0..4).map(|job| slots.take(UNDER, JobId(job), &[1, 2])).collect();
        slots.claim_over(true);
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (0, 0));
        slots.release(under[0]);
        slots.release(under[3]);
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (1, 1));
        slots.take(OVER, JobId(9), &[1, 2]);
        slots.claim_over(false);
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (1, 0));
    }

    #[test]
    fn what_is_written_in_shared_memory_is_lost_to_the_other_bank() {
        let mut slots = overlaid();
        let at = |bank, index| SlotId { bank, index };
        (0..5).for_each(|index| slots.hold(at(UNDER, index), &[1, 2, 3]));
        slots.take(OVER, JobId(1), &[7, 8]);
        let held: Vec<_> = (0..5).map(|index| slots.prefix(at(UNDER, index)).len()).collect();
        assert_eq!(held, [3, 3, 3, 0, 0]);
        slots.hold(at(OVER, 0), &[7, 8]);
        slots.release(at(OVER, 0));
        for job in 0..3 {
            slots.take(UNDER, JobId(job), &[1, 2, 3]);
        }
        assert_eq!(slots.prefix(at(OVER, 0)).len(), 2);
        slots.take(UNDER, JobId(5), &[1, 2, 3]);
        assert_eq!(slots.prefix(at(OVER, 0)).len(), 0);
    }

    #[test]
    fn banks_that_share_memory_are_resized_when_neither_is_in_use() {
        let mut slots = overlaid();
        let over = slots.take(OVER, JobId(1), &[1, 2]);
        slots.plan_resize(UNDER, 1);
        assert_eq!((slots.resizable(UNDER), slots.free(OVER)), (None, 0));
        slots.release(over);
        assert_eq!((slots.resizable(UNDER), slots.free(OVER)), (Some(1), 0));
        let shapes = [
            BankShape { slots: 1, context: 100 },
            BankShape { slots: 1, context: 150 },
        ];
        slots.resized(UNDER, &shapes);
        assert_eq!((slots.free(UNDER), slots.free(OVER)), (1, 1));
        slots.take(OVER, JobId(2), &[1, 2]);
        assert_eq!(slots.free(UNDER), 0);
    }
}
