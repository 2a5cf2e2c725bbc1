"""Converts between bfloat16, which numpy does not know, and float32."""

import numpy as np


def to_float32(bits: np.ndarray) -> np.ndarray:
    """float32 values of bfloat16 bit patterns (uint16): exact."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def from_float32(values: np.ndarray) -> np.ndarray:
    """bfloat16 bit patterns (uint16) nearest to finite float32 values, ties to even."""
    bits = values.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))
    return (rounded >> 16).astype(np.uint16)
