"""Turns an interview into the token ids of the two prompts, segment by segment: the Python twin of the daemon's `scoring` room."""

import functools
import json
import pathlib
import tomllib
from dataclasses import dataclass

MODELS = pathlib.Path(__file__).resolve().parents[3] / "models"
FOLDER = MODELS / "prompts"

# Stand-ins for untrusted text while the templates are rendered. They never reach the tokenizer: the rendered prompt is split at them.
SENTINEL = 0xF0000


@dataclass(frozen=True)
class Segment:
    """A piece of the prompt that is tokenised on its own. `part` names its budget; only "instructions" is ours (special tokens on)."""

    part: str
    text: str

    @property
    def trusted(self):
        return self.part == "instructions"


@functools.cache
def constants():
    """prompts.toml: version, budgets in tokens, limits in code points, labels."""
    return tomllib.loads((FOLDER / "prompts.toml").read_text("utf-8"))


def slot_tokens(kind):
    """Context of a slot for "score" or "narrative": what the budgets of its parts add up to."""
    return sum(v for v in constants()[kind].values() if isinstance(v, int))


@functools.cache
def rubric():
    """rubric.toml, with `areas` also by id under `area`."""
    data = tomllib.loads((FOLDER / "rubric.toml").read_text("utf-8"))
    data["area"] = {area["id"]: area for area in data["areas"]}
    return data


def named(entry, language="ko"):
    """The name of a stage, an area or a competency as prompts show it."""
    return entry["en"] if language == "en" else entry["name"]


def stage_of(stage, language="ko"):
    """A stage such as `skill_followup` → (its entry in the rubric, the name shown in prompts)."""
    base = stage.removesuffix("_followup")
    entry = rubric()["stages"][base]
    name = named(entry, language)
    return entry, name if base == stage else f"{name} {constants()['labels'][language]['follow_up']}"


def area_of(stage):
    return rubric()["area"][stage_of(stage)[0]["area"]]


@functools.cache
def _template(source, ours):
    import jinja2  # only rendering needs it: the golden test runs without

    # Chat templates are written for trimmed blocks, and ask for names (tools …) that we do not have.
    undefined = jinja2.StrictUndefined if ours else jinja2.Undefined
    return jinja2.Environment(trim_blocks=not ours, lstrip_blocks=not ours, undefined=undefined).from_string(source)


def render(name, **values):
    """Renders one of the templates of models/prompts."""
    return _template((FOLDER / name).read_text("utf-8"), True).render(values)


def chat(template, system, user):
    """Applies a model's own chat template (Jinja source) to one system and one user message, ready for the assistant's turn."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return _template(template, False).render(messages=messages, add_generation_prompt=True, enable_thinking=False)


def split(rendered, untrusted):
    """A rendered prompt with sentinels → segments. `untrusted`: (part, text) in the order of the sentinels' numbers."""
    segments, literal = [], []
    for char in rendered:
        index = ord(char) - SENTINEL
        if 0 <= index < len(untrusted):
            segments.append(Segment("instructions", "".join(literal)))
            segments.append(Segment(*untrusted[index]))
            literal = []
        else:
            literal.append(char)
    segments.append(Segment("instructions", "".join(literal)))
    return [s for s in segments if s.text or not s.trusted]


class _Untrusted:
    """Collects untrusted texts and hands out their sentinels."""

    def __init__(self):
        self.texts = []

    def add(self, part, text):
        if not text:
            return ""
        self.texts.append((part, text))
        return chr(SENTINEL + len(self.texts) - 1)


def context_of(interview):
    """Position and company as one line; neither the candidate's name nor the résumé is shown to the model."""
    company = interview.get("company") or {}
    return " · ".join(x for x in [interview.get("position"), company.get("name"), *company.get("ideal", [])] if x)


def score_segments(template, interview, answer, parent=None):
    """The prompt that scores one answer. `interview`, `answer`, `parent` as in the socket protocol; `template`: the model's chat template."""
    untrusted = _Untrusted()
    user = render(
        "score.user.jinja",
        context=untrusted.add("context", context_of(interview)),
        parent=untrusted.add("parent", f"{parent['question']}\n{parent['answer']}" if parent else ""),
        stage=stage_of(answer["stage"])[1],
        question=untrusted.add("question", answer["question"]),
        answer=untrusted.add("answer", answer["answer"]),
        language=constants()["languages"][interview.get("language", "ko")],
    )
    system = render("score.system.jinja", area=area_of(answer["stage"]))
    return split(chat(template, system, user), untrusted.texts)


def narrative_segments(template, interview, report):
    """The narrative's prompt. `report`: what is known of the report by then, as in the socket protocol: overall, areas, competencies, answers."""
    untrusted, language = _Untrusted(), interview.get("language", "ko")
    areas = ranked([a for a in report["areas"] if a["score"] is not None], "score")
    names = rubric()["competencies"]
    user = render(
        "narrative.user.jinja",
        context=untrusted.add("context", context_of(interview)),
        overall=points(report["overall"]),
        areas=[{"name": named(rubric()["area"][a["area"]], language), "score": points(a["score"])} for a in areas],
        competencies=[
            {"name": named(entry, language), "score": points(report["competencies"][c])}
            for c, entry in names.items()
            if report["competencies"].get(c) is not None
        ],
        answers=[
            {"stage": stage_of(a["stage"], language)[1], "score": points(a["final_score"]), "note": untrusted.add("digest", note_of(a, language))}
            for a in ranked([a for a in report["answers"] if a["state"] != "unscored"], "final_score")
        ],
        language=constants()["languages"][language],
    )
    return split(chat(template, render("narrative.system.jinja"), user), untrusted.texts)


