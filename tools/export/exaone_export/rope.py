"""Computes the cosine and sine tables that the attention operator reads."""

import math

import numpy as np

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
