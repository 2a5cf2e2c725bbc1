"""Small random checkpoints, and their exports, each made once per test run."""

import json
from pathlib import Path

import pytest

from exaone_export.cli import main
from exaone_export.presets import preset_config
from exaone_export.random_checkpoint import write_checkpoint

SMALL = {"num_layers": 2, "intermediate_size": 320, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512}
# An original context far below the prompts of the tests, so that every branch of the frequency scaling takes part.
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
SMALL_4 = {**SMALL, "hidden_size": 256, "head_dim": 64, "rope_scaling": SCALING, "rope_theta": 10000, "max_position_embeddings": 32768}
SMALL_4["num_hidden_layers"] = SMALL_4.pop("num_layers")
# Three layers that see the last 48 tokens, and one that sees all and knows no positions.
HYBRID = {"num_hidden_layers": 4, "sliding_window": 48, "layer_types": [*["sliding_attention"] * 3, "full_attention"]}
CONFIGS = {
    "tied-80": {**preset_config("exaone-3.5-2.4b"), **SMALL, "hidden_size": 320, "rope_scaling": SCALING, "rope_theta": 10000},
    "untied-128": {**preset_config("exaone-3.5-7.8b"), **SMALL, "hidden_size": 256, "rope_scaling": SCALING, "rope_theta": 10000},
    "full-64": {**preset_config("exaone-4.0-1.2b"), **SMALL_4, "layer_types": ["full_attention"] * 2},
    "hybrid-64": {**preset_config("exaone-4.0-32b"), **SMALL_4, **HYBRID},
}
CONTEXT = 2048
DEMO = Path(__file__).parents[3] / "models" / "demo"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """One checkpoint per entry of CONFIGS; the tied one in several shards."""
    folders = {}
    for name, config in CONFIGS.items():
        folders[name] = tmp_path_factory.mktemp("checkpoints") / name
        folders[name].mkdir()
        write_checkpoint(config, folders[name], seed=7, shard_bytes_max=1 << 20 if name == "tied-80" else 1 << 30)
    return folders


@pytest.fixture(scope="session")
def calibration(tmp_path_factory) -> Path:
    """A text to calibrate int8 keys and values on."""
    path = tmp_path_factory.mktemp("calibration") / "text.txt"
    path.write_text("저는 결제 시스템의 장애를 30분 만에 복구했습니다. Then I wrote down what we should change.\n" * 8, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def exported(checkpoints, calibration, tmp_path_factory):
    """A function from (checkpoint name, precision, target, block size, other options) to the folder of its export."""
    made = {}

    def export(name: str, precision: str, target: str = "cpu", block_size: int = 32, *options: str) -> Path:
        key = (name, precision, target, str(block_size), *options)
        if key not in made:
            out = tmp_path_factory.mktemp("exports") / "-".join(key)
            formats = ["--precision", precision, "--target", target, "--block-size", str(block_size), *options]
            if "--kv" in options:
                formats += ["--calibrate", str(calibration)]
            assert main([str(checkpoints[name]), str(out), *formats, "--context", str(CONTEXT)]) == 0
            made[key] = out
        return made[key]

    return export


@pytest.fixture
def broken_copy(checkpoints, tmp_path):
    """A private copy of a small checkpoint to damage."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in checkpoints["tied-80"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def edit_json(path: Path, change) -> None:
    """Applies `change` to the object in a JSON file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
