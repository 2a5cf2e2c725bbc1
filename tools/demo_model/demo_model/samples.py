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
        answer = {"stage": graded.stage, "question": graded.question, "answer": graded.text}
        interview = {"language": graded.language, "position": graded.position, "company": graded.company}
        parent = graded.parent and {"question": graded.parent.question, "answer": graded.parent.text}
        segments = prompts.score_segments(self.chat, interview, answer, parent)
        encoded, judged = self.encoder.score(segments)
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

    def told(self, answers):
        """What the report's arithmetic makes of graded answers: (overall, areas, competencies, per answer (stage, score, quote, note))."""
        rubric = prompts.rubric()
        rows, by_area, by_competency = [], {}, {}
        for a in answers:
            entry, shown = prompts.stage_of(a.stage)
            area = rubric["area"][entry["area"]]
            silent = self.rng.random() < 0.04
            # The daemon's scores are expectations, not whole levels: scatter them as it would.
            levels = [1] * 3 if silent else [min(5, max(1, n + self.rng.gauss(0, 0.2))) for n in a.levels]
            score = round(score_of(levels, [c["points"] for c in area["criteria"]]), 2)
            quote = "" if silent else next((q for q in a.evidence if q), "")
            note = prompts.constants()["labels"]["no_answer"] if silent else prompts.note_of([quote], feedback(a))
            rows.append((shown, score, quote, silent, note))
            by_area.setdefault(area["id"], []).append(score)
            if "competency" in entry:
                by_competency.setdefault(entry["competency"], []).append(score)
        mean = lambda xs: round(sum(xs) / len(xs), 2)
        areas = [(a["name"], mean(by_area[a["id"]]), a["weight"]) for a in rubric["areas"] if a["id"] in by_area]
        overall = round(sum(s * w for _, s, w in areas) / sum(w for *_, w in areas), 2)
        competencies = [(c, mean(by_competency[c])) for c in rubric["competencies"] if c in by_competency]
        return overall, [a[:2] for a in areas], competencies, rows

    def digest(self, composer, count):
        """A whole interview's narrative prompt: (encoded segments, what is to be told of it)."""
        answers, position, company = self.interview(composer, count)
        overall, areas, competencies, rows = self.told(answers)
        names = prompts.rubric()["competencies"]
        scores = {
            "overall": points(overall),
            "areas": [{"name": n, "score": points(s)} for n, s in areas],
            "competencies": [{"name": names[c], "score": points(s)} for c, s in competencies],
            "answers": [{"stage": r[0], "score": points(r[1]), "note": r[4]} for r in rows],
        }
        interview = {"language": composer.language, "position": position, "company": {"name": company}}
        encoded, _ = self.encoder.narrative(prompts.narrative_segments(self.chat, interview, scores))
        return encoded, (overall, areas, competencies, [r[:4] for r in rows])

    def narrated(self, composer, count):
        encoded, told = self.digest(composer, count)
        return self.item(encoded, prompts.narrative_output(*narrative(composer.language, *told)))

    def narrative_group(self, items):
        composer, count = self.composer(), self.rng.choice([4, 6, 8, 12, 17, 17, 20])
        return as_group([self.narrated(composer, count) for _ in range(min(items, max(1, 24 // count)))])


    # ---- copying

    def copied(self):
        """Words in random order, then runs of them again. Phrases of the corpus can be learnt by heart; these can't, so quoting has to be
        learnt as what it is."""
        if self.rng.random() < 0.5:
            words = self.composer().answer().text.split()
            self.rng.shuffle(words)
            ids = self.encoder.untrusted(" ".join(words))[0][:160]
        else:
            ids = [self.rng.randrange(self.plain, self.encoder.ours.get_vocab_size()) for _ in range(self.rng.randint(40, 120))]
        said, weights = list(ids), [0.0] * len(ids)
        for _ in range(self.rng.randint(3, 6)):
            start = self.rng.randrange(max(1, len(ids) - 8))
            run = ids[start : start + self.rng.randint(6, 24)]
            said += [self.quote, *run]
            weights += [0.0, 0.0, *[VALUE] * (len(run) - 1)]
        return [self.end, *said], [0.0, *weights]

    def copying_group(self, items):
        return as_group([self.copied() for _ in range(items)])


def points(score):
    """A score as prompts show it: at most two decimals, no trailing zeros."""
    return f"{score:.2f}".rstrip("0").rstrip(".")


def as_group(items):
    """Items [(ids, weights)] behind the longest prefix of ids that all of them share."""
    shared = 0
    while len({ids[shared] for ids, _ in items}) == 1 and shared < 1000:
        shared += 1
    return {
        "prefix": np.array(items[0][0][:shared], np.int32),
        "items": [{"ids": np.array(ids[shared:], np.int32), "weight": np.array(w[shared:], np.float32)} for ids, w in items],
    }


def training_groups(seed, narratives=0.10, copies=0.08, items=12):
    """An endless stream of training groups; the same seed gives the same stream."""
    rng = random.Random(seed)
    sampler = Sampler(rng, {"train": 0.92, "train/en": 0.08}, forget=0.12)
    while True:
        roll = rng.random()
        if roll < narratives:
            yield sampler.narrative_group(items)
        elif roll < narratives + copies:
            yield sampler.copying_group(items)
        else:
            yield sampler.score_group(items)
