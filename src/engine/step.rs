//! The engine and its step: admit, run chunks, then the joint decodes with the grammars beside them, choose, settle what has ended.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::invariants::{self, Snapshot};
use super::job::{Failure, Job, JobEvent, JobId};
use super::model::{DecodeRow, Model, ModelError, ModelShape, OVER, SlotId, Terminator};
use super::scheduler::{self, Chunk, Cutting, Decode, Decodes, Span};
use super::sequence::{Grammar, Sequence};
use super::slots::{Slot, Slots};

/// How an engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Largest chunk in tokens, and what a step feeds of openings before the rows that decode have their turn; the same again of what is forced
    /// between choices. Rounded down to a multiple of the model's query tile, at least one.
    pub chunk_tokens: usize,
    /// Most idle slots that a joint decode carries along between two rows before it is split: what a run costs, counted in rows.
    pub gap: usize,
}

/// Many sequences on one model. A sequence goes through the same arithmetic alone and in company: what runs as a chunk and what as a decode step
/// follows from it alone.
pub struct Engine {
    model: Box<dyn Model>,
    cutting: Cutting,
    slots: Slots,
    /// In submission order.
    waiting: VecDeque<Job>,
    /// How many of those wait for each bank.
    waiting_for: Vec<usize>,
    /// In admission order.
    running: Vec<Sequence>,
    /// Failed before they had a slot.
    refused: Vec<(JobId, Failure)>,
    gap: usize,
    /// Steps so far, over and over: whose turn it is where not all can have theirs.
    turn: usize,
    decodes: Decodes,
    rows: Vec<DecodeRow>,
    progress: Arc<AtomicU64>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepReport {
    /// Tokens of prompts, and of what is forced right behind them, that went through the model.
    pub prompt_tokens: usize,
    /// Such tokens that did not have to, because their key/values were there.
    pub reused_tokens: usize,
    /// Forced and chosen tokens that went through the model in a chunk.
    pub forced_tokens: usize,
    /// Rows that were decoded.
    pub rows: usize,
    /// Rows that stood idle between them.
    pub idle_rows: usize,
    /// Tokens added to outputs, forced or chosen.
    pub output_tokens: usize,
    /// A bank that was given another number of slots, and whether that went well. If it did not, the bank has as many as the model's shape says.
    pub resized: Option<Resized>,
    /// Whether there is something left to do.
    pub work_left: bool,
}

/// A resize that had to wait for the bank's sequences to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resized {
    pub bank: usize,
    pub outcome: Result<(), ModelError>,
}

/// A slot, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotView {
    pub slot: SlotId,
    pub job: Option<JobId>,
    pub phase: Phase,
    /// `Prefill`: tokens of the prompt that the model has seen. `Decode`: tokens of the output. `Idle`: 0.
    pub tokens_done: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Prefill,
    Decode,
}

impl Engine {
    /// # Panics
    /// If the model's query tile is 0 or 2 tokens: no such model exists.
    pub fn new(model: Box<dyn Model>, options: Options) -> Self {
        let shape = model.shape();
        Self {
            cutting: Cutting::new(options.chunk_tokens, shape.query_tile),
            slots: Slots::new(&shape.banks, model.is_overlaid()),
            waiting: VecDeque::new(),
            waiting_for: vec![0; shape.banks.len()],
            running: Vec::new(),
            refused: Vec::new(),
            gap: options.gap,
            turn: 0,
            decodes: Decodes::default(),
            rows: Vec::new(),
            progress: Arc::default(),
            model,
        }
    }

    pub fn shape(&self) -> &ModelShape {
        self.model.shape()
    }

