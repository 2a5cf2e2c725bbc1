"""The architectures the exporter knows; a new one is one more file here and one more line below."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from ..errors import ExportError
from ..graph import Graph
from ..shape import ModelShape
from ..weights import Source
from . import exaone3, exaone4


class Architecture(Protocol):
    """What an architecture file provides."""

    NAME: str
    MODEL_TYPE: str
    MARKERS: dict[str, str]
    LICENCE_NOTE: str

    def parse_config(self, config: dict, context: int | None) -> ModelShape:
        """The model's shape from config.json; ExportError names what is not supported."""

    def build(self, graph: Graph) -> None:
        """Assembles the whole decoder from blocks."""

    def is_unused(self, tensor: str) -> bool:
        """Whether a checkpoint tensor may be left out of the export."""

    def reference_logits(self, config: dict, source: Source, tokens: Sequence[int]) -> np.ndarray:
        """float32 logits [tokens, vocab] by plain numpy, sharing no code with `build`: what an export is verified against."""

    def reference_cache(self, config: dict, source: Source, tokens: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Layer by layer the keys and values [tokens, kv_heads, head_dim] that a cache holds, float32."""


ARCHITECTURES: dict[str, Architecture] = {module.MODEL_TYPE: module for module in (exaone3, exaone4)}


def find_architecture(config: dict) -> Architecture:
    """The architecture of a config.json."""
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        known = ", ".join(f"{known.NAME} (model_type {kind!r})" for kind, known in ARCHITECTURES.items())
        raise ExportError(f"config.json: model_type {model_type!r} is not supported; this exporter knows {known}")
    return ARCHITECTURES[model_type]
