"""What is wrong with the data of a run file, in words, with the path of each key and the nearest key to a wrong one."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from confu.runs.run_files.run_file import RunFile
from confu.runs.run_files.yaml_text import Keys

_EXPECTED = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text",
    "model": "settings by name", "dict": "settings by name", "list": "a list",
}  # fmt: skip


def mistakes(data: dict[str, Any]) -> list[tuple[Keys, str]]:
    """Unknown keys, with the nearest known one, and what pydantic finds wrong with the known ones: (path, what)."""
    found = _unknown(data, RunFile, ())
    try:
        RunFile.model_validate(data, strict=True)
    except ValidationError as error:
        for one in error.errors():
            keys = _known_part(tuple(one["loc"]), data, one["type"] == "missing")
            if one["type"] != "extra_forbidden" and keys not in [known for known, _ in found]:
                found.append((keys, _in_words(one)))
    return found


def _unknown(data: Any, model: type[BaseModel], at: Keys) -> list[tuple[Keys, str]]:
    found: list[tuple[Keys, str]] = []
    if not isinstance(data, Mapping):
        return found
    for key, value in data.items():
        field = model.model_fields.get(key)
        if field is None:
            known = list(model.model_fields)
            close = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            found.append(((*at, key), f"unknown key; {hint}"))
            continue
        for inner in (field.annotation, *get_args(field.annotation)):
            if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
                continue
            if inner is field.annotation:
                found += _unknown(value, inner, (*at, key))
            elif isinstance(value, Mapping):  # models by name
                found += [one for name, part in value.items() for one in _unknown(part, inner, (*at, key, name))]
    return found


def _known_part(loc: Keys, data: Any, missing: bool) -> Keys:
    """The part of pydantic's location that is in the file: of a union it also names the member that it tried."""
    keys: list[str | int] = []
    for key in loc:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return tuple([*keys, key] if missing else keys)
        keys.append(key)
    return tuple(keys)


def _in_words(error: Any) -> str:
    kind, got = error["type"], error["input"]
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "literal_error" and isinstance(got, str):
        words = error["ctx"]["expected"]
        close = get_close_matches(got, words.replace("'", "").replace(" or ", ", ").split(", "), n=1)
        return f"expected {words}; got {got!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    what = _EXPECTED.get(kind.removesuffix("_type"))
    what = f"expected {what}" if what else error["msg"].replace("Input should be", "expected")
    return f"{what}; got {got!r}"
