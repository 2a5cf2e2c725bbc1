"""The phrase files keep their format, held-out text stays held out, and composed answers are what their labels say."""

import itertools
import random
import re

import numpy as np
import pytest

from demo_model import prompts
from demo_model.answers import AREA, Composer, quote_of
from demo_model.feedback import band, feedback, narrative, score_of
from demo_model.packs import LISTS, fill, load, particle
from demo_model.tokenizer import strings

FOLDERS = ["train", "heldout", "train/en"]
PAST = ["situations", "tasks", "actions", "effects", "triggers", "strength_proofs", "collab_actions", "collab_results", "own_mistakes", "own_actions", "learn_actions", "learn_results", "blames"]
SLOTS = {*LISTS, *(f"{s}2" for s in LISTS), "job", "field", "metric", "from", "to"}


def sources(folder):
    pack = load(folder)
    return [*pack["jobs"], pack["life"]]


@pytest.mark.parametrize("word, name, expected", [
    ("문제", "을", "를"), ("지연", "을", "을"), ("물", "으로", "로"), ("책", "으로", "으로"), ("서버", "으로", "로"), ("API", "이", "가"),
    ("7%", "이", "가"), ("30초", "으로", "로"), ("B", "은", "는"), ("SQL", "은", "은"), ("13", "이", "이"), ("Git(버전 관리)", "과", "와"),
])  # fmt: skip
def test_particles_follow_the_last_sound(word, name, expected):
    assert particle(word, name) == expected


def test_fill_leaves_unknown_braces_alone():
    assert fill("{a|은} {b: 1}", lambda name: "값") == "값은 {b: 1}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_templates_use_only_known_slots(folder):
    for text in strings(load(folder)["templates"]):
        for name, _ in re.findall(r"\{(\w+)(?:\|(\w+))?\}", text):
            assert name in SLOTS, text


@pytest.mark.parametrize("folder", ["train", "heldout"])
def test_past_clauses_end_where_an_ending_can_follow(folder):
    for source, key in itertools.product(sources(folder), PAST):
        for text in source.get(key, ()):
            assert (ord(text[-1]) - 0xAC00) % 28 == 20, text


def test_nothing_held_out_is_trained_on():
    trained = {s for folder in ("train", "train/en") for s in strings(load(folder))}
    shared = {s for s in strings(load("heldout")) if s in trained and len(s) > 12}
    assert not shared
    assert not {j["job"] for j in load("train")["jobs"]} & {j["job"] for j in load("heldout")["jobs"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_answers_hold_their_evidence(folder):
    composer = Composer(random.Random(5), folder)
    for _ in range(400):
        a = composer.answer()
        assert len(a.levels) == len(a.evidence) == 3 and set(a.levels) <= {1, 2, 3, 4, 5}
        assert all(q in a.text and len(q) <= 80 for q in a.evidence), a
        assert "command" in a.kind or not re.search(r"\{\w+(\|\w+)?\}", a.text), a.text
        assert "{" not in feedback(a) and '"' not in feedback(a) and len(feedback(a)) <= 300


@pytest.mark.parametrize("kind", ["offtopic", "refusal", "buzzwords", "command", "repeats"])
def test_answers_without_substance_score_nothing_however_long(kind):
    composer = Composer(random.Random(6), "train")
    assert all(composer.answer(kind=kind).levels == [1, 1, 1] for _ in range(50))


def test_length_says_little_about_the_label():
    composer = Composer(random.Random(7), "train")
    answers = [composer.answer(kind="graded") for _ in range(1500)]
    for area in "ABCDE":
        rows = [(len(a.text), sum(a.levels)) for a in answers if AREA[a.stage.removesuffix("_followup")] == area]
        assert abs(np.corrcoef(*zip(*rows))[0, 1]) < 0.7, area


def test_every_stage_and_level_occurs():
    composer = Composer(random.Random(8), "train")
    seen = {(AREA[a.stage.removesuffix("_followup")], i, n) for a in (composer.answer() for _ in range(3000)) for i, n in enumerate(a.levels)}
    assert len(seen) == 5 * 3 * 5


def test_the_same_seed_gives_the_same_answers():
    one, two = (Composer(random.Random(9), "train") for _ in range(2))
    assert [one.answer() for _ in range(20)] == [two.answer() for _ in range(20)]


def test_a_quote_is_the_beginning_of_one_sentence():
    assert quote_of("장애를 줄였습니다. 그리고 남겼습니다.") == "장애를 줄였습니다"
    assert len(quote_of("아주 긴 문장입니다 " * 20)) <= 44


def test_scores_and_bands_are_those_of_the_report():
    assert score_of([5, 5, 5], [40, 40, 20]) == 100 and score_of([1, 3, 2], [30, 40, 30]) == 27.5
    assert [band(x) for x in (85, 84.99, 70, 50, 49.99)] == ["excellent", "good", "good", "fair", "poor"]


@pytest.mark.parametrize("score, shown", [(0, "0"), (100, "100"), (80.0, "80"), (65.5, "65.5"), (71.25, "71.25"), (10.01, "10.01")])
def test_scores_are_shown_without_needless_zeros(score, shown):
    assert prompts.points(score) == shown


def test_a_narrative_speaks_of_the_best_and_the_worst():
    said = lambda stage, score, quote, state="scored": {
        "stage": stage, "state": state, "final_score": score, "criteria": [{"evidence": quote and {"quote": quote}}], "feedback": "네."
    }
    answers = [said("intro", 90, "저는 끝까지 확인합니다"), said("skill", 20, None), said("growth", 0, None, "gated")]
    report = {"overall": 40, "areas": [{"area": "A", "score": 90}, {"area": "C", "score": 20}], "competencies": {"technical": 20}, "answers": answers}
    summary, strengths, improvements, competencies = narrative("ko", report)
    assert "자기 표현·기본 커뮤니케이션에서" in summary and "직무 지식 이해도부터" in summary
    assert "끝까지 확인합니다" in strengths[0] and "성장 가능성" in improvements[0]
    assert [c for c, _ in competencies] == ["technical"] and 2 <= len(strengths) <= 3 and 2 <= len(improvements) <= 3