def ranked(rows, key):
    """The highest first, equal ones in the order they have: whoever writes the narrative need not compare numbers."""
    return sorted(rows, key=lambda row: -row[key])


def points(score):
    """A score as prompts show it: at most two decimals, no zeros at their end."""
    return f"{score:.2f}".rstrip("0").rstrip(".")


def note_of(answer, language):
    """What the digest says of one answer of a report: its first quote and the feedback, or that there was none."""
    if answer["state"] == "gated":
        return constants()["labels"][language]["no_answer"]
    quote = next((c["evidence"]["quote"] for c in answer["criteria"] if c["evidence"]), None)
    return " / ".join(x for x in [quote, answer["feedback"]] if x)


def score_grammar(area, judged):
    """The Lark grammar of one scored answer: quotes are runs of the `judged` text."""
    chunks = json.dumps([json.dumps(c, ensure_ascii=False)[1:-1] for c in judged], ensure_ascii=False)
    names = [c["name"] for c in area["criteria"]]
    return render("score.lark.jinja", criteria=names, chunks=chunks, limits=constants()["score"]["limits"])


def narrative_grammar(competencies):
    """The Lark grammar of the narrative; `competencies`: ids in the rubric's order."""
    limits = constants()["narrative"]["limits"]
    points = {"min": limits["points_min"], "max": limits["points_max"]}
    return render("narrative.lark.jinja", competencies=competencies, points=points, limits=limits)


def score_output(area, criteria, feedback):
    """The text a model is trained to write, as pieces tokenised on their own: literals (False) and values (True)."""
    pieces, literal = [], '{"criteria":['
    for number, (criterion, (quote, level)) in enumerate(zip(area["criteria"], criteria)):
        literal += ("," if number else "") + '{"name":"' + criterion["name"] + '","evidence":"'
        pieces += [(literal, False), (_escape(quote), True), ('","level":', False), (str(level), True)]
        literal = "}"
    return pieces + [(literal + '],"feedback":"', False), (_escape(feedback), True), ('"}', False)]


def narrative_output(summary, strengths, improvements, competencies):
    """As `score_output`, for the narrative; `competencies`: [(id, sentence)]."""
    pieces = [('{"summary":"', False), (_escape(summary), True)]
    for key, points in (("strengths", strengths), ("improvements", improvements)):
        literal = ('","' if key == "strengths" else '"],"') + key + '":["'
        for point in points:
            pieces += [(literal, False), (_escape(point), True)]
            literal = '","'
    literal = '"],"competencies":{"'
    for name, sentence in competencies:
        pieces += [(literal + name + '":"', False), (_escape(sentence), True)]
        literal = '","'
    return pieces + [('"}}' if competencies else '"],"competencies":{}}', False)]


def _escape(text):
    return json.dumps(text, ensure_ascii=False)[1:-1]


class Encoder:
    """A model's tokenizer, twice: with special tokens for our own text, without for everybody else's."""

    def __init__(self, path):
        from tokenizers import Tokenizer

        self.ours = Tokenizer.from_file(str(path))
        self.theirs = Tokenizer.from_file(str(path))
        self.theirs.encode_special_tokens = True

    def trusted(self, text):
        return self.ours.encode(text, add_special_tokens=False).ids

    def untrusted(self, text, room=None):
        """(ids, code points kept): the longest prefix of whole code points that `room` tokens hold."""
        encoding = self.theirs.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        if room is None or len(ids) <= room:
            return ids, len(text)
        # The next token starts a code point unless it covers the same one as the token before the cut.
        while room and offsets[room][0] < offsets[room - 1][1]:
            room -= 1
        return ids[:room], offsets[room - 1][1] if room else 0

    def score(self, segments):
        """Segments of a scoring prompt → ([(segment, ids)], code points of the answer that are judged). Parent and answer share one pool."""
        budget = constants()["score"]
        length = {s.part: len(self.untrusted(s.text)[0]) for s in segments if s.part in ("parent", "answer")}
        pool = budget["parent"] + budget["answer"]
        parent = min(length.get("parent", 0), max(budget["parent"], pool - length.get("answer", 0)))
        room = {**budget, "parent": parent, "answer": pool - parent}
        return self._encode(segments, room)

    def narrative(self, segments):
        """As `score`, for the narrative's segments: the notes share equally what our own words leave of instructions and digest."""
        budget = constants()["narrative"]
        own = sum(len(self.trusted(s.text)) for s in segments if s.trusted)
        notes = sum(s.part == "digest" for s in segments)
        room = max(0, budget["instructions"] + budget["digest"] - own) // max(1, notes)
        return self._encode(segments, {**budget, "digest": room})

    def _encode(self, segments, room):
        encoded, judged = [], 0
        for segment in segments:
            if segment.trusted:
                ids = self.trusted(segment.text)
            else:
                ids, kept = self.untrusted(segment.text, room[segment.part])
                judged = kept if segment.part == "answer" else judged
            encoded.append((segment, ids))
        return encoded, judged