    /// Grows with every chunk and every decode: for others to see whether something happens within a step.
    pub fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.progress)
    }

    /// For others to end the run that goes on.
    pub fn terminator(&self) -> Terminator {
        self.model.terminator()
    }

    /// Takes a job in; it waits in submission order until its bank has a free slot. One that can't be run ends in the next step.
    pub fn submit(&mut self, job: Job) {
        match check_job(&job, self.model.shape()) {
            Ok(()) => {
                self.waiting_for[job.bank] += 1;
                self.waiting.push_back(job);
            }
            Err(failure) => self.refused.push((job.id, failure)),
        }
    }

    /// Forgets a job; no event of it follows, and its slot is free. `false` if there is no such job.
    pub fn cancel(&mut self, id: JobId) -> bool {
        if let Some(place) = self.running.iter().position(|sequence| sequence.id == id) {
            let sequence = self.running.remove(place);
            self.slots.release(sequence.slot);
            return true;
        }
        if let Some(place) = self.waiting.iter().position(|job| job.id == id) {
            self.take_waiting(place);
            return true;
        }
        let before = self.refused.len();
        self.refused.retain(|(refused, _)| *refused != id);
        before != self.refused.len()
    }

    /// One turn: a chunk for those that have more than one token to feed, as far as the budgets go, then one token for every row that is ready
    /// to decode. Adds what happened to `events`.
    pub fn step(&mut self, events: &mut Vec<JobEvent>) -> StepReport {
        let mut report = StepReport::default();
        let mut banks = 0..self.model.shape().banks.len();
        if let Some(bank) = banks.find(|bank| self.slots.resizable(*bank).is_some()) {
            report.resized = self.resize_if_unused(bank).map(|outcome| Resized { bank, outcome });
        }
        self.admit(&mut report, events);
        let mut budget = self.cutting.budget();
        while let Some(chunk) = scheduler::next_chunk(&self.running, &self.slots, self.cutting, &mut budget) {
            self.prefill(chunk, &mut report, events);
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        let mut decodes = std::mem::take(&mut self.decodes);
        self.turn = self.turn.wrapping_add(1);
        let span = Span {
            gap: self.gap,
            slots_max: self.model.rows_max(),
            turn: self.turn,
        };
        scheduler::plan_decodes(&mut decodes, &self.running, span);
        for run in &decodes.runs {
            self.decode(run, &decodes.rows[run.rows.clone()], &mut report);
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        self.decodes = decodes;
        self.settle(events);
        report.work_left = !self.is_idle();
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
        report
    }

    /// Whether a step would do nothing.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.refused.is_empty() && !self.is_resizing()
    }

    /// Slots of a bank that nobody has; 0 while it waits for another number of them.
    pub fn free_slots(&self, bank: usize) -> usize {
        self.slots.free(bank)
    }

    /// Jobs without a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.refused.len()
    }

    /// Jobs with a slot.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Gives a bank another number of slots: at once if it has no sequences, otherwise in the step after the last one ended, which reports how it
    /// went; until then it takes no new ones. A bank without slots fails the jobs that wait for it.
    pub fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        if self.slots.context(bank).is_none() {
            return Err(ModelError::Failed(format!("there is no bank {bank} to resize")));
        }
        self.slots.plan_resize(bank, slots);
        self.resize_if_unused(bank).unwrap_or(Ok(()))
    }

    /// Whether a bank still waits for another number of slots.
    pub fn is_resizing(&self) -> bool {
        self.slots.is_resizing()
    }

    /// Nothing that free slots still hold will be reused: for work that must take the same steps as before, and for measuring what reuse is worth.
    pub fn forget_prefixes(&mut self) {
        (0..self.shape().banks.len()).for_each(|bank| self.slots.forget_free(bank));
    }

    /// Every slot, bank by bank. Replaces what `out` held.
    pub fn snapshot(&self, out: &mut Vec<SlotView>) {
        out.clear();
        let view = |(id, slot): (SlotId, &Slot)| {
            let occupant = self.running.iter().find(|sequence| sequence.slot == id);
            let (phase, tokens_done) = match occupant {
                None => (Phase::Idle, 0),
                Some(sequence) if !sequence.is_open() => (Phase::Prefill, sequence.fed.min(sequence.prompt)),
                Some(sequence) => (Phase::Decode, sequence.written()),
            };
            SlotView {
                slot: id,
                job: slot.occupant,
                phase,
                tokens_done,
            }
        };
        out.extend(self.slots.iter().map(view));
    }

    fn resize_if_unused(&mut self, bank: usize) -> Option<Result<(), ModelError>> {
        let slots = self.slots.resizable(bank)?;
        let outcome = self.model.resize(bank, slots);
        self.slots.resized(bank, &self.model.shape().banks);
        Some(outcome)
    }

    /// Gives free slots to waiting jobs, in order of submission among those of a bank. Behind one that must be alone, nobody passes.
    fn admit(&mut self, report: &mut StepReport, events: &mut Vec<JobEvent>) {
        let refused = self.refused.drain(..);
        events.extend(refused.map(|(id, failure)| JobEvent::Ended(id, Err(failure))));
        let vocabulary = self.model.shape().vocabulary;
        // Otherwise those who come one by one would never let all slots that it needs be free at the same time.
        self.slots
            .claim_over(self.waiting_for.get(OVER).is_some_and(|waiting| *waiting > 0));
        let mut next = 0;
        // However many wait: without a slot for any of them there is nothing to look for.
        while self.takes_any()
            && let Some(&Job { id, bank, alone, .. }) = self.waiting.get(next)
        {
            let no_company = alone || self.running.iter().any(|sequence| sequence.alone);
            if no_company && !self.running.is_empty() {
                break;
            }
            if self.slots.free(bank) == 0 && !self.slots.is_barren(bank) {
                if alone {
                    break;
                }
                next += 1;
                continue;
            }
            let Some(job) = self.take_waiting(next) else { break };
            if self.slots.is_barren(bank) {
                let reason = ModelError::Failed(format!("bank {bank} has no slots"));
                events.push(JobEvent::Ended(id, Err(reason.into())));
                continue;
            }
            let slots = &mut self.slots;
            let sequence = Sequence::open(job, vocabulary, |opening| slots.take(bank, id, opening));
            report.output_tokens += sequence.written();
            self.running.push(sequence);
            events.push(JobEvent::Admitted(id));
        }
    }

    /// Whether a bank that is waited for has a free slot, or will never have one.
    fn takes_any(&self) -> bool {
        let takes = |bank: usize| self.slots.free(bank) > 0 || self.slots.is_barren(bank);
        (0..)
            .zip(&self.waiting_for)
            .any(|(bank, waiting)| *waiting > 0 && takes(bank))
    }

    fn take_waiting(&mut self, place: usize) -> Option<Job> {
        let job = self.waiting.remove(place)?;
        self.waiting_for[job.bank] -= 1;
        Some(job)
    }

    /// Runs a chunk of one sequence, and chooses if it was its last.
    fn prefill(&mut self, chunk: Chunk, report: &mut StepReport, events: &mut Vec<JobEvent>) {
        if let Err(error) = self.take_over(chunk, report) {
            self.running[chunk.sequence].fail(error.into());
            return;
        }
        let vocabulary = self.model.shape().vocabulary;
        let Self {
            model, running, slots, ..
        } = self;
        let sequence = &mut running[chunk.sequence];
        let (slot, in_opening, through) = (sequence.slot, !sequence.is_open(), chunk.past + chunk.tokens);
        let is_last = through == sequence.tokens.len();
        let (tokens, grammar) = (&sequence.tokens[chunk.past..through], &mut sequence.grammar);
        let run = beside(is_last.then_some(grammar), || {
            model.prefill(slot, chunk.past, tokens, is_last)
        });
        let expected = if is_last { vocabulary } else { 0 };
        let logits = match run.and_then(|logits| check_logits(logits, expected)) {
            Ok(logits) => logits,
            Err(error) => {
                slots.forget(slot);
                sequence.fail(error.into());
                return;
            }
        };
        if in_opening {
            slots.extend(slot, tokens);
            report.prompt_tokens += chunk.tokens;
        } else {
            report.forced_tokens += chunk.tokens;
        }
        sequence.fed = through;
        if is_last {
            let written = sequence.written();
            sequence.advance(logits);
            distrust(sequence, slots);
            report.output_tokens += sequence.written() - written;
            if in_opening && sequence.written() > written {
                events.push(JobEvent::Prefilled(sequence.id));
            }
        }
    }

    /// Before the first chunk of a sequence: what it reuses is in its slot, and the slot its own.
    fn take_over(&mut self, chunk: Chunk, report: &mut StepReport) -> Result<(), ModelError> {
        let Some(reuse) = chunk.begin else { return Ok(()) };
        let to = self.running[chunk.sequence].slot;
        if let Some(from) = reuse.from {
            self.slots.forget(to);
            if let Err(error) = self.model.copy_prefix(from, to, reuse.tokens) {
                self.lose(from.bank, from.index..from.index + 1, &error);
                return Err(error);
            }
        }
        let sequence = &mut self.running[chunk.sequence];
        self.slots.hold(to, &sequence.tokens[..reuse.tokens]);
        sequence.begin(reuse.tokens);
        report.reused_tokens += reuse.tokens;
        Ok(())
    }

    /// Runs the rows that are ready, and chooses for each.
    fn decode(&mut self, decode: &Decode, ready: &[usize], report: &mut StepReport) {
        self.lay_rows(decode, ready);
        let vocabulary = self.model.shape().vocabulary;
        let Self {
            model,
            running,
            slots,
            rows,
            ..
        } = self;
        let grammars = running.iter_mut().enumerate();
        let grammars = grammars.filter(|(index, _)| ready.contains(index));
        let run = beside(grammars.map(|(_, sequence)| &mut sequence.grammar), || {
            model.decode(decode.bank, decode.slots.start, rows)
        });
        let logits = match run.and_then(|logits| check_logits(logits, ready.len() * vocabulary)) {
            Ok(logits) => logits,
            Err(error) => return self.lose(decode.bank, decode.slots.clone(), &error),
        };
        report.rows += ready.len();
        report.idle_rows += rows.len() - ready.len();
        let written = |running: &[Sequence]| running.iter().map(Sequence::written).sum::<usize>();
        let before = written(running);
        rayon::in_place_scope(|scope| {
            for (index, sequence) in running.iter_mut().enumerate() {
                if let Some(row) = ready.iter().position(|ready| *ready == index) {
                    let logits = &logits[row * vocabulary..][..vocabulary];
                    sequence.fed += 1;
                    scope.spawn(move |_| sequence.advance(logits));
                }
            }
        });
        report.output_tokens += written(running) - before;
        ready.iter().for_each(|index| distrust(&running[*index], slots));
    }

    /// One row for each slot of the run. Idle ones write behind all that must be kept: a slot's prefix, a sequence's tokens so far.
    fn lay_rows(&mut self, decode: &Decode, ready: &[usize]) {
        let Self {
            rows, running, slots, ..
        } = self;
        let idle = |index| DecodeRow {
            token: 0,
            past: slots
                .prefix(SlotId {
                    bank: decode.bank,
                    index,
                })
                .len(),
            wanted: false,
        };
        rows.clear();
        rows.extend(decode.slots.clone().map(idle));
        let place = |slot: SlotId| slot.index - decode.slots.start;
        let inside = |sequence: &&Sequence| is_inside(sequence.slot, decode.bank, &decode.slots) && sequence.begun;
        for sequence in running.iter().filter(inside).filter(|sequence| !sequence.has_ended()) {
            rows[place(sequence.slot)].past = sequence.fed;
        }
        for sequence in ready.iter().map(|index| &running[*index]) {
            rows[place(sequence.slot)] = DecodeRow {
                token: sequence.tokens[sequence.fed],
                past: sequence.fed,
                wanted: true,
            };
        }
    }

    /// After a failed run nothing in its slots is of use: sequences that have chosen nothing yet begin again, others have failed.
    fn lose(&mut self, bank: usize, slots: Range<usize>, error: &ModelError) {
        let inside = |sequence: &&mut Sequence| is_inside(sequence.slot, bank, &slots);
        for sequence in self.running.iter_mut().filter(inside) {
            if sequence.is_open() {
                sequence.fail(error.clone().into());
            } else {
                sequence.rewind();
            }
        }
        slots.for_each(|index| self.slots.forget(SlotId { bank, index }));
    }

    /// Takes out what has ended and frees its slots.
    fn settle(&mut self, events: &mut Vec<JobEvent>) {
        let Self { running, slots, .. } = self;
        running.retain_mut(|sequence| match sequence.take_end() {
            None => true,
            Some(outcome) => {
                slots.release(sequence.slot);
                events.push(JobEvent::Ended(sequence.id, outcome));
                false
            }
        });
    }

    fn check_invariants(&self) {
        let context = |bank| self.slots.context(bank).unwrap_or(0);
        let waits = |job: &Job| (job.id, job.prompt.len() + job.output_max, context(job.bank));
        let waiting = self.waiting.iter().map(waits).collect();
        if let Err(fault) = invariants::check(&Snapshot::new(&self.slots, &self.running, waiting)) {
            panic!("the engine's state is not sound: {fault}");
        }
    }
}

