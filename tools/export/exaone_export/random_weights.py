"""Random tensors in place of a checkpoint: reproducible from a seed, already rounded to bfloat16."""

import hashlib
from collections.abc import Iterator

import numpy as np

from . import bfloat16
from .safetensors_file import slab_shapes


class RandomWeights:
    """A source that makes every tensor up. The same seed and name give the same values in every run."""

    def __init__(self, seed: int):
        self._seed = seed

    def slabs(self, name: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        """The tensor as float32 slabs of whole rows.

        Matrices keep the variance of what they multiply (standard deviation 1/√columns), so that neither activations nor
        logits vanish or explode at any depth; norm weights scatter around 1.
        """
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        generator = np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))
        for slab_shape in slab_shapes(shape):
            values = generator.standard_normal(slab_shape, np.float32)
            if len(shape) == 1:
                values *= np.float32(0.1)
                values += np.float32(1.0)
            else:
                values *= np.float32(shape[-1] ** -0.5)
            yield bfloat16.to_float32(bfloat16.from_float32(values))
