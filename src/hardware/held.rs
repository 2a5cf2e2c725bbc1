//! How much of a device this process holds now: its resident memory, or what the driver says that it has on a card.

use super::devices::{Device, DeviceKind};
use super::nvidia;

/// Bytes of the device that this process holds now; `None` if that cannot be read. Of RAM it is all that is resident, the parts that are no engine's
/// too: the plan has set memory aside for those. `taken_before`: bytes of a card that were taken when this process held nothing of it, for where
/// the driver does not tell processes apart.
pub fn held(device: &Device, taken_before: u64) -> Option<u64> {
    match device.kind {
        DeviceKind::Cpu => resident(&std::fs::read_to_string("/proc/self/status").ok()?),
        DeviceKind::Cuda => nvidia::held(device.uuid.as_deref()?, taken_before),
    }
}

/// The line `VmRSS:  1234 kB` of `/proc/self/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
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
        assert_eq!(resident(status), Some(203_616 << 10));
        for broken in ["", "VmRSS:\n", "VmRSS:\t12 MB\n", "VmRSS:\t18446744073709551615 kB\n"] {
            assert_eq!(resident(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn memory_that_is_written_to_is_held() {
        let cpu = detect().cpu;
        let before = held(&cpu, 0).unwrap();
        let block = vec![1_u8; 256 << 20];
        let after = held(&cpu, 0).unwrap();
        assert!(std::hint::black_box(&block).len() == 256 << 20);
        // Half of it: tests beside this one give memory back.
        assert!(after > before + (128 << 20), "{before} {after}");
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
