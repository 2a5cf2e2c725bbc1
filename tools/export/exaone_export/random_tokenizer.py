"""Makes up a byte-level BPE tokenizer with EXAONE's markers that splits Korean text into plausible pieces."""

import json
from functools import reduce
from itertools import pairwise, product
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
    "project data code test build service system design error review plan problem result score answer question interview experience self introduction "
    "motivation job knowledge skill professional basic communication teamwork responsibility value values growth character solving final statement"
).split()
# Frequent words and endings of written Korean, of interviews above all; each is one token, with and without a space before it.
KOREAN_WORDS = (
    "습니다 합니다 입니다 됩니다 봅니다 줍니다 드립니다 "
    "으로 에서 에게 에는 에도 까지 부터 보다 처럼 마다 만큼 조차 밖에 이나 이며 이고 라고 하고 하며 하면 하는 하여 하지 한다 해서 했고 했던 했다 "
    "하게 하기 하도록 되는 되어 되고 된다 있는 있고 있어 있다 있음 없는 없이 없고 없다 없음 않는 않고 않음 으면 으나 지만 면서 려고 는데 는가 은가 "
    "그리고 그러나 하지만 그래서 또한 또는 때문 때문에 위해 위한 통해 대한 대해 따라 따르 관한 같은 같이 함께 이런 그런 어떤 모든 다른 여러 가장 매우 "
    "먼저 다시 아직 이미 바로 계속 자주 항상 스스로 서로 혼자 직접 실제 실제로 처음 마지막 다음 이번 지난 하나 한두 가지 정도 이상 이하 사이 "
    "저는 제가 저희 우리 자기 자신 사람 고객 동료 상대 상대방 지원 지원자 면접 면접관 회사 기업 업무 직무 조직 부서 신입 경력 경험 역량 능력 "
    "질문 답변 대답 이유 근거 기준 평가 점수 결론 요약 내용 의도 파악 핵심 전달 설명 표현 구조 논리 순서 흐름 마무리 요소 요인 영역 항목 부분 전체 "
    "문장 말투 의견 조언 피드백 인용 출력 지시 부탁 규칙 태도 가치 가치관 인성 동기 계기 목표 계획 관심 노력 책임 책임감 성장 가능성 강점 장점 단점 보완 "
    "문제 해결 원인 분석 판단 대안 비교 선택 결정 행동 결과 성과 효과 변화 상황 과제 과정 방법 방식 시도 개선 실패 성공 극복 갈등 협업 소통 조율 협력 "
    "개념 정의 원리 지식 이해 정확 용어 전문 기술 학습 공부 연구 교육 훈련 적용 활용 설계 구현 개발 개발자 운영 관리 배포 시험 점검 장애 복구 "
    "서비스 시스템 데이터 프로젝트 프로그램 코드 서버 화면 기능 요구 일정 문서 기록 보고 회의 숫자 사실 구체 구체적 일반 분명 필요 중요 부족 가능 감점 "
    "커뮤니케이션 리더십 이야기 느낌 생각 마음 시간 하루 동안 오늘 내일 작년 올해 개월 년간"
).split()
# Signs of several bytes that Korean prose uses.
SIGNS = "·…“”‘’「」『』《》–—→"
TEMPLATES = {
    "exaone": (
        "{%- if messages and messages[0].role != 'system' -%}\n{{- '[|system|][|endofturn|]\\n' -}}\n{%- endif -%}\n"
        "{%- for turn in messages -%}\n{{- '[|' ~ turn.role ~ '|]' ~ turn.content -}}\n"
        "{{- '\\n' if turn.role == 'user' else '[|endofturn|]\\n' -}}\n{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}\n{{- '[|assistant|]' -}}\n{%- endif -%}\n"
    ),
    # With no say about thinking it does not: the turn opens with thoughts that are over.
    "exaone4": (
        "{%- for turn in messages -%}\n{{- '[|' ~ turn.role ~ '|]\\n' ~ turn.content ~ '[|endofturn|]\\n' -}}\n{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}\n{{- '[|assistant|]\\n<think>\\n' -}}\n"
        "{%- if not enable_thinking -%}\n{{- '\\n</think>\\n\\n' -}}\n{%- endif -%}\n{%- endif -%}\n"
    ),
}


def write_tokenizer(folder: Path, config: dict) -> None:
    """Writes tokenizer.json, tokenizer_config.json and generation_config.json for a random model."""
    vocab, merges = _vocabulary(config["vocab_size"])
    _write(folder / "tokenizer.json", _tokenizer(vocab, merges), indent=None)
    added = {str(token): _added_token(text) for token, text in MARKERS_BY_ID.items()}
    settings = {
        "added_tokens_decoder": added,
        "bos_token": "[BOS]",
        "chat_template": TEMPLATES[config["model_type"]],
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
        self.merges: dict[tuple[str, str], int] = {}  # each with its rank: the lowest is made first

    def full(self) -> bool:
        return len(self.ids) >= self.size

    def add(self, token: str) -> None:
        while (marker := MARKERS_BY_ID.get(len(self.ids))) is not None:
            self.ids[marker] = len(self.ids)
        self.ids[token] = len(self.ids)

    def merge(self, left: str, right: str) -> str:
        if (left, right) not in self.merges and not self.full():
            if left + right not in self.ids:
                self.add(left + right)
            self.merges[left, right] = len(self.merges)
        return left + right

    def merge_all(self, pieces: list[str]) -> str:
        """Makes one token of what the merges so far leave of `pieces`: only so does the whole word become it."""
        while made := [pair for pair in pairwise(pieces) if pair in self.merges]:
            first = min(made, key=self.merges.__getitem__)
            at = list(pairwise(pieces)).index(first)
            pieces = [*pieces[:at], "".join(first), *pieces[at + 2 :]]
        return reduce(self.merge, pieces)


def _vocabulary(size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary of exactly `size` tokens: bytes, Hangul syllables, words, then pairs of syllables."""
    if size < VOCAB_MIN:
        raise ValueError(f"a random tokenizer needs at least {VOCAB_MIN} tokens, not {size}")
    vocabulary, letters = _Vocabulary(size), _byte_letters()
    for letter in letters:
        vocabulary.add(letter)
    syllables = {chr(code): vocabulary.merge_all(_bytes(chr(code), letters)) for code in range(0xAC00, 0xD7A4)}
    for word in (*SIGNS, *WORDS, *KOREAN_WORDS):
        for text in (word, f" {word}"):
            vocabulary.merge_all(_bytes(text, letters))
    space = letters[ord(" ")]
    # Syllables pair up before they take a leading space, so that a word's pieces do not depend on where it stands.
    common = [syllables[syllable] for syllable in dict.fromkeys(SYLLABLES)]
    # The 2,350 that EUC-KR has in two bytes: the others hardly occur.
    written = [token for syllable, token in syllables.items() if len(syllable.encode("euc_kr")) == 2]
    pairs = sorted(product(range(len(common)), repeat=2), key=lambda pair: (max(pair), pair))
    for first, second in pairs:
        if size - len(vocabulary.ids) < len(written) + 2:
            break
        vocabulary.merge(space, vocabulary.merge(common[first], common[second]))
    for token in (*written, *syllables.values()):
        vocabulary.merge(space, token)
    if not vocabulary.full():
        raise ValueError(f"a random tokenizer can have at most {len(vocabulary.ids)} tokens, not {size}")
    return vocabulary.ids, list(vocabulary.merges)


def _bytes(text: str, letters: list[str]) -> list[str]:
    return [letters[byte] for byte in text.encode()]


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
