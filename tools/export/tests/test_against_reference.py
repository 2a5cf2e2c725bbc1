"""The exported graph computes what the checkpoint means: compared with an independent numpy forward."""

import json

import numpy as np
import pytest
from conftest import CONFIGS

from exaone_export.architectures import find_architecture
from exaone_export.checkpoint import Checkpoint
from exaone_export.cli import main
from exaone_export.runtime import SlotRunner

TOKENS = 260


@pytest.fixture(scope="module")
def reference(checkpoints):
    tokens = np.random.default_rng(1).integers(0, 512, TOKENS).tolist()
    logits = {
        name: find_architecture(config).reference_logits(config, Checkpoint(checkpoints[name]), tokens) for name, config in CONFIGS.items()
    }
    return tokens, logits


@pytest.mark.parametrize("name", CONFIGS)
def test_fp32_export_gives_the_reference_logits(name, exported, reference):
    tokens, expected = reference
    found = SlotRunner(exported(name, "fp32"), 1, TOKENS).run([tokens], [0], wanted=range(TOKENS))
    assert found.dtype == np.float32
    assert np.abs(found - expected[name]).max() <= 1e-4
    assert (found.argmax(-1) == expected[name].argmax(-1)).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_fp32_decoding_token_by_token_gives_the_reference_logits(name, exported, reference):
    tokens, expected = reference
    runner = SlotRunner(exported(name, "fp32"), 1, TOKENS)
    found = np.concatenate([runner.run([[token]], [past]) for past, token in enumerate(tokens)])
    assert np.abs(found - expected[name]).max() <= 1e-4


# fp16 exports are meant for CUDA; the CPU runs them too, slowly, which is enough to see that the graph is right.
@pytest.mark.parametrize(
    ("precision", "target", "correlation_min"),
    [("int8", "cpu", 0.999), ("int4", "cpu", 0.9), ("fp16", "cuda", 0.9999), ("int8", "cuda", 0.999), ("int4", "cuda", 0.9)],
)
@pytest.mark.parametrize("name", CONFIGS)
def test_other_precisions_stay_near_the_reference(name, precision, target, correlation_min, exported, reference):
    tokens, expected = reference
    found = SlotRunner(exported(name, precision, target), 1, TOKENS).run([tokens], [0], wanted=range(TOKENS))
    assert np.corrcoef(found.ravel(), expected[name].ravel())[0, 1] >= correlation_min


@pytest.mark.parametrize("name", CONFIGS)
def test_int8_keys_and_values_change_little(name, exported, reference):
    tokens, _ = reference
    logits = [SlotRunner(exported(name, "fp32", "cpu", 32, *kv), 1, TOKENS).run([tokens], [0], wanted=range(TOKENS)) for kv in ((), ("--kv", "int8"))]
    full, rounded = logits
    assert not np.array_equal(full, rounded)
    assert np.sqrt(np.mean((full - rounded) ** 2)) <= 0.05 * full.std()


def test_only_the_wanted_rows_get_logits(exported):
    runner = SlotRunner(exported("tied-80", "int4"), 1, 16)
    every = runner.run([[5, 6, 7, 8]], [0], wanted=range(4))
    assert np.array_equal(runner.run([[5, 6, 7, 8]], [0], wanted=[3, 1]), every[[3, 1]])
    assert runner.run([[5, 6, 7, 8]], [0], wanted=[]).shape == (0, 512)


def test_a_tied_head_is_stored_once(exported):
    tied = json.loads((exported("tied-80", "int4") / "model.json").read_text())
    weights = tied["parameter_count"] * 5 // 8  # four bits, and a float32 scale for every 32 weights
    tables = 2 * 2048 * 40 * 4
    assert tied["weights_bytes"] == pytest.approx(weights + tables, rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_verify_prints_the_figures(precision, checkpoints, tmp_path, capsys):
    arguments = [str(checkpoints["untied-128"]), str(tmp_path / "out"), "--precision", precision, "--target", "cpu", "--context", "512", "--verify"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "max |Δlogit|" in printed
    assert ("top-1 agreement 100.0%" if precision == "fp32" else "is expected to differ") in printed
