"""YAML as people write it by hand: `1e-3` is a number, `no` is a word, and every value knows its line."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

Keys = tuple[str | int, ...]

_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN)$"
)


def _resolving(base: type, tags: dict[str, re.Pattern[str]], keep: bool) -> type:
    """A loader or dumper that takes these scalars for more than words; `keep` those of YAML 1.1 too."""
    inherited = {first: list(pairs) for first, pairs in base.yaml_implicit_resolvers.items()} if keep else {}
    changed = type(f"Core{base.__name__}", (base,), {"yaml_implicit_resolvers": inherited})
    for tag, pattern in tags.items():
        changed.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, [None])  # type: ignore[attr-defined]
    return changed


# Words are words and numbers are numbers, as in YAML 1.2; what is written is quoted for readers of YAML 1.1 too.
_Loader = _resolving(yaml.SafeLoader, {"bool": _BOOL, "null": _NULL, "int": _INT, "float": _FLOAT}, keep=False)
_Dumper = _resolving(yaml.SafeDumper, {"float": _FLOAT}, keep=True)


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
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _value(loader, node, (), lines, where, set()), lines
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ValueError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from error
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


def _value(loader: Any, node: Any, path: Keys, lines: dict[Keys, int], where: str, seen: set[int]) -> Any:
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
        return [_value(loader, one, (*path, i), lines, where, seen) for i, one in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        at = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ValueError(f"{where}, line {at}: a key must be a word")
        key = str(key_node.value)
        if key in found:
            raise ValueError(f"{where}, line {at}: {key!r} stands twice, first on line {lines[*path, key]}; keep one")
        lines[*path, key] = at
        found[key] = _value(loader, value_node, (*path, key), lines, where, seen)
    return found


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
