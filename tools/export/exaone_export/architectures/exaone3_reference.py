"""EXAONE 3 in plain numpy, written from the model's definition: what exports are verified against."""

import math
from collections.abc import Sequence

import numpy as np


def reference_logits(config: dict, source, tokens: Sequence[int]) -> np.ndarray:
    """float32 logits [tokens, vocab] of one prompt, streaming the weights slab by slab."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    wide, narrow, vocab = config["intermediate_size"], hidden, config["vocab_size"]
    rotation = _rotation(config, head_dim, len(tokens))

    def times(x, name, rows, columns):
        slabs = source.slabs(f"transformer.{name}.weight" if name != "lm_head" else "lm_head.weight", (rows, columns))
        return np.concatenate([x @ slab.T for slab in slabs], axis=-1)

    def normed(x, name):
        (gain,) = source.slabs(f"transformer.{name}.weight", (hidden,))
        mean_square = np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True)
        return (x / np.sqrt(mean_square + config["layer_norm_epsilon"]) * gain).astype(np.float32)

    x = _embed(source, tokens, vocab, hidden)
    for layer in range(config["num_layers"]):
        block = f"h.{layer}"
        y = normed(x, f"{block}.ln_1")
        query, key, value = (
            times(y, f"{block}.attn.attention.{name}_proj", count * head_dim, hidden).reshape(len(tokens), count, head_dim)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        mixed = _attend(_rotate(query, rotation), _rotate(key, rotation), value)
        x = x + times(mixed, f"{block}.attn.attention.out_proj", narrow, heads * head_dim)
        y = normed(x, f"{block}.ln_2")
        gate = times(y, f"{block}.mlp.c_fc_0", wide, hidden)
        up = times(y, f"{block}.mlp.c_fc_1", wide, hidden)
        x = x + times(gate / (1 + np.exp(-gate)) * up, f"{block}.mlp.c_proj", narrow, wide)
    return times(normed(x, "ln_f"), "wte" if config.get("tie_word_embeddings", True) else "lm_head", vocab, hidden)


def _embed(source, tokens: Sequence[int], vocab: int, hidden: int) -> np.ndarray:
    wanted, rows, start = np.asarray(tokens), np.empty((len(tokens), hidden), np.float32), 0
    for slab in source.slabs("transformer.wte.weight", (vocab, hidden)):
        here = (wanted >= start) & (wanted < start + len(slab))
        rows[here] = slab[wanted[here] - start]
        start += len(slab)
    return rows


def _rotation(config: dict, head_dim: int, length: int) -> np.ndarray:
    """Unit complex numbers [length, 1, head_dim / 2]: rotating a pair is multiplying by one."""
    rope = {"rope_theta": config.get("rope_theta"), **(config.get("rope_parameters") or config.get("rope_scaling") or {})}
    speeds = []
    for pair in range(head_dim // 2):
        speed = rope["rope_theta"] ** (-2 * pair / head_dim)
        if rope.get("rope_type", rope.get("type")) == "llama3":
            speed = _llama3_speed(speed, rope)
        speeds.append(speed)
    return np.exp(1j * np.outer(np.arange(length), speeds))[:, None, :]


def _llama3_speed(speed: float, scaling: dict) -> float:
    wavelength, original = 2 * math.pi / speed, scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    if wavelength < original / high:
        return speed
    if wavelength > original / low:
        return speed / scaling["factor"]
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * speed / scaling["factor"] + smooth * speed


def _rotate(x: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    half = x.shape[-1] // 2
    turned = (x[..., :half] + 1j * x[..., half:]) * rotation
    return np.concatenate([turned.real, turned.imag], axis=-1).astype(np.float32)


def _attend(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    length, heads, head_dim = query.shape
    group = heads // key.shape[1]
    future = np.triu(np.full((length, length), -np.inf, np.float32), 1)
    mixed = np.empty_like(query)
    for head in range(heads):
        scores = query[:, head] @ key[:, head // group].T / math.sqrt(head_dim) + future
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed[:, head] = weights / weights.sum(axis=-1, keepdims=True) @ value[:, head // group]
    return mixed.reshape(length, heads * head_dim)
