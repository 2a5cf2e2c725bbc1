//! How much of a device this process holds now: its resident memory, or what the driver says that it has on a card.

use super::devices::{Device, DeviceKind};
use super::nvidia;

/// What this process holds of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Own(u64),
    /// What was taken on a card since, whoever took it: the driver does not say what is this process's.
    Guess(u64),
}

/// What of the device this process holds now; `None` if that cannot be read. Of RAM it is all that is resident, the parts that are no engine's
/// too: the plan has set memory aside for those. `taken_before`: bytes of a card that were taken when this process held nothing of it, for where
/// the driver does not tell processes apart.
pub fn held(device: &Device, taken_before: u64) -> Option<Held> {
    match device.kind {
        DeviceKind::Cpu => status("VmRSS:").map(Held::Own),
        DeviceKind::Cuda => nvidia::held(device.uuid.as_deref()?, taken_before),
    }
}

/// Bytes of RAM that are free once this process gives them back, and not before: pages of files, mapped weights among them, count as available
/// already while they are mapped.
pub fn anonymous() -> Option<u64> {
    status("RssAnon:")
}

/// The most bytes that were resident of this process, since its start or since that was reset.
pub fn peak() -> Option<u64> {
    status("VmHWM:")
}

fn status(key: &str) -> Option<u64> {
    entry(&std::fs::read_to_string("/proc/self/status").ok()?, key)
}

/// A line like `VmRSS:  1234 kB` of `/proc/self/status`, in bytes.
fn entry(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::super::devices::detect;
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tinterviewd\nVmHWM:\t  230056 kB\nVmRSS:\t  203616 kB\nRssAnon:\t  182212 kB\n";
        assert_eq!(entry(status, "VmRSS:"), Some(203_616 << 10));
        assert_eq!(entry(status, "RssAnon:"), Some(182_212 << 10));
        for broken in ["", "VmRSS:\n", "VmRSS:\t12 MB\n", "VmRSS:\t18446744073709551615 kB\n"] {
            assert_eq!(entry(broken, "VmRSS:"), None, "{broken:?}");
        }
    }

    #[test]
    fn the_peak_is_read_in_bytes() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(entry(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(entry("Name:\tx\n", "VmHWM:"), None);
    }

    #[test]
    fn a_process_holds_some_memory() {
        assert!(matches!(held(&detect().cpu, 0), Some(Held::Own(bytes)) if bytes > 0));
        assert!(anonymous().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn nobody_can_say_what_is_held_of_a_card_that_the_driver_does_not_know() {
        let gone = Device {
            kind: DeviceKind::Cuda,
            uuid: Some("GPU-00000000-0000-0000-0000-000000000000".to_owned()),
            ..detect().cpu
        };
        assert_eq!(held(&gone, 0), None);
    }
}
