"""Reads how a model rotates positions, and computes the cosine and sine tables that the attention operator reads."""

import math

import numpy as np

from .config import number, positive
from .errors import ExportError
from .shape import Llama3Scaling, ModelShape


def rope_tables(shape: ModelShape) -> tuple[np.ndarray, np.ndarray]:
    """(cos, sin), each float32 [context, head_dim / 2], with the model's frequency scaling baked in."""
    exponents = np.arange(0, shape.head_dim, 2, dtype=np.float64) / shape.head_dim
    frequencies = shape.rope_theta**-exponents
    if shape.rope_scaling is not None:
        frequencies = _llama3(frequencies, shape.rope_scaling)
    angles = np.outer(np.arange(shape.context, dtype=np.float64), frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _llama3(frequencies: np.ndarray, scaling: Llama3Scaling) -> np.ndarray:
    """Slow rotations are divided by the factor, fast ones kept, those between blended."""
    turns = scaling.original_context * frequencies / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    keep = np.clip((turns - scaling.low_freq_factor) / span, 0.0, 1.0)
    return frequencies * (keep + (1.0 - keep) / scaling.factor)


def read_rope(config: dict) -> tuple[float, Llama3Scaling | None]:
    """(theta, scaling) from two keys as transformers 4 writes them, or from rope_parameters as transformers 5 does."""
    together = config.get("rope_parameters")
    key = "rope_scaling" if together is None else "rope_parameters"
    scaling = config.get(key) or {"rope_type": "default"}
    if not isinstance(scaling, dict):
        raise ExportError(f"config.json: {key} is {scaling!r}, not an object or null")
    return number({**config, **scaling}, "rope_theta"), _scaling(key, scaling)


def _scaling(key: str, scaling: dict) -> Llama3Scaling | None:
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ExportError(f"config.json: {key} of type {kind!r} is not supported; this exporter knows 'llama3', 'default' and null")
    low, high = number(scaling, "low_freq_factor"), number(scaling, "high_freq_factor")
    if high <= low:
        raise ExportError(f"config.json: {key}.high_freq_factor {high} must be above low_freq_factor {low}")
    return Llama3Scaling(number(scaling, "factor"), low, high, positive(scaling, "original_max_position_embeddings"))
