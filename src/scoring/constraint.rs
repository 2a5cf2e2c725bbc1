//! A grammar as the engine asks for it: forced text as tokens, masks, the steps that weigh a level, and an end within the budget.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};

use super::encoder::Encoder;
use super::error::ScoringError;
use super::outline::{Outline, Position};
use super::vocabulary::Vocabulary;
use crate::engine::TokenId;
use crate::engine::constraint::{Constraint, ConstraintError, Next, TokenSet};

/// Compiles grammars for one tokenizer.
pub struct Compiler {
    factory: ParserFactory,
    vocabulary: Arc<Vocabulary>,
    encoder: Arc<Encoder>,
}

impl Compiler {
    pub fn new(vocabulary: Arc<Vocabulary>, encoder: Arc<Encoder>) -> Result<Self, ScoringError> {
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(vocabulary.trie(), InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|e| ScoringError::Unsuitable(format!("{e:#}")))?;
        factory.quiet();
        // What a candidate said has no place in an error message.
        factory.limits_mut().verbose_errors = false;
        Ok(Self {
            factory,
            vocabulary,
            encoder,
        })
    }

    /// A grammar with its outline, about to begin. `room`: the most tokens that it may write; `what` is for the error.
    pub fn compile(
        &self,
        what: &'static str,
        lark: String,
        outline: Outline,
        room: usize,
    ) -> Result<GrammarConstraint, ScoringError> {
        let parser = self.factory.create_parser(TopLevelGrammar::from_lark(lark));
        let matcher = Matcher::new(parser);
        if let Some(reason) = matcher.get_error() {
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            return Err(ScoringError::Grammar { what, reason });
        }
        let need = outline.need(outline.start());
        if need > room {
            return Err(ScoringError::OverBudget {
                part: format!("the shortest output of {what}"),
                tokens: need,
                budget: room,
            });
        }
        Ok(GrammarConstraint {
            matcher,
            position: outline.start(),
            slack: outline.slack(),
            outline,
            left: room,
            forced: Vec::new(),
            allowed: TokenSet::new(self.vocabulary.size()),
            stage: Stage::Moved,
            vocabulary: Arc::clone(&self.vocabulary),
            encoder: Arc::clone(&self.encoder),
        })
    }
}

/// One output under way.
pub struct GrammarConstraint {
    matcher: Matcher,
    outline: Outline,
    position: Position,
    /// Tokens that may still be written.
    left: usize,
    slack: usize,
    forced: Vec<TokenId>,
    allowed: TokenSet,
    stage: Stage,
    vocabulary: Arc<Vocabulary>,
    encoder: Arc<Encoder>,
}

/// What is known of the step that comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing: a token was chosen.
    Moved,
    /// That no more text is forced.
    Fed,
    /// Which tokens are allowed.
    Masked,
}

impl Constraint for GrammarConstraint {
    fn next(&mut self) -> Result<Next<'_>, ConstraintError> {
        if self.stage == Stage::Moved {
            self.force()?;
            self.stage = Stage::Fed;
            if !self.forced.is_empty() {
                return Ok(Next::Forced(&self.forced));
            }
        }
        if self.position == Position::End {
            return match self.matcher.is_stopped() {
                true => Ok(Next::End),
                false => Err(defect("it goes on where its outline ends")),
            };
        }
        Ok(match self.outline.is_level(self.position) {
            true => Next::Weigh,
            false => Next::Choose,
        })
    }

    fn allowed(&mut self) -> Result<&TokenSet, ConstraintError> {
        match self.stage {
            Stage::Moved => return Err(defect("it was not asked what comes next")),
            Stage::Fed => self.mask()?,
            Stage::Masked => {}
        }
        self.stage = Stage::Masked;
        Ok(&self.allowed)
    }

    fn chosen(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        if self.stage != Stage::Masked || !self.allowed.contains(token) {
            return Err(defect("a token was chosen that it did not offer"));
        }
        self.take(&[token])?;
        self.stage = Stage::Moved;
        Ok(())
    }
}

