"""Which columns are ids, labels, splits and groups, and which are categories, codes or row numbers: no modality."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from confu.checks import check_known
from confu.data.manifest.cells import filled, is_list, is_text
from confu.data.manifest.manifest import ROLES, SPLITS, Manifest, role_text, split_name
from confu.data.media import suffix_of

_NAMES = {
    "id": ("id", "uid", "uuid", "guid", "sample_id", "row_id", "item_id"),
    "label": ("label", "labels", "class", "class_name", "category", "target", "species"),
    "split": ("split", "subset", "partition", "fold", "set"),
    "group": ("group", "groups", "group_id"),
}
"""How people name the columns, in lower case, with _ for spaces and dashes; the name of the role is always first."""

# A column whose name holds one of these is text, also where only few texts differ.
_TEXT_NAMES = (
    "text caption captions description sentence title prompt transcript transcription report note notes comment review "
    "question answer summary abstract content message utterance lyrics"
)
_FEW = 20  # so many values, or this share of the rows, are those of a category
_FEW_SHARE = 0.05
_MOST = 0.9  # a share of the cells that decides
_MOST_NUMBERS = 0.5  # a share of the cells
_PEEKED = 500  # texts that are looked at
_LARGEST_EXACT = 2**53  # integers above lose digits as floating-point numbers
_NO_WORDS = re.compile(r"[!-~]*[0-9][!-~]*|[A-Za-z0-9+/]{40,}=*", re.ASCII)
_NUMBER_WITH_UNIT = re.compile(r"([^\w\s+-]?)\s*[+-]?[0-9][0-9.,]*\s*([^\W\d_]{0,9}|[^\w\s]{0,3}|[^\W\d_]+/[^\W\d_]+)")


@dataclass(frozen=True)
class ColumnRole:
    """A column that is no modality.

    Attributes:
        column: its name.
        why: what says so.
    """

    column: str
    why: str


@dataclass(frozen=True)
class _Values:
    """What the filled cells of a column hold: how many there are, how many differ, and the most frequent ones."""

    filled: int
    distinct: int
    frequent: tuple[Any, ...]

    @property
    def few(self) -> bool:
        """Whether so few differ that the column sorts the rows into classes."""
        return 2 * self.distinct <= self.filled and self.distinct <= max(_FEW, _FEW_SHARE * self.filled)

    def __str__(self) -> str:
        some = ", ".join(repr(str(role_text(value))[:30]) for value in self.frequent[:3])
        return f"{self.distinct:,} values in {self.filled:,} rows, {'such as ' if self.distinct > 3 else ''}{some}"


def find_roles(manifest: Manifest, given: Mapping[str, str | None] | None = None) -> dict[str, ColumnRole]:
    """The columns that seem to be ids, labels, splits and groups, by role, and what says so.

    Names are compared without case and surrounding spaces. A name that is not the role's own counts only if the cells
    agree: ids all differ, a label has at least two rows a class, every split is one of train, validation and test. If
    no name says that a column is the label, the one text column with few values is it, if there is just one.

    Args:
        manifest: whose table is looked at; its own options are not.
        given: roles with their columns, which are taken as they are; None or "" for a role that no column has.

    Raises:
        ValueError: for a given column that there is none of, or a split column without any split.

    >>> find_roles(Manifest("/a.csv", "/", pa.table({"ID": ["a", "b"], "say": ["a cat", "a dog"]})))
    {'id': ColumnRole(column='ID', why='its name, and all of its cells differ')}
    """
    names = manifest.table.column_names
    roles: dict[str, ColumnRole] = {}
    for role, column in (given or {}).items():
        if not column:
            continue
        check_known(f"--{role}: {manifest.address}: column", column, names)
        if role == "split" and not any(split_name(text) in SPLITS for text in _texts(manifest, column)):
            raise ValueError(
                f"--split: the column {column!r} of {manifest.address} has {_values(manifest, column)}; expected "
                f"{', '.join(SPLITS)}. Write these into a column of their own"
            )
        roles[role] = ColumnRole(column, f"given as --{role}")
    for role in ROLES:
        if role in (given or {}):
            continue
        for column in sorted(names, key=lambda name: (name != role, *_rank(role, name))):
            taken = any(column == other.column for other in roles.values())
            if not taken and (why := _why_role(manifest, role, column)) is not None:
                roles[role] = ColumnRole(column, why)
                break
    if "label" not in roles and "label" not in (given or {}):
        free = [name for name in names if name not in {one.column for one in roles.values()}]
        texts = {name: _values(manifest, name) for name in free if is_text(manifest.table[name].type)}
        if len(classes := [name for name, values in texts.items() if _is_category(manifest, name, values)]) == 1:
            roles["label"] = ColumnRole(classes[0], f"it has few values: {texts[classes[0]]}")
    return {role: roles[role] for role in ROLES if role in roles}


def why_no_modality(manifest: Manifest, column: str) -> str | None:
    """Why a column of texts or numbers is none that is learned from: a category, codes, row numbers; None if it may be.

    >>> why_no_modality(Manifest("/a.csv", "/", pa.table({"n": [0, 1, 2, 3, 4]})), "n")
    'it counts the rows, from 0 to 4'
    """
    kind = manifest.table[column].type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not is_number and not is_text(kind):
        return None
    values = _values(manifest, column)
    if values.filled < 2:
        return None
    if values.distinct == 1:
        return f"it has the same value in every row, {role_text(values.frequent[0])!r}: nothing can be learned from it"
    if _is_category(manifest, column, values):
        return (
            f"a category: {values}. It becomes metadata of an index; --label {_quoted(column)} makes it the label, "
            "--columns a modality"
        )
    if is_number:
        return _why_row_number(manifest, column, values)
    return _why_numbers(manifest, column) or _why_codes(manifest, column, values)


def _why_row_number(manifest: Manifest, column: str, values: _Values) -> str | None:
    if not pa.types.is_integer(manifest.table[column].type) or values.distinct < values.filled:
        return None
    low, high = (bound.as_py() for bound in pc.min_max(manifest.table[column]).values())
    if values.filled == len(manifest) >= 5 and high - low + 1 == values.filled:
        return f"it counts the rows, from {low} to {high}"
    if max(abs(low), abs(high)) > _LARGEST_EXACT:
        return f"its numbers are names, such as {high}: all differ, and they have more digits than can be computed with"
    return None


def _why_numbers(manifest: Manifest, column: str) -> str | None:
    """Why a column of texts is one of numbers that are not read as such: with a unit, or other texts among them."""
    if _is_text_name(column):
        return None
    texts = [text.strip() for text in _texts(manifest, column, _PEEKED)]
    matches = [_NUMBER_WITH_UNIT.fullmatch(text) for text in texts]
    units = Counter(match.groups() for match in matches if match is not None)
    bare = units.pop(("", ""), 0)
    if units and (most := units.most_common(1)[0])[1] >= _MOST * len(texts):
        example = next(text for text, match in zip(texts, matches) if match and match.groups() == most[0])
        return f"its cells are numbers with {''.join(most[0])!r}, such as {example!r}: write them without it, as 12.5"
    if _MOST_NUMBERS * len(texts) <= bare < len(texts):
        others = [text for text, match in zip(texts, matches) if match is None or match.groups() != ("", "")]
        if len(set(others)) <= _FEW and len(set(others)) * 2 <= max(2, len(others)):
            some = ", ".join(repr(text[:30]) for text, _ in Counter(others).most_common(3))
            return (
                f"its cells are numbers, but for {some}: if these are missing values, name them with --missing "
                "(data.missing)"
            )
    return None


def _why_codes(manifest: Manifest, column: str, values: _Values) -> str | None:
    if _is_text_name(column) or values.filled < 5:
        return None
    texts = _texts(manifest, column, _PEEKED)
    if sum(_NO_WORDS.fullmatch(text.strip()) is not None for text in texts) < _MOST * len(texts):
        return None
    example = repr(texts[0][:40])
    if suffix := suffix_of(texts[0]):
        return f"its cells are names of {suffix} files, such as {example}; put what the files hold in the cells"
    differ = "all of which differ" if values.distinct == values.filled else f"of which {values.distinct:,} differ"
    return f"its cells are codes, such as {example}, {differ}, and no words; --columns makes them a modality"


def _is_category(manifest: Manifest, column: str, values: _Values) -> bool:
    """Whether few values sort the rows into classes."""
    kind = manifest.table[column].type
    if values.distinct < 2 or not values.few or _is_text_name(column):
        return False
    if is_text(kind):
        return not any(suffix_of(str(value)) for value in values.frequent)
    return pa.types.is_boolean(kind) or values.distinct <= min(_FEW, values.filled // 5)


def _why_role(manifest: Manifest, role: str, column: str) -> str | None:
    """Why a column has a role; None if it has not."""
    if column == role:
        return "its name"
    kind, rank = manifest.table[column].type, _rank(role, column)[0]
    scalar = not is_list(kind) and not pa.types.is_nested(kind) and not pa.types.is_large_binary(kind)
    if rank == len(_NAMES[role]) or not (scalar or role == "label"):
        return None
    if role == "id":
        values = _values(manifest, column)
        return "its name, and all of its cells differ" if values.distinct == len(manifest) else None
    if role == "split":
        texts = _texts(manifest, column)
        known = sum(split_name(text) in SPLITS for text in texts)
        return "its name, and its cells are splits" if texts and (known == len(texts) or rank == 0 < known) else None
    if rank == 0 or role == "group":
        return "its name"
    values = _values(manifest, column)
    if pa.types.is_floating(kind) and any(not float(value).is_integer() for value in values.frequent):
        return None
    return f"its name, and its cells repeat: {values}" if scalar and 2 <= values.distinct <= values.filled / 2 else None


def _rank(role: str, column: str) -> tuple[int, str]:
    """How near a column's name is to a role, nearest first."""
    plain = re.sub(r"[\s-]+", "_", column.strip().casefold())
    known = _NAMES[role]
    return (known.index(plain) if plain in known else len(known)), column


def _is_text_name(column: str) -> bool:
    return not set(_TEXT_NAMES.split()).isdisjoint(re.findall(r"[a-z]+", column.casefold()))


def _values(manifest: Manifest, column: str) -> _Values:
    cells = _filled_cells(manifest, column)
    if pa.types.is_nested(cells.type):
        return _Values(len(cells), len(cells), ())
    counts = pc.value_counts(cells)
    order = pc.array_sort_indices(counts.field("counts"), order="descending")[:_FEW]
    return _Values(len(cells), len(counts), tuple(counts.field("values").take(order).to_pylist()))


def _filled_cells(manifest: Manifest, column: str) -> pa.ChunkedArray:
    return manifest.table[column].filter(pa.array(filled(manifest.table[column])))


def _texts(manifest: Manifest, column: str, most: int | None = None) -> list[str]:
    """The filled cells as texts, or so many of them, spread over all rows."""
    cells = _filled_cells(manifest, column)
    if most is not None and len(cells) > most:
        cells = cells.take(pa.array(range(0, len(cells), len(cells) // most)))
    return [text for text in map(role_text, cells.to_pylist()) if text is not None]


def _quoted(column: str) -> str:
    return column if re.fullmatch(r"[\w.-]+", column) else repr(column)
