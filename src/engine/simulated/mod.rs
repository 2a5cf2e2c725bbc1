//! A model without weights: its logits are a function of the exact tokens in a slot and of how each was computed, so a defect of scheduling,
//! reuse or rollback shows as another output. Faults and cost can be scripted.

mod script;

use std::sync::Arc;
use std::time::Duration;

use super::TokenId;
use super::model::{BankShape, DecodeRow, Model, ModelError, ModelShape, OVER, SlotId, Terminator, UNDER, covered};
pub use script::{Fault, Planned, Script, When};
use script::{Latch, Spoiled};

/// Logits lie in −8 … 8.
const LOGIT_MAX: f32 = 8.0;

/// A [`Model`] that computes nothing. What breaks the contract of [`Model`] is answered with an error that says how.
pub struct Simulated {
    shape: ModelShape,
    seed: u64,
    script: Script,
    delay: Duration,
    /// Open once the run that goes on now is to end.
    ended: Arc<Latch>,
    rows_max: usize,
    is_overlaid: bool,
    /// By bank and slot: what was written at each position, stale positions included.
    cells: Vec<Vec<Vec<Cell>>>,
    logits: Vec<f32>,
}

/// A position of a slot. Key/values of the same token have other bits when they are decoded than in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    token: TokenId,
    decoded: bool,
}

impl Simulated {
    pub fn new(shape: ModelShape, seed: u64) -> Self {
        let cells = shape.banks.iter().map(|bank| vec![Vec::new(); bank.slots]).collect();
        Self {
            shape,
            seed,
            script: Script::default(),
            delay: Duration::ZERO,
            ended: Arc::default(),
            rows_max: usize::MAX,
            is_overlaid: false,
            cells,
            logits: Vec::new(),
        }
    }

    /// With planned faults.
    pub fn with_script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// Every prefill and every decode takes this long.
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Refuses a decode of more slots.
    pub fn with_rows_max(mut self, rows_max: usize) -> Self {
        self.rows_max = rows_max;
        self
    }

    /// The second bank lies in the memory of the first.
    pub fn overlaid(mut self) -> Self {
        self.is_overlaid = true;
        self
    }

    /// The logits that the last run gave.
    #[cfg(test)]
    pub(super) fn last_logits(&self) -> &[f32] {
        &self.logits
    }

    fn bank(&self, bank: usize) -> Result<BankShape, ModelError> {
        let shape = self.shape.banks.get(bank).copied();
        shape.ok_or_else(|| broken(format!("there is no bank {bank}")))
    }

    /// Checks that `tokens` more fit a slot behind `past` that were written.
    fn check_room(&self, slot: SlotId, past: usize, tokens: usize) -> Result<(), ModelError> {
        let BankShape { slots, context } = self.bank(slot.bank)?;
        if slot.index >= slots {
            return Err(broken(format!("{slot:?} of {slots}")));
        }
        if past + tokens > context {
            return Err(broken(format!("{past} + {tokens} tokens in {slot:?} of {context}")));
        }
        let present = self.cells[slot.bank][slot.index].len();
        if past > present {
            return Err(broken(format!("past {past} in {slot:?}, which holds {present}")));
        }
        Ok(())
    }

    fn check_token(&self, token: TokenId) -> Result<(), ModelError> {
        if (token as usize) < self.shape.vocabulary {
            return Ok(());
        }
        let vocabulary = self.shape.vocabulary;
        Err(broken(format!("the token {token} of a vocabulary of {vocabulary}")))
    }

    /// Has happen what the script says for a call.
    fn play(&self, tokens: &[TokenId]) -> Result<Spoiled, ModelError> {
        // A call that came too late for its run must not end this one.
        self.ended.close();
        self.script.play(tokens, &self.ended)
    }

    /// Runs the script and the cost of a run over some slots. What they hold is lost if it fails.
    fn run(&mut self, slots: std::ops::Range<usize>, bank: usize, tokens: &[TokenId]) -> Result<Spoiled, ModelError> {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        let played = self.play(tokens);
        if played.is_err() {
            self.cells[bank][slots].iter_mut().for_each(Vec::clear);
        }
        played
    }

    fn write(&mut self, slot: SlotId, position: usize, cell: Cell) {
        if self.is_overlaid {
            let all = self.shape.banks[UNDER].slots;
            let beneath = all - covered(&self.shape.banks)..all;
            match slot.bank {
                OVER => self.cells[UNDER][beneath].iter_mut().for_each(Vec::clear),
                _ if beneath.contains(&slot.index) => self.cells[OVER].iter_mut().for_each(Vec::clear),
                _ => {}
            }
        }
        let cells = &mut self.cells[slot.bank][slot.index];
        if position == cells.len() {
            cells.push(cell);
        } else {
            cells[position] = cell;
        }
    }

