"""EXAONE 4 in plain numpy, written from the model's definition: what exports are verified against."""

from collections.abc import Sequence

import numpy as np

from .reference import attended, embedded, gated, normed, product, rotated, rotation


def reference_logits(config: dict, source, tokens: Sequence[int]) -> np.ndarray:
    """float32 logits [tokens, vocab] of one prompt, streaming the weights slab by slab."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    wide, vocab, epsilon = config["intermediate_size"], config["vocab_size"], config["rms_norm_eps"]
    turns = rotation(config, head_dim, len(tokens))
    x = embedded(source, tokens, "model.embed_tokens.weight", vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        query, key, value = (
            product(source, x, f"{block}.self_attn.{name}_proj.weight", count * head_dim, hidden).reshape(len(tokens), count, head_dim)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        query = normed(source, query, f"{block}.self_attn.q_norm.weight", epsilon)
        key = normed(source, key, f"{block}.self_attn.k_norm.weight", epsilon)
        window = config["sliding_window"] if _slides(config, layer) else None
        if window is not None or config.get("sliding_window") is None:
            query, key = rotated(query, turns), rotated(key, turns)
        mixed = product(source, attended(query, key, value, window), f"{block}.self_attn.o_proj.weight", hidden, heads * head_dim)
        x = x + normed(source, mixed, f"{block}.post_attention_layernorm.weight", epsilon)
        gate, up = (product(source, x, f"{block}.mlp.{name}_proj.weight", wide, hidden) for name in ("gate", "up"))
        down = product(source, gated(gate, up), f"{block}.mlp.down_proj.weight", hidden, wide)
        x = x + normed(source, down, f"{block}.post_feedforward_layernorm.weight", epsilon)
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings", False) else "lm_head.weight"
    return product(source, normed(source, x, "model.norm.weight", epsilon), head, vocab, hidden)


def _slides(config: dict, layer: int) -> bool:
    if config.get("sliding_window") is None:
        return False
    if config.get("layer_types"):
        return config["layer_types"][layer] == "sliding_attention"
    pattern = config["sliding_window_pattern"]
    if isinstance(pattern, int):
        return (layer + 1) % pattern != 0
    return pattern[layer % len(pattern)] == "L"
