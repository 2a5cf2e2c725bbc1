"""Compares an export with the numpy reference on a short prompt."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .architectures import Architecture
from .errors import ExportError
from .numerics import Numerics
from .runtime import SlotRunner
from .tokenizer import TOKENIZER_FILE
from .weights import Source

PROMPT = (
    "[|system|]당신은 면접관입니다.[|endofturn|]\n[|user|]지원자의 답변을 읽고 1점에서 5점 사이로 평가해 주세요. "
    "저는 결제 시스템의 장애를 30분 만에 복구한 경험이 있습니다. In the postmortem I wrote down what we should change.\n[|assistant|]"
)
# Float weights leave only rounding between the two; more means that the graph computes something else.
FP32_DIFFERENCE_MAX = 1e-3
# Quantisation moves logits, by far the most for random weights (0.87 was seen); a wrong graph leaves no correlation at all.
CORRELATION_MIN = 0.5


def verify(folder: Path, architecture: Architecture, config: dict, source: Source, numerics: Numerics, context: int) -> str:
    """One line of figures; ExportError when the export cannot be right."""
    tokens = Tokenizer.from_file(str(folder / TOKENIZER_FILE)).encode(PROMPT, add_special_tokens=False).ids[:context]
    expected = architecture.reference_logits(config, source, tokens)
    found = SlotRunner(folder, 1, len(tokens)).run([tokens], [0], wanted=range(len(tokens)))
    if not np.isfinite(found).all():
        raise ExportError("--verify: the export gives NaN or infinite logits")
    difference = float(np.abs(found - expected).max())
    agreement = float((found.argmax(-1) == expected.argmax(-1)).mean())
    correlation = float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])
    figures = f"{len(tokens)} tokens, max |Δlogit| {difference:.2e}, top-1 agreement {agreement:.1%}, correlation {correlation:.4f}"
    exact = numerics.precision == "fp32"
    if correlation < CORRELATION_MIN or exact and (difference > FP32_DIFFERENCE_MAX or agreement < 1):
        raise ExportError(f"--verify: the export does not compute what the checkpoint does: {figures}")
    return figures if exact else f"{figures} against fp32 weights; {numerics.precision} is expected to differ"
