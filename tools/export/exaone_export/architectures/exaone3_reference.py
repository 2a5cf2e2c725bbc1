"""EXAONE 3 in plain numpy, written from the model's definition: what exports are verified against."""

from collections.abc import Iterator, Sequence

import numpy as np

from .reference import attended, embedded, gated, normed, product, rotated, rotation


def reference_logits(config: dict, source, tokens: Sequence[int]) -> np.ndarray:
    """float32 logits [tokens, vocab] of one prompt, streaming the weights slab by slab."""
    *_, (x, _, _) = _layers(config, source, tokens)
    head = "transformer.wte.weight" if config.get("tie_word_embeddings", True) else "lm_head.weight"
    x = normed(source, x, "transformer.ln_f.weight", config["layer_norm_epsilon"])
    return product(source, x, head, config["vocab_size"], config["hidden_size"])


def reference_cache(config: dict, source, tokens: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Layer by layer the keys and values [tokens, kv_heads, head_dim] that a cache holds."""
    return ((key, value) for _, key, value in _layers(config, source, tokens))


def _layers(config: dict, source, tokens: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What goes on to the next layer, and the cache of this one."""
    hidden, heads, wide = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    epsilon, turns = config["layer_norm_epsilon"], rotation(config, head_dim, len(tokens))
    x = embedded(source, tokens, "transformer.wte.weight", config["vocab_size"], hidden)
    for layer in range(config["num_layers"]):
        block = f"transformer.h.{layer}"
        y = normed(source, x, f"{block}.ln_1.weight", epsilon)
        query, key, value = (
            product(source, y, f"{block}.attn.attention.{name}_proj.weight", count * head_dim, hidden).reshape(len(tokens), count, head_dim)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        key = rotated(key, turns)
        mixed = attended(rotated(query, turns), key, value)
        x = x + product(source, mixed, f"{block}.attn.attention.out_proj.weight", hidden, heads * head_dim)
        y = normed(source, x, f"{block}.ln_2.weight", epsilon)
        gate, up = (product(source, y, f"{block}.mlp.{name}.weight", wide, hidden) for name in ("c_fc_0", "c_fc_1"))
        x = x + product(source, gated(gate, up), f"{block}.mlp.c_proj.weight", hidden, wide)
        yield x, key, value
