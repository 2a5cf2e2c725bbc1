//! Devices and models for the planner's tests.

use super::devices::{Device, DeviceKind};
use super::footprint::{Contexts, KvType, ModelFootprint, Precision};
use super::plan::PlanInput;
use super::wanted::PoolWanted;

/// The slots of the prompts in `models/prompts/prompts.toml`.
pub(super) const CONTEXTS: Contexts = Contexts {
    scoring_tokens: 1_024,
    narrative_tokens: 2_176,
    narrative_slots: 1,
};

pub(super) const NO_CARD: &str = "the NVIDIA driver 580.82 finds no card";

pub(super) const GIB: u64 = 1 << 30;

pub(super) fn card(index: u32, name: &str, total: u64, free: u64) -> Device {
    Device {
        kind: DeviceKind::Cuda,
        index,
        name: name.to_owned(),
        memory_total: total,
        memory_free: free,
        compute_capability: Some((7, 5)),
        uuid: Some(format!("GPU-{index}")),
    }
}

pub(super) fn cpu(total: u64, free: u64) -> Device {
    Device {
        kind: DeviceKind::Cpu,
        name: "CPU".to_owned(),
        compute_capability: None,
        uuid: None,
        ..card(0, "", total, free)
    }
}

/// int4 with blocks of 32; sizes of the weights files as in `tools/export/README.md`, in hundredths of a GiB.
pub(super) fn exaone_7_8b(target: DeviceKind) -> ModelFootprint {
    ModelFootprint {
        layers: 32,
        hidden: 4_096,
        intermediate: 14_336,
        head_dim: 128,
        tied_head: false,
        weights_bytes: by_target(target, 457, 410) * GIB / 100,
        ..exaone_2_4b(target)
    }
}

pub(super) fn exaone_2_4b(target: DeviceKind) -> ModelFootprint {
    ModelFootprint {
        target,
        precision: Precision::Int4,
        block_size: Some(32),
        head_bits: None,
        layers: 30,
        hidden: 2_560,
        intermediate: 7_168,
        heads: 32,
        kv_heads: 8,
        head_dim: 80,
        vocabulary: 102_400,
        tied_head: true,
        weights_bytes: by_target(target, 141, 127) * GIB / 100,
        kv_type: by_target(target, KvType::Float32, KvType::Float16),
    }
}

/// The same with keys and values in int8.
pub(super) fn rounded(model: ModelFootprint) -> ModelFootprint {
    ModelFootprint {
        kv_type: KvType::Int8,
        ..model
    }
}

/// For a card, with a scale for every 128 weights.
pub(super) fn exaone_7_8b_coarse() -> ModelFootprint {
    ModelFootprint {
        block_size: Some(128),
        weights_bytes: 377 * GIB / 100,
        ..exaone_7_8b(DeviceKind::Cuda)
    }
}

/// EXAONE 4.0.
pub(super) fn exaone_1_2b(target: DeviceKind) -> ModelFootprint {
    ModelFootprint {
        hidden: 2_048,
        intermediate: 4_096,
        head_dim: 64,
        weights_bytes: by_target(target, 76, 68) * GIB / 100,
        ..exaone_2_4b(target)
    }
}

fn by_target<T>(target: DeviceKind, cpu: T, cuda: T) -> T {
    match target {
        DeviceKind::Cpu => cpu,
        DeviceKind::Cuda => cuda,
    }
}

pub(super) fn input<'a>(
    cards: &'a [Device],
    cpu: &'a Device,
    model: &'a ModelFootprint,
    wanted: PoolWanted,
) -> PlanInput<'a> {
    PlanInput {
        cards,
        cpu,
        cuda_problem: cards.is_empty().then_some(NO_CARD),
        model,
        contexts: CONTEXTS,
        wanted,
        chunk_tokens: 256,
    }
}
