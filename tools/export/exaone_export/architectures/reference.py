"""The pieces of plain-numpy models that exports are verified against; they share no code with the graph's blocks."""

import math
from collections.abc import Sequence

import numpy as np


def product(source, x: np.ndarray, name: str, rows: int, columns: int) -> np.ndarray:
    """x · Wᵀ, W read slab by slab."""
    return np.concatenate([x @ slab.T for slab in source.slabs(name, (rows, columns))], axis=-1)


def normed(source, x: np.ndarray, name: str, epsilon: float) -> np.ndarray:
    """RMS norm over the last dimension."""
    (gain,) = source.slabs(name, (x.shape[-1],))
    mean_square = np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True)
    return (x / np.sqrt(mean_square + epsilon) * gain).astype(np.float32)


def embedded(source, tokens: Sequence[int], name: str, vocab: int, hidden: int) -> np.ndarray:
    """Rows of the embedding [tokens, hidden]."""
    wanted, rows, start = np.asarray(tokens), np.empty((len(tokens), hidden), np.float32), 0
    for slab in source.slabs(name, (vocab, hidden)):
        here = (wanted >= start) & (wanted < start + len(slab))
        rows[here] = slab[wanted[here] - start]
        start += len(slab)
    return rows


def rotation(config: dict, head_dim: int, length: int) -> np.ndarray:
    """Unit complex numbers [length, 1, head_dim / 2]: rotating a pair is multiplying by one."""
    rope = {"rope_theta": config.get("rope_theta"), **(config.get("rope_parameters") or config.get("rope_scaling") or {})}
    speeds = []
    for pair in range(head_dim // 2):
        speed = rope["rope_theta"] ** (-2 * pair / head_dim)
        if rope.get("rope_type", rope.get("type")) == "llama3":
            speed = _llama3_speed(speed, rope)
        speeds.append(speed)
    return np.exp(1j * np.outer(np.arange(length), speeds))[:, None, :]


def rotated(x: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Queries or keys [length, heads, head_dim] at their positions."""
    half = x.shape[-1] // 2
    turned = (x[..., :half] + 1j * x[..., half:]) * rotation
    return np.concatenate([turned.real, turned.imag], axis=-1).astype(np.float32)


def attended(query: np.ndarray, key: np.ndarray, value: np.ndarray, window: int | None = None) -> np.ndarray:
    """Causal grouped-query attention; with a `window`, to the last so many tokens only."""
    length, heads, head_dim = query.shape
    group = heads // key.shape[1]
    hidden = np.triu(np.full((length, length), -np.inf, np.float32), 1)
    if window is not None:
        hidden += np.tril(np.full((length, length), -np.inf, np.float32), -window)
    mixed = np.empty_like(query)
    for head in range(heads):
        scores = query[:, head] @ key[:, head // group].T / math.sqrt(head_dim) + hidden
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed[:, head] = weights / weights.sum(axis=-1, keepdims=True) @ value[:, head // group]
    return mixed.reshape(length, heads * head_dim)


def gated(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """silu(gate) · up."""
    return gate / (1 + np.exp(-gate)) * up


def _llama3_speed(speed: float, scaling: dict) -> float:
    wavelength, original = 2 * math.pi / speed, scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    if wavelength < original / high:
        return speed
    if wavelength > original / low:
        return speed / scaling["factor"]
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * speed / scaling["factor"] + smooth * speed
