"""Quantised blocks come as near to their weights as they promise, whatever stands in them."""

import numpy as np
import pytest

from exaone_export.numerics import choose_numerics
from exaone_export.quantise import fit_rows, quantise_rows


def restored(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The weights that 4-bit blocks mean."""
    values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1).astype(np.float32) - 8
    return (values * scales[..., None].astype(np.float32)).reshape(len(packed), -1)


def some_rows(dtype=np.float32) -> np.ndarray:
    return (np.random.default_rng(3).standard_normal((96, 256), np.float32) * 0.05).astype(dtype)


@pytest.mark.parametrize("block_size", [16, 32, 128])
def test_a_fitted_scale_leaves_less_error_than_the_nearest_one(block_size):
    rows = some_rows()
    nearest, fitted = (restored(*method) - rows for method in (quantise_rows(rows, 4, block_size), fit_rows(rows, block_size)))
    assert np.mean(fitted**2) < 0.95 * np.mean(nearest**2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_blocks_of_nothing_and_of_one_large_weight_come_out_exactly(dtype):
    rows = np.zeros((3, 64), dtype)
    rows[1, 5], rows[2, 40] = 2, -3
    packed, scales = fit_rows(rows, 32)
    assert scales.dtype == dtype
    assert np.allclose(restored(packed, scales), rows.astype(np.float32), rtol=1e-3)


def test_rows_are_fitted_on_their_own_so_that_slabs_do_not_matter():
    rows = some_rows()
    whole, parts = fit_rows(rows, 32), [fit_rows(rows[:10], 32), fit_rows(rows[10:], 32)]
    for side in range(2):
        assert np.array_equal(whole[side], np.concatenate([part[side] for part in parts]))


def test_better_qualities_give_more_bits_to_what_minds_rounding():
    fast, balanced, best = (choose_numerics("int4", "cpu", 32, quality=quality) for quality in ("fast", "balanced", "best"))
    assert [numerics.head_bits for numerics in (fast, balanced, best)] == [4, 4, 8]
    bits = [[numerics.layer_bits(layer, 32) for layer in range(32)] for numerics in (fast, balanced, best)]
    assert set(bits[0] + bits[1]) == {4}
    assert bits[2][:4] == bits[2][28:] == [8] * 4
    assert bits[2][4:10] == [4, 4, 8, 4, 4, 8]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_quality_is_a_matter_of_4_bits(precision):
    best = choose_numerics(precision, "cpu", 32, quality="best")
    assert {best.head_bits, best.layer_bits(0, 8)} == {best.bits}
