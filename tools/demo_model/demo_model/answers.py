"""Composes answers whose level on every criterion is known, because it was built in."""

import re
from dataclasses import dataclass, field

from .packs import Scene, load, vary


@dataclass
class Graded:
    """An answer, the levels of its area's criteria in order, and for each a sentence of the answer that shows it ("" for none)."""

    stage: str
    question: str
    text: str
    levels: list
    evidence: list
    kind: str = "graded"
    language: str = "ko"
    parent: "Graded | None" = None
    position: str = ""
    company: dict = field(default_factory=dict)

    def sent(self):
        """(interview, answer, parent) as a client would send them."""
        interview = {"language": self.language, "position": self.position, "company": self.company}
        parent = self.parent and {"question": self.parent.question, "answer": self.parent.text}
        return interview, {"stage": self.stage, "question": self.question, "answer": self.text}, parent


BASES = ["intro", "motivation", "skill", "experience", "problem_solving", "communication", "responsibility", "growth", "final_statement"]
FOLLOWED = ["skill", "experience", "problem_solving", "communication", "responsibility", "growth"]
AREA = dict(intro="A", final_statement="A", motivation="B", skill="C", experience="D", problem_solving="D", communication="E", responsibility="E", growth="E")


class Composer:
    """Writes answers from one set of phrases (`train`, `heldout`, `train/en`)."""

    def __init__(self, rng, folder, forget=0.0):
        """`forget`: in a fifth of the answers each word is lost with this probability, so that no phrase is known by a single word."""
        self.rng, self.folder, self.pack, self.forget = rng, folder, load(folder), forget
        self.language = "en" if folder.endswith("en") else "ko"

    # ---- small helpers

    def pick(self, *path):
        return self.picks(1, *path)[0]

    def picks(self, count, *path):
        """`count` sentences from different templates."""
        node = self.pack["templates"]
        for key in path:
            node = node[key]
        return [self.scene.sentence(t) for t in self.rng.sample(node, count)]

    def life(self, key):
        return vary(self.rng, self.rng.choice(self.pack["life"][key]))

    def level(self, quality, spread=0.8):
        return min(5, max(1, round(self.rng.gauss(quality, spread))))

    # ---- one answer

    def answer(self, stage=None, quality=None, job=None, company=None, kind=None, question=None, parent=True, concept=None):
        """A graded answer. `quality` 1–5 is what its levels scatter around; `kind` forces a special case."""
        rng = self.rng
        job = job or rng.choice(self.pack["jobs"])
        company = company or rng.choice(job["companies"])
        self.scene = Scene(rng, self.pack, job, company)
        if stage is None:
            stage = rng.choice(BASES)
            if stage in FOLLOWED and rng.random() < 0.3:
                stage += "_followup"
        base = stage.removesuffix("_followup")
        quality = rng.uniform(0.8, 5.2) if quality is None else quality
        concept = concept or next((c for c in job["concept"] if c["question"] == question), rng.choice(job["concept"]))
        if question is None:
            question = self.question(stage, job, concept)
        kind = kind or self.kind(quality)
        before = None
        if stage != base and parent:
            before = self.answer(base, job=job, company=company, parent=False, concept=concept)
            self.scene = Scene(rng, self.pack, job, company)
        sentences, levels, evidence = self.body(kind, base, quality, concept, question)
        text, evidence = self.join(sentences, evidence)
        ideal = rng.sample(self.pack["life"]["strengths"], rng.choice([0, 0, 1, 2]))
        shown = rng.random()
        return Graded(stage, question, text, levels, evidence, kind, self.language, before,
                      job["job"] if shown < 0.8 else "", {"name": company, "ideal": ideal} if shown < 0.6 else {})

    def question(self, stage, job, concept):
        if stage == "skill" and self.rng.random() < 0.8:
            return concept["question"]
        return self.rng.choice(job["questions"].get(stage) or self.pack["life"]["questions"][stage])

    def kind(self, quality):
        roll = self.rng.random()
        if quality < 2.2:
            for limit, kind in ((0.10, "offtopic"), (0.16, "refusal"), (0.24, "buzzwords"), (0.30, "command"), (0.36, "command_poor"), (0.39, "repeats")):
                if roll < limit:
                    return kind
        elif roll < 0.04:
            return "command_graded"
        elif roll < 0.12 and quality > 3.6:
            return "short"
        return "graded"

    def body(self, kind, base, quality, concept, question):
        """(sentences, levels, evidence sentences) of one kind of answer."""
        area, life = AREA[base], self.life
        if kind == "offtopic":
            return self.special([life("offtopic") for _ in range(self.rng.randint(1, 4))], quote=self.rng.random() < 0.5)
        if kind == "refusal":
            return self.special([life("refusals")], quote=False)
        if kind == "repeats":
            return self.special([question], quote=False)
        if kind == "buzzwords":
            return self.special([life(self.rng.choice(["buzzwords", "cliches"])) for _ in range(self.rng.randint(2, 4))])
        if kind == "command":
            return self.special([life("injections") for _ in range(self.rng.randint(1, 2))], quote=False)
        if kind == "command_poor":
            quality = min(quality, 1.6)
        sentences, levels, evidence = getattr(self, area)(base, quality, concept, kind == "short")
        if quality < 2.8 and self.rng.random() < (0.7 if area in "CD" else 0.3):
            for _ in range(self.rng.randint(1, 3) if area in "CD" else 1):
                sentences.insert(self.rng.randint(0, len(sentences)), life("cliches"))
        if kind in ("command_poor", "command_graded"):
            sentences.insert(self.rng.choice([0, len(sentences)]), life("injections"))
        return sentences, levels, evidence

    def special(self, sentences, quote=True):
        return sentences, [1, 1, 1], [sentences[0] if quote else ""] * 3

    # ---- areas

    def A(self, stage, quality, concept, short):
        structure, delivery, intent = (self.level(quality) for _ in range(3))
        if delivery >= 4:
            intent = max(intent, 4)
        core = self.picks(1 if short else self.rng.choice([1, 2, 2, 3]), "A", stage, f"t{delivery}")
        stray = [self.life("offtopic") for _ in range({1: 3, 2: 2, 3: 1}.get(intent, 0))]
        if intent == 1:
            core, delivery = core[:1] if self.rng.random() < 0.5 else [], 1
        body = core + stray if self.rng.random() < 0.6 else stray + core
        sentences, shown = self.scaffold(body, structure, short)
        return sentences, [structure, delivery, intent], [shown, core[0] if core else stray[0], core[-1] if intent > 2 and core else stray[0]]

    def B(self, stage, quality, concept, short):
        keys = ["understanding", "specific", "sincere"]
        levels = [self.level(quality) for _ in keys]
        groups = [self.group("B", k, n, short) for k, n in zip(keys, levels)]
        return self.mixed(groups), levels, [g[0] for g in groups]

    def C(self, stage, quality, concept, short):
        accuracy, terms = self.level(quality), self.level(quality)
        told = {5: ["define", "why", self.rng.choice(["example", "caution"])], 4: ["define", "why"], 3: ["define"], 2: ["vague"], 1: ["wrong"]}[accuracy]
        group = [vary(self.rng, concept[k]) for k in told]
        if accuracy <= 3 and not (accuracy == 3 and short):
            hedge = self.scene.sentence(self.rng.choice(self.pack["templates"]["C"]["accuracy"][f"t{accuracy}"]))
            if accuracy == 3 or self.rng.random() < 0.6:
                group.insert(self.rng.choice([0, len(group)]), hedge)
        logic = self.level((quality + accuracy) / 2)
        if accuracy >= 4 and logic == 3:
            logic = 4
        reasons = [] if logic == 3 or (logic == 4 and accuracy >= 4 and self.rng.random() < 0.5) else [self.pick("C", "reasons", f"t{logic}")]
        use = self.group("C", "terms", terms, True)
        evidence = [group[0] if accuracy != 3 else group[-1], reasons[0] if reasons else group[-1], use[0]]
        return self.mixed([group, reasons, use], shuffle=False), [accuracy, logic, terms], evidence

    def D(self, stage, quality, concept, short):
        solve, result = self.level(quality), self.level(quality)
        told = quality > 2.2
        situation = [self.pick("D", "situation", "any")] if self.rng.random() < (0.9 if told else 0.45) else []
        task = [self.pick("D", "task", "any")] if self.rng.random() < (0.8 if told else 0.25) and not short else []
        act, end = self.group("D", "solve", solve, True), self.group("D", "result", result, True)
        star = 1 + len(situation) + len(task) + (solve >= 3) + (result >= 3)
        groups = [situation, task, act, end]
        first = next(g[0] for g in groups if g)
        return self.mixed(groups, shuffle=False), [star, solve, result], [first, act[0], end[0]]

    def E(self, stage, quality, concept, short):
        keys = ["own", "collab", "learn"]
        main = {"responsibility": 0, "communication": 1, "growth": 2}[stage]
        levels = [self.level(quality) for _ in keys]
        groups = [self.group("E", k, n, short or i != main) for i, (k, n) in enumerate(zip(keys, levels))]
        for i in range(3):  # what is not spoken of shows little, and there is nothing to quote
            if i != main and self.rng.random() < 0.12:
                groups[i], levels[i] = [], 2
        return self.mixed(groups), levels, [g[0] if g else "" for g in groups]

    # ---- putting sentences together

    def group(self, area, key, level, one):
        # Poor answers are the wordier ones more often, so that length says nothing.
        count = 1 if one or self.rng.random() < (0.45 if level <= 2 else 0.7) else 2
        return self.picks(count, area, key, f"t{level}")

    def mixed(self, groups, shuffle=True):
        groups = [g for g in groups if g]
        if shuffle:
            self.rng.shuffle(groups)
        sentences = [s for g in groups for s in g]
        roll, structure = self.rng.random(), self.pack["templates"]["A"]["structure"]
        if roll < 0.10:
            sentences.insert(0, self.rng.choice(structure["openers"]))
        elif roll < 0.18:
            sentences.append(self.rng.choice(structure["closers"]))
        elif roll < 0.26:
            sentences.insert(self.rng.randrange(len(sentences)), self.life("fillers"))
        return sentences

    def scaffold(self, body, level, short):
        """Gives A's sentences the structure of a level → (sentences, the one that shows it)."""
        structure, rng = self.pack["templates"]["A"]["structure"], self.rng
        out = list(body)
        if level >= 4:
            opener, closer = rng.choice(structure["openers"]), rng.choice(structure["closers"])
            marks = rng.choice(structure["sequences"])
            if len(out) >= 2 and (level == 5 or rng.random() < 0.6):
                out[0], out[1] = marks[0] + out[0], marks[1] + out[1]
            if level == 5:
                return [opener, *out, closer], opener
            return ([opener, *out], opener) if rng.random() < 0.6 or len(out) < 2 else ([*out, closer], out[0])
        if level == 3:
            return out, out[0]
        rng.shuffle(out)
        breaks = [rng.choice(structure["breaks"]) for _ in range(3 - level)]
        fillers = [self.life("fillers") for _ in range(3 - level)]
        if level == 1:
            out.append(self.cut(rng.choice(body)))
            if rng.random() < 0.6:
                out.append(rng.choice(body))
        for piece in breaks + fillers:
            out.insert(rng.randint(0, len(out)), piece)
        return out, breaks[0]

    def cut(self, sentence):
        words = sentence.split()
        return " ".join(words[: max(1, len(words) // 2)]) + "…"

    def join(self, sentences, evidence):
        """One text, with the slips of speech and transcription → (text, quotes as they stand in it)."""
        rng, said = self.rng, {}
        slips, bare, forget = rng.random() < 0.25, rng.random() < 0.08, self.forget and rng.random() < 0.2
        for s in dict.fromkeys(sentences):
            said[s] = self.slip(s, bare) if slips or bare else self.half_heard(s) if forget else s
        text = " ".join(said[s] for s in sentences)
        quotes = []
        for shown in evidence:
            # a sentence may have got a "첫째, " in front of it
            found = next((said[s] for s in sentences if shown and (s == shown or s.endswith(shown))), "")
            quotes.append(quote_of(found))
        return text, quotes

    def half_heard(self, sentence):
        words = sentence.split(" ")
        kept = [w for w in words[:-1] if self.rng.random() >= self.forget]
        return " ".join([*kept, words[-1]])

    def slip(self, sentence, bare):
        words = sentence.split(" ")
        if len(words) > 5 and self.rng.random() < 0.5:
            i = self.rng.randrange(1, len(words) - 1)
            roll = self.rng.random()
            if roll < 0.4:
                del words[i]
            elif roll < 0.7:
                words.insert(i, self.rng.choice(["음", "어", "그", "이제", "약간"] if self.language == "ko" else ["um", "well", "like"]))
            else:
                words[i] += " " + words[i] if len(words[i]) < 5 else ""
        sentence = " ".join(words)
        return re.sub(r"[.,](?=\s|$)", "", sentence) if bare else sentence


def quote_of(sentence, most=44):
    """What is quoted of a sentence (or the first of two): its first words, without the full stop."""
    sentence = re.split(r"(?<=[.!?…]) ", sentence)[0]
    if len(sentence) > most:
        cut = sentence.rfind(" ", 0, most)
        sentence = sentence[: cut if cut > 0 else most]
    return sentence.rstrip(" .,!?…")
