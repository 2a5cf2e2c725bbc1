//! Values of the store: what can be read is written as what is read the same.

use interviewd::store::{ValueKind, rewritten};

/// A value, taken for one of each kind. Accepted if it is one.
pub fn record(bytes: &[u8]) -> bool {
    let kinds = ValueKind::ALL.into_iter().filter(|kind| {
        let Ok(written) = rewritten(*kind, bytes) else {
            return false;
        };
        let again = rewritten(*kind, &written).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(
            String::from_utf8_lossy(&again),
            String::from_utf8_lossy(&written),
            "{kind:?}"
        );
        true
    });
    kinds.count() > 0
}
