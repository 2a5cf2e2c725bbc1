//! What a model occupies: weights, workspace, slots. Costs are whole MiB, rounded up, so that an explanation's sums come out.

use serde::{Deserialize, Serialize};

use super::devices::DeviceKind;

pub(super) const MIB: u64 = 1 << 20;

/// Format of the matrices, as in `model.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Int4,
    Int8,
    Fp16,
    Fp32,
}

/// Element type of keys and values, as in `model.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    Float32,
    Float16,
    Int8,
}

impl KvType {
    /// Of a value.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Float32 => 4,
            Self::Float16 => 2,
            Self::Int8 => 1,
        }
    }
}

/// What `model.json` says that decides how much memory a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFootprint {
    /// What it was exported for.
    pub target: DeviceKind,
    pub precision: Precision,
    /// Weights that share a scale; `None` when weights are floats.
    pub block_size: Option<u32>,
    /// Bits of a weight of the output head; `None` where they are those of the precision.
    pub head_bits: Option<u32>,
    pub layers: u32,
    pub hidden: u32,
    pub intermediate: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub vocabulary: u32,
    /// Whether the output head is the embedding, stored once.
    pub tied_head: bool,
    /// Size of the weights file.
    pub weights_bytes: u64,
    pub kv_type: KvType,
}

/// Tokens of each kind of slot, and how many slots of the narrative's kind an actor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contexts {
    pub scoring_tokens: u32,
    pub narrative_tokens: u32,
    pub narrative_slots: u32,
}

impl Contexts {
    /// Of so many scoring slots, those in whose memory the narrative's slots lie, if they share it.
    pub fn covered(&self, slots: u32) -> u32 {
        let tokens = self.narrative_slots.saturating_mul(self.narrative_tokens);
        tokens.div_ceil(self.scoring_tokens.max(1)).min(slots)
    }
}

/// The price list of one actor, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Costs {
    pub weights: u64,
    pub workspace: u64,
    /// All slots of the narrative together.
    pub narrative: u64,
    /// One scoring slot.
    pub slot: u64,
    /// Whether the narrative's slots lie in the memory of the scoring slots, which are never less together.
    pub shared: bool,
}

impl Costs {
    /// The same, with one memory for both kinds of slots.
    pub fn sharing(self) -> Self {
        Self { shared: true, ..self }
    }

    /// What must be there whatever the number of scoring slots.
    pub fn fixed(&self) -> u64 {
        sum([
            self.weights,
            self.workspace,
            if self.shared { 0 } else { self.narrative },
        ])
    }

    /// All slots of both kinds.
    pub fn kv(&self, slots: u32) -> u64 {
        let scoring = product([u64::from(slots), self.slot]);
        match self.shared {
            true => scoring.max(self.narrative),
            false => sum([scoring, self.narrative]),
        }
    }

    pub fn with_slots(&self, slots: u32) -> u64 {
        sum([self.weights, self.workspace, self.kv(slots)])
    }

    /// Scoring slots that fit into `available` MiB; `None` if not even the narrative's do.
    pub fn slots_in(&self, available: u64) -> Option<u32> {
        let left = available.checked_sub(self.fixed())?;
        if self.shared && left < self.narrative {
            return None;
        }
        Some(u32::try_from(left / self.slot).unwrap_or(u32::MAX))
    }
}

/// What a process takes on a CPU besides weights, slots and activations: ONNX Runtime and its threads, tokenizer and token trie (64 MB at a
/// vocabulary of 102,400), grammars, the store's cache.
const CPU_PROCESS_MIB: u64 = 256;

/// A CUDA context with the libraries' kernels and handles: generous, until it has been measured.
pub const CUDA_CONTEXT_MIB: u64 = 512;

/// Values per token of a chunk that live at once, at most: gate, up, activation and their product ...
const LIVE_INTERMEDIATE: u64 = 4;
/// ... and residual, norm, packed query/key/value, attention's output.
const LIVE_HIDDEN: u64 = 6;

/// A logits row is fp32 and held twice: as the model's output, and as what the choice reads.
const LOGITS_BYTES: u64 = 8;

/// Rows of one decode that the fast int4 kernels for CUDA take. With one more the whole matrix is dequantised to fp16, the head's too: more never
/// run together.
pub const CUDA_QUANTISED_ROWS_MAX: u32 = 16;

impl ModelFootprint {
    pub(super) fn quantised(&self) -> bool {
        matches!(self.precision, Precision::Int4 | Precision::Int8)
    }

    /// Most rows of one decode; `None` where no number is known to be too large.
    pub fn rows_max(&self) -> Option<u32> {
        (self.quantised() && self.target == DeviceKind::Cuda).then_some(CUDA_QUANTISED_ROWS_MAX)
    }

    /// Bytes of keys and values of one token, all layers.
    pub fn kv_bytes_per_token(&self) -> u64 {
        let parts = [self.layers, 2, self.kv_heads, self.head_dim, self.kv_type.bytes()];
        product(parts.map(u64::from))
    }

