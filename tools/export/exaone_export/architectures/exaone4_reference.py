"""EXAONE 4 in plain numpy, written from the model's definition: what exports are verified against."""

from collections.abc import Iterator, Sequence

import numpy as np

from .reference import attended, embedded, gated, normed, product, rotated, rotation


def reference_logits(config: dict, source, tokens: Sequence[int]) -> np.ndarray:
    """float32 logits [tokens, vocab] of one prompt, streaming the weights slab by slab."""
    *_, (x, _, _) = _layers(config, source, tokens)
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings", False) else "lm_head.weight"
    return product(source, normed(source, x, "model.norm.weight", config["rms_norm_eps"]), head, config["vocab_size"], config["hidden_size"])


def reference_cache(config: dict, source, tokens: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Layer by layer the keys and values [tokens, kv_heads, head_dim] that a cache holds."""
    return ((key, value) for _, key, value in _layers(config, source, tokens))


def _layers(config: dict, source, tokens: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What goes on to the next layer, and the cache of this one."""
    hidden, heads, wide = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    epsilon, turns = config["rms_norm_eps"], rotation(config, head_dim, len(tokens))
    x = embedded(source, tokens, "model.embed_tokens.weight", config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        query, key, value = (
            product(source, x, f"{block}.self_attn.{name}_proj.weight", count * head_dim, hidden).reshape(len(tokens), count, head_dim)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        query, key = (normed(source, side, f"{block}.self_attn.{name}_norm.weight", epsilon) for name, side in (("q", query), ("k", key)))
        window = config["sliding_window"] if _slides(config, layer) else None
        if window is not None or config.get("sliding_window") is None:
            query, key = rotated(query, turns), rotated(key, turns)
        mixed = product(source, attended(query, key, value, window), f"{block}.self_attn.o_proj.weight", hidden, heads * head_dim)
        x = x + normed(source, mixed, f"{block}.post_attention_layernorm.weight", epsilon)
        gate, up = (product(source, x, f"{block}.mlp.{name}_proj.weight", wide, hidden) for name in ("gate", "up"))
        down = product(source, gated(gate, up), f"{block}.mlp.down_proj.weight", hidden, wide)
        x = x + normed(source, down, f"{block}.post_feedforward_layernorm.weight", epsilon)
        yield x, key, value


def _slides(config: dict, layer: int) -> bool:
    if config.get("sliding_window") is None:
        return False
    if config.get("layer_types"):
        return config["layer_types"][layer] == "sliding_attention"
    pattern = config["sliding_window_pattern"]
    if isinstance(pattern, int):
        return (layer + 1) % pattern != 0
    return pattern[layer % len(pattern)] == "L"
