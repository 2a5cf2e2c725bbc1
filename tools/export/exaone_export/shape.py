"""Describes a decoder by its numbers, independently of the names a checkpoint gives them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Llama3Scaling:
    """Frequency scaling that stretches RoPE from `original_context` to longer texts."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True)
class LayerKind:
    """How a layer attends: to the last `window` tokens, the current one among them (None: to all), with rotated positions or without."""

    window: int | None
    rotary: bool


@dataclass(frozen=True)
class ModelShape:
    """What a graph builder needs to know; counts, and `context` in tokens. `layer_kinds` is empty where all layers are alike."""

    architecture: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    norm_epsilon: float
    tied_head: bool
    rope_theta: float
    rope_scaling: Llama3Scaling | None
    layer_kinds: tuple[LayerKind, ...] = ()