/// Runs the model while the grammars are asked, on other threads, what may be chosen next.
fn beside<'g, R>(grammars: impl IntoIterator<Item = &'g mut Grammar>, run: impl FnOnce() -> R) -> R {
    rayon::in_place_scope(|scope| {
        for grammar in grammars {
            // What it may complain of is told when its choice is due.
            scope.spawn(|_| drop(grammar.ask_allowed()));
        }
        run()
    })
}

/// Logits that are no numbers may come from key/values that are none, and those may have been copied: what the bank's free slots hold is forgotten,
/// so that a retry meets none of it.
fn distrust(sequence: &Sequence, slots: &mut Slots) {
    if sequence.end == Some(Err(Failure::NotFinite)) {
        slots.forget(sequence.slot);
        slots.forget_free(sequence.slot.bank);
    }
}

fn is_inside(slot: SlotId, bank: usize, slots: &Range<usize>) -> bool {
    slot.bank == bank && slots.contains(&slot.index)
}

fn check_logits(logits: &[f32], expected: usize) -> Result<&[f32], ModelError> {
    if logits.len() == expected {
        return Ok(logits);
    }
    let given = logits.len();
    Err(ModelError::Failed(format!(
        "it gave {given} logits where {expected} belong"
    )))
}

/// Whether a job can be run at all.
fn check_job(job: &Job, shape: &ModelShape) -> Result<(), Failure> {
    let Some(bank) = shape.banks.get(job.bank) else {
        return Err(Failure::Unfit(format!("there is no bank {}", job.bank)));
    };
    let prompt = job.prompt.len();
    if prompt < 2 {
        return Err(Failure::Unfit(format!("its prompt has {prompt} tokens, fewer than 2")));
    }
    let vocabulary = shape.vocabulary;
    if let Some(token) = job.prompt.iter().find(|token| **token as usize >= vocabulary) {
        let reason = format!("its prompt has the token {token}, the model has {vocabulary}");
        return Err(Failure::Unfit(reason));
    }
    let (tokens, context) = (prompt.saturating_add(job.output_max), bank.context);
    if tokens > context {
        return Err(Failure::TooLong { tokens, context });
    }
    Ok(())
}
