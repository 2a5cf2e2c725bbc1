"""A checker for the few JSON Schema keywords that model.schema.json uses; an unknown keyword is an error."""

import re

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
ANNOTATIONS = {"$schema", "$defs", "title", "description"}


def problems(value, schema: dict, root: dict, place: str = "model.json") -> list[str]:
    """What keeps `value` from matching `schema`; `root` resolves references."""
    found = []
    for keyword, rule in schema.items():
        if keyword not in ANNOTATIONS:
            found += CHECKS[keyword](value, rule, schema, root, place)
    return found


def _only(condition):
    return lambda value, rule, schema, root, place: [] if condition(value, rule) else [f"{place}: {value!r} breaks {rule!r}"]


def _properties(value, rule, schema, root, place):
    return [problem for key in rule if key in value for problem in problems(value[key], rule[key], root, f"{place}.{key}")]


def _no_others(value, rule, schema, root, place):
    assert rule is False
    return [f"{place}: unexpected {key}" for key in value if key not in schema["properties"]]


def _reference(value, rule, schema, root, place):
    return problems(value, root["$defs"][rule.removeprefix("#/$defs/")], root, place)


def _one_of(value, rule, schema, root, place):
    return [] if sum(not problems(value, option, root, place) for option in rule) == 1 else [f"{place}: {value!r} fits not exactly one"]


def _items(value, rule, schema, root, place):
    return [problem for index, item in enumerate(value) for problem in problems(item, rule, root, f"{place}[{index}]")]


CHECKS = {
    "type": _only(lambda value, rule: type(value) is TYPES[rule]),
    "const": _only(lambda value, rule: value == rule),
    "enum": _only(lambda value, rule: value in rule),
    "minimum": _only(lambda value, rule: value >= rule),
    "minLength": _only(lambda value, rule: len(value) >= rule),
    "minItems": _only(lambda value, rule: len(value) >= rule),
    "uniqueItems": _only(lambda value, rule: len(set(value)) == len(value)),
    "pattern": _only(lambda value, rule: re.search(rule, value) is not None),
    "required": _only(lambda value, rule: set(rule) <= set(value)),
    "properties": _properties,
    "additionalProperties": _no_others,
    "$ref": _reference,
    "oneOf": _one_of,
    "items": _items,
}
