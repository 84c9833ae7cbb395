"""Run files on disk: YAML as people write it, read with all its mistakes at once, changed by `--set`, written."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from confu.files import written_whole
from confu.runs.run_file import RunFile, find_conflicts

Keys = tuple[str | int, ...]

_HEADER = "# The settings of this run, all of them, as it was trained. `confu train` of this file goes on with it.\n"
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN)$"
)
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "model": "settings by name",
    "dict": "settings by name",
    "list": "a list",
}


def _with_scalars(base: type, tags: dict[str, re.Pattern[str]], keep: bool) -> type:
    """A loader or dumper that takes these scalars for more than words; `keep` those of YAML 1.1 too."""
    inherited = {first: list(pairs) for first, pairs in base.yaml_implicit_resolvers.items()} if keep else {}
    changed = type(f"Core{base.__name__}", (base,), {"yaml_implicit_resolvers": inherited})
    for tag, pattern in tags.items():
        changed.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, [None])  # type: ignore[attr-defined]
    return changed


# `no` is a word and `1e-3` a number, as in YAML 1.2; what is written is quoted for readers of YAML 1.1 too.
_Loader = _with_scalars(yaml.SafeLoader, {"bool": _BOOL, "null": _NULL, "int": _INT, "float": _FLOAT}, keep=False)
_Dumper = _with_scalars(yaml.SafeDumper, {"float": _FLOAT}, keep=True)


def parse_yaml(text: str, where: str) -> tuple[Any, dict[Keys, int]]:
    """The data of a YAML text, and the line, counted from 1, on which each part begins.

    >>> data, lines = parse_yaml("train:\\n  lr: 1e-3\\n", "run.yaml")
    >>> data, lines["train", "lr"]
    ({'train': {'lr': 0.001}}, 2)

    Args:
        text: one document.
        where: its name, for messages.

    Raises:
        ValueError: naming the line, if it is not YAML, if a key stands twice, or if it holds tags or aliases.
    """
    lines: dict[Keys, int] = {}
    seen: set[int] = set()

    def value_of(node: Any, path: Keys) -> Any:
        line = node.start_mark.line + 1
        lines.setdefault(path, line)
        if id(node) in seen:
            raise ValueError(f"{where}, line {line}: an alias (*name) is not read here; write the value out")
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_object(node)
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise ValueError(f"{where}, line {line}: the tag {node.tag} is not read here")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [value_of(item, (*path, i)) for i, item in enumerate(node.value)]
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            at = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ValueError(f"{where}, line {at}: a key must be a word")
            key = str(key_node.value)
            if key in data:
                first = lines[*path, key]
                raise ValueError(f"{where}, line {at}: {key!r} stands twice, first on line {first}; keep one")
            lines[*path, key] = at
            data[key] = value_of(value_node, (*path, key))
        return data

    try:
        loader: Any = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else value_of(node, ()), lines
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ValueError(f"{where}{place}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not valid YAML: {error}") from error


def to_yaml(data: dict[str, Any], flow: bool = False) -> str:
    """Plain data as YAML that `parse_yaml` reads back, keys in their order, short lists on one line.

    Args:
        data: settings by name.
        flow: what the names hold on one line, as `{kind: conv, out_dim: 8}`, however long.

    >>> print(to_yaml({"column": "1e3", "shares": [0.8, 0.2]}), end="")
    column: '1e3'
    shares: [0.8, 0.2]
    """
    options: dict[str, Any] = {"Dumper": _Dumper, "sort_keys": False, "allow_unicode": True}
    if not flow:
        return yaml.dump(data, width=120, default_flow_style=None, **options)
    text = yaml.dump(data, width=10**9, default_flow_style=True, **options).strip()
    return f"{text[1:-1]}\n"


def set_value(data: Any, path: Keys, value: Any) -> None:
    """Put a value into nested mappings, making those that are not there.

    Raises:
        ValueError: if the path leads through something that is no mapping.
    """
    for depth, key in enumerate(path[:-1]):
        inner = data.get(key)
        if inner is None:
            inner = data[key] = {}
        if not isinstance(inner, Mapping):
            name = ".".join(map(str, path[: depth + 1]))
            raise ValueError(f"{name} is {inner!r} and has no settings of its own; set {name} as a whole")
        data = inner
    data[path[-1]] = value


def read_run_file(path: str | Path, sets: Sequence[str] = ()) -> RunFile:
    """Read a run file; paths in it are relative to its folder.

    Args:
        path: a YAML file.
        sets: changes such as `"train.lr=1e-3"`, `"modalities.image.encoder=minilm"`, `"data.shares=[0.7, 0.2, 0.1]"`.

    Raises:
        ValueError: listing every mistake with the path of its key, its line, and the nearest key to an unknown one.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"{path}: there is no such run file; `confu init MANIFEST` writes one")
    try:
        data, lines = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a run file is UTF-8 text; byte {error.start} is not") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected settings by name (manifest, out, modalities, ...); got {data!r}")
    places = {keys: f"line {line}, " for keys, line in lines.items() if keys}
    run, mistakes = _validated(data, sets, places)
    if run is None:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        raise ValueError(f"{path} has {count}:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))
    return _map_paths(run, lambda text: os.path.normpath(path.parent.absolute() / Path(text).expanduser()))


def with_sets(run: RunFile, sets: Sequence[str]) -> RunFile:
    """A run with some settings changed, as `read_run_file` does it.

    Raises:
        ValueError: listing every mistake.
    """
    changed, mistakes = _validated(run.model_dump(), sets, {})
    if changed is None:
        raise ValueError("\n".join(mistakes))
    return changed


def write_run_file(run: RunFile, path: str | Path) -> None:
    """Write a run with all its settings; its paths become relative to the file, so that folders can be moved as one."""
    path = Path(path).absolute()
    data = _map_paths(run, lambda text: os.path.relpath(text, path.parent)).model_dump()
    with written_whole(path) as temporary:
        temporary.write_text(_HEADER + to_yaml(data), encoding="utf-8")


def _validated(data: dict[str, Any], sets: Sequence[str], places: dict[Keys, str]) -> tuple[RunFile | None, list[str]]:
    """The run, or everything that is wrong with it in the order of the file; `places` says where each key stands."""
    mistakes = _apply_sets(data, sets, places)
    found: list[tuple[Keys, str]] = []
    run = None
    try:
        run = RunFile.model_validate(data, strict=True)
    except ValidationError as error:
        found = [(_keys_in(data, one["loc"], one["type"] == "missing"), _error_text(one)) for one in error.errors()]
    if run is not None:
        found = [(tuple(path.split(".")), what) for path, what in find_conflicts(run)]
    order = {keys: number for number, keys in enumerate(places)}

    def standing(keys: Keys) -> Keys:
        """The key, or the nearest one around it that stands somewhere."""
        return next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in places), ())

    found.sort(key=lambda mistake: order.get(standing(mistake[0]), -1))
    mistakes += [f"{places.get(standing(keys), '')}{'.'.join(map(str, keys))}: {what}" for keys, what in found]
    return (None if mistakes else run), mistakes


