"""Quantises rows of a weight matrix in blocks: by ONNX Runtime's own round-to-nearest, or by looking for the scale that fits a block best."""

import numpy as np
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

_QUANTISERS = {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}
# What the scale of round-to-nearest is divided by where others are tried.
_STRETCHES = np.linspace(0.85, 1.15, 9, dtype=np.float32)
# Weights whose scales are looked for at once: what a processor's nearest cache holds of them and their kin.
_FITTED_VALUES = 1 << 14


def quantise_rows(rows: np.ndarray, bits: int, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric block quantisation of float32 or float16 `rows` [n, k], as MatMulNBits and GatherBlockQuantized read it.

    Returns packed values uint8 [n, k / block_size, block_size * bits / 8] and scales [n, k / block_size] of the rows' type.
    Every row is quantised on its own, so a matrix may be passed in slabs of rows.
    """
    count, columns = rows.shape
    blocks = columns // block_size
    packed = np.zeros((count, blocks, block_size * bits // 8), np.uint8)
    scales = np.zeros(count * blocks, rows.dtype)
    zero_points = np.zeros(count * ((blocks * bits + 7) // 8), np.uint8)  # untouched by symmetric quantisation
    by_column = np.ascontiguousarray(rows.T)  # the quantizer wants [k, n]
    _QUANTISERS[bits](packed, by_column, scales, zero_points, block_size, count, columns, True)
    return packed, scales.reshape(count, blocks)


def fit_rows(rows: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The same in 4 bits, with the scale of each block chosen by what it costs.

    Round-to-nearest takes the scale by which the largest value comes out exactly. Here some scales around it are tried; for the values that each gives
    the best scale follows from least squares, and the one that leaves the least squared error wins. Large values weigh more, as they do in a product.
    """
    count, columns = rows.shape
    blocks = rows.reshape(-1, block_size)
    packed, scales = np.empty((len(blocks), block_size // 2), np.uint8), np.empty(len(blocks), rows.dtype)
    at_once = max(1, _FITTED_VALUES // block_size)
    for start in range(0, len(blocks), at_once):
        some = slice(start, start + at_once)
        scales[some] = _fitted_scales(blocks[some].astype(np.float32, copy=False))[:, 0]
        packed[some] = _packed(blocks[some], scales[some].astype(np.float32)[:, None])
    return packed.reshape(count, columns // block_size, block_size // 2), scales.reshape(count, columns // block_size)


def _fitted_scales(values: np.ndarray) -> np.ndarray:
    """The scale [blocks, 1] of every block [blocks, block_size]."""
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    weight = np.abs(values) + np.sqrt(np.mean(values * values, axis=1, keepdims=True))
    weighted = weight * values
    nearest = np.divide(values * -8, largest, out=np.zeros_like(values), where=largest != 0)
    best, scales = np.zeros_like(largest), np.zeros_like(largest)
    for stretch in _STRETCHES:
        steps = np.rint(nearest * stretch)
        np.clip(steps, -8, 7, out=steps)
        along = np.einsum("ij,ij->i", weighted, steps)[:, None]
        across = np.einsum("ij,ij,ij->i", weight, steps, steps)[:, None]
        gain = np.divide(along * along, across, out=np.zeros_like(along), where=across > 0)
        better = gain > best
        best[better] = gain[better]
        scales[better] = along[better] / across[better]
    return scales


def _packed(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The values nearest under scales as they are stored, two to a byte."""
    steps = np.rint(np.divide(values, scales, out=np.zeros(values.shape, np.float32), where=scales != 0))
    unsigned = (np.clip(steps, -8, 7) + 8).astype(np.uint8)
    return unsigned[:, ::2] | unsigned[:, 1::2] << 4
