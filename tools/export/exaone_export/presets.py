"""Configurations for random checkpoints: the published shapes of EXAONE 3.5 and 4.0, and a smaller one for benchmarks."""

from .errors import ExportError

# Set in the config.json of random checkpoints, so that no export of one passes for a model.
RANDOM_KEY = "random_weights"

_EXAONE_3 = {
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

_EXAONE_4 = {
    "architectures": ["Exaone4ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 361,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "model_type": "exaone4",
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 16.0,
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

_COMMON = {"exaone": _EXAONE_3, "exaone4": _EXAONE_4}

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
    "exaone-4.0-1.2b": {
        "model_type": "exaone4",
        "head_dim": 64,
        "hidden_size": 2048,
        "intermediate_size": 4096,
        "layer_types": ["full_attention"] * 30,
        "max_position_embeddings": 65536,
        "num_attention_heads": 32,
        "num_hidden_layers": 30,
        "num_key_value_heads": 8,
        "sliding_window": None,
        "sliding_window_pattern": None,
        "tie_word_embeddings": True,
    },
    "exaone-4.0-32b": {
        "model_type": "exaone4",
        "head_dim": 128,
        "hidden_size": 5120,
        "intermediate_size": 27392,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 16,
        "max_position_embeddings": 131072,
        "num_attention_heads": 40,
        "num_hidden_layers": 64,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
        "sliding_window_pattern": "LLLG",
        "tie_word_embeddings": False,
    },
    # For tests: four layers, of which the last knows no positions.
    "tiny-4.0": {
        "model_type": "exaone4",
        "head_dim": 32,
        "hidden_size": 64,
        "intermediate_size": 128,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "max_position_embeddings": 2304,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "sliding_window": 48,
        "sliding_window_pattern": "LLLG",
        "tie_word_embeddings": True,
        "vocab_size": 512,
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
    differences = _DIFFERENCES[name]
    common = _COMMON[differences.get("model_type", "exaone")]
    return dict(sorted({**common, **differences}.items()))
