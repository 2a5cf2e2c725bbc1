"""Configurations for random checkpoints: the published shapes of EXAONE 3.5, and a smaller one for benchmarks."""

from .errors import ExportError

# Set in the config.json of random checkpoints, so that no export of one passes for a model.
RANDOM_KEY = "random_weights"

_COMMON = {
    "activation_function": "silu",
    "architectures": ["ExaoneForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "embed_dropout": 0.0,
    "eos_token_id": 361,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": 32768,
    "model_type": "exaone",
    "pad_token_id": 0,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 1000000,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 102400,
}

_DIFFERENCES = {
    "exaone-3.5-2.4b": {
        "head_dim": 80,
        "hidden_size": 2560,
        "intermediate_size": 7168,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_layers": 30,
        "tie_word_embeddings": True,
    },
    "exaone-3.5-7.8b": {
        "head_dim": 128,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_layers": 32,
        "tie_word_embeddings": False,
    },
    "bench-0.43b": {
        "head_dim": 128,
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "num_layers": 24,
        "tie_word_embeddings": True,
    },
}

PRESETS = tuple(_DIFFERENCES)


def preset_config(name: str) -> dict:
    """config.json of a preset, with the keys that the published one has."""
    if name not in _DIFFERENCES:
        raise ExportError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return dict(sorted({**_COMMON, **_DIFFERENCES[name]}.items()))
