"""EXAONE 3 in plain numpy, written from the model's definition: what exports are verified against."""

from collections.abc import Sequence

import numpy as np

from .reference import attended, embedded, gated, normed, product, rotated, rotation


def reference_logits(config: dict, source, tokens: Sequence[int]) -> np.ndarray:
    """float32 logits [tokens, vocab] of one prompt, streaming the weights slab by slab."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    wide, vocab, epsilon = config["intermediate_size"], config["vocab_size"], config["layer_norm_epsilon"]
    turns = rotation(config, head_dim, len(tokens))
    x = embedded(source, tokens, "transformer.wte.weight", vocab, hidden)
    for layer in range(config["num_layers"]):
        block = f"transformer.h.{layer}"
        y = normed(source, x, f"{block}.ln_1.weight", epsilon)
        query, key, value = (
            product(source, y, f"{block}.attn.attention.{name}_proj.weight", count * head_dim, hidden).reshape(len(tokens), count, head_dim)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        mixed = attended(rotated(query, turns), rotated(key, turns), value)
        x = x + product(source, mixed, f"{block}.attn.attention.out_proj.weight", hidden, heads * head_dim)
        y = normed(source, x, f"{block}.ln_2.weight", epsilon)
        gate, up = (product(source, y, f"{block}.mlp.{name}.weight", wide, hidden) for name in ("c_fc_0", "c_fc_1"))
        x = x + product(source, gated(gate, up), f"{block}.mlp.c_proj.weight", hidden, wide)
    head = "transformer.wte.weight" if config.get("tie_word_embeddings", True) else "lm_head.weight"
    return product(source, normed(source, x, "transformer.ln_f.weight", epsilon), head, vocab, hidden)
