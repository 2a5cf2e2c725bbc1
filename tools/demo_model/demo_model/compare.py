"""Says how far exports of the demo model are from another one of them, on what that one writes about held-out answers."""

import argparse
import json
import pathlib
import random

import numpy as np
from exaone_export.runtime import SlotRunner

from . import prompts
from .answers import Composer
from .decode import Sequence, generate
from .evaluate import SLOTS, Judge


def written(folder, seed, count):
    """[(prompt, output)] in token ids: what the model of `folder` writes about `count` held-out answers."""
    judge, composer = Judge(folder), Composer(random.Random(seed), "heldout")
    answers, pairs = [composer.answer() for _ in range(count)], []
    for a in answers:
        encoded, judged = judge.encoder.score(prompts.score_segments(judge.chat, *a.sent()))
        prompt = [i for _, ids in encoded for i in ids]
        pairs.append((prompt, Sequence(prompt, prompts.score_grammar(prompts.area_of(a.stage), a.text[:judged]), judge.room, judge.tokenizer)))
    generate(judge.runner, [sequence for _, sequence in pairs], SLOTS, judge.context)
    return [(prompt, sequence.written) for prompt, sequence in pairs]


def logits(runner, prompt, output):
    """The logits [output, vocab] that lead to every token of the output: the prompt as a chunk, the output token by token, as the daemon does it."""
    rows = [runner.run([prompt], [0])]
    rows += [runner.run([[token]], [len(prompt) + at]) for at, token in enumerate(output[:-1])]
    return np.concatenate(rows)


def compare(folder, others, seed, count):
    """For each other export: agreement of the best token, and root mean square of the difference of logits, centred (softmax does not see a shift)."""
    pairs = written(folder, seed, count)
    context = prompts.slot_tokens("score")
    runners = {other: SlotRunner(other, 1, context) for other in others}
    full, agreed, squares, tokens = SlotRunner(folder, 1, context), dict.fromkeys(others, 0), dict.fromkeys(others, 0.0), 0
    spread = 0.0
    for prompt, output in pairs:
        expected = logits(full, prompt, output)
        expected -= expected.mean(-1, keepdims=True)
        tokens, spread = tokens + len(output), spread + float(np.mean(expected**2, axis=-1).sum())
        for other, runner in runners.items():
            found = logits(runner, prompt, output)
            found -= found.mean(-1, keepdims=True)
            agreed[other] += int((found.argmax(-1) == expected.argmax(-1)).sum())
            squares[other] += float(np.mean((found - expected) ** 2, axis=-1).sum())
    of_each = {str(other): {"top_1_agreement": agreed[other] / tokens, "rms_logit_error": (squares[other] / tokens) ** 0.5} for other in others}
    return {"answers": count, "tokens": tokens, "rms_logit": (spread / tokens) ** 0.5, **of_each}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="the export that the others are held against")
    parser.add_argument("others", type=pathlib.Path, nargs="+")
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--answers", type=int, default=60)
    args = parser.parse_args()
    print(json.dumps(compare(args.folder, args.others, args.seed, args.answers), indent=2))


if __name__ == "__main__":
    main()
