"""Quantises rows of a weight matrix in blocks with ONNX Runtime's own quantizer."""

import numpy as np
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

_QUANTISERS = {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}


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
