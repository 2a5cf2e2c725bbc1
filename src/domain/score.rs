//! Fixed-point numbers of a report: scores in hundredths of a point, levels in thousandths.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A score from 0 to 100 points, in hundredths. Serialised as a JSON number of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Score(u32);

/// A level from 1 to 5, in thousandths: the mean of the distribution that the model gave. Serialised as a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u32);

/// The spread of a level's distribution, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LevelSd(u32);

impl Score {
    pub const ZERO: Self = Self(0);
    pub const FULL: Self = Self(10_000);

    /// From hundredths of a point; `None` above 100 points.
    pub fn from_hundredths(hundredths: u32) -> Option<Self> {
        (hundredths <= Self::FULL.0).then_some(Self(hundredths))
    }

    pub fn hundredths(self) -> u32 {
        self.0
    }

    /// Adds whole points (negative ones too) and stays within 0 to 100.
    pub fn adjusted(self, points: i32) -> Self {
        let sum = i64::from(self.0) + i64::from(points) * 100;
        Self(sum.clamp(0, i64::from(Self::FULL.0)) as u32)
    }

    /// The mean, rounded half up to a hundredth; `None` of nothing.
    pub fn mean(scores: impl IntoIterator<Item = Self>) -> Option<Self> {
        Self::weighted_mean(scores.into_iter().map(|score| (score, 1)))
    }

    /// The sum, at most 100 points.
    pub fn sum(scores: impl IntoIterator<Item = Self>) -> Self {
        let sum: u32 = scores.into_iter().map(|score| score.0).sum();
        Self(sum.min(Self::FULL.0))
    }

    /// Σ weight · score ÷ Σ weight, rounded half up to a hundredth; `None` if the weights sum to 0.
    pub fn weighted_mean(scores: impl IntoIterator<Item = (Self, u32)>) -> Option<Self> {
        let (sum, weights) = scores
            .into_iter()
            .fold((0u64, 0u64), |(sum, weights), (score, weight)| {
                (
                    sum + u64::from(score.0) * u64::from(weight),
                    weights + u64::from(weight),
                )
            });
        (weights > 0).then(|| Self(divided_half_up(sum, weights) as u32))
    }
}

impl Level {
    pub const LOWEST: Self = Self(1_000);

    /// Mean and spread of the probabilities of the levels 1 to 5, each rounded to a thousandth. The probabilities need not sum to 1; `None` if
    /// one is negative, one or their sum is not finite, or all are 0.
    pub fn from_distribution(probabilities: [f64; 5]) -> Option<(Self, LevelSd)> {
        let total: f64 = probabilities.iter().sum();
        if probabilities.iter().any(|p| !p.is_finite() || *p < 0.0) || !total.is_finite() || total <= 0.0 {
            return None;
        }
        let moment = |f: &dyn Fn(f64) -> f64| -> f64 {
            (1..=5)
                .map(f64::from)
                .zip(probabilities)
                .map(|(k, p)| p / total * f(k))
                .sum()
        };
        let mean = moment(&|k| k);
        let sd = moment(&|k| (k - mean).powi(2)).sqrt();
        Some((
            Self(((mean * 1_000.0).round() as u32).clamp(1_000, 5_000)),
            LevelSd((sd * 1_000.0).round() as u32),
        ))
    }

    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// points × (level − 1) / 4, rounded half up to a hundredth. `points` is at most 100.
    pub fn score(self, points: u32) -> Score {
        Score(divided_half_up(u64::from(points) * u64::from(self.0 - 1_000), 40) as u32)
    }
}

fn divided_half_up(numerator: u64, denominator: u64) -> u64 {
    (2 * numerator + denominator) / (2 * denominator)
}

/// At most two decimals and no zeros at their end: `80`, `65.5`, `71.25`. With `{:.2}` always both, for columns.
impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:02}", self.0 / 100, self.0 % 100);
        if f.precision() == Some(2) {
            return f.write_str(&text);
        }
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 100.0)
    }
}

