"""Reads JSON files and names the file when they are absent or broken."""

import json
from pathlib import Path

from .errors import ExportError


def read_json(path: Path) -> dict:
    """The object in `path`; ExportError when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(f"{path} is missing; a checkpoint folder as published on the model's page has it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise ExportError(f"{path} holds a {type(value).__name__}, not a JSON object; download it again")
    return value
