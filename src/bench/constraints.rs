//! Grammars for measuring: one that allows nearly everything, and one that has forced text decoded token by token.

use std::collections::VecDeque;

use crate::engine::TokenId;
use crate::engine::constraint::{Constraint, ConstraintError, Next, TokenSet};

/// Allows every token but a few, and ends after so many choices.
pub struct Free {
    allowed: TokenSet,
    left: usize,
}

impl Free {
    pub fn new(vocabulary: usize, never: &[TokenId], choices: usize) -> Self {
        let mut allowed = TokenSet::new(vocabulary);
        (0..vocabulary as TokenId).for_each(|token| allowed.insert(token));
        never.iter().for_each(|token| allowed.remove(*token));
        Self { allowed, left: choices }
    }
}

impl Constraint for Free {
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
