"""What a coach would say of a graded answer, and of a whole interview: the texts the demo model learns to write."""

import functools
import tomllib

from . import prompts
from .answers import AREA
from .packs import DATA, fill


@functools.cache
def phrases():
    return tomllib.loads((DATA / "feedback.toml").read_text("utf-8"))


def snippet(quote):
    """A few words of a quote, short enough to stand inside a sentence."""
    most = 30 if quote.isascii() else 18
    if len(quote) > most:
        cut = quote.rfind(" ", 0, most)
        quote = quote[: cut if cut > 0 else most]
    return quote.strip(" .,!?…'")


def quoting(template, quote, **names):
    """Fills `{s}` with a few words of a quote in quotation marks, and other slots by `names`."""
    return fill(template, lambda slot: names.get(slot) or f"'{snippet(quote)}'")


def _choose(options, levels):
    """One of several wordings, the same for the same levels: a greedy model can learn which."""
    return options[sum(levels) % len(options)]


def feedback(graded):
    """One praise and one piece of advice, about the strongest and the weakest criterion."""
    words = phrases()[graded.language]
    levels = graded.levels
    if max(levels) == 1 and not any(graded.evidence):
        key = {"refusal": "refusal", "command": "command"}.get(graded.kind, "nothing")
        return _choose(words[key], [len(graded.stage)])
    area = words[AREA[graded.stage.removesuffix("_followup")]]
    order = sorted(range(3), key=lambda i: levels[i])
    weak, strong = order[0], order[-1]
    said = []
    if levels[strong] >= 3:
        said.append(_praise(area, strong, levels, graded.evidence))
    if levels[weak] == 5:
        said.append(_choose(words["perfect"], [strong]))
    else:
        said.append(_choose(area[weak]["low" if levels[weak] <= 2 else "mid"], levels))
    if levels[strong] <= 2 and levels[order[1]] <= 2:
        said.append(_choose(area[order[1]]["low"], levels))
    return " ".join(said)


def _praise(area, strong, levels, evidence):
    sentence = _choose(area[strong]["praise" if levels[strong] >= 4 else "partly"], levels)
    return quoting(sentence, evidence[strong])


def score_of(levels, points):
    """Integer levels → the answer's score, as domain.md has it (no rounding is needed for integers)."""
    return sum(p * (n - 1) / 4 for n, p in zip(levels, points))


def band(score):
    return "excellent" if score >= 85 else "good" if score >= 70 else "fair" if score >= 50 else "poor"


def narrative(language, report):
    """(summary, strengths, improvements, [(competency, sentence)]) of a report as the narrative's prompt tells it."""
    words = phrases()[language]["narrative"]
    areas = prompts.ranked(report["areas"], "score")
    best, worst = (prompts.named(prompts.rubric()["area"][a["area"]], language) for a in (areas[0], areas[-1]))
    summary = words[band(report["overall"])]
    if areas[0]["score"] > areas[-1]["score"]:
        summary += " " + words["best"].format(area=best) + " " + words["worst"].format(area=worst)
    answers = prompts.ranked(report["answers"], "final_score")
    spoken = [a for a in answers if a["state"] == "scored"] or answers
    count = 3 if len(spoken) >= 6 else 2
    strengths = [_strength(words, spoken[i % len(spoken)], i, language) for i in range(count)]
    improvements = []
    for i in range(count):
        weak = answers[-1 - i % len(answers)]
        options = words["silent"] if weak["state"] == "gated" else words["improvement"]
        improvements.append(options[i % len(options)].format(stage=prompts.stage_of(weak["stage"], language)[1]))
    level = lambda score: "high" if score >= 75 else "mid" if score >= 50 else "low"
    return summary, strengths, improvements, [(c, words["competencies"][c][level(s)]) for c, s in report["competencies"].items()]


def _strength(words, answer, index, language):
    stage = prompts.stage_of(answer["stage"], language)[1]
    quote = next((c["evidence"]["quote"] for c in answer["criteria"] if c["evidence"]), None)
    if not quote:
        return words["strength_bare"][0].format(stage=stage)
    return quoting(words["strength"][index % len(words["strength"])], quote, stage=stage)
