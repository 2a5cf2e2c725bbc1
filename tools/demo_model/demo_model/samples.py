"""Turns composed interviews into token ids with loss weights: groups of items behind one shared instruction prefix."""

import random

import numpy as np

from . import prompts
from .answers import AREA, BASES, Composer
from .feedback import feedback, narrative, score_of
from .tokenizer import FOLDER, MARKERS

# Loss weights of what the model writes; the rest of an item teaches the language itself, a little.
LEVEL, VALUE, ENDING, READING = 6.0, 1.0, 1.0, 0.06


class Sampler:
    """Draws training groups from the phrases of `folders` (name → share)."""

    def __init__(self, rng, folders, forget=0.0):
        self.rng = rng
        self.encoder = prompts.Encoder(FOLDER / "tokenizer.json")
        self.chat = (FOLDER / "chat_template.jinja").read_text("utf-8")
        self.folders = list(folders)
        self.shares = [folders[f] for f in self.folders]
        self.composers = {f: Composer(rng, f, forget) for f in self.folders}
        self.end = self.encoder.ours.token_to_id("[|endofturn|]")
        self.plain = len(MARKERS)  # the first id that is no marker
        self.quote = self.encoder.untrusted('":"')[0][0]

    def composer(self):
        return self.composers[self.rng.choices(self.folders, self.shares)[0]]

    # ---- one item

    def item(self, encoded, output):
        """Prompt segments and output pieces → (ids, loss weights)."""
        ids, weights = [], []
        for segment, part in encoded:
            ids += part
            weights += [0.0 if segment.trusted else READING] * len(part)
        for text, value in output:
            part = self.encoder.untrusted(text)[0]
            ids += part
            # What follows a value begins with the model's own decision to end it.
            weights += [(LEVEL if len(text) == 1 and text.isdigit() else VALUE) if value else (ENDING if i == 0 else 0.0) for i in range(len(part))]
        return ids + [self.end], weights + [ENDING]

    def scored(self, graded):
        """One graded answer as an item, or None if the budget hides something that would be quoted."""
        encoded, judged = self.encoder.score(prompts.score_segments(self.chat, *graded.sent()))
        if any(q not in graded.text[:judged] for q in graded.evidence):
            return None
        output = prompts.score_output(prompts.area_of(graded.stage), list(zip(graded.evidence, graded.levels)), feedback(graded))
        return self.item(encoded, output)

    def score_group(self, items):
        """`items` answers of one area behind its instructions."""
        area = self.rng.choice("ABCCDDDEEE")
        stages = [s for s in BASES if AREA[s] == area]
        group = []
        while len(group) < items:
            stage = self.rng.choice(stages)
            if area in "CDE" and self.rng.random() < 0.25:
                stage += "_followup"
            item = self.scored(self.composer().answer(stage))
            if item:
                group.append(item)
        return as_group(group)

    # ---- narratives

    def interview(self, composer, count):
        """`count` graded answers of one candidate."""
        ability = self.rng.uniform(1.2, 4.8)
        job = self.rng.choice(composer.pack["jobs"])
        company = self.rng.choice(job["companies"])
        stages = sorted(self.rng.choices(BASES, k=count), key=BASES.index)
        answers, seen = [], set()
        for stage in stages:
            if stage in seen and AREA[stage] in "CDE":
                stage += "_followup"
            seen.add(stage)
            answers.append(composer.answer(stage, self.rng.gauss(ability, 0.9), job, company, parent=False))
        return answers, job["job"], company

    def report(self, answers):
        """What the report's arithmetic makes of graded answers, as the narrative's prompt wants it."""
        rubric = prompts.rubric()
        told, by_area, by_competency = [], {}, {}
        for a in answers:
            entry, _ = prompts.stage_of(a.stage)
            area = rubric["area"][entry["area"]]
            silent = self.rng.random() < 0.04
            # The daemon's scores are expectations, not whole levels: scatter them as it would.
            levels = [1] * 3 if silent else [min(5, max(1, n + self.rng.gauss(0, 0.2))) for n in a.levels]
            score = round(score_of(levels, [c["points"] for c in area["criteria"]]), 2)
            criteria = [{"evidence": {"quote": q} if q else None} for q in a.evidence]
            state = "gated" if silent else "scored"
            told.append({"stage": a.stage, "state": state, "final_score": score, "criteria": criteria, "feedback": feedback(a)})
            by_area.setdefault(area["id"], []).append(score)
            if "competency" in entry:
                by_competency.setdefault(entry["competency"], []).append(score)
        mean = lambda xs: round(sum(xs) / len(xs), 2)
        areas = [{"area": a["id"], "score": mean(by_area[a["id"]]), "weight": a["weight"]} for a in rubric["areas"] if a["id"] in by_area]
        overall = round(sum(a["score"] * a["weight"] for a in areas) / sum(a["weight"] for a in areas), 2)
        competencies = {c: mean(by_competency[c]) for c in rubric["competencies"] if c in by_competency}
        return {"overall": overall, "areas": areas, "competencies": competencies, "answers": told}

    def digest(self, composer, count):
        """A whole interview's narrative prompt: (encoded segments, the report that it tells of)."""
        answers, position, company = self.interview(composer, count)
        report = self.report(answers)
        interview = {"language": composer.language, "position": position, "company": {"name": company}}
        encoded, _ = self.encoder.narrative(prompts.narrative_segments(self.chat, interview, report))
        return encoded, report

    def narrated(self, composer, count):
        encoded, report = self.digest(composer, count)
        return self.item(encoded, prompts.narrative_output(*narrative(composer.language, report)))

    def narrative_group(self, items):
        composer, count = self.composer(), self.rng.choice([4, 6, 8, 12, 17, 17, 20])
        return as_group([self.narrated(composer, count) for _ in range(min(items, max(1, 24 // count)))])


    # ---- copying

    def repeated(self):
        """Random ids twice in a row, at varying distance: the plainest lesson in copying."""
        ids = [self.rng.randrange(self.plain, self.encoder.ours.get_vocab_size()) for _ in range(self.rng.randint(8, 60))]
        start = self.rng.randint(8, len(ids)) // 2 if len(ids) > 16 else 0
        again = ids[start:]
        return [self.end, *ids, *again], [0.0] * (len(ids) + 2) + [VALUE] * (len(again) - 1)

    def scattered(self):
        """Words in random order, then runs of them again."""
        words = self.composer().answer().text.split()
        self.rng.shuffle(words)
        ids = self.encoder.untrusted(" ".join(words))[0][:160]
        said, weights = list(ids), [0.0] * len(ids)
        for _ in range(self.rng.randint(3, 6)):
            start = self.rng.randrange(max(1, len(ids) - 8))
            run = ids[start : start + self.rng.randint(6, 24)]
            said += [self.quote, *run]
            weights += [0.0, 0.0, *[VALUE] * (len(run) - 1)]
        return [self.end, *said], [0.0, *weights]

    def copying_group(self, items, plain):
        """Phrases of the corpus can be learnt by heart; random runs can't, so quoting has to be learnt as what it is."""
        return as_group([self.repeated() if plain or self.rng.random() < 0.5 else self.scattered() for _ in range(items)])


def as_group(items):
    """Items [(ids, weights)] behind the longest prefix of ids that all of them share and that carries no loss."""
    shared, most = 0, min(next(i for i, w in enumerate(weights) if w) for _, weights in items)
    while shared < most and len({ids[shared] for ids, _ in items}) == 1:
        shared += 1
    return {
        "prefix": np.array(items[0][0][:shared], np.int32),
        "items": [{"ids": np.array(ids[shared:], np.int32), "weight": np.array(w[shared:], np.float32)} for ids, w in items],
    }


def training_groups(seed, narratives, copies, first_copies, items=12):
    """An endless stream of training groups, the same for the same seed. The first `first_copies` groups teach nothing but copying."""
    rng = random.Random(seed)
    sampler = Sampler(rng, {"train": 0.92, "train/en": 0.08}, forget=0.12)
    for _ in range(int(first_copies)):
        yield sampler.copying_group(2 * items, plain=True)
    while True:
        roll = rng.random()
        if roll < narratives:
            yield sampler.narrative_group(items)
        elif roll < narratives + copies:
            yield sampler.copying_group(items, plain=False)
        else:
            yield sampler.score_group(items)
