"""How the sources of a question are read from a command line, and its answer is shown."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from confu.checks import check_known
from confu.cli.show import escape

if TYPE_CHECKING:
    from confu.index import Hit
    from confu.search import SearchResult

_LONGEST = 60  # characters of a cell


def read_sources(arguments: Sequence[str], kinds: Mapping[str, str], lists: Sequence[str] = ()) -> dict[str, Any]:
    """Modality -> source of `--image a.png --text "a robin"`, or of `--image=a.png`.

    Args:
        arguments: what is left of the command line.
        kinds: modality -> what it holds.
        lists: the modalities of which an item may have several files.

    Raises:
        ValueError: if one is no modality of the model, has no value or stands twice.

    >>> read_sources(["--color", "[1, 2]", "--weight=0.5"], {"color": "vector", "weight": "number"})
    {'color': [1, 2], 'weight': 0.5}
    """
    found: dict[str, Any] = {}
    left = list(arguments)
    while left:
        name, sign, value = left.pop(0).partition("=")
        if not name.startswith("--"):
            raise ValueError(f"expected an option such as --{next(iter(kinds))} VALUE; got {name + sign + value!r}")
        name = name.removeprefix("--")
        check_known("modality", name, kinds)
        if not sign:
            if not left:
                raise ValueError(f"--{name} needs a value: a file, or a text")
            value = left.pop(0)
        if name in found and name in lists:
            value = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        elif name in found:
            raise ValueError(f"--{name} stands twice; ask with one {name} at a time")
        found[name] = _source(name, value, kinds[name])
    return found


def _source(name: str, value: Any, kind: str) -> Any:
    numbers = kind in ("number", "table") or (kind in ("vector", "sequence") and value.lstrip().startswith("["))
    if not numbers:
        return value
    try:
        return json.loads(value)
    except ValueError:
        shapes = {"number": "3.5", "vector": "[1, 2, 3]", "sequence": "[[1, 2], [3, 4]]", "table": '{"column": 1.5}'}
        shape = shapes[kind]
        raise ValueError(f"--{name} is a {kind}, such as {shape}; got {value!r}") from None


def as_dict(answer: "SearchResult") -> dict[str, Any]:
    """An answer as JSON."""
    found = {"query": str(answer.query), "target": str(answer.target), "hits": [_hit(hit) for hit in answer.hits]}
    if answer.singles:
        found["singles"] = {name: [_hit(hit) for hit in hits] for name, hits in answer.singles.items()}
        found["mean"] = [_hit(hit) for hit in answer.mean]
    return found


def _hit(hit: "Hit") -> dict[str, Any]:
    equal = {"equal": hit.equal} if hit.equal > 1 else {}
    return {"id": hit.id, "score": hit.score, **equal, "metadata": hit.metadata, "media": hit.media}


def tables_of(answer: "SearchResult") -> list[Table]:
    """What was found as tables: by all together, and by each alone if that was asked for."""
    sides = {str(answer.query): answer.hits}
    if answer.singles:
        sides |= {f"{name} alone": hits for name, hits in answer.singles.items()}
        if answer.mean:
            sides["the mean of these"] = answer.mean
    return [_table(f"{name} ~ {answer.target}", hits, list(answer.target or ())) for name, hits in sides.items()]


def _table(title: str, hits: "Sequence[Hit]", shown: Sequence[str]) -> Table:
    columns = list(dict.fromkeys(name for hit in hits for name, value in hit.metadata.items() if value is not None))
    folded = any(hit.equal > 1 for hit in hits)
    names = map(escape, ["", "score", *["equal"] * folded, "id", *shown, *columns])
    table = Table(*names, title=escape(title), title_justify="left")
    for place, hit in enumerate(hits, start=1):
        cells = [hit.media.get(name) for name in shown] + [hit.metadata.get(name) for name in columns]
        equal = [str(hit.equal)] * folded
        # As Text: what stands in a manifest is no markup.
        table.add_row(str(place), f"{hit.score:.3f}", *equal, Text(hit.id), *(Text(_short(cell)) for cell in cells))
    return table


def _short(cell: Any) -> str:
    text = "" if cell is None else " ".join(str(cell).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
