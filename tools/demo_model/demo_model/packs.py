"""Reads the phrase files of the corpus and fills the slots of their templates, Korean particles included."""

import functools
import pathlib
import re
import tomllib

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
AREAS = "ABCDE"

# written behind the bar → (after a consonant, after a vowel)
PARTICLES = {
    "을": ("을", "를"), "를": ("을", "를"), "은": ("은", "는"), "는": ("은", "는"), "이": ("이", "가"), "가": ("이", "가"),
    "과": ("과", "와"), "와": ("과", "와"), "으로": ("으로", "로"), "로": ("으로", "로"), "이라": ("이라", "라"), "라": ("이라", "라"),
    "이라는": ("이라는", "라는"), "라는": ("이라는", "라는"), "이었": ("이었", "였"), "이나": ("이나", "나"), "나": ("이나", "나"),
    "이라고": ("이라고", "라고"), "라고": ("이라고", "라고"), "이며": ("이며", "며"), "이고": ("이고", "고"), "이란": ("이란", "란"), "란": ("이란", "란"),
}
# How digits and Latin letters end when they are read aloud: the final consonant, "" for a vowel.
LAST_SOUND = {"0": "ㅇ", "1": "ㄹ", "3": "ㅁ", "6": "ㄱ", "7": "ㄹ", "8": "ㄹ", "L": "ㄹ", "M": "ㅁ", "N": "ㄴ", "R": "ㄹ"}
SLOT = re.compile(r"\{(\w+)(?:\|(\w+))?\}")


def final_consonant(word):
    """The last sound's final consonant: "" for a vowel, "ㄹ" for rieul, else some other consonant."""
    last = word.rstrip(")]'’ ")[-1:]
    if "가" <= last <= "힣":
        final = (ord(last) - 0xAC00) % 28
        return "" if final == 0 else "ㄹ" if final == 8 else "ㄱ"
    return LAST_SOUND.get(last.upper(), "")


def particle(word, name):
    """The form of a particle that fits `word`: particle("물", "으로") = "로"."""
    if name not in PARTICLES:
        return name  # the same after every sound: 에서, 의, 까지
    closed, open_ = PARTICLES[name]
    final = final_consonant(word)
    if closed == "으로" and final == "ㄹ":
        return open_
    return closed if final else open_


def fill(template, slot):
    """Replaces every slot of a template; `slot(name)` gives its text."""

    def replace(match):
        text = slot(match[1])
        return text + (particle(text, match[2]) if match[2] else "")

    return SLOT.sub(replace, template)


@functools.cache
def load(folder):
    """One of the sets `train`, `heldout`, `train/en`: {jobs: [...], life, templates: {A: …, E: …}}, the lists of all voices joined."""
    root = DATA / folder
    templates = {a: joined(root.glob(f"templates/*/{a}.toml")) for a in AREAS}
    return {"jobs": [read(p) for p in sorted(root.glob("jobs/*.toml"))], "life": joined(root.glob("life/*.toml")), "templates": templates}


def read(path):
    return tomllib.loads(path.read_text("utf-8"))


def joined(paths):
    """Several files of the same shape as one: lists one after the other, tables merged."""

    def merge(one, two):
        if isinstance(one, list):
            return one + two
        return {k: merge(one[k], two[k]) if k in one and k in two else one.get(k, two.get(k)) for k in {**one, **two}}

    return functools.reduce(merge, map(read, sorted(paths)))


# Slot name → the key of the pack's list.
LISTS = {
    "company": "companies", "company_fact": "company_facts", "duty": "duties", "term": "terms", "problem": "problems", "cause": "causes",
    "situation": "situations", "task": "tasks", "action": "actions", "option": "options", "effect": "effects", "lesson": "lessons",
    "trigger": "triggers", "plan": "plans", "group": "names_of_groups", "strength": "strengths", "strength_proof": "strength_proofs",
    "core_message": "core_messages", "conflict": "conflicts", "collab_action": "collab_actions", "collab_result": "collab_results",
    "own_mistake": "own_mistakes", "own_action": "own_actions", "learn_action": "learn_actions", "learn_result": "learn_results",
    "learn_goal": "learn_goals", "blame": "blames",
}
# These stay the same throughout one answer; the others are drawn anew for every sentence.
# Lists whose items belong together by position: one story.
STORY = {"problem", "cause", "situation", "task"}
STEADY = {"company", "problem", "cause", "situation", "task", "metric", "conflict", "group"}


class Scene:
    """The facts of one answer: a job pack, the life pack and what has been drawn from them."""

    def __init__(self, rng, pack, job, company=None):
        self.rng, self.pack, self.job = rng, pack, job
        self.steady = {"job": job["job"], "field": job["field"]}
        if company:
            self.steady["company"] = company
        self.story = rng.randrange(len(job["problems"]))
        self.used = {}

    def sentence(self, template):
        drawn = {}
        return fill(template, lambda name: self._slot(name, drawn))

    def _slot(self, name, drawn):
        base = name.rstrip("2")
        if name in ("metric", "from", "to"):
            return self._metric()[name]
        if base in self.steady and name == base:
            return self.steady[base]
        if name not in drawn:
            drawn[name] = self._draw(base)
        if base in STEADY and name == base:
            self.steady[base] = drawn[name]
        return drawn[name]

    def _metric(self):
        if "metric" not in self.steady:
            m = self.rng.choice(self.job["metrics"])
            scale = self.rng.uniform(0.6, 1.7)
            number = lambda x: f"{self._scaled(x, scale)}{m['unit']}"
            self.steady |= {"metric": m["name"], "from": number(m["from"]), "to": number(m["to"])}
        return self.steady

    def _scaled(self, x, scale):
        if isinstance(x, int) and x >= 4:
            x = max(2, round(x * scale)) if x * scale < 100 or x > 100 else x
        return f"{x:,}" if isinstance(x, int) and x >= 10000 else str(x)

    def _draw(self, base):
        key = LISTS[base]
        options = self.job.get(key) or self.pack["life"][key]
        fresh = [o for o in options if o not in self.used.get(key, ())] or options
        choice = self.rng.choice(fresh)
        if base in STORY or (base == "action" and key not in self.used):
            choice = options[self.story % len(options)]
        self.used.setdefault(key, []).append(choice)
        return vary(self.rng, choice)


COUNTED = re.compile(r"(?<![\d.,])([3-9]|[1-9]\d)(?=%|건|명|개|분|초|번|만|쪽| percent| people| hours| minutes| times)")


def vary(rng, text):
    """Changes some counted numbers, so that no number belongs to a sentence."""
    return COUNTED.sub(lambda m: str(max(2, round(int(m[1]) * rng.uniform(0.5, 1.6)))) if rng.random() < 0.6 else m[1], text)
