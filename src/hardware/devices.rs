//! The devices that a model may run on, with their memory: asked once at start, and again whenever someone wants to know what is free.

use std::fmt;

use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::{cgroup, nvidia};

/// What a driver and an idle desktop are taken to hold of a card that nobody can ask, in bytes.
pub const CARD_TAKEN_ASSUMED: u64 = 300 << 20;

/// What computes. Also what a model was exported for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Cuda,
    Cpu,
}

/// A graphics card, or the processor with its RAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    pub kind: DeviceKind,
    /// Ordinal of a card as CUDA counts when `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`; 0 of the processor.
    pub index: u32,
    pub name: String,
    /// In bytes. Of the processor: RAM, or the limit of the control group where that is lower.
    pub memory_total: u64,
    /// In bytes: what a new allocation can have, when the device was asked.
    pub memory_free: u64,
    /// Of a card, major and minor; `None` if the driver did not say.
    pub compute_capability: Option<(u32, u32)>,
    /// By what the driver finds a card again, whatever its index.
    pub uuid: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// Cards that ONNX Runtime can use, by index.
    pub cards: Vec<Device>,
    pub cpu: Device,
    /// Why there are no cards: half a sentence that says what is missing and what to do. `Some` exactly if `cards` is empty.
    pub cuda_problem: Option<String>,
    /// Sentences for the operator about cards that were put aside, or may be counted otherwise by CUDA.
    pub warnings: Vec<String>,
}

/// Looks for devices. Slow the first time (the driver starts); never fails, since a machine always has a processor.
pub fn detect() -> Detected {
    let found = nvidia::detect();
    Detected {
        cards: found.cards,
        cpu: processor(),
        cuda_problem: found.problem,
        warnings: found.warnings,
    }
}

/// Free memory of the device now, in bytes; `None` if it no longer answers.
pub fn refresh(device: &Device) -> Option<u64> {
    match device.kind {
        DeviceKind::Cpu => Some(memory().1),
        DeviceKind::Cuda => nvidia::memory_free(device.uuid.as_deref()?),
    }
}

/// The NVIDIA driver's version; `None` if there is no driver.
pub fn driver_version() -> Option<String> {
    nvidia::driver_version()
}

fn processor() -> Device {
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    let brand = system.cpus().first().map_or("", |cpu| cpu.brand().trim());
    let (memory_total, memory_free) = memory();
    Device {
        kind: DeviceKind::Cpu,
        index: 0,
        name: if brand.is_empty() { "CPU" } else { brand }.to_owned(),
        memory_total,
        memory_free,
        compute_capability: None,
        uuid: None,
    }
}

/// Total and available RAM, in bytes, each held down by the control groups that this process is in.
fn memory() -> (u64, u64) {
    let ram = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(ram);
    let limits = cgroup::limits(|path| std::fs::read_to_string(path).ok());
    (
        system.total_memory().min(limits.limit),
        system.available_memory().min(limits.available),
    )
}

/// As in `pool.device` and `--target`.
impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_processor_with_memory() {
        let found = detect();
        assert_eq!(found.cpu.kind, DeviceKind::Cpu);
        assert!(!found.cpu.name.is_empty());
        assert!(found.cpu.memory_free > 0 && found.cpu.memory_free <= found.cpu.memory_total);
        assert_eq!(
            refresh(&found.cpu).map(|free| free <= found.cpu.memory_total),
            Some(true)
        );
    }

    #[test]
    fn no_cards_come_with_a_reason_and_cards_without() {
        let found = detect();
        assert_eq!(found.cards.is_empty(), found.cuda_problem.is_some());
    }

    #[test]
    fn a_card_that_the_driver_does_not_know_has_no_free_memory_to_tell() {
        let gone = Device {
            kind: DeviceKind::Cuda,
            uuid: Some("GPU-00000000-0000-0000-0000-000000000000".to_owned()),
            ..processor()
        };
        assert_eq!(refresh(&gone), None);
    }
}
