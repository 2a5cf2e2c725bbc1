//! The most memory that a row took: the process's own peak, and on a card what the driver says is gone.

use std::fs;

use crate::hardware::devices::{Device, refresh};
use crate::hardware::held;

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
        held::peak().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_peak_and_without_a_card_none_of_that() {
        let gauge = Gauge::new(None);
        assert!(gauge.peak() > 1 << 20);
        assert_eq!(gauge.card(), None);
    }
}
