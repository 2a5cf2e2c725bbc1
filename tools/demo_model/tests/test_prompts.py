"""The rubric and the constants keep the promises that the daemon checks at start."""

from demo_model import prompts


def test_weights_and_points_add_up():
    areas = prompts.rubric()["areas"]
    assert abs(sum(a["weight"] for a in areas) - 1) < 1e-9
    for area in areas:
        assert sum(c["points"] for c in area["criteria"]) == 100
        assert all(len(c["levels"]) == 5 for c in area["criteria"])


def test_stages_name_known_areas_and_competencies():
    rubric = prompts.rubric()
    for stage in rubric["stages"].values():
        assert stage["area"] in rubric["area"]
        assert stage.get("competency", "growth") in rubric["competencies"]


def test_names_need_no_escape_in_a_grammar():
    for area in prompts.rubric()["areas"]:
        for criterion in area["criteria"]:
            assert not set(criterion["name"]) & set('"\\\n')


def test_budgets_add_up_to_the_contexts_of_the_slots():
    assert prompts.slot_tokens("score") == 1024
    assert prompts.slot_tokens("narrative") == 2176


def test_sentinels_of_an_answer_do_not_split_a_prompt():
    text = "가" + chr(prompts.SENTINEL) + "나"
    segments = prompts.split("앞" + chr(prompts.SENTINEL) + "뒤", [("answer", text)])
    assert [(s.part, s.text) for s in segments] == [("instructions", "앞"), ("answer", text), ("instructions", "뒤")]
