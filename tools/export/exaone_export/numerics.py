"""Settles which number formats an export uses, and refuses combinations that no kernel serves."""

from dataclasses import dataclass

import numpy as np

from .errors import ExportError

PRECISIONS = ("int4", "int8", "fp16", "fp32")
TARGETS = ("cpu", "cuda")
KV_FORMATS = ("full", "int8")
QUALITIES = ("fast", "balanced", "best")
# Blocks that ONNX Runtime's kernels take. Only 16 and 32 (and 64 in 8 bits) were seen to give the same bits alone and in a
# batch on a CPU, which the daemon promises its users: the others are refused there.
BLOCK_SIZES = {
    ("int4", "cpu"): (16, 32),
    ("int8", "cpu"): (32, 64),
    ("int4", "cuda"): (16, 32, 64, 128),
    ("int8", "cuda"): (16, 32, 64, 128),
}


@dataclass(frozen=True)
class Numerics:
    """Formats of weights, activations and KV cache."""

    precision: str
    target: str
    block_size: int | None
    kv: str = "full"
    quality: str = "fast"

    @property
    def bits(self) -> int | None:
        """Bits of a quantised weight; None when weights are floats."""
        return {"int4": 4, "int8": 8}.get(self.precision)

    @property
    def head_bits(self) -> int | None:
        """Bits of the output head, 8 in the best quality: what is lost there, every token loses."""
        return 8 if self.precision == "int4" and self.quality == "best" else self.bits

    def layer_bits(self, layer: int, layers: int) -> int | None:
        """Bits of the matrices of a layer that mind rounding most: those that make keys and values, and those that end the MLP.

        In the best quality every third layer, and the first and the last eighth of them, have 8.
        """
        edge = layers // 8
        sensitive = layer < edge or layer >= layers - edge or (layer - edge) % 3 == 2
        return 8 if self.precision == "int4" and self.quality == "best" and sensitive else self.bits

    @property
    def float_type(self) -> np.dtype:
        """Type of activations, norms and scales."""
        return np.dtype(np.float16 if self.target == "cuda" else np.float32)

    @property
    def kv_type(self) -> np.dtype:
        """Type of the KV cache."""
        return np.dtype(np.int8) if self.kv == "int8" else self.float_type


def choose_numerics(precision: str, target: str, block_size: int, kv: str = "full", quality: str = "fast") -> Numerics:
    """The formats asked for; ExportError when no kernel serves them."""
    if precision == "fp16" and target == "cpu":
        raise ExportError(
            "--precision fp16 makes no sense with --target cpu: ONNX Runtime has no fp16 matrix product there and would "
            "convert every weight at every step; take fp32, int8 or int4, or --target cuda"
        )
    if precision == "fp32" and target == "cuda":
        raise ExportError(
            "--precision fp32 makes no sense with --target cuda: ONNX Runtime's CUDA attention works in fp16 only; "
            "take fp16, int8 or int4, or --target cpu"
        )
    if precision in ("fp16", "fp32"):
        return Numerics(precision, target, None, kv, quality)
    allowed = BLOCK_SIZES[precision, target]
    if block_size not in allowed:
        sizes = ", ".join(str(size) for size in allowed)
        raise ExportError(f"--block-size {block_size} cannot be used with {precision} on {target}; it takes {sizes}")
    return Numerics(precision, target, block_size, kv, quality)
