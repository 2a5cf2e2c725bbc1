//! From a model's manifest to what the planner needs to know of it.

use crate::hardware::devices::DeviceKind;
use crate::hardware::footprint::{KvType, ModelFootprint, Precision};
use crate::runtime::{KvType as ManifestKvType, Manifest, Precision as ManifestPrecision, Target};

/// The footprint of a model that was exported.
pub fn footprint(manifest: &Manifest) -> ModelFootprint {
    ModelFootprint {
        target: match manifest.target {
            Target::Cpu => DeviceKind::Cpu,
            Target::Cuda => DeviceKind::Cuda,
        },
        precision: match manifest.precision {
            ManifestPrecision::Int4 => Precision::Int4,
            ManifestPrecision::Int8 => Precision::Int8,
            ManifestPrecision::Fp16 => Precision::Fp16,
            ManifestPrecision::Fp32 => Precision::Fp32,
        },
        block_size: manifest.block_size,
        head_bits: manifest.head_bits,
        layers: manifest.layers as u32,
        hidden: manifest.hidden_size as u32,
        intermediate: manifest.intermediate_size as u32,
        heads: manifest.heads as u32,
        kv_heads: manifest.kv_heads as u32,
        head_dim: manifest.head_dim as u32,
        vocabulary: manifest.vocab_size as u32,
        tied_head: manifest.tied_head,
        weights_bytes: manifest.weights_bytes,
        kv_type: match manifest.kv_type {
            ManifestKvType::Float32 => KvType::Float32,
            ManifestKvType::Float16 => KvType::Float16,
            ManifestKvType::Int8 => KvType::Int8,
        },
    }
}
