"""Reads and writes safetensors files with plain reads, so that no mapped page counts as this process's memory."""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import bfloat16
from .errors import ExportError

ITEM_TYPES = {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
SLAB_VALUES_MAX = 1 << 21  # values per slab: 8 MiB as float32
HEADER_BYTES_MAX = 100 << 20  # the format's own limit


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies; `offset` and `length` in bytes, from the start of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_entries(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a file by name; ExportError when the file is not whole."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header_length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else 0
        if not 2 <= header_length <= min(HEADER_BYTES_MAX, size - 8):
            raise ExportError(f"{path} is not a whole safetensors file (no valid header); download it again")
        try:
            header = json.loads(file.read(header_length))
            entries = {name: _entry(path, 8 + header_length, fields) for name, fields in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"{path} has a broken safetensors header ({error}); download it again") from error
    end = max((entry.offset + entry.length for entry in entries.values()), default=0)
    if size < end:
        raise ExportError(f"{path} is truncated: {size:,} bytes of {end:,}; download it again")
    return entries


def read_slabs(entry: TensorEntry) -> Iterator[np.ndarray]:
    """A tensor of one of ITEM_TYPES as float32 slabs of whole rows, in order."""
    item = ITEM_TYPES[entry.dtype]
    with open(entry.path, "rb", buffering=0) as file:
        file.seek(entry.offset)
        for shape in slab_shapes(entry.shape):
            values = np.empty(shape, item)
            _read_exactly(file, memoryview(values).cast("B"), entry.path)
            yield bfloat16.to_float32(values) if entry.dtype == "BF16" else values.astype(np.float32, copy=False)


def slab_shapes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Shapes of the consecutive slabs of a tensor, each at most SLAB_VALUES_MAX values where a single row allows it."""
    if len(shape) < 2:
        yield shape
        return
    rows_at_once = max(1, SLAB_VALUES_MAX // int(np.prod(shape[1:])))
    for start in range(0, shape[0], rows_at_once):
        yield (min(rows_at_once, shape[0] - start), *shape[1:])


def write_bf16(path: Path, tensors: Iterable[tuple[str, tuple[int, ...], Iterator[np.ndarray]]]) -> None:
    """Writes (name, shape, float32 slabs) as one bfloat16 file, slab by slab."""
    tensors = list(tensors)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        length = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + length]}
        offset += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, slabs in tensors:
            for slab in slabs:
                file.write(bfloat16.from_float32(slab).tobytes())


def _entry(path: Path, data_start: int, fields: dict) -> TensorEntry:
    begin, end = fields["data_offsets"]
    shape, dtype = tuple(fields["shape"]), fields["dtype"]
    if not 0 <= begin <= end:
        raise ValueError(f"impossible data_offsets {begin}, {end}")
    if dtype in ITEM_TYPES and end - begin != ITEM_TYPES[dtype].itemsize * int(np.prod(shape)):
        raise ValueError(f"{end - begin} bytes do not make a {dtype} tensor of shape {list(shape)}")
    return TensorEntry(path, dtype, shape, data_start + begin, end - begin)


def _read_exactly(file, view: memoryview, path: Path) -> None:
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise ExportError(f"{path} ended {len(view) - done:,} bytes early at offset {file.tell():,}; download it again")
        done += count
