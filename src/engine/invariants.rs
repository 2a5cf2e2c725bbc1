//! What must hold between any two steps: an immutable snapshot of the engine, and a pure function that names what does not.

use std::ops::Range;

use super::TokenId;
use super::job::JobId;
use super::model::{OVER, SlotId, UNDER};
use super::sequence::Sequence;
use super::slots::{Slot, Slots};

/// The engine's state, borrowed.
#[derive(Debug, Clone)]
pub(super) struct Snapshot<'a> {
    pub slots: Vec<SlotState<'a>>,
    /// Slots of [`UNDER`] that share their memory with those of [`OVER`].
    pub covered: Range<usize>,
    /// In admission order.
    pub running: Vec<SequenceState<'a>>,
    /// In submission order: (job, prompt and output in tokens, context of its bank).
    pub waiting: Vec<(JobId, usize, usize)>,
}

#[derive(Debug, Clone)]
pub(super) struct SlotState<'a> {
    pub id: SlotId,
    pub context: usize,
    pub occupant: Option<JobId>,
    pub prefix: &'a [TokenId],
}

#[derive(Debug, Clone)]
pub(super) struct SequenceState<'a> {
    pub id: JobId,
    pub slot: SlotId,
    pub alone: bool,
    pub begun: bool,
    pub ended: bool,
    pub tokens: &'a [TokenId],
    pub prompt: usize,
    pub opening: usize,
    pub fed: usize,
    pub output_max: usize,
}

impl<'a> Snapshot<'a> {
    pub fn new(slots: &'a Slots, running: &'a [Sequence], waiting: Vec<(JobId, usize, usize)>) -> Self {
        let slot_state = |(id, slot): (SlotId, &'a Slot)| SlotState {
            id,
            context: slots.context(id.bank).unwrap_or(0),
            occupant: slot.occupant,
            prefix: &slot.prefix,
        };
        let sequence_state = |sequence: &'a Sequence| SequenceState {
            id: sequence.id,
            slot: sequence.slot,
            alone: sequence.alone,
            begun: sequence.begun,
            ended: sequence.has_ended(),
            tokens: &sequence.tokens,
            prompt: sequence.prompt,
            opening: sequence.opening,
            fed: sequence.fed,
            output_max: sequence.output_max,
        };
        Self {
            slots: slots.iter().map(slot_state).collect(),
            covered: slots.covered(),
            running: running.iter().map(sequence_state).collect(),
            waiting,
        }
    }
}

/// The first thing that is not as it must be.
pub(super) fn check(snapshot: &Snapshot) -> Result<(), String> {
    snapshot.running.iter().try_for_each(|sequence| {
        let owner = snapshot.slots.iter().find(|slot| slot.id == sequence.slot);
        let fault = check_counters(sequence).or_else(|| check_slot(sequence, owner));
        fault.map_or(Ok(()), |fault| Err(format!("{:?}: {fault}", sequence.id)))
    })?;
    for slot in &snapshot.slots {
        if slot.prefix.len() >= slot.context {
            return Err(format!("{:?} has no room to park an idle row", slot.id));
        }
        let owned = |sequence: &SequenceState| sequence.slot == slot.id && Some(sequence.id) == slot.occupant;
        if slot.occupant.is_some() && !snapshot.running.iter().any(owned) {
            return Err(format!("{:?} is held for a sequence that is not there", slot.id));
        }
    }
    let occupied = |bank: usize| {
        let of_bank = move |slot: &&SlotState| slot.id.bank == bank && slot.occupant.is_some();
        snapshot.slots.iter().filter(of_bank)
    };
    let mut beneath = occupied(UNDER).filter(|slot| snapshot.covered.contains(&slot.id.index));
    if let (Some(over), Some(under)) = (occupied(OVER).next(), beneath.next()) {
        return Err(format!(
            "{:?} and {:?} are used, and share their memory",
            over.id, under.id
        ));
    }
    if snapshot.running.len() > 1 && snapshot.running.iter().any(|sequence| sequence.alone) {
        return Err("a sequence that runs alone has company".into());
    }
    let mut ids: Vec<_> = snapshot.running.iter().map(|sequence| sequence.id).collect();
    ids.extend(snapshot.waiting.iter().map(|(id, ..)| *id));
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("{:?} is there twice", twice[0]));
    }
    match snapshot.waiting.iter().find(|(_, tokens, context)| tokens > context) {
        Some((id, ..)) => Err(format!("{id:?} waits for a slot that it does not fit")),
        None => Ok(()),
    }
}

