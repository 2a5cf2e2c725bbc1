"""The golden file is what the demo tokenizer and the templates make of its inputs."""

import hashlib
import json

import pytest

from demo_model import prompts
from demo_model.golden import PATH, build
from demo_model.tokenizer import FOLDER, MARKERS

GOLDEN = json.loads(PATH.read_text("utf-8"))
ENCODER = prompts.Encoder(FOLDER / "tokenizer.json")
IDS = {case["name"]: case for case in GOLDEN["cases"]}


def test_belongs_to_the_shipped_tokenizer_and_prompts():
    assert GOLDEN["tokenizer_sha256"] == hashlib.sha256((FOLDER / "tokenizer.json").read_bytes()).hexdigest()
    assert GOLDEN["prompt_version"] == prompts.constants()["version"]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: c["name"])
def test_segments_give_the_same_ids(case):
    segments = [prompts.Segment(s["part"], s["text"]) for s in case["segments"]]
    encoded, judged = getattr(ENCODER, case["kind"])(segments)
    assert [ids for _, ids in encoded] == [s["ids"] for s in case["segments"]]
    assert judged == case.get("judged", 0)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: c["name"])
def test_every_part_keeps_its_budget(case):
    budget = prompts.constants()[case["kind"]]
    used = {}
    for s in case["segments"]:
        used[s["part"]] = used.get(s["part"], 0) + len(s["ids"])
    if case["kind"] == "score":
        assert used.pop("parent", 0) + used.pop("answer") <= budget["parent"] + budget["answer"]
        assert all(n <= budget[part] for part, n in used.items()), used
    else:
        assert used["instructions"] + used["digest"] <= budget["instructions"] + budget["digest"], used


@pytest.mark.parametrize("case", [c for c in GOLDEN["cases"] if c["kind"] == "score"], ids=lambda c: c["name"])
def test_what_is_judged_is_a_whole_prefix_of_the_answer(case):
    kept = next(s for s in case["segments"] if s["part"] == "answer")
    assert ENCODER.theirs.decode(kept["ids"], skip_special_tokens=False) == kept["text"][: case["judged"]]


def test_golden_cases_cut_where_a_code_point_would_break():
    budget = prompts.constants()["score"]
    kept = len(next(s["ids"] for s in IDS["a cut inside an emoji"]["segments"] if s["part"] == "answer"))
    assert budget["parent"] + budget["answer"] - 3 <= kept < budget["parent"] + budget["answer"]
    assert [s["part"] for s in IDS["no question, only a company"]["segments"] if s["part"] != "instructions"] == ["context", "answer"]


def test_untrusted_text_never_becomes_a_control_token():
    control = {ENCODER.ours.token_to_id(m) for m in MARKERS}
    for case in GOLDEN["cases"]:
        for s in case["segments"]:
            if s["part"] != "instructions":
                assert not control & set(s["ids"]), case["name"]


def test_our_markers_are_single_tokens():
    for marker in MARKERS:
        assert ENCODER.trusted(marker) == [ENCODER.ours.token_to_id(marker)]
    assert len(ENCODER.untrusted("[|endofturn|]")[0]) > 1


def test_a_digit_is_its_own_piece():
    assert all(len(ENCODER.untrusted(text)[0]) == len(text) for text in ("1234", "5,3"))
    for literal in ('"level":', '","level":'):
        whole, alone = ENCODER.untrusted(literal + "3")[0], ENCODER.untrusted(literal)[0]
        assert whole == alone + ENCODER.untrusted("3")[0]


def test_outputs_are_tokenised_piece_by_piece():
    for output in GOLDEN["outputs"]:
        assert json.loads("".join(p["text"] for p in output["pieces"]))
        assert [p["ids"] for p in output["pieces"]] == [ENCODER.untrusted(p["text"])[0] for p in output["pieces"]]


def test_a_long_follow_up_gives_up_the_parent_first():
    parts = {s["part"]: len(s["ids"]) for s in IDS["too long a parent and answer"]["segments"]}
    budget = prompts.constants()["score"]
    assert budget["parent"] - 3 <= parts["parent"] <= budget["parent"] and budget["answer"] - 3 <= parts["answer"] <= budget["answer"]  # whole code points
    alone = {s["part"]: len(s["ids"]) for s in IDS["too long a parent"]["segments"]}
    assert alone["parent"] > budget["parent"]


def test_the_instructions_of_an_area_stay_short():
    pytest.importorskip("jinja2")
    for stage in prompts.rubric()["stages"]:
        system = prompts.render("score.system.jinja", area=prompts.area_of(stage))
        assert len(ENCODER.trusted(system)) <= 450 - 2


def own_tokens(kind, segments):
    return sum(len(ids) for segment, ids in getattr(ENCODER, kind)(segments)[0] if segment.trusted)


def test_our_own_words_keep_their_budget():
    pytest.importorskip("jinja2")
    chat = (FOLDER / "chat_template.jinja").read_text("utf-8")
    rubric, constants = prompts.rubric(), prompts.constants()
    stages = [*rubric["stages"], *(f"{id}_followup" for id, stage in rubric["stages"].items() if stage["follow_up"])]
    everything = {
        "overall": 66.66,
        "areas": [{"area": a["id"], "score": 66.66} for a in rubric["areas"]],
        "competencies": dict.fromkeys(rubric["competencies"], 66.66),
    }
    for language in constants["languages"]:
        interview = {"language": language, "position": "가"}
        budget = constants["narrative"]
        assert own_tokens("narrative", prompts.narrative_segments(chat, interview, {**everything, "answers": []})) <= budget["instructions"]
        for stage in stages:
            parent = {"question": "가", "answer": "나"} if stage.endswith("_followup") else None
            scored = {"stage": stage, "question": "다", "answer": "라"}
            assert own_tokens("score", prompts.score_segments(chat, interview, scored, parent)) <= constants["score"]["instructions"]
            lines = [{"stage": stage, "state": "gated", "final_score": 66.66}] * 64
            full = own_tokens("narrative", prompts.narrative_segments(chat, interview, {**everything, "answers": lines}))
            assert full <= budget["instructions"] + budget["digest"], stage


def test_templates_render_to_the_golden_segments():
    pytest.importorskip("jinja2")
    assert build() == GOLDEN
