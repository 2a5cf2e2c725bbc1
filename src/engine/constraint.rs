//! What the engine asks of a grammar: which tokens are forced, which may be chosen, and where a choice is a measurement.

use super::TokenId;

/// A set of tokens, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u32>,
    vocabulary: usize,
}

/// What comes next in a sequence's output.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// These follow whatever the model thinks; at least one. The engine feeds them and does not report them back by `chosen`.
    Forced(&'a [TokenId]),
    /// The most likely of these.
    Choose(&'a TokenSet),
    /// As `Choose`, and the probabilities of all of these are part of the output.
    Weigh(&'a TokenSet),
    /// The output is complete.
    End,
}

/// The grammar of one output, with its budget of tokens. It is asked `next`, then told what was `chosen` of a `Choose` or `Weigh`, in turns.
/// Neither needs the model's logits, so the next mask can be computed while the model runs.
pub trait Constraint: Send {
    fn next(&mut self) -> Result<Next<'_>, ConstraintError>;

    fn chosen(&mut self, token: TokenId) -> Result<(), ConstraintError>;
}

/// A grammar that cannot go on: a defect of grammar or tokenizer, never of the model's choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the grammar cannot go on: {0}")]
pub struct ConstraintError(pub String);

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
