//! The most memory that a row took: the process's own peak, and on a card what the driver says is gone.

use std::fs;

use crate::hardware::devices::{Device, refresh};

/// Looks at memory before and after a row.
pub struct Gauge {
    /// The card that the model is on, with what was free of it before anything was loaded.
    card: Option<Device>,
    per_row: bool,
}

impl Gauge {
    /// `card`: as it was found before the model was loaded.
    pub fn new(card: Option<Device>) -> Self {
        Self {
            per_row: forget_peak(),
            card,
        }
    }

    /// Whether peaks are those of rows; otherwise they are those of the process since its start.
    pub fn is_per_row(&self) -> bool {
        self.per_row
    }

    pub fn begin(&self) {
        forget_peak();
    }

    /// Bytes of the process at their most since `begin`.
    pub fn peak(&self) -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        peak_of(&status).unwrap_or_default()
    }

    /// Bytes of the card that are in use now and were not before the model was loaded. ONNX Runtime's arena does not shrink, so that this is
    /// the most that there was of it.
    pub fn card(&self) -> Option<u64> {
        let card = self.card.as_ref()?;
        Some(card.memory_free.saturating_sub(refresh(card)?))
    }
}

/// Sets the peak to what there is now, where the system lets us.
fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(
            peak_of("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(peak_of("Name:\tx\n"), None);
        let gauge = Gauge::new(None);
        assert!(gauge.peak() > 1 << 20);
        assert_eq!(gauge.card(), None);
    }
}
