"""What a coach would say of a graded answer, and of a whole interview: the texts the demo model learns to write."""

import functools
import tomllib

from .answers import AREA
from .packs import DATA


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
    return sentence.replace("{s}", snippet(evidence[strong]))


def score_of(levels, points):
    """Integer levels → the answer's score, as domain.md has it (no rounding is needed for integers)."""
    return sum(p * (n - 1) / 4 for n, p in zip(levels, points))


def band(score):
    return "excellent" if score >= 85 else "good" if score >= 70 else "fair" if score >= 50 else "poor"


def narrative(language, overall, areas, competencies, answers):
    """(summary, strengths, improvements, [(competency, sentence)]). `areas`: [(name, score)]; `competencies`: [(id, score)];
    `answers`: [(shown stage, score, quote, gated)]."""
    words = phrases()[language]["narrative"]
    ranked = sorted(areas, key=lambda a: a[1])
    summary = words[band(overall)]
    if len(areas) > 1 and ranked[-1][1] > ranked[0][1]:
        summary += " " + words["best"].format(area=ranked[-1][0]) + " " + words["worst"].format(area=ranked[0][0])
    spoken = sorted((a for a in answers if not a[3]), key=lambda a: -a[1])
    order = spoken or answers
    count = 3 if len(order) >= 6 else 2
    strengths = [_strength(words, order[i % len(order)], i) for i in range(count)]
    weak = sorted(answers, key=lambda a: a[1])
    improvements = []
    for i in range(count):
        stage, _, _, gated = weak[i % len(weak)]
        options = words["silent"] if gated else words["improvement"]
        improvements.append(options[i % len(options)].format(stage=stage))
    level = lambda score: "high" if score >= 75 else "mid" if score >= 50 else "low"
    return summary, strengths, improvements, [(c, words["competencies"][c][level(score)]) for c, score in competencies]


def _strength(words, answer, index):
    stage, _, quote, _ = answer
    if not quote:
        return words["strength_bare"][0].format(stage=stage)
    return words["strength"][index % len(words["strength"])].format(stage=stage, s=snippet(quote))
