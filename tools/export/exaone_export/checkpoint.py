"""A Hugging Face checkpoint folder as a source of tensors: one safetensors file, or shards with an index."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import ExportError
from .jsonfile import read_json
from .safetensors_file import ITEM_TYPES, TensorEntry, read_entries, read_slabs

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class Checkpoint:
    """Tensors by name; nothing but headers is held in memory."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._entries = _read_all_entries(folder)

    def names(self) -> list[str]:
        """Every tensor of the checkpoint."""
        return list(self._entries)

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """ExportError when the tensor is missing, has another shape or a number format that is not read."""
        entry = self._entries.get(name)
        if entry is None:
            raise ExportError(
                f"tensor {name} (shape {list(shape)}) is missing from {self._folder}; "
                "config.json asks for it, so download every safetensors file of the same revision"
            )
        if entry.shape != shape:
            raise ExportError(
                f"tensor {name} has shape {list(entry.shape)}, expected {list(shape)} from config.json; "
                "config.json and the weights are not of the same model"
            )
        if entry.dtype not in ITEM_TYPES:
            raise ExportError(f"tensor {name} in {entry.path} has type {entry.dtype}; this exporter reads {', '.join(ITEM_TYPES)}")

    def slabs(self, name: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        """The tensor as float32 slabs of whole rows."""
        self.check(name, shape)
        return read_slabs(self._entries[name])


def _read_all_entries(folder: Path) -> dict[str, TensorEntry]:
    index = folder / INDEX_FILE
    if not index.exists():
        single = folder / SINGLE_FILE
        if not single.exists():
            raise ExportError(f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}; this exporter reads safetensors checkpoints only")
        return read_entries(single)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ExportError(f"{index} has no weight_map from tensor names to shard files; download it again")
    entries: dict[str, TensorEntry] = {}
    for shard in sorted(set(weight_map.values())):
        path = folder / shard
        if Path(shard).name != shard or not path.is_file():
            raise ExportError(f"{INDEX_FILE} lists the shard {shard}, which is not in {folder}; download it")
        entries.update(read_entries(path))
    absent = sorted(set(weight_map) - set(entries))
    if absent:
        raise ExportError(f"{INDEX_FILE} lists tensor {absent[0]} in {weight_map[absent[0]]}, but that shard lacks it; download it again")
    return entries
