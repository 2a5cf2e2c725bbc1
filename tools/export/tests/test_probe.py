"""The probe finds the query tile, and says so where there is none."""

import numpy as np
import pytest
from conftest import CONFIGS

from exaone_export import probe
from exaone_export.architectures.exaone3 import parse_config
from exaone_export.runtime import SlotRunner


@pytest.fixture
def shape():
    return parse_config(CONFIGS["tied-80"], 1024)


@pytest.fixture
def changing(monkeypatch):
    """Makes the probe see a kernel whose last row changes at the chunk lengths that `changing` is given."""

    def install(rule):
        monkeypatch.setattr(probe._Attention, "last_row_changes", lambda self, rows: rule(rows))

    return install


@pytest.mark.parametrize("tile", [64, 102, 160])
def test_it_finds_the_tile_of_a_regular_kernel(tile, shape, changing):
    changing(lambda rows: rows % tile == 1)
    assert probe.query_tile(shape) == tile


def test_a_kernel_that_rounds_every_row_alike_gets_the_largest_tile(shape, changing):
    changing(lambda rows: False)
    assert probe.query_tile(shape) == 160


def test_an_irregular_kernel_has_no_tile(shape, changing):
    changing(lambda rows: rows < 10)
    assert probe.query_tile(shape) is None


def test_cutting_a_prompt_against_the_measured_tile_changes_its_bits(shape, exported):
    tile = probe.query_tile(shape)
    if tile is None or not probe._Attention(shape, 2 * tile + 2).last_row_changes(tile + 1):
        pytest.skip("this processor has no query tile")
    tokens = np.random.default_rng(0).integers(0, 512, 2 * tile).tolist()
    runner = SlotRunner(exported("tied-80", "fp32"), 2, len(tokens))
    runner.run([tokens], [0], 0)
    runner.run([tokens[: tile + 1]], [0], 1)
    runner.run([tokens[tile + 1 :]], [tile + 1], 1)
    assert not np.array_equal(runner.values[-1][0], runner.values[-1][1])
