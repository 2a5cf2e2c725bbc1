"""A sequence has the same bits alone and in company: in any slot, any batch, any chunking that respects the query tile."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import DEMO

from exaone_export.runtime import SlotRunner

ROWS_MAX = 17
STEPS = 3
MODELS = [(name, precision, "cpu", 32) for name in ("tied-80", "untied-128") for precision in ("int4", "int8", "fp32")]
MODELS += [("untied-128", "int4", "cpu", 16), ("untied-128", "int8", "cpu", 64)]
MODELS += [("full-64", "int4", "cpu", 32), ("hybrid-64", "int4", "cpu", 32)]
MODELS += [("tied-80", "int4", "cpu", 32, "--kv", "int8"), ("hybrid-64", "int4", "cpu", 32, "--kv", "int8", "--quality", "best")]


@pytest.fixture(scope="module", params=[*MODELS, "demo"], ids=str)
def model(request, exported) -> Path:
    """The folder of every model that keeps the promise."""
    if request.param != "demo":
        return exported(*request.param)
    if not (DEMO / "model.json").exists():
        pytest.skip("there is no demo model")
    return DEMO


@cache
def manifest(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text())


def tile(folder: Path) -> int:
    return manifest(folder)["query_tile_tokens"]


def some_tokens(folder: Path, count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, manifest(folder)["vocab_size"], count).tolist()


def feed(runner: SlotRunner, slot: int, tokens: list[int], cuts=(), past: int = 0) -> np.ndarray:
    """Prefills `tokens` into a slot in chunks that end at `cuts`; logits of the last token."""
    bounds = [0, *cuts, len(tokens)]
    for start, end in zip(bounds, bounds[1:]):
        logits = runner.run([tokens[start:end]], [past + start], slot, wanted=None if end == len(tokens) else [])
    return logits


class Alone:
    """Sequences of different lengths, each computed in a runner of its own: what every joint run must reproduce."""

    def __init__(self, folder: Path):
        self.prompts = [some_tokens(folder, 2 + 5 * row, seed=row) for row in range(ROWS_MAX)]
        self.answers = [some_tokens(folder, STEPS, seed=100 + row) for row in range(ROWS_MAX)]
        self.max_tokens = max(map(len, self.prompts)) + STEPS + 1
        self.logits, self.keys = [], []
        for prompt, answer in zip(self.prompts, self.answers):
            runner = SlotRunner(folder, 1, self.max_tokens)
            feed(runner, 0, prompt)
            self.logits.append([runner.run([[token]], [len(prompt) + step])[0] for step, token in enumerate(answer)])
            self.keys.append(runner.keys[-1][0, :, : len(prompt) + STEPS].copy())

    def step(self, runner: SlotRunner, step: int, rows: range, first_slot: int) -> np.ndarray:
        tokens = [[self.answers[row][step]] for row in rows]
        return runner.run(tokens, [len(self.prompts[row]) + step for row in rows], first_slot)

    def check(self, logits: np.ndarray, step: int, rows: range) -> None:
        for found, row in zip(logits, rows, strict=True):
            assert np.array_equal(found, self.logits[row][step]), f"row {row} of {rows}, step {step}"


@pytest.fixture(scope="module")
def alone(model) -> Alone:
    return Alone(model)


@pytest.fixture(scope="module")
def company(model, alone) -> SlotRunner:
    """All sequences in one runner, prefilled."""
    runner = SlotRunner(model, ROWS_MAX, alone.max_tokens)
    for slot, prompt in enumerate(alone.prompts):
        feed(runner, slot, prompt)
    return runner


@pytest.mark.parametrize("rows", range(2, ROWS_MAX + 1))
def test_rows_of_different_pasts_decode_together_with_the_bits_they_have_alone(rows, alone, company):
    everyone = range(rows)
    for step in range(STEPS):
        alone.check(alone.step(company, step, everyone, 0), step, everyone)
    for row in everyone:
        assert np.array_equal(company.keys[-1][row, :, : alone.keys[row].shape[1]], alone.keys[row])


@pytest.mark.parametrize("first", [1, 5, 16])
def test_any_range_of_slots_decodes_with_the_same_bits(first, alone, company):
    some = range(first, min(first + 4, ROWS_MAX))
    for step in range(STEPS):
        alone.check(alone.step(company, step, some, first), step, some)


def test_a_prefill_between_decode_steps_disturbs_nobody(model, alone):
    runner, decoding, newcomer = SlotRunner(model, 5, alone.max_tokens), range(4), 4
    for slot in decoding:
        feed(runner, slot, alone.prompts[slot])
    alone.check(alone.step(runner, 0, decoding, 0), 0, decoding)
    feed(runner, newcomer, alone.prompts[newcomer])
    alone.check(alone.step(runner, 1, decoding, 0), 1, decoding)
    everyone = range(5)
    tokens = [[alone.answers[row][2 if row in decoding else 0]] for row in everyone]
    pasts = [len(alone.prompts[row]) + (2 if row in decoding else 0) for row in everyone]
    logits = runner.run(tokens, pasts)
    alone.check(logits[:4], 2, decoding)
    alone.check(logits[4:], 0, range(4, 5))


def test_shortening_a_sequence_and_going_on_gives_the_same_bits(alone, company):
    rows = range(6)
    for step in (0, 1, 2, 1, 0):
        alone.check(alone.step(company, step, rows, 0), step, rows)


def test_what_a_slot_held_before_does_not_matter(model, alone):
    runner = SlotRunner(model, 3, alone.max_tokens)
    for block in (*runner.keys, *runner.values):
        block[:] = nonsense(block)
    for slot in range(3):
        feed(runner, slot, alone.prompts[slot])
    for step in range(STEPS):
        alone.check(alone.step(runner, step, range(3), 0), step, range(3))


def test_an_idle_row_parked_at_the_last_position_disturbs_nobody(model, alone):
    runner = SlotRunner(model, 3, alone.max_tokens)
    for slot in (0, 2):
        feed(runner, slot, alone.prompts[slot])
    pasts = [len(alone.prompts[0]), alone.max_tokens - 1, len(alone.prompts[2])]
    logits = runner.run([[alone.answers[0][0]], [0], [alone.answers[2][0]]], pasts)
    alone.check(logits[[0]], 0, range(0, 1))
    alone.check(logits[[2]], 0, range(2, 3))


@pytest.fixture(scope="module")
def one_shot(model):
    """(tokens, logits, runner) of a prompt of two and a half query tiles prefilled at once into slot 0."""
    tokens = some_tokens(model, 2 * tile(model) + tile(model) // 2)
    runner = SlotRunner(model, 3, len(tokens))
    return tokens, feed(runner, 0, tokens), runner


def nonsense(block: np.ndarray) -> float:
    """What no sequence leaves behind."""
    return np.nan if block.dtype.kind == "f" else 85


def forget(runner: SlotRunner, slot: int) -> None:
    """So that what an earlier prefill left there cannot pass for what the next one should write."""
    for block in (*runner.keys, *runner.values):
        block[slot] = nonsense(block)


def check_same_cache(runner: SlotRunner, slot: int) -> None:
    for block in (*runner.keys, *runner.values):
        assert np.array_equal(block[slot], block[0])


def respects(cuts: list[int], length: int, query_tile: int) -> bool:
    bounds = [0, *cuts, length]
    return all(end - start >= 2 and (end - start) % query_tile != 1 for start, end in zip(bounds, bounds[1:]))


def test_every_chunking_that_respects_the_query_tile_gives_the_same_bits(model, one_shot):
    tokens, logits, runner = one_shot
    random = np.random.default_rng(2)
    cuts = [[tile(model)], [tile(model), 2 * tile(model)], [2 * tile(model)], [tile(model) // 2], [2], [tile(model) - 1]]
    cuts += [sorted(random.choice(np.arange(2, len(tokens) - 1), count, replace=False).tolist()) for count in (1, 1, 1, 2, 2, 3, 5, 8)]
    kept = [cut for cut in cuts if respects(cut, len(tokens), tile(model))]
    assert len(kept) >= 10
    for cut in kept:
        forget(runner, 1)
        assert np.array_equal(feed(runner, 1, tokens, cut), logits), f"cut at {cut}"
        check_same_cache(runner, 1)


def test_a_copied_prefix_gives_the_same_bits(model, one_shot):
    tokens, logits, runner = one_shot
    for shared in (tile(model), tile(model) // 2, 2 * tile(model), 3):
        forget(runner, 2)
        runner.copy_prefix(0, 2, shared)
        assert np.array_equal(feed(runner, 2, tokens[shared:], past=shared), logits)
        check_same_cache(runner, 2)
