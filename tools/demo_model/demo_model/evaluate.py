"""Judges an exported demo model on held-out interviews: rank correlation, triplets, injections, and what it writes."""

import argparse
import json
import pathlib
import random
import re
from statistics import mean

import numpy as np
from exaone_export.runtime import SlotRunner

from . import prompts
from .answers import AREA, BASES, Composer
from .decode import Sequence, Tokenizer, generate
from .feedback import score_of
from .samples import Sampler

SLOTS = 16


class Judge:
    """Scores graded answers with an exported model."""

    def __init__(self, folder):
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.encoder = prompts.Encoder(folder / "tokenizer.json")
        self.chat = (folder / "chat_template.jinja").read_text("utf-8")
        self.context = prompts.slot_tokens("score")
        self.room = prompts.constants()["score"]["output"]
        self.runner = SlotRunner(folder, SLOTS, self.context)

    def score(self, answers):
        """[Graded] → [{score, levels, quotes, feedback, text}]."""
        sequences = []
        for a in answers:
            encoded, judged = self.encoder.score(prompts.score_segments(self.chat, *a.sent()))
            grammar = prompts.score_grammar(prompts.area_of(a.stage), a.text[:judged])
            sequences.append(Sequence([i for _, ids in encoded for i in ids], grammar, self.room, self.tokenizer))
        generate(self.runner, sequences, SLOTS, self.context)
        return [self.read(a, s) for a, s in zip(answers, sequences)]

    def read(self, graded, sequence):
        points = [c["points"] for c in prompts.area_of(graded.stage)["criteria"]]
        levels = [float(np.dot(p, [1, 2, 3, 4, 5])) for p in sequence.levels]
        try:
            out = json.loads(sequence.text)
        except json.JSONDecodeError:  # ran out of room; the daemon's constraint forces the ending
            out = None
        return {
            "score": score_of(levels, points) if len(levels) == len(points) else None,
            "levels": levels,
            "quotes": [c["evidence"] for c in out["criteria"]] if out else [],
            "feedback": out["feedback"] if out else None,
            "text": sequence.text,
        }


def label(graded):
    return score_of(graded.levels, [c["points"] for c in prompts.area_of(graded.stage)["criteria"]])


def spearman(a, b):
    """Rank correlation with mean ranks for ties; an answer without a score ranks last, so that not finishing never helps."""
    a = [-1 if x is None else x for x in a]

    def ranks(values):
        values = np.asarray(values)
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        return (last - (counts - 1) / 2)[inverse]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def triplet(composer, rng):
    """Good, medium and poor answers to one question."""
    stage, job = rng.choice(BASES), rng.choice(composer.pack["jobs"])
    company = rng.choice(job["companies"])
    question, found = None, []
    for quality, low, high in ((4.6, 75, 100), (3.0, 35, 62), (1.4, 0, 25)):
        while True:
            a = composer.answer(stage, quality, job, company, kind=None if quality < 2 else "graded", question=question)
            if low <= label(a) <= high:
                break
        question = a.question
        # whoever is asked about a concept has to speak of that one
        job = {**job, "concept": [c for c in job["concept"] if c["question"] == question] or job["concept"]}
        found.append(a)
    return found


def injected(composer, rng, count):
    """Answers that try to command the scorer, alone or on top of a poor answer."""
    found = []
    while len(found) < count:
        a = composer.answer(rng.choice(BASES), 1.3, kind=("command", "command_poor")[len(found) % 2])
        if label(a) <= 25:
            found.append(a)
    return found


def quotes_in_feedback(results, answers):
    """Share of the words that feedback quotes which really stand in the answer."""
    pairs = [(q, a.text) for r, a in zip(results, answers) for q in re.findall(r"'([^']+)'", r["feedback"] or "")]
    return sum(q in text for q, text in pairs) / max(1, len(pairs)), len(pairs)


def evaluate(folder, seed, count, triplets, show):
    rng = random.Random(seed)
    composer = Composer(rng, "heldout")
    judge = Judge(folder)
    answers = [composer.answer() for _ in range(count)]
    threes = [triplet(composer, rng) for _ in range(triplets)]
    attacks = injected(composer, rng, 50)
    poor = [a for a in (composer.answer(quality=1.3, kind="graded") for _ in range(200)) if label(a) <= 25][:50]
    results = judge.score(answers)
    each = iter(judge.score([a for three in threes for a in three]))
    ranked = [[next(each)["score"] for _ in three] for three in threes]
    attacked, base = judge.score(attacks), judge.score(poor)
    scores, labels = [r["score"] for r in results], [label(a) for a in answers]
    verbatim, quoted = quotes_in_feedback(results, answers)
    figures = {
        "answers": count,
        "spearman": spearman(scores, labels),
        "mean_abs_error": mean(abs(s - y) for s, y in zip(scores, labels) if s is not None),
        "spearman_by_area": {x: spearman(*zip(*[(s, y) for s, y, a in zip(scores, labels, answers) if AREA[a.stage.removesuffix("_followup")] == x])) for x in "ABCDE"},
        "length_spearman": spearman([len(a.text) for a in answers], labels),
        "triplets_ordered": sum(None not in r and r[0] > r[1] > r[2] for r in ranked) / triplets,
        "injection_mean": mean(r["score"] for r in attacked if r["score"] is not None),
        "poor_mean": mean(r["score"] for r in base if r["score"] is not None),
        "finished": sum(r["feedback"] is not None for r in results) / count,
        "feedback_quotes_verbatim": verbatim,
        "feedback_quotes": quoted,
    }
    for a, r in list(zip(answers, results))[:show]:
        print(f"\n[{a.stage} · {a.kind}] label {a.levels}, levels {[round(x, 2) for x in r['levels']]}\n질문: {a.question}\n답변: {a.text}\n인용: {r['quotes']}\n피드백: {r['feedback']}")
    if show:
        narrate(folder, judge, rng, min(show, 4))
    return figures


def narrate(folder, judge, rng, count):
    """Prints narratives of held-out interviews."""
    budget = prompts.constants()["narrative"]
    context = prompts.slot_tokens("narrative")
    runner = SlotRunner(folder, 1, context)
    sampler = Sampler(rng, {"heldout": 1.0})
    sampler.chat, sampler.encoder = judge.chat, judge.encoder
    for number in range(count):
        encoded, report = sampler.digest(sampler.composer(), [8, 17][number % 2])
        grammar = prompts.narrative_grammar(list(report["competencies"]))
        s = Sequence([i for _, ids in encoded for i in ids], grammar, budget["output"], judge.tokenizer)
        generate(runner, [s], 1, context)
        print("\n총평:", prompts.points(report["overall"]), s.text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="an exported model folder")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--answers", type=int, default=400)
    parser.add_argument("--triplets", type=int, default=100)
    parser.add_argument("--show", type=int, default=0, help="print so many scored answers and some narratives")
    args = parser.parse_args()
    print(json.dumps(evaluate(args.folder, args.seed, args.answers, args.triplets, args.show), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
