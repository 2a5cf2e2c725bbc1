//! From a row of logits to a token, under the set of those that may follow.

use super::TokenId;
use super::constraint::TokenSet;
use super::job::Distribution;

/// The allowed token with the highest logit; of equals the lowest. `None` if a logit of an allowed token is not a finite number, or none is
/// allowed. What stands at the others doesn't matter.
pub fn greedy(logits: &[f32], allowed: &TokenSet) -> Option<TokenId> {
    let mut best: Option<(TokenId, f32)> = None;
    for token in allowed.iter() {
        let logit = finite(logits, token)?;
        if best.is_none_or(|(_, highest)| logit > highest) {
            best = Some((token, logit));
        }
    }
    best.map(|(token, _)| token)
}

/// The softmax over the allowed tokens, in ascending order of their ids. `None` as in [`greedy`].
pub(super) fn distribution(logits: &[f32], allowed: &TokenSet) -> Option<Distribution> {
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