fn check_counters(sequence: &SequenceState) -> Option<&'static str> {
    let SequenceState {
        prompt,
        opening,
        fed,
        output_max,
        ..
    } = *sequence;
    let tokens = sequence.tokens.len();
    let in_order = 2 <= prompt && prompt <= opening && opening <= tokens;
    let rules = [
        (sequence.ended, "it has ended and is still there"),
        (!in_order, "its prompt, opening and tokens are not in this order"),
        (fed >= tokens, "nothing is pending"),
        (
            in_order && tokens - prompt >= output_max,
            "it has no room for what it waits for",
        ),
        (!sequence.begun && fed > 0, "it was fed before it began"),
        (
            fed < opening && tokens > opening,
            "its output goes on before its opening is through",
        ),
        (fed < opening && fed + 1 == opening, "one token of its opening is left"),
    ];
    rules.iter().find(|(broken, _)| *broken).map(|(_, fault)| *fault)
}

fn check_slot(sequence: &SequenceState, slot: Option<&SlotState>) -> Option<&'static str> {
    let Some(slot) = slot else {
        return Some("its slot is not there");
    };
    let computed = &sequence.tokens[..sequence.fed.min(sequence.opening)];
    let rules = [
        (slot.occupant != Some(sequence.id), "its slot is not its own"),
        (
            sequence.prompt + sequence.output_max > slot.context,
            "its slot is too short for it",
        ),
        (
            sequence.begun && slot.prefix != computed,
            "its slot claims another prefix than was computed",
        ),
    ];
    rules.iter().find(|(broken, _)| *broken).map(|(_, fault)| *fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [TokenId; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn slot(index: usize, occupant: Option<u64>, prefix: usize) -> SlotState<'static> {
        SlotState {
            id: SlotId { bank: 0, index },
            context: 20,
            occupant: occupant.map(JobId),
            prefix: &TOKENS[..prefix],
        }
    }

    fn sequence(id: u64, index: usize, fed: usize) -> SequenceState<'static> {
        SequenceState {
            id: JobId(id),
            slot: SlotId { bank: 0, index },
            alone: false,
            begun: true,
            ended: false,
            tokens: &TOKENS,
            prompt: 4,
            opening: 5,
            fed,
            output_max: 10,
        }
    }

    fn sound() -> Snapshot<'static> {
        let mut prefilling = sequence(2, 2, 3);
        prefilling.tokens = &TOKENS[..5];
        Snapshot {
            slots: vec![slot(0, Some(1), 5), slot(1, None, 8), slot(2, Some(2), 3)],
            covered: 0..0,
            running: vec![sequence(1, 0, 7), prefilling],
            waiting: vec![(JobId(3), 20, 20)],
        }
    }

    #[test]
    fn a_sound_state_passes() {
        assert_eq!(check(&sound()), Ok(()));
    }

    #[test]
    fn every_corruption_is_named() {
        type Corrupt = fn(&mut Snapshot);
        let corruptions: [(&str, Corrupt); 17] = [
            ("ended and is still there", |s| s.running[0].ended = true),
            ("not in this order", |s| s.running[0].opening = 3),
            ("not in this order", |s| s.running[0].prompt = 1),
            ("not in this order", |s| s.running[0].opening = 9),
            ("nothing is pending", |s| s.running[0].fed = 8),
            ("no room for what it waits for", |s| s.running[0].output_max = 4),
            ("fed before it began", |s| s.running[0].begun = false),
            ("before its opening is through", |s| s.running[0].fed = 3),
            ("one token of its opening", |s| s.running[1].fed = 4),
            ("slot is not there", |s| s.running[0].slot.index = 7),
            ("slot is not its own", |s| s.slots[0].occupant = None),
            ("too short", |s| s.slots[0].context = 13),
            ("another prefix", |s| s.slots[0].prefix = &TOKENS[..6]),
            ("another prefix", |s| s.slots[2].prefix = &TOKENS[1..4]),
            ("park", |s| s.slots[1].context = 8),
            ("held for a sequence", |s| s.slots[1].occupant = Some(JobId(3))),
            ("has company", |s| s.running[1].alone = true),
        ];
        for (fault, corrupt) in corruptions {
            let mut snapshot = sound();
            corrupt(&mut snapshot);
            let named = check(&snapshot).unwrap_err();
            assert!(named.contains(fault), "{fault}: {named}");
        }
    }

    #[test]
    fn slots_that_share_their_memory_are_not_used_at_the_same_time() {
        let mut snapshot = sound();
        let over = SlotId { bank: OVER, index: 0 };
        snapshot.slots.push(SlotState {
            id: over,
            ..slot(0, Some(4), 2)
        });
        snapshot.running.push(SequenceState {
            slot: over,
            tokens: &TOKENS[..5],
            ..sequence(4, 0, 2)
        });
        snapshot.covered = 1..2;
        assert_eq!(check(&snapshot), Ok(()), "the one beneath is free");
        snapshot.covered = 1..3;
        assert!(check(&snapshot).unwrap_err().contains("share their memory"));
    }

    #[test]
    fn a_job_waits_once_and_only_for_a_slot_that_it_fits() {
        let mut twice = sound();
        twice.waiting.push((JobId(1), 5, 20));
        assert!(check(&twice).unwrap_err().contains("twice"));
        let mut long = sound();
        long.waiting[0].1 = 21;
        assert!(check(&long).unwrap_err().contains("does not fit"));
    }
}
