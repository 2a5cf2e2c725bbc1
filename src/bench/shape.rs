//! The fixed shape: answers of 500 shared, 200 own and 200 written tokens, made up, so that the same work can be given to any engine.

use super::constraints::free;
use super::drive::Work;
use crate::engine::TokenId;
use crate::scoring::SCORING_BANK;

/// Tokens of each part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub shared: usize,
    pub own: usize,
    pub written: usize,
}

/// What is shown to the world.
pub const FIXED: Shape = Shape {
    shared: 500,
    own: 200,
    written: 200,
};

const SEED: u64 = 0x1e57_ab1e;

/// So many answers, always the same ones. `control`: tokens that stand in no prompt; `eos`: tokens that are never written.
pub fn works(shape: Shape, answers: usize, vocabulary: usize, control: &[TokenId], eos: &[TokenId]) -> Vec<Work> {
    let shared = tokens(0, shape.shared, vocabulary, control);
    let work = |index: usize| Work {
        name: format!("answer {}", index + 1),
        bank: SCORING_BANK,
        prompt: [
            &shared[..],
            &tokens(index as u64 + 1, shape.own, vocabulary, control)[..],
        ]
        .concat(),
        constraint: Box::new(free(vocabulary, eos, shape.written)),
        output_max: shape.written,
    };
    (0..answers).map(work).collect()
}

fn tokens(stream: u64, count: usize, vocabulary: usize, control: &[TokenId]) -> Vec<TokenId> {
    let numbers = (0..).map(|at| mixed(SEED ^ (stream << 32) ^ at) % vocabulary as u64);
    let tokens = numbers.map(|number| number as TokenId);
    tokens.filter(|token| !control.contains(token)).take(count).collect()
}

/// The finaliser of SplitMix64.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_share_their_beginning_and_nothing_else() {
        let works = works(FIXED, 3, 1_000, &[0, 1], &[0]);
        let prompts: Vec<_> = works.iter().map(|work| &work.prompt).collect();
        assert!(prompts.iter().all(|prompt| prompt.len() == 700));
        assert_eq!(prompts[0][..500], prompts[2][..500]);
        assert_ne!(prompts[0][500..510], prompts[1][500..510]);
        assert!(
            prompts
                .iter()
                .all(|prompt| prompt.iter().all(|token| (2..1_000).contains(token)))
        );
    }
}
