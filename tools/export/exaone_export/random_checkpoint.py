"""Writes a random-weight checkpoint in the published Hugging Face layout: `python -m exaone_export.random_checkpoint`."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .architectures import find_architecture
from .checkpoint import INDEX_FILE, SINGLE_FILE
from .cli import run_plainly
from .errors import ExportError
from .export import written_beside
from .graph import Graph
from .numerics import choose_numerics
from .presets import PRESETS, RANDOM_KEY, preset_config
from .progress import Progress
from .random_tokenizer import write_tokenizer
from .random_weights import RandomWeights
from .safetensors_file import write_bf16
from .weights import Layout, Part

SHARD_BYTES_MAX = 4 << 30


def write_checkpoint(config: dict, out: Path, seed: int, shard_bytes_max: int = SHARD_BYTES_MAX) -> None:
    """Writes config.json, the tokenizer's files and bf16 safetensors (shards with an index when they exceed one shard)."""
    parts = _parts(config)
    (out / "config.json").write_text(json.dumps({**config, RANDOM_KEY: True}, indent=2) + "\n", encoding="utf-8")
    write_tokenizer(out, config)
    shards = _shards(parts, shard_bytes_max)
    progress = Progress(sum(_bytes(part) for part in parts))
    weights, weight_map = RandomWeights(seed), {}
    for number, shard in enumerate(shards, 1):
        name = SINGLE_FILE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_bf16(out / name, ((part.name, part.shape, _counted(weights, part, progress)) for part in shard))
        weight_map.update({part.name: name for part in shard})
    progress.finish()
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(_bytes(part) for part in parts)}, "weight_map": weight_map}
        (out / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code as that of the exporter."""
    parser = argparse.ArgumentParser(prog="python -m exaone_export.random_checkpoint", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--preset", choices=PRESETS, required=True, help="shape of the model")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default 0)")
    options = parser.parse_args(arguments)
    return run_plainly(lambda: _write_preset(options.preset, options.out.absolute(), options.seed))


def _write_preset(preset: str, out: Path, seed: int) -> None:
    if out.exists():
        raise ExportError(f"{out} exists already; choose another folder")
    with written_beside(out) as folder:
        write_checkpoint(preset_config(preset), folder, seed)


def _parts(config: dict) -> list[Part]:
    """The tensors an export of this configuration reads."""
    architecture = find_architecture(config)
    layout = Layout(choose_numerics("fp32", "cpu", 32))
    architecture.build(Graph(architecture.parse_config(config, 1), layout))
    return layout.parts()


def _shards(parts: list[Part], bytes_max: int) -> list[list[Part]]:
    shards, filled = [[]], 0
    for part in parts:
        if shards[-1] and filled + _bytes(part) > bytes_max:
            shards.append([])
            filled = 0
        shards[-1].append(part)
        filled += _bytes(part)
    return shards


def _bytes(part: Part) -> int:
    return 2 * int(np.prod(part.shape))


def _counted(weights: RandomWeights, part: Part, progress: Progress) -> Iterable[np.ndarray]:
    for slab in weights.slabs(part.name, part.shape):
        progress.advance(part.name.removesuffix(".weight"), 2 * slab.size)
        yield slab


if __name__ == "__main__":
    sys.exit(main())
