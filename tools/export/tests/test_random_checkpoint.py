"""A random checkpoint has the published layout, and a tokenizer that takes real Korean apart plausibly."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from exaone_export.checkpoint import Checkpoint
from exaone_export.presets import preset_config
from exaone_export.random_tokenizer import KOREAN_WORDS, MARKERS_BY_ID, SIGNS, WORDS, write_tokenizer
from exaone_export.random_weights import RandomWeights
from exaone_export.safetensors_file import SLAB_VALUES_MAX

PROMPTS = Path(__file__).resolve().parents[3] / "models" / "prompts"
KOREAN = (
    "안녕하세요. 저는 백엔드 개발자로 4년 동안 결제 시스템을 만들어 왔습니다. 장애가 났을 때 30분 안에 원인을 찾아 복구했고, 같은 문제가 다시 "
    "생기지 않도록 점검 목록을 만들어 팀과 나누었습니다. 갈등이 있을 때에는 먼저 상대방의 이야기를 끝까지 듣고 데이터로 이야기하려고 노력합니다."
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, preset_config("exaone-3.5-2.4b"))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_the_vocabulary_is_exactly_as_large_as_the_model_expects(tokenizer):
    assert tokenizer.get_vocab_size(with_added_tokens=True) == 102400
    assert sorted(tokenizer.get_vocab().values()) == list(range(102400))


def test_korean_takes_one_to_two_characters_a_token_and_comes_back_whole(tokenizer):
    ids = tokenizer.encode(KOREAN, add_special_tokens=False).ids
    assert 1.0 <= len(KOREAN) / len(ids) <= 2.0
    assert tokenizer.decode(ids) == KOREAN


@pytest.mark.parametrize("text", ["Hello, world! naïve café", "漢字 かな 🙂", "한글\n\t값 = 3.14;", "뷁쀍쒏 ㅋㅋㅋ"])
def test_any_text_comes_back_whole(text, tokenizer):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_every_hangul_syllable_is_one_token(tokenizer):
    syllables = [chr(code) for code in range(0xAC00, 0xD7A4)]
    assert all(len(encoded.ids) == 1 for encoded in tokenizer.encode_batch(syllables, add_special_tokens=False))


def test_every_digit_is_its_own_token(tokenizer):
    assert tokenizer.encode("2024년 120명", add_special_tokens=False).tokens[:4] == ["2", "0", "2", "4"]
    assert not any(char.isdigit() and len(token) > 1 for token in tokenizer.get_vocab() for char in token if char in "0123456789")


def test_markers_are_single_special_tokens_with_exaones_ids(tokenizer):
    for token, text in MARKERS_BY_ID.items():
        assert tokenizer.encode(text, add_special_tokens=False).ids == [token]


def test_every_word_of_its_list_is_one_token(tokenizer):
    words = [text for word in (*WORDS, *KOREAN_WORDS, *SIGNS) for text in (word, f" {word}")]
    split = [encoded.tokens for encoded in tokenizer.encode_batch(words, add_special_tokens=False) if len(encoded.ids) > 1]
    assert not split


def test_the_daemons_instructions_keep_their_budgets(tokenizer):
    budgets = tomllib.loads((PROMPTS / "prompts.toml").read_text(encoding="utf-8"))
    narrative = budgets["narrative"]["instructions"] + budgets["narrative"]["digest"]
    budget = {"score": budgets["score"]["instructions"], "narrative": narrative}
    for case in json.loads((PROMPTS / "golden.json").read_text(encoding="utf-8"))["cases"]:
        ours = [segment["text"] for segment in case["segments"] if segment["part"] == "instructions"]
        tokens = sum(len(encoded.ids) for encoded in tokenizer.encode_batch(ours, add_special_tokens=False))
        assert tokens <= budget[case["kind"]], case["name"]


def test_it_is_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tokenizer(tmp_path / name, preset_config("bench-0.43b"))
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (tmp_path / "two" / "tokenizer.json").read_bytes()


def test_other_programs_read_the_weights(checkpoints):
    folder = checkpoints["tied-80"]
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    ours, seed = Checkpoint(folder), RandomWeights(7)
    for name, shard in index["weight_map"].items():
        with safetensors.safe_open(folder / shard, "np") as file:
            view = file.get_slice(name)
            shape = tuple(view.get_shape())
            assert view.get_dtype() == "BF16"
        read = np.concatenate(list(ours.slabs(name, shape)))
        assert np.array_equal(read, np.concatenate(list(seed.slabs(name, shape))))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_and_single_precision_files_of_other_programs_are_read(dtype, tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 5)).astype(dtype)
    save_file({"a": values, "b": values[0].copy()}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert np.array_equal(np.concatenate(list(checkpoint.slabs("a", (3, 5)))), values.astype(np.float32))
    assert np.array_equal(np.concatenate(list(checkpoint.slabs("b", (5,)))), values[0].astype(np.float32))


def test_large_tensors_come_in_slabs_of_whole_rows():
    columns = 1 << 16
    slabs = [slab.shape for slab in RandomWeights(0).slabs("x", (70, columns))]
    assert slabs == [(32, columns), (32, columns), (6, columns)]
    assert 32 * columns == SLAB_VALUES_MAX