    /// `slots_max` is the most slots of a bank, `chunk_tokens` the longest prefill chunk.
    pub(super) fn costs(&self, contexts: &Contexts, chunk_tokens: u32, slots_max: u32) -> Costs {
        let slots_of = |slots: u32, tokens: u32| {
            mib_up(product([
                u64::from(slots),
                u64::from(tokens),
                self.kv_bytes_per_token(),
            ]))
        };
        Costs {
            weights: mib_up(sum([
                self.weights_bytes,
                self.second_head_bytes(),
                self.block_sums_bytes(),
            ])),
            workspace: self.workspace_mib(
                contexts,
                chunk_tokens,
                slots_max.min(self.rows_max().unwrap_or(u32::MAX)),
            ),
            narrative: slots_of(contexts.narrative_slots, contexts.narrative_tokens),
            // A slot of nothing costs something, so that no division meets a zero.
            slot: slots_of(1, contexts.scoring_tokens).max(1),
            shared: false,
        }
    }

    /// ONNX Runtime repacks the head's matrix for its kernels and keeps the embedding, mapped from the file, beside it (measured on a CPU).
    /// Only an fp16 head on a card is used as it lies.
    fn second_head_bytes(&self) -> u64 {
        if !self.tied_head {
            return 0;
        }
        let weights = product([self.vocabulary, self.hidden].map(u64::from));
        let scale_bytes = match self.target {
            DeviceKind::Cpu => 4,
            DeviceKind::Cuda => 2,
        };
        let scales = weights / u64::from(self.block_size.unwrap_or(32).max(1));
        let scales = product([scales, scale_bytes]);
        let bits = |of_precision: u64| self.head_bits.map_or(of_precision, u64::from);
        match self.precision {
            Precision::Int4 => sum([product([weights, bits(4)]) / 8, scales]),
            Precision::Int8 => sum([product([weights, bits(8)]) / 8, scales]),
            Precision::Fp32 => product([weights, 4]),
            Precision::Fp16 => 0,
        }
    }

    /// Repacked for a CPU, a quantised matrix carries the sum of each block in fp32 beside its scale. Measured, ONNX Runtime 1.31 on AVX512-VNNI:
    /// private memory after loading is the weights file and these sums, to within 1 MiB for int4 and int8 of 0.43 billion weights.
    fn block_sums_bytes(&self) -> u64 {
        let Some(block) = self
            .block_size
            .filter(|_| self.quantised() && self.target == DeviceKind::Cpu)
        else {
            return 0;
        };
        let [hidden, intermediate, layers] = [self.hidden, self.intermediate, self.layers].map(u64::from);
        let [heads, kv_heads, head_dim] = [self.heads, self.kv_heads, self.head_dim].map(u64::from);
        // Query and output have one head's width per head, key and value one per group.
        let attention = product([2, sum([heads, kv_heads]), head_dim]);
        let layer = product([hidden, sum([attention, product([3, intermediate])])]);
        let head = product([u64::from(self.vocabulary), hidden]);
        product([sum([product([layers, layer]), head]) / u64::from(block.max(1)), 4])
    }

    fn workspace_mib(&self, contexts: &Contexts, chunk_tokens: u32, rows_max: u32) -> u64 {
        let [hidden, intermediate] = [self.hidden, self.intermediate].map(u64::from);
        let [chunk, rows, vocabulary] = [chunk_tokens, rows_max, self.vocabulary].map(u64::from);
        let live = sum([
            product([LIVE_INTERMEDIATE, intermediate]),
            product([LIVE_HIDDEN, hidden]),
        ]);
        let logits = product([rows, vocabulary, LOGITS_BYTES]);
        let longest = u64::from(contexts.scoring_tokens.max(contexts.narrative_tokens));
        match self.target {
            DeviceKind::Cpu => {
                let attention = product([u64::from(self.heads), chunk, longest, 4]);
                let bytes = sum([product([chunk, live, 4]), attention, logits]);
                sum([CPU_PROCESS_MIB, mib_up(bytes)])
            }
            DeviceKind::Cuda => {
                // A chunk has more rows than the fast kernels take.
                let matrix = if self.quantised() {
                    product([hidden, intermediate, 2])
                } else {
                    0
                };
                // Where attention cannot read rounded keys and values as they lie, it makes an fp16 copy of a layer's.
                let tokens = longest.max(product([rows, u64::from(contexts.scoring_tokens)]));
                let cache = match self.kv_type {
                    KvType::Int8 => product([tokens, 2, u64::from(self.kv_heads), u64::from(self.head_dim), 2]),
                    KvType::Float32 | KvType::Float16 => 0,
                };
                let bytes = sum([product([chunk, live, 2]), logits, matrix, cache]);
                sum([CUDA_CONTEXT_MIB, mib_up(bytes)])
            }
        }
    }
}

/// Numbers come from a file that anyone may have written: a product too large stays too large to fit, instead of wrapping round.
fn product<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}