    /// Appends the logits behind the first `tokens` positions of a slot.
    fn push_logits(&mut self, slot: SlotId, tokens: usize) {
        let cells = &self.cells[slot.bank][slot.index][..tokens];
        let state = cells.iter().fold(mix(self.seed), |state, cell| {
            mix(state ^ (u64::from(cell.token) << 1 | u64::from(cell.decoded)))
        });
        let logit = |token: u64| {
            let unit = (mix(state.wrapping_add(token)) >> 40) as f32 / (1_u32 << 24) as f32;
            (2.0 * unit - 1.0) * LOGIT_MAX
        };
        self.logits.extend((0..self.shape.vocabulary as u64).map(logit));
    }

    fn spoil(&mut self, spoiled: Spoiled) {
        let row = self.shape.vocabulary.min(self.logits.len());
        match spoiled {
            Spoiled::No => {}
            Spoiled::NotFinite => self.logits[..row].fill(f32::NAN),
            Spoiled::Infinite => self.logits[..row].fill(f32::INFINITY),
            Spoiled::WrongShape => {
                if self.logits.pop().is_none() {
                    self.logits.push(0.0);
                }
            }
        }
    }
}

impl Model for Simulated {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn rows_max(&self) -> usize {
        self.rows_max
    }

    fn is_overlaid(&self) -> bool {
        self.is_overlaid
    }

    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError> {
        self.check_room(slot, past, tokens.len())?;
        let tile = self.shape.query_tile;
        if tokens.len() < 2 || tokens.len() % tile == 1 {
            return Err(broken(format!("a chunk of {} tokens, tile {tile}", tokens.len())));
        }
        tokens.iter().try_for_each(|token| self.check_token(*token))?;
        let spoiled = self.run(slot.index..slot.index + 1, slot.bank, tokens)?;
        for (offset, token) in tokens.iter().enumerate() {
            let cell = Cell {
                token: *token,
                decoded: false,
            };
            self.write(slot, past + offset, cell);
        }
        self.logits.clear();
        if wanted {
            self.push_logits(slot, past + tokens.len());
        }
        self.spoil(spoiled);
        Ok(&self.logits)
    }

    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
        for (row, index) in rows.iter().zip(first..) {
            self.check_room(SlotId { bank, index }, row.past, 1)?;
            self.check_token(row.token)?;
        }
        if rows.len() > self.rows_max {
            return Err(broken(format!(
                "a decode of {} rows, at most {}",
                rows.len(),
                self.rows_max
            )));
        }
        if !rows.iter().any(|row| row.wanted) {
            return Err(broken(format!("a decode of {} rows, none wanted", rows.len())));
        }
        let spoiled = self.run(first..first + rows.len(), bank, &[])?;
        self.logits.clear();
        for (row, index) in rows.iter().zip(first..) {
            let slot = SlotId { bank, index };
            let cell = Cell {
                token: row.token,
                decoded: true,
            };
            self.write(slot, row.past, cell);
            if row.wanted {
                self.push_logits(slot, row.past + 1);
            }
        }
        self.spoil(spoiled);
        Ok(&self.logits)
    }

    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
        if from.bank != to.bank || from == to {
            return Err(broken(format!("a copy from {from:?} to {to:?}")));
        }
        self.check_room(from, tokens, 0)?;
        self.check_room(to, 0, tokens)?;
        let played = self.play(&[]);
        if played.is_err() {
            self.cells[from.bank][from.index].clear();
            self.cells[to.bank][to.index].clear();
        }
        played?;
        for position in 0..tokens {
            let cell = self.cells[from.bank][from.index][position];
            self.write(to, position, cell);
        }
        Ok(())
    }

    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        self.bank(bank)?;
        let played = self.play(&[]);
        self.shape.banks[bank].slots = slots;
        let renewed = match self.is_overlaid {
            true => UNDER..OVER + 1,
            false => bank..bank + 1,
        };
        for bank in renewed {
            let shape = &mut self.shape.banks[bank];
            if played.is_err() {
                shape.slots = 0;
            }
            self.cells[bank] = vec![Vec::new(); shape.slots];
        }
        played.map(|_| ())
    }

    fn terminator(&self) -> Terminator {
        let ended = Arc::clone(&self.ended);
        Terminator::new(move || ended.open())
    }
}

