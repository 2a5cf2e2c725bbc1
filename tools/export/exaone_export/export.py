"""The export from start to end: plan and check everything, write beside the target, rename when whole."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import __version__
from .architectures import Architecture, find_architecture
from .checkpoint import Checkpoint
from .errors import ExportError
from .graph import WEIGHTS_FILE, Graph
from .jsonfile import read_json
from .kv_scales import calibration_tokens, kv_scales
from .manifest import MANIFEST_FILE, MODEL_FILE, Origin, write_manifest
from .numerics import choose_numerics
from .presets import RANDOM_KEY, preset_config
from .probe import largest_tile, query_tile
from .progress import GIB, Progress
from .random_tokenizer import write_tokenizer
from .random_weights import RandomWeights
from .shape import ModelShape
from .tokenizer import TEMPLATE_FILE, TOKENIZER_FILE, TokenizerFiles, read_tokenizer
from .verify import verify
from .weights import Layout, Source, write_weights

RANDOM_NOTE = "Random weights for tests and benchmarks: no licence applies, and no sense is to be expected."
SMALL_FILES_BYTES = 4 << 20  # the graph, model.json and the chat template, generously


@dataclass(frozen=True)
class Request:
    """What the command line asked for; exactly one of `checkpoint` and `random_preset` is set."""

    out: Path
    precision: str
    target: str
    checkpoint: Path | None = None
    random_preset: str | None = None
    seed: int = 0
    context: int | None = None
    block_size: int = 32
    kv: str = "full"
    quality: str | None = None
    calibrate: Path | None = None
    verify: bool = False
    overwrite: bool = False
    name: str | None = None
    licence_note: str | None = None
    demo: bool = False


@dataclass(frozen=True)
class Inputs:
    """Everything read and checked before the first byte is written."""

    architecture: Architecture
    config: dict
    shape: ModelShape
    source: Source
    tokenizer: TokenizerFiles
    eos_ids: list[int]
    origin: Origin


def export(request: Request) -> None:
    """Writes the export folder; ExportError (and nothing on disk) when it cannot."""
    numerics = choose_numerics(request.precision, request.target, request.block_size, request.kv, request.quality or "fast")
    _check_target_folder(request.out, request.overwrite)
    inputs = _random_inputs(request) if request.random_preset else _checkpoint_inputs(request)
    if request.quality is None and not inputs.origin.random:
        numerics = replace(numerics, quality="balanced")
    layout = Layout(numerics)
    graph = Graph(inputs.shape, layout)
    inputs.architecture.build(graph)
    if isinstance(inputs.source, Checkpoint):
        _check_tensors(inputs.source, layout, inputs.architecture)
    _check_disk_space(request.out.parent, layout.size + len(inputs.tokenizer.tokenizer_json) + SMALL_FILES_BYTES)
    if request.kv == "int8":
        _add_kv_scales(graph, inputs, request.calibrate)
    model = graph.model(__version__).SerializeToString()
    counts = {
        "parameter_count": sum(int(np.prod(part.shape)) for part in layout.parts()),
        "query_tile_tokens": _query_tile(inputs.shape),
    }
    with written_beside(request.out) as folder:
        _write_folder(folder, model, layout, inputs, counts)
        if request.verify:
            figures = verify(folder, inputs.architecture, inputs.config, inputs.source, numerics, inputs.shape.context)
    if request.verify:
        print(figures)
    print(f"{request.out}: {inputs.origin.name}, {numerics.precision} for {numerics.target}, {layout.size / GIB:.2f} GiB of weights")


def _checkpoint_inputs(request: Request) -> Inputs:
    folder = request.checkpoint
    if not folder.is_dir():
        raise ExportError(f"{folder} is not a folder; give the folder of a downloaded checkpoint")
    config = read_json(folder / "config.json")
    architecture = find_architecture(config)
    if "quantization_config" in config:
        raise ExportError(f"{folder} is quantised already (quantization_config in config.json); take the bf16 checkpoint")
    shape = architecture.parse_config(config, request.context)
    tokenizer = read_tokenizer(folder, architecture.MARKERS, shape.vocab)
    random = config.get(RANDOM_KEY) is True
    origin = Origin(
        name=request.name or folder.resolve().name,
        source=folder.resolve().name,
        licence_note=request.licence_note or (RANDOM_NOTE if random else architecture.LICENCE_NOTE),
        demo=request.demo,
        random=random,
    )
    generation = folder / "generation_config.json"
    eos_ids = _eos_ids(tokenizer, config, read_json(generation) if generation.exists() else {})
    return Inputs(architecture, config, shape, Checkpoint(folder), tokenizer, eos_ids, origin)


def _random_inputs(request: Request) -> Inputs:
    config = preset_config(request.random_preset)
    architecture = find_architecture(config)
    shape = architecture.parse_config(config, request.context)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), config)
        tokenizer = read_tokenizer(Path(folder), architecture.MARKERS, shape.vocab)
    source = f"random weights, preset {request.random_preset}, seed {request.seed}"
    origin = Origin(
        name=request.name or f"random-{request.random_preset}",
        source=source,
        licence_note=request.licence_note or RANDOM_NOTE,
        demo=request.demo,
        random=True,
    )
    return Inputs(architecture, config, shape, RandomWeights(request.seed), tokenizer, _eos_ids(tokenizer, config), origin)


def _eos_ids(tokenizer: TokenizerFiles, *configs: dict) -> list[int]:
    """The end of a turn first, then whatever else the configurations call an end."""
    ids = [tokenizer.markers["end_of_turn"][1]]
    for config in configs:
        named = config.get("eos_token_id")
        for token in named if isinstance(named, list) else [named]:
            if type(token) is int and token not in ids:
                ids.append(token)
    return ids


def _add_kv_scales(graph: Graph, inputs: Inputs, text: Path) -> None:
    opening = inputs.tokenizer.markers["user"][1]
    tokens = calibration_tokens(text, inputs.tokenizer.tokenizer_json, opening, inputs.shape.context)
    print(f"calibrating int8 keys and values on {len(tokens)} tokens", file=sys.stderr)
    for name, scales in kv_scales(inputs.architecture.reference_cache(inputs.config, inputs.source, tokens)).items():
        graph.constant(name, scales)


def _query_tile(shape: ModelShape) -> int:
    tile = query_tile(shape)
    if tile is None:
        tile = largest_tile(shape)
        print(
            f"warning: on this processor a prompt's last digits depend on how it is cut into chunks, even in multiples of {tile} tokens; "
            "an answer may then score slightly differently from one run to the next",
            file=sys.stderr,
        )
    return tile


def _check_tensors(checkpoint: Checkpoint, layout: Layout, architecture: Architecture) -> None:
    for part in layout.parts():
        checkpoint.check(part.name, part.shape)
    used = {part.name for part in layout.parts()}
    for name in checkpoint.names():
        if name not in used and not architecture.is_unused(name):
            raise ExportError(f"the checkpoint holds the tensor {name}, which {architecture.NAME} as this exporter knows it does not use")


def _check_target_folder(out: Path, overwrite: bool) -> None:
    if not out.parent.is_dir():
        raise ExportError(f"{out.parent} does not exist; create it, or choose another output folder")
    if not out.exists():
        return
    if not overwrite:
        raise ExportError(f"{out} exists already; choose another folder, or pass --force to replace an earlier export")
    if not (out / MANIFEST_FILE).is_file():
        raise ExportError(f"{out} is not an earlier export (it has no {MANIFEST_FILE}), so --force does not replace it; remove it yourself")


def _check_disk_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(f"not enough disk space in {folder}: the export needs {needed / GIB:.2f} GiB, {free / GIB:.2f} GiB are free")


@contextmanager
def written_beside(out: Path) -> Iterator[Path]:
    """A folder next to `out` that takes its name when the block ends well and vanishes when it does not."""
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    earlier = folder.with_suffix(".earlier")
    try:
        yield folder
        folder.chmod(0o755)
        if out.exists():
            out.rename(earlier)
        folder.rename(out)
    except BaseException:
        if earlier.exists() and not out.exists():
            earlier.rename(out)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _write_folder(folder: Path, model: bytes, layout: Layout, inputs: Inputs, counts: dict) -> None:
    print(f"writing {layout.size / GIB:.2f} GiB of weights", file=sys.stderr)
    progress = Progress(layout.size)
    write_weights(layout, inputs.source, folder / WEIGHTS_FILE, progress.advance)
    progress.finish()
    (folder / MODEL_FILE).write_bytes(model)
    (folder / TOKENIZER_FILE).write_bytes(inputs.tokenizer.tokenizer_json)
    (folder / TEMPLATE_FILE).write_text(inputs.tokenizer.chat_template, encoding="utf-8")
    write_manifest(folder, inputs.shape, layout.numerics, inputs.tokenizer, inputs.eos_ids, inputs.origin, counts)
