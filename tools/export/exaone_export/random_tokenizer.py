"""Makes up a byte-level BPE tokenizer with EXAONE's markers that splits Korean text into plausible pieces."""

import json
from itertools import product
from pathlib import Path

MARKERS_BY_ID = {
    0: "[PAD]",
    1: "[BOS]",
    2: "[EOS]",
    3: "[UNK]",
    357: "[|system|]",
    358: "[|tool|]",
    359: "[|assistant|]",
    360: "[|user|]",
    361: "[|endofturn|]",
}
VOCAB_MIN = 362  # all bytes, and the markers where EXAONE has them
# Roughly the most frequent syllables of written Korean first, then those of job interviews.
SYLLABLES = (
    "이다는을가에의하고로지한기사니은도를나어있그자대서해리시아인수정과일보부전들았장제상신원여만무면주중학구생공성국경동방조선명용문오유소"
    "연비발안진관내회행계미실습개위모속반체단업적결분석설현재물통산역심양교화력법건점답질접험팀협갈등프젝트객스데터식효율책임목표달과배움"
    "입출작품년월간때거것같되던져라려며네요까데든할될습합었했겠없않못말글바마차하카타파초추후두고기우려처럼터트론드버코딩"
    "러번째앞뒤밖꼭또더매누군엇왜얼많좋싫빠느낌색음악읽쓰듣놓찾옮맡끝줄길손눈몸집밥옷꿈뜻힘삶앎돈값곳편함께님씨찬솔직참"
)
WORDS = (
    "a I the be to of and in that have it for not on with as you do at this but by from they we say or an will my one all would there what so up out if "
    "about who get which go me when make can like time no just him know take people into year your good some could them see other than then now "
    "look only come its over think also back after use two how our work first well way even new want because any these give day most us team user "
    "project data code test build service system design error review plan problem result score answer question interview experience"
).split()
TEMPLATE = (
    "{%- if messages and messages[0].role != 'system' -%}\n{{- '[|system|][|endofturn|]\\n' -}}\n{%- endif -%}\n"
    "{%- for turn in messages -%}\n{{- '[|' ~ turn.role ~ '|]' ~ turn.content -}}\n"
    "{{- '\\n' if turn.role == 'user' else '[|endofturn|]\\n' -}}\n{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n{{- '[|assistant|]' -}}\n{%- endif -%}\n"
)


def write_tokenizer(folder: Path, config: dict) -> None:
    """Writes tokenizer.json, tokenizer_config.json and generation_config.json for a random model."""
    vocab, merges = _vocabulary(config["vocab_size"])
    _write(folder / "tokenizer.json", _tokenizer(vocab, merges), indent=None)
    added = {str(token): _added_token(text) for token, text in MARKERS_BY_ID.items()}
    settings = {
        "added_tokens_decoder": added,
        "bos_token": "[BOS]",
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": True,
        "eos_token": "[|endofturn|]",
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "[PAD]",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "[UNK]",
    }
    _write(folder / "tokenizer_config.json", settings)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write(folder / "generation_config.json", {"_from_model_config": True, **ids})


class _Vocabulary:
    """Tokens in order of id, and the merges that make them; full at `size`."""

    def __init__(self, size: int):
        self.size = size
        self.ids: dict[str, int] = {}
        self.merges: list[tuple[str, str]] = []

    def full(self) -> bool:
        return len(self.ids) >= self.size

    def add(self, token: str) -> None:
        while (marker := MARKERS_BY_ID.get(len(self.ids))) is not None:
            self.ids[marker] = len(self.ids)
        self.ids[token] = len(self.ids)

    def merge(self, left: str, right: str) -> str:
        if left + right not in self.ids and not self.full():
            self.add(left + right)
            self.merges.append((left, right))
        return left + right


def _vocabulary(size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary of exactly `size` tokens: bytes, Hangul syllables, English words, then pairs of syllables."""
    if size < VOCAB_MIN:
        raise ValueError(f"a random tokenizer needs at least {VOCAB_MIN} tokens, not {size}")
    vocabulary, letters = _Vocabulary(size), _byte_letters()
    for letter in letters:
        vocabulary.add(letter)
    syllables = {}
    for code in range(0xAC00, 0xD7A4):
        first, second, third = (letters[byte] for byte in chr(code).encode())
        syllables[chr(code)] = vocabulary.merge(vocabulary.merge(first, second), third)
    space = letters[ord(" ")]
    for word in WORDS:
        built = word[0]
        for letter in word[1:]:
            built = vocabulary.merge(built, letter)
        vocabulary.merge(space, built)
    # Syllables pair up before they take a leading space, so that a word's pieces do not depend on where it stands.
    common = [syllables[syllable] for syllable in dict.fromkeys(SYLLABLES)]
    pairs = sorted(product(range(len(common)), repeat=2), key=lambda pair: (max(pair), pair))
    for first, second in pairs:
        if size - len(vocabulary.ids) < len(common) + 2:
            break
        vocabulary.merge(space, vocabulary.merge(common[first], common[second]))
    for token in (*common, *syllables.values()):
        vocabulary.merge(space, token)
    if not vocabulary.full():
        raise ValueError(f"a random tokenizer can have at most {len(vocabulary.ids)} tokens, not {size}")
    return vocabulary.ids, vocabulary.merges


def _byte_letters() -> list[str]:
    """The printable letter that byte-level BPE writes for every byte: itself where printable, else from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, spare = [], 0x100
    for byte in range(256):
        letters.append(chr(byte) if byte in printable else chr(spare))
        spare += byte not in printable
    return letters


def _tokenizer(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, **_added_token(text)} for token, text in MARKERS_BY_ID.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _added_token(text: str) -> dict:
    return {"content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def _write(path: Path, value: dict, indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
