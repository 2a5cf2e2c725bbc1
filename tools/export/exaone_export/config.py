"""Reads single values out of config.json and says which one is absent or wrong."""

from .errors import ExportError


def positive(config: dict, key: str, default: int | None = None) -> int:
    """A count of at least 1."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or value < 1:
        raise ExportError(f"config.json: {key} must be a whole number of at least 1, found {value!r}")
    return value


def number(config: dict, key: str) -> float:
    """A number above 0; never guessed, for a wrong one gives a model that runs and talks nonsense."""
    value = config.get(key)
    if type(value) not in (int, float) or not value > 0:
        raise ExportError(f"config.json: {key} must be a number above 0, found {value!r}")
    return float(value)


def flag(config: dict, key: str, default: bool) -> bool:
    """true or false; transformers leaves out of config.json what equals its default."""
    value = config.get(key, default)
    if type(value) is not bool:
        raise ExportError(f"config.json: {key} must be true or false, found {value!r}")
    return value
