"""Trains the demo model's byte-level BPE: EXAONE's markers, Korean first, every digit its own piece."""

import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import prompts
from .answers import Composer
from .feedback import feedback
from .packs import load

FOLDER = prompts.MODELS / "demo"
MARKERS = ["[PAD]", "[BOS]", "[UNK]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"]
VOCAB = 8192

# Letters with the space before them, single digits, runs of punctuation, white space: JSON's marks never merge with a value's letters.
PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train(texts, vocab=VOCAB):
    """A tokenizer of exactly `vocab` tokens from an iterator of texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=MARKERS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab:
        raise SystemExit(f"the corpus gave {tokenizer.get_vocab_size()} tokens, {vocab} are wanted")
    return tokenizer


def corpus(seed, answers=6000):
    """What the tokenizer is trained on: composed answers and feedback, the phrases themselves, the prompts once."""
    rng = random.Random(seed)
    composers = [Composer(rng, "train")] * 9 + [Composer(rng, "train/en")]
    for _ in range(answers):
        graded = rng.choice(composers).answer(parent=False)
        yield graded.question
        yield graded.text
        area = prompts.area_of(graded.stage)
        for text, _ in prompts.score_output(area, list(zip(graded.evidence, graded.levels)), feedback(graded)):
            yield text
    for folder in ("train", "train/en"):
        yield from strings(load(folder))
    for path in sorted(prompts.FOLDER.glob("*.jinja")) + [prompts.FOLDER / "rubric.toml"]:
        yield from path.read_text("utf-8").splitlines() * 40


def strings(node):
    """Every text in a tree of lists and tables."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, (list, dict)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from strings(child)


def main():
    """`python -m demo_model.tokenizer`: writes models/demo/tokenizer.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    train(corpus(0)).save(str(FOLDER / "tokenizer.json"))


if __name__ == "__main__":
    main()
