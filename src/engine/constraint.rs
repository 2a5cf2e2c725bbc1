//! What the engine asks of a grammar: which tokens are forced, which may be chosen, and where a choice is a measurement.

use super::TokenId;

/// A set of tokens, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u32>,
    vocabulary: usize,
}

/// What comes next in a sequence's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// These follow whatever the model thinks; at least one. The engine feeds them and does not report them back by `chosen`.
    Forced(&'a [TokenId]),
    /// The most likely of the tokens that are `allowed`.
    Choose,
    /// As `Choose`, and the probabilities of all that are allowed are part of the output.
    Weigh,
    /// The output is complete.
    End,
}

/// The grammar of one output, with its budget of tokens. It is asked `next` until that is a choice, then for what is `allowed`, then told what
/// was `chosen`, in turns.
pub trait Constraint: Send {
    /// Must be known before the model goes on: what is forced runs as a chunk, what was chosen as a decode step. So it should take little time.
    fn next(&mut self) -> Result<Next<'_>, ConstraintError>;

    /// The tokens of the choice that `next` announced. It may take its time: the engine asks while the model computes the logits.
    fn allowed(&mut self) -> Result<&TokenSet, ConstraintError>;

    fn chosen(&mut self, token: TokenId) -> Result<(), ConstraintError>;
}

/// A grammar that cannot go on: a defect of grammar or tokenizer, never of the model's choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the grammar cannot go on: {0}")]
pub struct ConstraintError(pub String);

/// The same tokens for each of so many choices, and nothing else: a grammar of nothing.
pub struct Choices {
    allowed: TokenSet,
    left: usize,
}

impl Choices {
    pub fn new(allowed: TokenSet, choices: usize) -> Self {
        Self { allowed, left: choices }
    }
}

impl Constraint for Choices {
    fn next(&mut self) -> Result<Next<'_>, ConstraintError> {
        Ok(match self.left {
            0 => Next::End,
            _ => Next::Choose,
        })
    }

    fn allowed(&mut self) -> Result<&TokenSet, ConstraintError> {
        Ok(&self.allowed)
    }

    fn chosen(&mut self, _: TokenId) -> Result<(), ConstraintError> {
        self.left -= 1;
        Ok(())
    }
}

impl TokenSet {
    /// The empty set.
    pub fn new(vocabulary: usize) -> Self {
        Self {
            words: vec![0; vocabulary.div_ceil(32)],
            vocabulary,
        }
    }

    /// Tokens that there are, in the set or not.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Does nothing with a token beyond the vocabulary.
    pub fn insert(&mut self, token: TokenId) {
        if (token as usize) < self.vocabulary {
            self.words[token as usize / 32] |= 1 << (token % 32);
        }
    }

    pub fn remove(&mut self, token: TokenId) {
        if (token as usize) < self.vocabulary {
            self.words[token as usize / 32] &= !(1 << (token % 32));
        }
    }

    pub fn contains(&self, token: TokenId) -> bool {
        (token as usize) < self.vocabulary && self.words[token as usize / 32] & (1 << (token % 32)) != 0
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// 32 tokens a word, the lowest bit first. Bits beyond the vocabulary must stay 0.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(index as u32 * 32 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_what_was_put_in() {
        let mut set = TokenSet::new(70);
        for token in [0, 31, 32, 69, 70, 4_000] {
            set.insert(token);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 31, 32, 69]);
        set.remove(32);
        assert!(!set.contains(32) && set.contains(69) && !set.contains(70));
        set.clear();
        assert!(set.is_empty());
    }
}
