"""Writes model.json: everything the daemon must know about an export without opening the graph."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from . import __version__
from .graph import WEIGHTS_FILE
from .numerics import Numerics
from .shape import ModelShape
from .tokenizer import TEMPLATE_FILE, TOKENIZER_FILE, TokenizerFiles

FORMAT_VERSION = 1
MANIFEST_FILE = "model.json"
MODEL_FILE = "model.onnx"
HASH_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Origin:
    """Where the weights come from and on what terms."""

    name: str
    source: str
    licence_note: str
    demo: bool
    random: bool


def write_manifest(
    folder: Path, shape: ModelShape, numerics: Numerics, tokenizer: TokenizerFiles, eos_ids: list[int], origin: Origin, counts: dict
) -> None:
    """Writes model.json beside the finished files; `counts` has parameter_count and query_tile_tokens."""
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": origin.name,
        "source": origin.source,
        "licence_note": origin.licence_note,
        "demo": origin.demo,
        "random": origin.random,
        "exporter_version": __version__,
        "architecture": shape.architecture,
        "layers": shape.layers,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "tied_head": shape.tied_head,
        "context_tokens": shape.context,
        "parameter_count": counts["parameter_count"],
        "target": numerics.target,
        "precision": numerics.precision,
        "block_size": numerics.block_size,
        "quality": numerics.quality if numerics.precision == "int4" else None,
        "head_bits": numerics.head_bits,
        "kv_type": numerics.kv_type.name,
        "query_tile_tokens": counts["query_tile_tokens"],
        "weights_bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "chat_template_file": TEMPLATE_FILE,
        "special_tokens": {role: {"text": text, "id": token} for role, (text, token) in tokenizer.markers.items()},
        "eos_ids": eos_ids,
        "files": {name: _fingerprint(folder / name) for name in (MODEL_FILE, WEIGHTS_FILE, TOKENIZER_FILE, TEMPLATE_FILE)},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _fingerprint(path: Path) -> dict:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
