//! How long ago something was, whatever happens to the clock on the wall meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::time::Timestamp;

/// The age of something that is stored with its time of day. Up to when this process heard of it only the stored time can tell; from then on a
/// clock counts that nobody sets. A wall clock that is put forward or back counts at the next start, and never below nothing.
#[derive(Debug, Clone, Copy)]
pub struct Age {
    when_heard: Duration,
    heard: Instant,
}

impl Age {
    /// Of what was at `moment`, heard of at `now` by the same wall clock: in this moment.
    pub fn of(moment: Timestamp, now: Timestamp) -> Self {
        Self {
            when_heard: Duration::from_millis(now.since(moment)),
            heard: Instant::now(),
        }
    }

    pub fn now(&self) -> Duration {
        self.when_heard + self.heard.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_is_told_by_the_wall_clock_and_never_below_nothing() {
        let at = Timestamp::from_millis;
        let hour = 3_600_000;
        assert!(Age::of(at(0), at(hour)).now() >= Duration::from_millis(hour.cast_unsigned()));
        assert!(Age::of(at(hour), at(0)).now() < Duration::from_secs(60));
    }
}
