//! One job in its slot: its tokens, how many of them the model has seen, and what its grammar wants next.

use super::TokenId;
use super::choice;
use super::constraint::{Constraint, ConstraintError, Next, TokenSet};
use super::job::{Distribution, Failure, Job, JobId, Output};
use super::model::SlotId;

/// A job that has a slot. Its counters: `prompt ≤ opening ≤ tokens.len()` and `fed < tokens.len()`.
pub(super) struct Sequence {
    pub id: JobId,
    pub slot: SlotId,
    pub alone: bool,
    /// Prompt, then output.
    pub tokens: Vec<TokenId>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the prompt and of what is forced right behind it: one stretch, computed in prefill chunks only, so that its key/values may be
    /// reused. What comes later has other bits.
    pub opening: usize,
    /// Tokens whose key/values are in the slot.
    pub fed: usize,
    /// Whether the slot is its own: it has been decided what of the slot's or another's prefix is reused.
    pub begun: bool,
    pub output_max: usize,
    /// How it ended; the step that ended it takes it out.
    pub end: Option<Result<(), Failure>>,
    /// Apart from the tokens, so that it can be asked what it allows while the model reads those.
    pub grammar: Grammar,
    distributions: Vec<Distribution>,
    reused: usize,
    forced: usize,
}

/// A constraint, and the choice that it waits for.
pub(super) struct Grammar {
    constraint: Box<dyn Constraint>,
    /// Whether the probabilities are wanted, too.
    weighs: bool,
    allowed: TokenSet,
    /// Whether `allowed` holds for the next choice, or why it can't.
    asked: Option<Result<(), ConstraintError>>,
}

impl Sequence {
    /// Asks the grammar for what it forces right away, then has the sequence placed by its opening.
    pub fn open(job: Job, vocabulary: usize, place: impl FnOnce(&[TokenId]) -> SlotId) -> Self {
        let prompt = job.prompt.len();
        let mut tokens = job.prompt;
        tokens.reserve_exact(job.output_max);
        let mut sequence = Self {
            id: job.id,
            slot: SlotId {
                bank: job.bank,
                index: 0,
            },
            alone: job.alone,
            tokens,
            prompt,
            opening: prompt,
            fed: 0,
            begun: false,
            output_max: job.output_max,
            end: None,
            grammar: Grammar {
                constraint: job.constraint,
                weighs: false,
                allowed: TokenSet::new(vocabulary),
                asked: None,
            },
            distributions: Vec::new(),
            reused: 0,
            forced: 0,
        };
        sequence.ask();
        sequence.opening = sequence.tokens.len();
        sequence.slot = place(&sequence.tokens);
        sequence
    }

    /// Tokens that the model has not seen.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.fed
    }

    /// Tokens of the output so far.
    pub fn written(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// Whether the model has seen the whole opening.
    pub fn is_open(&self) -> bool {
        self.fed >= self.opening
    }

    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub fn fail(&mut self, failure: Failure) {
        self.end.get_or_insert(Err(failure));
    }

    /// The slot is its own from here on, with this many tokens of its opening already in it.
    pub fn begin(&mut self, reused: usize) {
        (self.begun, self.fed, self.reused) = (true, reused, reused);
    }

    /// Back to before the first chunk. Only while nothing was chosen: what is computed again then has the same bits.
    pub fn rewind(&mut self) {
        debug_assert!(!self.is_open(), "nothing was chosen yet");
        (self.begun, self.fed, self.reused) = (false, 0, 0);
    }

    /// Chooses the next token by the logits behind the last one, and goes on to the next choice. Needs nothing of the other sequences.
    pub fn advance(&mut self, logits: &[f32]) {
        match self.choose(logits) {
            Ok(()) => self.ask(),
            Err(failure) => self.fail(failure),
        }
    }

    fn choose(&mut self, logits: &[f32]) -> Result<(), Failure> {
        let Grammar { allowed, weighs, .. } = self.grammar.ask_allowed()?;
        let token = choice::greedy(logits, allowed).ok_or(Failure::NotFinite)?;
        if *weighs {
            let distribution = choice::distribution(logits, allowed).ok_or(Failure::NotFinite)?;
            self.distributions.push(distribution);
        }
        self.grammar.asked = None;
        self.grammar.constraint.chosen(token)?;
        self.tokens.push(token);
        Ok(())
    }

    /// Takes in all that the grammar forces, up to its next choice or its end.
    fn ask(&mut self) {
        if let Err(failure) = self.follow() {
            self.fail(failure);
        }
    }

    fn follow(&mut self) -> Result<(), Failure> {
        loop {
            let room = self.output_max - self.written();
            self.grammar.weighs = match self.grammar.constraint.next()? {
                Next::End => {
                    self.end = Some(Ok(()));
                    return Ok(());
                }
                Next::Forced(tokens) => {
                    check_forced(tokens, self.grammar.allowed.vocabulary())?;
                    if tokens.len() > room {
                        return Err(Failure::Endless(self.output_max));
                    }
                    self.tokens.extend_from_slice(tokens);
                    self.forced += tokens.len();
                    continue;
                }
                Next::Choose => false,
                Next::Weigh => true,
            };
            return match room {
                0 => Err(Failure::Endless(self.output_max)),
                _ => Ok(()),
            };
        }
    }

    /// How it ended, if it has.
    pub fn take_end(&mut self) -> Option<Result<Output, Failure>> {
        let end = self.end.take()?;
        Some(end.map(|()| Output {
            tokens: self.tokens.split_off(self.prompt),
            distributions: std::mem::take(&mut self.distributions),
            reused: self.reused,
            forced: self.forced,
        }))
    }
}

impl Grammar {
    /// Asks what may be chosen next, if that was not done yet.
    pub fn ask_allowed(&mut self) -> Result<&Self, ConstraintError> {
        let Self {
            constraint,
            allowed,
            asked,
            ..
        } = self;
        let asked = asked.get_or_insert_with(|| constraint.allowed().and_then(|set| copy_allowed(set, allowed)));
        asked.clone().map(|()| &*self)
    }
}

fn check_forced(tokens: &[TokenId], vocabulary: usize) -> Result<(), ConstraintError> {
    if tokens.is_empty() {
        return Err(ConstraintError("it forces tokens, but none".into()));
    }
    match tokens.iter().find(|token| **token as usize >= vocabulary) {
        Some(token) => Err(ConstraintError(format!(
            "it forces the token {token}, the model has {vocabulary}"
        ))),
        None => Ok(()),
    }
}

/// A model's vocabulary may be padded, so the grammar's set may be the shorter one; a longer one must not use what the model lacks.
fn copy_allowed(from: &TokenSet, to: &mut TokenSet) -> Result<(), ConstraintError> {
    if from.is_empty() {
        return Err(ConstraintError("no token may follow".into()));
    }
    let vocabulary = to.vocabulary();
    if from.vocabulary() > vocabulary
        && let Some(beyond) = from.iter().find(|token| *token as usize >= vocabulary)
    {
        return Err(ConstraintError(format!(
            "it allows the token {beyond}, the model has {vocabulary}"
        )));
    }
    let words = from.words().len().min(to.words().len());
    to.words_mut()[..words].copy_from_slice(&from.words()[..words]);
    to.words_mut()[words..].fill(0);
    Ok(())
}