pub(super) fn sum<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

pub(super) fn mib_up(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{CONTEXTS, exaone_2_4b, exaone_7_8b};
    use super::*;

    #[test]
    fn a_token_of_the_7_8b_model_takes_128_kib_on_a_card_and_twice_that_on_a_cpu() {
        assert_eq!(exaone_7_8b(DeviceKind::Cuda).kv_bytes_per_token(), 128 << 10);
        assert_eq!(exaone_7_8b(DeviceKind::Cpu).kv_bytes_per_token(), 256 << 10);
        assert_eq!(exaone_2_4b(DeviceKind::Cpu).kv_bytes_per_token(), 150 << 10);
    }

    #[test]
    fn a_tied_head_is_paid_for_a_second_time() {
        // 102,400 · 2,560 half bytes are 125 MiB, and a scale per 32 weights 31.25 (fp32) or 15.6 MiB (fp16).
        assert_eq!(exaone_2_4b(DeviceKind::Cpu).second_head_bytes(), 156 * MIB + MIB / 4);
        assert_eq!(
            exaone_2_4b(DeviceKind::Cuda).second_head_bytes(),
            140 * MIB + 5 * MIB / 8
        );
        assert_eq!(exaone_7_8b(DeviceKind::Cuda).second_head_bytes(), 0);
        let finer = ModelFootprint {
            head_bits: Some(8),
            ..exaone_2_4b(DeviceKind::Cpu)
        };
        assert_eq!(finer.second_head_bytes(), 281 * MIB + MIB / 4);
    }

    #[test]
    fn a_cpu_holds_the_sum_of_every_block_as_well() {
        // The shape of the export that was measured: 432 million weights.
        let measured = ModelFootprint {
            layers: 24,
            hidden: 1_024,
            intermediate: 3_584,
            heads: 8,
            kv_heads: 2,
            head_dim: 128,
            ..exaone_2_4b(DeviceKind::Cpu)
        };
        assert_eq!(measured.block_sums_bytes() / MIB, 51);
        assert_eq!(exaone_2_4b(DeviceKind::Cpu).block_sums_bytes() / MIB, 286);
        assert_eq!(exaone_2_4b(DeviceKind::Cuda).block_sums_bytes(), 0);
        let float = ModelFootprint {
            precision: Precision::Fp32,
            block_size: None,
            ..measured
        };
        assert_eq!(float.block_sums_bytes(), 0);
    }

    #[test]
    fn the_workspace_of_a_card_is_what_a_chunk_and_a_decode_need_beside_the_context() {
        let model = exaone_7_8b(DeviceKind::Cuda);
        // 256 · (4 · 14,336 + 6 · 4,096) half floats are 40 MiB, 16 rows of logits 12.5, one dequantised matrix 112.
        assert_eq!(model.costs(&CONTEXTS, 256, 16).workspace, 512 + 165);
        assert_eq!(
            model.costs(&CONTEXTS, 256, 20).workspace,
            512 + 165,
            "more rows never run together"
        );
        assert!(model.costs(&CONTEXTS, 4_096, 16).workspace > 1_200);
        let rounded = ModelFootprint {
            kv_type: KvType::Int8,
            ..model
        };
        assert_eq!(rounded.costs(&CONTEXTS, 256, 16).workspace, 512 + 165 + 64);
    }

    #[test]
    fn rounded_keys_and_values_take_half_of_a_cards_and_a_quarter_of_a_cpus_memory() {
        let tokens = |target| {
            let full = exaone_7_8b(target);
            let rounded = ModelFootprint {
                kv_type: KvType::Int8,
                ..full.clone()
            };
            full.kv_bytes_per_token() / rounded.kv_bytes_per_token()
        };
        assert_eq!((tokens(DeviceKind::Cuda), tokens(DeviceKind::Cpu)), (2, 4));
    }

    #[test]
    fn in_shared_memory_there_is_room_for_the_larger_kind_of_slot() {
        let costs = exaone_7_8b(DeviceKind::Cuda).costs(&CONTEXTS, 256, 16);
        let shared = costs.sharing();
        assert_eq!((costs.kv(1), costs.kv(5)), (272 + 128, 272 + 640));
        assert_eq!((shared.kv(1), shared.kv(5)), (272, 640));
        assert_eq!(shared.slots_in(shared.fixed() + 271), None);
        assert_eq!(shared.slots_in(shared.fixed() + 272), Some(2));
        assert_eq!((CONTEXTS.covered(2), CONTEXTS.covered(9)), (2, 3));
    }

    #[test]
    fn absurd_numbers_of_a_model_are_too_large_and_not_wrapped_round() {
        let absurd = ModelFootprint {
            layers: u32::MAX,
            kv_heads: u32::MAX,
            head_dim: u32::MAX,
            weights_bytes: u64::MAX,
            ..exaone_2_4b(DeviceKind::Cpu)
        };
        assert_eq!(absurd.costs(&CONTEXTS, 256, 1).slots_in(1 << 40), None);
    }
}
