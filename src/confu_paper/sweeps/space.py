"""What a sweep or a search may change about a run, and how it is written: `dim=16,64`, `lr=log:1e-4:1e-2`."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confu.checks import check_known
from confu.methods import DOMAINS, Tweaks, Value, check_number


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; evenly drawn, or evenly in their logarithm.

    >>> str(Range(1e-4, 1e-2, log=True)), str(Range(1, 3, whole=True))
    ('log:0.0001:0.01', 'int:1:3')
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = ("int:" if self.whole else "") + ("log:" if self.log else "")
        return f"{kind}{self.low:g}:{self.high:g}"


@dataclass(frozen=True)
class Choices:
    """One of some values, which need have no order.

    >>> str(Choices((128, 256)))
    '128|256'
    """

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


def parse_grid(settings: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """Read `NAME=VALUE,VALUE,...` for each setting of a grid.

    >>> parse_grid(["fused_weight=0.1,0.5", "dim=64"])
    {'fused_weight': (0.1, 0.5), 'dim': (64,)}

    Args:
        settings: one text for each name of `DOMAINS` that changes.

    Returns:
        the values by name, in the order given.

    Raises:
        ValueError: for an unknown name (with the closest one), one given twice, no value, one value twice, or a value
            that is not a number which the setting takes.
    """
    example = "fused_weight=0.1,0.3"
    found = {}
    for name, text in _named(settings, example):
        if any(mark in text for mark in "|:"):
            raise ValueError(
                f"{name}={text}: a grid lists its values with commas, e.g. {example}; ranges and | are for a search"
            )
        found[name] = _values(name, text, ",")
    return found


def parse_space(settings: Sequence[str]) -> dict[str, Range | Choices]:
    """Read `NAME=LOW:HIGH`, `NAME=log:LOW:HIGH`, `NAME=int:LOW:HIGH` or `NAME=VALUE|VALUE|...` of a search.

    A setting that takes whole numbers only draws whole numbers with or without `int:`.

    >>> space = parse_space(["lr=log:1e-4:1e-2", "fusion_depth=1:3", "fusion_dim=128|256"])
    >>> {name: str(values) for name, values in space.items()}
    {'lr': 'log:0.0001:0.01', 'fusion_depth': 'int:1:3', 'fusion_dim': '128|256'}

    Args:
        settings: one text for each name of `DOMAINS` that is searched.

    Returns:
        the ranges and choices by name, in the order given.

    Raises:
        ValueError: for an unknown name (with the closest one), one given twice, an empty range, a logarithm from 0, or
            a value that is not a number which the setting takes.
    """
    found: dict[str, Range | Choices] = {}
    for name, text in _named(settings, "lr=log:1e-4:1e-2"):
        if ":" in text:
            found[name] = _range(name, text)
        elif "," in text:
            raise ValueError(f"{name}={text}: a search lists its choices with |, e.g. {name}={text.replace(',', '|')}")
        else:
            found[name] = Choices(_values(name, text, "|"))
    return found


def grid_points(grid: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Every combination of a grid's values; the last name changes fastest.

    >>> grid_points({"dim": [16, 64], "mask_ratio": [0.0]})
    [{'dim': 16, 'mask_ratio': 0.0}, {'dim': 64, 'mask_ratio': 0.0}]

    Raises:
        ValueError: if a name has no values, or one twice.
    """
    for name, values in grid.items():
        if not values:
            raise ValueError(f"{name} has no values; give at least one, or leave {name} out")
        if len(set(values)) != len(values):
            raise ValueError(f"{name} has a value twice: {', '.join(map(str, values))}; give each once")
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def describe(tweaks: Tweaks) -> str:
    """Settings in one line.

    >>> describe({"dim": 16, "lr": 0.001})
    'dim=16 lr=0.001'
    """
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in tweaks.items()
    )


def _named(settings: Sequence[str], example: str) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"{setting!r} must be NAME=VALUES, e.g. {example}")
        check_known("setting", name, DOMAINS)
        if name in found:
            raise ValueError(f"{name} is given twice: {name}={found[name]} and {name}={text}; give all values at once")
        if not text:
            raise ValueError(f"{name} has no values; write e.g. {example}")
        found[name] = text
    return list(found.items())


def _values(name: str, text: str, mark: str) -> tuple[Value, ...]:
    parts = [part.strip() for part in text.split(mark)]
    if "" in parts:
        raise ValueError(f"{name}={text}: there is nothing before or after a {mark!r}; leave it out")
    values = tuple(check_number(name, part) for part in parts)
    if len(set(values)) != len(values):
        raise ValueError(f"{name}={text}: a value stands twice; give each once")
    return values


def _range(name: str, text: str) -> Range:
    *kinds, low_text, high_text = [part.strip() for part in text.split(":")]
    for kind in kinds:
        check_known(f"kind of range in {name}={text}:", kind, ["log", "int"])
    log, whole = "log" in kinds, DOMAINS[name].whole
    if "int" in kinds and not whole:
        raise ValueError(f"{name}={text}: {name} need not be whole; leave out 'int:', or list values with |")
    low, high = check_number(name, low_text), check_number(name, high_text)
    if not low < high:
        raise ValueError(f"{name}={text}: a range goes from low to high; got {low:g} and {high:g}")
    if log and low <= 0:
        raise ValueError(f"{name}={text}: a logarithm cannot start at {low:g}; start above 0, or leave out 'log:'")
    return Range(low, high, log, whole)