impl GrammarConstraint {
    /// Feeds what the grammar forces now, piece by piece. Bytes that are not whole code points are left to the next choice.
    fn force(&mut self) -> Result<(), ConstraintError> {
        self.forced.clear();
        let mut bytes = match self.outline.forced_end(self.position) {
            Some(_) => Vec::new(),
            None => self.matcher.compute_ff_bytes(),
        };
        if let Some(error) = self.matcher.get_error() {
            return Err(defect(&error));
        }
        // The second byte of an escape is forced, and with it a text may have come to its limit.
        let behind = self.outline.walk(self.position, &bytes);
        if let Some(end) = behind.and_then(|position| self.outline.forced_end(position)) {
            bytes.extend_from_slice(end.as_bytes());
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Ok(());
        };
        let pieces = self.outline.pieces(self.position, text);
        let mut forced = std::mem::take(&mut self.forced);
        for piece in pieces.ok_or_else(|| defect("it forces what its outline does not have"))? {
            let ids = self.encoder.plain(piece).map_err(|e| defect(&e.to_string()))?;
            forced.extend(ids);
        }
        if self.vocabulary.joined(&forced) != bytes {
            return Err(defect("the tokenizer changes forced text"));
        }
        self.take(&forced)?;
        self.forced = forced;
        Ok(())
    }

    /// Goes on by tokens that the grammar allows.
    fn take(&mut self, tokens: &[TokenId]) -> Result<(), ConstraintError> {
        let consumed = self.matcher.consume_tokens(tokens);
        consumed.map_err(|e| defect(&format!("{e:#}")))?;
        for token in tokens {
            let walked = self.outline.walk(self.position, self.vocabulary.bytes(*token));
            self.position = walked.ok_or_else(|| defect("it allows what its outline does not have"))?;
        }
        let left = self.left.checked_sub(tokens.len());
        self.left = left.ok_or_else(|| defect("its budget is spent before its end"))?;
        Ok(())
    }

    fn mask(&mut self) -> Result<(), ConstraintError> {
        let mask = self.matcher.compute_mask();
        let mask = mask.map_err(|e| defect(&format!("{e:#}")))?;
        let never = self.vocabulary.never().words();
        self.allowed.clear();
        for ((allowed, mask), never) in self.allowed.words_mut().iter_mut().zip(mask.as_slice()).zip(never) {
            *allowed = mask & !never;
        }
        self.keep_within_vocabulary();
        let weighs = self.outline.is_level(self.position);
        let points_left = self.outline.left(self.position).filter(|_| !weighs);
        if let Some(left) = points_left.filter(|left| *left < self.vocabulary.code_points_max()) {
            self.keep_what_fits(left);
        }
        if !weighs && self.left <= self.outline.need(self.position) + self.slack {
            self.keep_what_still_ends();
        }
        match self.allowed.is_empty() {
            true => Err(defect("no token is allowed, and it has not ended")),
            false => Ok(()),
        }
    }

    /// The trie's masks may have bits behind the last token.
    fn keep_within_vocabulary(&mut self) {
        let rest = self.allowed.vocabulary() % 32;
        if let Some(last) = self.allowed.words_mut().last_mut().filter(|_| rest > 0) {
            *last &= (1 << rest) - 1;
        }
    }

    /// Near a text's limit only those tokens stay that do not go beyond it; it may have `left` more code points.
    fn keep_what_fits(&mut self, left: usize) {
        let (outline, vocabulary, position) = (&self.outline, &self.vocabulary, self.position);
        // The second byte of an escape begins no code point.
        let between = outline.is_between_code_points(position);
        let plain = vocabulary.plain().words();
        for ((index, word), plain) in (0..).zip(self.allowed.words_mut()).zip(plain) {
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                let token = index * 32 + bit;
                let fits = match between && plain & (1 << bit) != 0 {
                    true => vocabulary.code_points(token) <= left,
                    false => outline.walk(position, vocabulary.bytes(token)).is_some(),
                };
                *word &= !(u32::from(!fits) << bit);
            }
        }
    }

    /// Near the end of the budget only those tokens stay behind which the output can still be ended.
    fn keep_what_still_ends(&mut self) {
        let (outline, vocabulary, position) = (&self.outline, &self.vocabulary, self.position);
        let room = self.left.saturating_sub(1);
        let ends = |token: TokenId| {
            let behind = outline.walk(position, vocabulary.bytes(token));
            behind.is_some_and(|behind| outline.need(behind) <= room)
        };
        // Most tokens are plain ones, and behind each of them the need is the same.
        let between = outline.is_between_code_points(position);
        let plain_ends = between && outline.need(outline.behind_plain(position)) <= room;
        let plain = vocabulary.plain().words();
        for ((index, word), plain) in (0..).zip(self.allowed.words_mut()).zip(plain) {
            let alike = if between { *word & plain } else { 0 };
            let mut rest = *word & !alike;
            *word = if plain_ends { alike } else { 0 };
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                *word |= u32::from(ends(index * 32 + bit)) << bit;
            }
        }
    }
}

/// llguidance's errors have more lines, about its own state.
fn defect(what: &str) -> ConstraintError {
    ConstraintError(what.lines().next().unwrap_or_default().to_owned())
}