def _apply_sets(data: dict[str, Any], sets: Sequence[str], places: dict[Keys, str]) -> list[str]:
    mistakes = []
    for text in sets:
        name, equals, value = text.partition("=")
        keys: Keys = tuple(name.strip().split("."))
        if not equals or not all(keys):
            mistakes.append(f"--set {text!r}: write NAME=VALUE, e.g. train.lr=1e-3")
            continue
        try:
            set_value(data, keys, parse_yaml(value, f"--set {name.strip()}")[0])
        except ValueError as error:
            mistakes.append(str(error) if str(error).startswith("--set") else f"--set {text!r}: {error}")
        for length in range(1, len(keys)):
            places.setdefault(keys[:length], "--set ")  # where the file has no such section
        places[keys] = "--set "
    return mistakes


def _unknown_key(loc: Keys) -> str:
    """What to write instead of a key that its section does not have."""
    known: list[str] = []
    model: Any = RunFile
    for key in loc:
        known = list(model.model_fields)
        inner = (model.model_fields[key].annotation,) if key in known else ()
        inner = (*inner, *(part for one in inner for part in get_args(one)))
        model = next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), model)
    close = get_close_matches(str(loc[-1]), known, n=1)
    return f"unknown key; did you mean {close[0]!r}?" if close else f"unknown key; known: {', '.join(known)}"


def _keys_in(data: Any, loc: Keys, missing: bool) -> Keys:
    """The part of pydantic's location that is in the file: of a union it also names the member that it tried."""
    keys: list[str | int] = []
    for key in loc:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return tuple([*keys, key] if missing else keys)
        keys.append(key)
    return tuple(keys)


def _error_text(error: Any) -> str:
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"])
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "literal_error" and isinstance(value, str):
        words = error["ctx"]["expected"]
        close = get_close_matches(value, words.replace("'", "").replace(" or ", ", ").split(", "), n=1)
        return f"expected {words}; got {value!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    what = _EXPECTED.get(kind.removesuffix("_type"))
    what = f"expected {what}" if what else error["msg"].replace("Input should be", "expected")
    return f"{what}; got {value!r}"


def _map_paths(run: RunFile, change: Callable[[str], str]) -> RunFile:
    """The run with every local path changed."""
    update: dict[str, Any] = {"out": change(run.out), "modalities": {}}
    update["manifest"] = run.manifest if "://" in run.manifest else change(run.manifest)
    if isinstance(run.data.cache, str):
        update["data"] = run.data.model_copy(update={"cache": change(run.data.cache)})
    if run.start_from is not None:
        update["start_from"] = change(run.start_from)
    for name, modality in run.modalities.items():
        encoder = modality.encoder
        if isinstance(encoder, str) and encoder.startswith((".", "/", "~")):
            modality = modality.model_copy(update={"encoder": change(encoder)})
        update["modalities"][name] = modality
    return run.model_copy(update=update)