fn broken(what: String) -> ModelError {
    ModelError::Failed(format!("the model's contract is broken: {what}"))
}

/// A permutation of 64 bits without pattern (the finaliser of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Simulated {
        let bank = BankShape { slots: 3, context: 20 };
        let shape = ModelShape {
            vocabulary: 50,
            query_tile: 4,
            banks: vec![bank],
        };
        Simulated::new(shape, 7)
    }

    fn slot(index: usize) -> SlotId {
        SlotId { bank: 0, index }
    }

    fn row(token: TokenId, past: usize, wanted: bool) -> DecodeRow {
        DecodeRow { token, past, wanted }
    }

    #[test]
    fn logits_are_the_same_however_a_prefill_is_cut_and_wherever_it_runs() {
        let tokens = [1, 2, 3, 4, 5, 6];
        let whole = model().prefill(slot(0), 0, &tokens, true).unwrap().to_vec();
        assert!(whole.len() == 50 && whole.iter().all(|logit| logit.abs() <= LOGIT_MAX));
        let mut cut = model();
        assert!(cut.prefill(slot(2), 0, &tokens[..3], false).unwrap().is_empty());
        assert_eq!(cut.prefill(slot(2), 3, &tokens[3..], true).unwrap(), whole);
        cut.copy_prefix(slot(2), slot(1), 4).unwrap();
        assert_eq!(cut.prefill(slot(1), 4, &tokens[4..], true).unwrap(), whole);
    }

    #[test]
    fn logits_tell_other_tokens_and_another_way_to_compute_them() {
        let mut model = model();
        let chunk = model.prefill(slot(0), 0, &[1, 2, 3], true).unwrap().to_vec();
        model.prefill(slot(1), 0, &[1, 2], false).unwrap();
        let decoded = model.decode(0, 1, &[row(3, 2, true)]).unwrap().to_vec();
        assert_ne!(chunk, decoded);
        assert_ne!(chunk, model.prefill(slot(2), 0, &[1, 2, 4], true).unwrap());
    }

    #[test]
    fn an_idle_row_overwrites_what_stands_at_its_place() {
        let mut model = model();
        let right = model.prefill(slot(0), 0, &[1, 2, 3, 4], true).unwrap().to_vec();
        model.prefill(slot(1), 0, &[1, 2, 3], false).unwrap();
        let rows = [row(0, 1, false), row(9, 3, true)];
        assert_eq!(model.decode(0, 0, &rows).unwrap().len(), 50);
        let stale = model.prefill(slot(0), 2, &[3, 4], true).unwrap();
        assert_ne!(stale, right);
    }

    #[test]
    fn what_breaks_the_contract_is_named() {
        let named = |result: Result<&[f32], ModelError>, what: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("contract") && error.contains(what), "{error}");
        };
        named(model().prefill(slot(0), 0, &[1], true), "1 tokens");
        named(model().prefill(slot(0), 0, &[1; 9], true), "9 tokens");
        named(model().prefill(slot(0), 3, &[1; 3], true), "past 3");
        named(model().prefill(slot(0), 0, &[1; 22], true), "22 tokens");
        named(model().prefill(slot(3), 0, &[1; 2], true), "of 3");
        named(model().prefill(slot(0), 0, &[1, 50], true), "token 50");
        named(model().decode(0, 0, &[row(1, 0, false)]), "none wanted");
        named(model().decode(1, 0, &[row(1, 0, true)]), "no bank 1");
        named(model().decode(0, 0, &[row(1, 4, true)]), "past 4");
    }

    #[test]
    fn banks_that_share_memory_lose_together_what_they_hold_when_one_is_resized() {
        let overlaid = |script| {
            let bank = |slots| BankShape { slots, context: 20 };
            let shape = ModelShape {
                vocabulary: 50,
                query_tile: 4,
                banks: vec![bank(3), bank(1)],
            };
            Simulated::new(shape, 7).with_script(script).overlaid()
        };
        let slot = |bank, index| SlotId { bank, index };
        let mut model = overlaid(Script::default());
        model.prefill(slot(UNDER, 0), 0, &[1, 2], false).unwrap();
        model.prefill(slot(OVER, 0), 0, &[1, 2], false).unwrap();
        model.resize(UNDER, 2).unwrap();
        for bank in [UNDER, OVER] {
            let lost = model.prefill(slot(bank, 0), 2, &[3, 4], true).unwrap_err();
            assert!(lost.to_string().contains("holds 0"), "{lost}");
        }
        let mut model = overlaid(Script::default().with(When::Call(1), Fault::OutOfMemory));
        model.resize(UNDER, 9).unwrap_err();
        let slots: Vec<_> = model.shape().banks.iter().map(|bank| bank.slots).collect();
        assert_eq!(slots, [0, 0], "without memory for one there is none for the other");
    }

    #[test]
    fn scripted_faults_come_when_they_are_due_and_once_for_all_clones() {
        let script = Script::default()
            .with(When::Call(2), Fault::OutOfMemory)
            .with(When::Token(9), Fault::NotFinite);
        let mut first = model().with_script(script.clone());
        first.prefill(slot(0), 0, &[1, 2], true).unwrap();
        let error = first.prefill(slot(0), 2, &[1, 2], true).unwrap_err();
        assert!(matches!(error, ModelError::OutOfMemory { .. }), "{error}");
        let lost = first.prefill(slot(0), 2, &[1, 2], true).unwrap_err();
        assert!(lost.to_string().contains("holds 0"), "{lost}");
        let mut second = model().with_script(script.clone());
        second.prefill(slot(0), 0, &[1, 2], true).unwrap();
        assert!(second.prefill(slot(0), 0, &[1, 9], true).unwrap()[0].is_nan());
        assert_eq!(script.calls(), 4);
    }

    #[test]
    fn faults_can_come_again_and_again() {
        let script = Script::default()
            .with(When::Every(3), Fault::Failed)
            .with(When::From(5), Fault::Terminated);
        let mut model = model().with_script(script);
        let fails: Vec<_> = (0..7)
            .map(|_| model.prefill(slot(0), 0, &[1, 2], true).err())
            .map(|error| error.map(|error| error.to_string().contains("scripted")))
            .collect();
        let (failed, terminated) = (Some(true), Some(false));
        assert_eq!(fails, [None, None, failed, None, terminated, failed, terminated]);
    }

    #[test]
    fn spoiled_logits_are_not_finite_or_too_few() {
        let spoiled = |fault| {
            let mut model = model().with_script(Script::default().with(When::From(1), fault));
            let middle = model.prefill(slot(0), 0, &[1, 2], false).unwrap().len();
            let last = model.prefill(slot(0), 2, &[1, 2], true).unwrap();
            (middle, last.len(), last[0].is_infinite())
        };
        assert_eq!(spoiled(Fault::Infinite), (0, 50, true));
        assert_eq!(spoiled(Fault::WrongShape), (1, 49, false));
    }

    #[test]
    fn a_run_that_hangs_goes_on_until_it_is_ended_and_a_call_between_runs_ends_none() {
        for (fault, ended) in [
            (Fault::Hang, true),
            (Fault::SlowMs(60_000), true),
            (Fault::SlowMs(1), false),
        ] {
            let mut model = model().with_script(Script::default().with(When::Call(2), fault));
            let terminator = model.terminator();
            terminator.terminate();
            model.prefill(slot(0), 0, &[1, 2], true).unwrap();
            terminator.terminate();
            let run = std::thread::spawn(move || model.prefill(slot(0), 0, &[1, 2], true).map(drop));
            while ended && !run.is_finished() {
                terminator.terminate();
                std::thread::yield_now();
            }
            assert_eq!(run.join().unwrap().is_err(), ended, "{fault:?}");
        }
    }

    #[test]
    fn a_run_that_is_stuck_heeds_nobody_until_it_is_released() {
        let script = Script::default().with(When::Call(1), Fault::Stuck);
        let mut model = model().with_script(script.clone());
        let terminator = model.terminator();
        let run = std::thread::spawn(move || model.prefill(slot(0), 0, &[1, 2], true).map(drop));
        for _ in 0..20 {
            terminator.terminate();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!run.is_finished());
        script.release();
        assert!(matches!(run.join().unwrap(), Err(ModelError::Failed(_))));
    }

    #[test]
    fn a_script_can_be_read_from_a_file() {
        let text = r#"[{"when": {"call": 3}, "what": "panic"}, {"when": {"token": 9}, "what": {"slow_ms": 20}}]"#;
        let planned: Vec<Planned> = serde_json::from_str(text).unwrap();
        let second = Planned {
            when: When::Token(9),
            what: Fault::SlowMs(20),
        };
        assert_eq!(planned[1], second);
        assert!(serde_json::from_str::<Vec<Planned>>(r#"[{"when": {"call": 3}, "what": "sneeze"}]"#).is_err());
    }
}
