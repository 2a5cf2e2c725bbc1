"""Plans where every weight lies in the external-data file, then fills that file slab by slab."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from .errors import ExportError
from .numerics import Numerics
from .quantise import fit_rows, quantise_rows

ALIGNMENT = 64  # bytes; a cache line, and the widest vector load


class Source(Protocol):
    """Where tensors come from: a checkpoint on disk, or a random generator."""

    def slabs(self, name: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        """The tensor as consecutive float32 slabs of whole rows, each a few MiB."""


@dataclass(frozen=True)
class Part:
    """One tensor of the checkpoint and the shape it must have."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Region:
    """A stretch of the external-data file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class Stored:
    """Checkpoint tensors stacked by rows and stored as one; `scales` and `bits` only when quantised."""

    label: str
    parts: tuple[Part, ...]
    data: Region
    scales: Region | None
    bits: int | None = None


class Layout:
    """Regions of the external-data file, known to the byte before anything is written."""

    def __init__(self, numerics: Numerics):
        self.numerics = numerics
        self.stored: dict[tuple[Part, ...], Stored] = {}
        self.constants: list[tuple[Region, np.ndarray]] = []
        self.size = 0

    def vector(self, label: str, part: Part) -> Stored:
        """Plans a norm weight, kept in the activation type."""
        return self._plan(label, (part,), None)

    def matrix(self, label: str, parts: tuple[Part, ...], bits: int | None) -> Stored:
        """Plans a matrix of so many bits, of floats where there are none; asking again for the same parts (a tied head) gives the same bytes."""
        return self._plan(label, parts, bits)

    def constant(self, values: np.ndarray) -> Region:
        """Plans a table that is computed rather than read."""
        region = self._reserve(values.nbytes)
        self.constants.append((region, values))
        return region

    def parts(self) -> list[Part]:
        """Every checkpoint tensor that the plan reads, in reading order."""
        return [part for stored in self.stored.values() for part in stored.parts]

    def _plan(self, label: str, parts: tuple[Part, ...], bits: int | None) -> Stored:
        if parts not in self.stored:
            count = sum(int(np.prod(part.shape)) for part in parts)
            self.stored[parts] = self._plan_quantised(label, parts, count, bits) if bits else self._plan_float(label, parts, count)
        return self.stored[parts]

    def _plan_float(self, label: str, parts: tuple[Part, ...], count: int) -> Stored:
        return Stored(label, parts, self._reserve(count * self.numerics.float_type.itemsize), None)

    def _plan_quantised(self, label: str, parts: tuple[Part, ...], count: int, bits: int) -> Stored:
        block = self.numerics.block_size
        for part in parts:
            if part.shape[1] % block:
                raise ExportError(
                    f"--block-size {block} does not divide the {part.shape[1]} columns of {part.name}; take a smaller block or fp32"
                )
        data = self._reserve(count * bits // 8)
        return Stored(label, parts, data, self._reserve(count // block * self.numerics.float_type.itemsize), bits)

    def _reserve(self, length: int) -> Region:
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self.size = offset + length
        return Region(offset, length)


def write_weights(layout: Layout, source: Source, path: Path, report: Callable[[str, int], None]) -> None:
    """Fills `path` from `source`; `report(label, bytes)` hears of every piece written."""
    with open(path, "wb", buffering=0) as file:
        os.ftruncate(file.fileno(), layout.size)
        for region, values in layout.constants:
            _write_at(file.fileno(), region.offset, values)
            report("tables", values.nbytes)
        for stored in layout.stored.values():
            _write_stored(file.fileno(), stored, layout.numerics, source, report)


def _write_stored(handle: int, stored: Stored, numerics: Numerics, source: Source, report: Callable[[str, int], None]) -> None:
    data_at = stored.data.offset
    scales_at = stored.scales.offset if stored.scales else 0
    for part in stored.parts:
        for slab in source.slabs(part.name, part.shape):
            if not np.isfinite(slab).all():
                raise ExportError(f"tensor {part.name} holds NaN or infinite values; the checkpoint is damaged, download it again")
            values = _to_float_type(slab, numerics, part.name)
            before = data_at + scales_at
            if stored.scales is None:
                data_at += _write_at(handle, data_at, values)
            else:
                packed, scales = _quantised(values, stored.bits, numerics)
                data_at += _write_at(handle, data_at, packed)
                scales_at += _write_at(handle, scales_at, scales)
            report(stored.label, data_at + scales_at - before)


def _quantised(values: np.ndarray, bits: int, numerics: Numerics) -> tuple[np.ndarray, np.ndarray]:
    if bits == 4 and numerics.quality != "fast":
        return fit_rows(values, numerics.block_size)
    return quantise_rows(values, bits, numerics.block_size)


def _to_float_type(slab: np.ndarray, numerics: Numerics, name: str) -> np.ndarray:
    if numerics.float_type == np.float16 and np.abs(slab).max(initial=0.0) > np.finfo(np.float16).max:
        raise ExportError(f"tensor {name} holds values beyond fp16's range (65504); export it with --target cpu")
    return slab.astype(numerics.float_type, copy=False)


def _write_at(handle: int, offset: int, values: np.ndarray) -> int:
    view = memoryview(np.ascontiguousarray(values)).cast("B")
    written = 0
    while written < len(view):
        written += os.pwrite(handle, view[written:], offset + written)
    return written
