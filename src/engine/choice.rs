//! From a row of logits to a token, under the set of those that may follow.

use super::TokenId;
use super::constraint::TokenSet;
use super::job::Distribution;

/// Tokens that are compared at a time.
const BLOCK: usize = 256;
const INFINITE: u32 = f32::INFINITY.to_bits();

/// For each byte of a set, which of its 8 tokens are in it: all ones, or zero.
static LANES: [[u32; 8]; 256] = lanes();

/// The allowed token with the highest logit; of equals the lowest. `None` if a logit of an allowed token is not a finite number, or none is
/// allowed. What stands at the others doesn't matter.
pub fn greedy(logits: &[f32], allowed: &TokenSet) -> Option<TokenId> {
    let mut padded = [f32::NAN; BLOCK];
    let (mut best, mut place) = (f32::NEG_INFINITY, 0);
    for (index, words) in allowed.words().chunks(BLOCK / 32).enumerate() {
        let at = index * BLOCK;
        let block = logits.get(at..at + BLOCK);
        let block = block.unwrap_or_else(|| {
            let rest = logits.get(at..).unwrap_or_default();
            padded.fill(f32::NAN);
            padded[..rest.len()].copy_from_slice(rest);
            &padded
        });
        let highest = highest(block, words)?;
        if highest > best {
            (best, place) = (highest, at);
        }
    }
    let of_block = logits.get(place..)?.iter().zip(place as TokenId..).take(BLOCK);
    let mut allowed = of_block.filter(|(_, token)| allowed.contains(*token));
    allowed.find(|(logit, _)| **logit == best).map(|(_, token)| token)
}

/// The highest logit of a block's allowed tokens, −∞ if there are none; `None` if one is not a finite number. Without a branch for each token:
/// of a large vocabulary most are allowed.
fn highest(block: &[f32], words: &[u32]) -> Option<f32> {
    let (mut highest, mut infinite) = ([f32::NEG_INFINITY; 8], [0; 8]);
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    for (logits, byte) in block.as_chunks::<8>().0.iter().zip(bytes) {
        let among = &LANES[usize::from(byte)];
        for lane in 0..8 {
            let bits = logits[lane].to_bits();
            infinite[lane] |= u32::from(bits & INFINITE == INFINITE) & among[lane];
            let logit = f32::from_bits((bits & among[lane]) | (f32::NEG_INFINITY.to_bits() & !among[lane]));
            highest[lane] = if logit > highest[lane] { logit } else { highest[lane] };
        }
    }
    (infinite == [0; 8]).then(|| highest.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

const fn lanes() -> [[u32; 8]; 256] {
    let mut lanes = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut lane = 0;
        while lane < 8 {
            if byte >> lane & 1 == 1 {
                lanes[byte][lane] = u32::MAX;
            }
            lane += 1;
        }
        byte += 1;
    }
    lanes
}

/// The softmax over the allowed tokens, in ascending order of their ids. `None` as in [`greedy`].
pub fn distribution(logits: &[f32], allowed: &TokenSet) -> Option<Distribution> {
    let highest = f64::from(*logits.get(greedy(logits, allowed)? as usize)?);
    // Relative to the highest, so that nothing overflows and the sum is at least 1.
    let weigh = |token| Some((token, (f64::from(finite(logits, token)?) - highest).exp()));
    let mut weights = allowed.iter().map(weigh).collect::<Option<Vec<_>>>()?;
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.iter_mut().for_each(|(_, weight)| *weight /= sum);
    Some(Distribution(weights))
}

fn finite(logits: &[f32], token: TokenId) -> Option<f32> {
    logits.get(token as usize).copied().filter(|logit| logit.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(tokens: &[TokenId]) -> TokenSet {
        let mut set = TokenSet::new(40);
        tokens.iter().for_each(|token| set.insert(*token));
        set
    }

    #[test]
    fn the_highest_allowed_logit_wins_and_of_equals_the_lowest_id() {
        let mut logits = vec![0.0; 40];
        (logits[3], logits[35], logits[39]) = (7.0, 2.0, 2.0);
        assert_eq!(greedy(&logits, &set(&[1, 3, 35])), Some(3));
        assert_eq!(greedy(&logits, &set(&[1, 39, 35])), Some(35));
        assert_eq!(greedy(&[-0.0, 0.0], &set(&[0, 1])), Some(0));
        assert_eq!(greedy(&[-3.0, -5.0], &set(&[1])), Some(1));
    }

    #[test]
    fn what_is_not_a_number_counts_only_among_the_allowed() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let logits = [1.0, bad, 3.0];
            assert_eq!(greedy(&logits, &set(&[0, 2])), Some(2));
            assert_eq!(greedy(&logits, &set(&[0, 1, 2])), None);
            assert_eq!(distribution(&logits, &set(&[1, 2])), None);
        }
        assert_eq!(greedy(&[1.0], &set(&[])), None);
        assert_eq!(greedy(&[1.0], &set(&[0, 1])), None, "a token without a logit");
        let mut far = TokenSet::new(3 * BLOCK);
        far.insert(0);
        far.insert(2 * BLOCK as TokenId);
        assert_eq!(greedy(&[1.0; BLOCK + 9], &far), None, "nor in a block that has none");
    }

    #[test]
    fn every_place_of_every_length_is_looked_at() {
        for vocabulary in [1, 7, 8, 31, 32, 33, 255, 256, 257, 700] {
            for winner in 0..vocabulary {
                let mut logits: Vec<_> = (0..vocabulary).map(|token| -1.0 - (token % 5) as f32).collect();
                let mut all = TokenSet::new(vocabulary);
                (0..vocabulary as TokenId).for_each(|token| all.insert(token));
                logits[winner] = -0.5;
                let winner = winner as TokenId;
                assert_eq!(greedy(&logits, &all), Some(winner));
                logits[winner as usize] = f32::NAN;
                assert_eq!(greedy(&logits, &all), None);
                all.remove(winner);
                let second = (0..vocabulary).find(|token| token % 5 == 0 && *token != winner as usize);
                if vocabulary > 10 {
                    assert_eq!(greedy(&logits, &all), second.map(|token| token as TokenId));
                }
            }
        }
    }

    #[test]
    fn probabilities_sum_to_one_over_the_allowed() {
        let logits = [0.0, 3.0_f32.ln(), 500.0, -500.0];
        let two = distribution(&logits, &set(&[0, 1])).unwrap().0;
        assert!(
            (two[0].1 - 0.25).abs() < 1e-7 && (two[1].1 - 0.75).abs() < 1e-7,
            "{two:?}"
        );
        let huge = distribution(&logits, &set(&[0, 2, 3])).unwrap().0;
        assert_eq!(huge.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [0, 2, 3]);
        assert!((huge.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(huge[1].1, 1.0);
    }

    #[test]
    fn a_single_allowed_token_has_the_probability_one() {
        assert_eq!(
            distribution(&[3.0, -88.0], &set(&[1])),
            Some(Distribution(vec![(1, 1.0)]))
        );
    }
}
