"""Measures how far keys and values reach on a text, and makes of it the scales of an int8 cache."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .errors import ExportError

TOKENS_MAX = 2048
# Fewer would leave most of what a channel can do unseen.
TOKENS_MIN = 128
INT8_MAX = 127
# What goes beyond the scale is cut off, which costs more than coarser steps: measured on the demo model, with a text of its kind, the error of its
# logits falls to a sixth from no margin to this one, and grows again beyond it.
MARGIN = 1.5
OTHERS_PERCENTILE = 90
# The least scale, for a head that is silent throughout: a kernel divides by it, and 127 divided by much less is beyond what it can count.
SCALE_MIN = 1e-6


def scale_name(layer: int, side: str) -> str:
    """The graph's name of a layer's scales; `side` is key or value."""
    return f"kv_scales.{layer}.{side}"


def calibration_tokens(path: Path, tokenizer_json: bytes, opening: int, context: int) -> list[int]:
    """The text of a file as a model would meet it: behind the marker that opens a turn, at most TOKENS_MAX tokens."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ExportError(f"--calibrate {path} is not UTF-8 text ({error})") from error
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.encode_special_tokens = True  # whatever the text says, it holds no markers
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    least = min(TOKENS_MIN, context - 1)
    if len(tokens) < least:
        raise ExportError(f"--calibrate {path} has {len(tokens)} tokens, at least {least} are needed; take interviews like those to be scored")
    return [opening, *tokens][: min(TOKENS_MAX, context)]


def kv_scales(cache: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Scales by name, float32 [1, kv_heads, 1, head_dim], from every layer's keys and values [tokens, kv_heads, head_dim]."""
    return {
        scale_name(layer, side): _scales(values)
        for layer, sides in enumerate(cache)
        for side, values in zip(("key", "value"), sides, strict=True)
    }


def _scales(values: np.ndarray) -> np.ndarray:
    reach = np.abs(values).max(axis=0).astype(np.float32)
    # A channel that was silent on this text may speak on another: it gets the room of its head's others, but for the loudest.
    others = np.percentile(reach, OTHERS_PERCENTILE, axis=-1, keepdims=True).astype(np.float32)
    scales = np.maximum(np.maximum(reach, others) * np.float32(MARGIN / INT8_MAX), np.float32(SCALE_MIN))
    return scales[None, :, None, :]
