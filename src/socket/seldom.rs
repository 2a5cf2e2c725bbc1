//! Says now and then what happens often: whoever provokes it must not fill the log.

use std::time::{Duration, Instant};

/// Between two times that it is said.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    pub const fn new() -> Self {
        Self { said: None, unsaid: 0 }
    }

    /// It has happened once more: how often it has since it was last said, if it is to be said now.
    pub fn happened(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute_with_how_often() {
        let (mut seldom, begun) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.happened(begun), Some(1));
        for _ in 0..1_000 {
            assert_eq!(seldom.happened(begun + PAUSE / 2), None);
        }
        assert_eq!(seldom.happened(begun + PAUSE), Some(1_001));
        assert_eq!(seldom.happened(begun + PAUSE), None);
    }
}
