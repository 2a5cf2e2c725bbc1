"""Checks that a tokenizer has an architecture's markers, and finds the chat template."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from .errors import ExportError
from .jsonfile import read_json

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True)
class TokenizerFiles:
    """What the export takes from the tokenizer: `markers` maps a role to (text, id)."""

    tokenizer_json: bytes
    chat_template: str
    markers: dict[str, tuple[str, int]]


def read_tokenizer(folder: Path, markers: dict[str, str], vocab: int) -> TokenizerFiles:
    """The tokenizer of a checkpoint folder, checked; ExportError says what it lacks."""
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise ExportError(f"{path} is missing; download it with the checkpoint")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ExportError(f"{path} is not a tokenizer that the tokenizers library reads ({error}); download it again") from error
    if tokenizer.get_vocab_size(with_added_tokens=True) > vocab:
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        raise ExportError(f"{path} has {size} tokens, the model only {vocab} embedding rows; they do not belong together")
    ids = {role: (text, _marker_id(path, tokenizer, text)) for role, text in markers.items()}
    return TokenizerFiles(path.read_bytes(), _chat_template(folder), ids)


def _marker_id(path: Path, tokenizer: Tokenizer, text: str) -> int:
    token = next((i for i, added in tokenizer.get_added_tokens_decoder().items() if added.content == text and added.special), None)
    if token is None:
        raise ExportError(f"{path} lacks the special token {text}; prompts cannot be built without it, so take the model's own tokenizer")
    pieces = tokenizer.encode(text, add_special_tokens=False).ids
    if pieces != [token]:
        raise ExportError(f"{path} splits the marker {text} into {pieces} instead of its one id {token}; take the model's own tokenizer")
    return token


def _chat_template(folder: Path) -> str:
    """From chat_template.jinja as newer checkpoints have it, else from tokenizer_config.json."""
    separate = folder / TEMPLATE_FILE
    if separate.is_file():
        return separate.read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):  # several named templates
        template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    if not isinstance(template, str) or not template:
        raise ExportError(f"{folder} has no chat template, neither {TEMPLATE_FILE} nor chat_template in tokenizer_config.json")
    return template
