"""The fields of a question, checked one by one, so that an error names the one that is wrong."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from confu.search import SearchOptions
from confu.serve.problems import Problem
from confu.serve.settings import ServeSettings

SEARCH = ("target", "k", "where", "weights", "singles", "exclude", "id", "subset")
EMBED = ("subset",)
CLASSIFY = ("labels", "template", "weights")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


def wish_of(fields: Mapping[str, Any], settings: ServeSettings) -> SearchOptions:
    """What is wanted of a search.

    Raises:
        Problem: 422 that names the field.
    """
    return SearchOptions(
        target=text_of(fields, "target"),
        k=_whole(fields, "k", 10, settings.max_k),
        where=_texts(fields, "where"),
        weights=weights_of_fields(fields),
        singles=_truth(fields, "singles"),
        exclude=_texts(fields, "exclude"),
    )


def text_of(fields: Mapping[str, Any], name: str) -> str | None:
    """A text, or None where it is not given or empty."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 1000:
        raise _wrong(name, "a text", value)
    return value


def weights_of_fields(fields: Mapping[str, Any]) -> dict[str, float] | None:
    """Subset -> weight, as an object or its JSON."""
    value = _from_json(fields, "weights", '{"image": 0.3, "image+audio": 0.7}')
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > 100 or not all(map(_is_number, value.values())):
        raise _wrong("weights", 'an object such as {"image": 0.3, "image+audio": 0.7}', value)
    return value


def labels_of(fields: Mapping[str, Any]) -> Sequence[str] | Mapping[str, Sequence[str]]:
    """A list of names, or name -> prompts; in a form as JSON, or as lines."""
    value = fields.get("labels")
    if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
        value = [line.strip() for line in value.splitlines() if line.strip()]
    elif isinstance(value, str):
        value = _from_json(fields, "labels", '["dog", "cat"]')
    prompts = value.values() if isinstance(value, dict) else [value]
    if not value or not all(isinstance(some, list) and all(isinstance(one, str) for one in some) for some in prompts):
        raise _wrong("labels", 'names as JSON, ["dog", "cat"], or {"dog": ["a photo of a dog"], ...}', value)
    return value


def _whole(fields: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = fields.get(name, default)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _wrong(name, f"a whole number from 1 to {most}", value)
    return value


def _truth(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if isinstance(value, str):
        value = True if value.lower() in _TRUE else False if value.lower() in _FALSE else value
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _texts(fields: Mapping[str, Any], name: str) -> list[str]:
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) and len(one) <= 1000 for one in value):
        raise _wrong(name, "texts of at most 1000 characters", value)
    return value


def _from_json(fields: Mapping[str, Any], name: str, example: str) -> Any:
    value = fields.get(name)
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _wrong(name, f"JSON such as {example}", value) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _wrong(name: str, expected: str, got: Any) -> Problem:
    return Problem(422, f"bad_{name}", f"{name}: expected {expected}; got {str(got)[:80]!r}", name)
