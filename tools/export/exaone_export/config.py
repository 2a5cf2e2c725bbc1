"""Reads single values out of config.json and says which one is absent or wrong."""

from .errors import ExportError

# Beyond this the rotation tables and a slot's cache outgrow the machines the daemon is for.
CONTEXT_DEFAULT_MAX = 32768


def positive(config: dict, key: str, default: int | None = None) -> int:
    """A count of at least 1."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or value < 1:
        raise ExportError(f"config.json: {key} must be a whole number of at least 1, found {value!r}")
    return value


def number(config: dict, key: str) -> float:
    """A number above 0; never guessed, for a wrong one gives a model that runs and talks nonsense."""
    value = config.get(key)
    if type(value) not in (int, float) or not value > 0:
        raise ExportError(f"config.json: {key} must be a number above 0, found {value!r}")
    return float(value)


def flag(config: dict, key: str, default: bool) -> bool:
    """true or false; transformers leaves out of config.json what equals its default."""
    value = config.get(key, default)
    if type(value) is not bool:
        raise ExportError(f"config.json: {key} must be true or false, found {value!r}")
    return value


def head_counts(config: dict) -> tuple[int, int]:
    """(query heads, key/value heads)."""
    heads = positive(config, "num_attention_heads")
    kv_heads = positive(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise ExportError(f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
    return heads, kv_heads


def context_tokens(config: dict, wanted: int | None) -> int:
    """The longest text; `wanted` None means the model's own, at most CONTEXT_DEFAULT_MAX."""
    longest = positive(config, "max_position_embeddings")
    if wanted is not None and wanted > longest:
        raise ExportError(f"--context {wanted} is more than the model's own max_position_embeddings, {longest}")
    return wanted or min(longest, CONTEXT_DEFAULT_MAX)


def check_activation(config: dict, key: str) -> None:
    """The one activation that the gated MLP of `blocks` computes."""
    if config.get(key) != "silu":
        raise ExportError(f"config.json: {key} {config.get(key)!r} is not supported; EXAONE uses 'silu'")
