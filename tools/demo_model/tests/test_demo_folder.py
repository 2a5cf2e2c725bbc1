"""What lies in models/demo is whole, small, labelled as a demo, and its interview is a valid one."""

import hashlib
import json

import pytest

from demo_model import prompts
from demo_model.packs import load
from demo_model.tokenizer import FOLDER, MARKERS, VOCAB, strings

INTERVIEW = json.loads((FOLDER / "interview.json").read_text("utf-8"))
MANIFEST = json.loads((FOLDER / "model.json").read_text("utf-8"))


def test_files_are_those_that_were_exported():
    for name, expected in MANIFEST["files"].items():
        content = (FOLDER / name).read_bytes()
        assert len(content) == expected["bytes"] and hashlib.sha256(content).hexdigest() == expected["sha256"], name


def test_it_is_small_and_plainly_a_demo():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 16_000_000
    assert MANIFEST["demo"] and not MANIFEST["random"] and "not a judge" in MANIFEST["licence_note"]
    assert MANIFEST["vocab_size"] == VOCAB


def test_a_slot_of_every_prompt_fits_its_context():
    for kind in ("score", "narrative"):
        assert prompts.slot_tokens(kind) <= MANIFEST["context_tokens"]


def test_special_tokens_are_exaones():
    assert {t["text"] for t in MANIFEST["special_tokens"].values()} == set(MARKERS)
    assert MANIFEST["eos_ids"] == [MANIFEST["special_tokens"]["end_of_turn"]["id"]]


def test_the_interview_has_seventeen_answers_in_known_stages():
    answers = INTERVIEW["answers"]
    assert [a["answer_id"] for a in answers] == [f"a{i + 1}" for i in range(17)]
    for a in answers:
        base = a["stage"].removesuffix("_followup")
        entry = prompts.rubric()["stages"][base]
        assert base == a["stage"] or entry["follow_up"]
        assert 0 < len(a["question"]) <= 4000 and 0 < len(a["answer"]) <= 20000


def test_follow_ups_name_an_earlier_answer_of_their_stage():
    seen = {}
    for a in INTERVIEW["answers"]:
        base = a["stage"].removesuffix("_followup")
        assert ("follow_up_of" in a) == (a["stage"] != base)
        if "follow_up_of" in a:
            assert seen[a["follow_up_of"]] == base
        seen[a["answer_id"]] = base


@pytest.mark.parametrize("folder", ["train", "heldout"])
def test_the_interview_is_not_from_the_corpus(folder):
    phrases = {s for s in strings(load(folder)) if len(s) > 12 and "{" not in s}
    for a in INTERVIEW["answers"]:
        assert not any(p in a["answer"] or p in a["question"] for p in phrases), a["answer_id"]
