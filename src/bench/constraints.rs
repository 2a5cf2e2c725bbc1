//! Grammars for measuring: one that allows nearly everything, and one that has forced text decoded token by token.

use std::collections::VecDeque;

use crate::engine::TokenId;
use crate::engine::constraint::{Choices, Constraint, ConstraintError, Next, TokenSet};

/// Allows every token but a few, and ends after so many choices.
pub fn free(vocabulary: usize, never: &[TokenId], choices: usize) -> Choices {
    let mut allowed = TokenSet::new(vocabulary);
    (0..vocabulary as TokenId).for_each(|token| allowed.insert(token));
    never.iter().for_each(|token| allowed.remove(*token));
    Choices::new(allowed, choices)
}

/// Another grammar as an engine without forced chunks follows it: what is forced is a choice among one, and goes through a decode step of its own.
pub struct Stepwise {
    grammar: Box<dyn Constraint>,
    forced: VecDeque<TokenId>,
    only: TokenSet,
}

impl Stepwise {
    pub fn new(grammar: Box<dyn Constraint>, vocabulary: usize) -> Self {
        Self {
            grammar,
            forced: VecDeque::new(),
            only: TokenSet::new(vocabulary),
        }
    }
}

impl Constraint for Stepwise {
    fn next(&mut self) -> Result<Next<'_>, ConstraintError> {
        if self.forced.is_empty() {
            match self.grammar.next()? {
                Next::Forced(tokens) => self.forced.extend(tokens),
                other => return Ok(other),
            }
        }
        Ok(Next::Choose)
    }

    fn allowed(&mut self) -> Result<&TokenSet, ConstraintError> {
        let Some(token) = self.forced.front() else {
            return self.grammar.allowed();
        };
        self.only.clear();
        self.only.insert(*token);
        Ok(&self.only)
    }

    fn chosen(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        match self.forced.pop_front() {
            Some(_) => Ok(()),
            None => self.grammar.chosen(token),
        }
    }
}