/// Three decimals.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Three decimals.
impl fmt::Display for LevelSd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Reads a JSON number as the integer of `unit`ths that it shows.
pub(super) fn fixed_point<'de, D: Deserializer<'de>>(
    deserializer: D,
    unit: f64,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, D::Error> {
    let number = f64::deserialize(deserializer)?;
    let integer = (number * unit).round();
    if integer < f64::from(*range.start()) || integer > f64::from(*range.end()) || !integer.is_finite() {
        return Err(serde::de::Error::custom(format!("{number} is out of range")));
    }
    Ok(integer as u32)
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_point(deserializer, 100.0, 0..=Self::FULL.0).map(Self)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_point(deserializer, 1_000.0, 1_000..=5_000).map(Self)
    }
}

impl<'de> Deserialize<'de> for LevelSd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_point(deserializer, 1_000.0, 0..=5_000).map(Self)
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1_000.0)
    }
}

impl Serialize for LevelSd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(points: f64) -> Score {
        Score::from_hundredths((points * 100.0).round() as u32).unwrap()
    }

    #[test]
    fn a_level_is_the_mean_of_its_distribution() {
        assert_eq!(
            Level::from_distribution([0.0, 0.0, 0.0, 0.0, 1.0]),
            Some((Level(5_000), LevelSd(0)))
        );
        assert_eq!(
            Level::from_distribution([0.5, 0.0, 0.0, 0.0, 0.5]),
            Some((Level(3_000), LevelSd(2_000)))
        );
        assert_eq!(
            Level::from_distribution([0.1, 0.1, 0.1, 0.1, 0.1]),
            Some((Level(3_000), LevelSd(1_414)))
        );
        assert_eq!(
            Level::from_distribution([0.0, 0.0, 0.25, 0.75, 0.0]),
            Some((Level(3_750), LevelSd(433)))
        );
    }

    #[test]
    fn levels_and_spreads_are_rounded_not_cut() {
        assert_eq!(
            Level::from_distribution([0.0, 0.0, 1.0, 2.0, 0.0]),
            Some((Level(3_667), LevelSd(471)))
        );
        assert_eq!(
            Level::from_distribution([0.0, 0.0, 0.4, 0.6, 0.0]),
            Some((Level(3_600), LevelSd(490)))
        );
    }

    #[test]
    fn a_broken_distribution_is_no_level() {
        for broken in [
            [0.0; 5],
            [f64::NAN, 0.1, 0.1, 0.1, 0.1],
            [-0.1, 0.5, 0.3, 0.3, 0.0],
            [f64::INFINITY, 0.0, 0.0, 0.0, 0.0],
            [f64::MAX; 5],
        ] {
            assert_eq!(Level::from_distribution(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn criterion_scores_round_half_up() {
        assert_eq!(Level(5_000).score(40), score(40.0));
        assert_eq!(Level(1_000).score(40), Score::ZERO);
        assert_eq!(Level(3_500).score(30), score(18.75));
        assert_eq!(Level(1_002).score(10), score(0.01)); // 0.005 rounds up
        assert_eq!(Level(1_001).score(10), score(0.0)); // 0.0025 rounds down
    }

    #[test]
    fn means_round_half_up_and_of_nothing_there_is_none() {
        assert_eq!(Score::mean([score(1.0), score(1.01)]), Some(score(1.01)));
        assert_eq!(Score::mean([score(1.0), score(1.0), score(1.01)]), Some(score(1.0)));
        assert_eq!(Score::mean([]), None);
        assert_eq!(
            Score::weighted_mean([(score(80.0), 1_500), (score(50.0), 3_000)]),
            Some(score(60.0))
        );
        assert_eq!(Score::weighted_mean([(score(80.0), 0)]), None);
    }

    #[test]
    fn scores_are_shown_without_needless_zeros() {
        let shown = [0.0, 100.0, 80.0, 65.5, 71.25, 10.01].map(|value| score(value).to_string());
        assert_eq!(shown, ["0", "100", "80", "65.5", "71.25", "10.01"]);
    }

    #[test]
    fn adjustments_stay_within_the_scale() {
        assert_eq!(score(95.5).adjusted(10), Score::FULL);
        assert_eq!(score(3.25).adjusted(-5), Score::ZERO);
        assert_eq!(score(50.25).adjusted(-10), score(40.25));
    }
}
