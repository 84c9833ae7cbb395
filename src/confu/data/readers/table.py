"""Records of several columns, with gaps: numbers, truth values, dates and categories, as one vector."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from confu.checks import check_known
from confu.data.manifest.manifest import role_text
from confu.data.readers.scaling import Scaling
from confu.data.readers.source import Source, is_missing, name_of, stacked

COLUMN_KINDS = ("number", "boolean", "date", "category")
_BOOLEANS = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHARE = 0.9  # of the texts of a column that decides: a few broken cells do not change what it is
_MOST_VALUES = 1000  # of a category; further ones are "other"
_UNIQUE = 0.5  # more distinct values than this share of the rows make no category
_NO_VALUE = (TypeError, ValueError, OverflowError, KeyError)  # of a parser
_FEW = 20  # rows, under which nothing is said of that


class TableReader:
    """Records as vectors: what is missing is 0, and where the training rows have gaps there is an indicator.

        [standardised numbers, truth values and dates | indicators of their gaps | one-hot categories]

    A category has a place for each value that two training rows or more have; values of one training row, and those
    that no training row has, share the place "other", which is there if a training row is in it (without it, an unknown
    value gives zeros). A column with one value in all training rows has no place at all.

    Args:
        columns: name -> what it is and what the training rows say of it, as `table_settings` makes it.
        clip: standardised numbers are cut to so many standard deviations; None leaves them.

    >>> reader = TableReader(**table_settings([{"age": 20, "sex": "f"}, {"age": 40, "sex": "m"}] * 2))
    >>> reader.collate([reader.read({"age": 40, "sex": "f"}), reader.read({"sex": "x"})]).tolist()
    [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """

    stackable = True
    modality_kind = "table"
    reads_nan = True

    def __init__(self, columns: Mapping[str, Mapping[str, Any]], clip: float | None = 5.0) -> None:
        if not columns:
            raise ValueError("columns: expected one or more; got none")
        self.columns = {name: dict(column) for name, column in columns.items()}
        self.settings: dict[str, Any] = {"kind": "table", "columns": self.columns, "clip": clip}
        self._codes: dict[str, dict[str, int]] = {}
        numeric: list[str] = []
        for name, column in self.columns.items():
            check_known(f"columns.{name}: kind", str(column.get("kind")), COLUMN_KINDS)
            expected = {"values", "other", "gaps"} if column["kind"] == "category" else {"mean", "std", "gaps"}
            if set(column) != expected | {"kind"}:
                raise ValueError(f"columns.{name}: expected {', '.join(sorted(expected))}; got {', '.join(column)}")
            if column["kind"] == "category":
                self._codes[name] = {value: code for code, value in enumerate(column["values"])}
            else:
                numeric.append(name)
        places = {name: place for place, name in enumerate(self.columns)}
        self._numeric = [places[name] for name in numeric]
        self._categories = [(places[name], self.columns[name]) for name in self._codes]
        fitted = {key: [self.columns[name][key] for name in numeric] for key in ("mean", "std")}
        self._scaling = Scaling(len(numeric), 1, fitted, clip, "mean")
        self._gaps = [number for number, name in enumerate(numeric) if self.columns[name]["gaps"]]

    @property
    def reading_settings(self) -> dict[str, Any]:
        """The settings that decide what `read` gives; the others are applied to batches."""
        columns = {
            name: {key: one[key] for key in ("kind", "values") if key in one} for name, one in self.columns.items()
        }
        return {"kind": "table", "columns": columns}

    @property
    def constant(self) -> list[str]:
        """The columns with one value, or none, in the training rows."""
        return [name for name, one in self.columns.items() if not _varies(one)]

    def read(self, source: Source) -> Float[Tensor, " columns"]:
        """One record: column -> value; a column that is absent, None, NaN or an empty text is missing.

        Returns:
            a number a column: dates as days since 1970, categories as the place of their value; NaN for missing.

        Raises:
            ValueError: no record, an unknown column, a value that its column does not take, or nothing but gaps.
        """
        if not isinstance(source, Mapping):
            raise ValueError(f"{name_of(source)}: expected a record, column -> value; got {type(source).__name__}")
        if unknown := [name for name in source if name not in self.columns]:
            raise ValueError(f"column {unknown[0]!r} is not known; expected {', '.join(self.columns)}")
        numbers = [self._number(name, column, source.get(name)) for name, column in self.columns.items()]
        if all(map(math.isnan, numbers)):
            raise ValueError(
                f"every column of the record is missing; expected one or more of {', '.join(self.columns)}"
            )
        return torch.tensor(numbers, dtype=torch.float32)

    def collate(self, items: Sequence[Tensor] | Float[Tensor, "n columns"]) -> Float[Tensor, "n inputs"]:
        """What the encoder gets, see above."""
        values = stacked(items, (len(self.columns),))
        count = len(self._numeric)
        scaled = self._scaling.apply(values[:, self._numeric])
        parts = [scaled[:, :count], scaled[:, count:][:, self._gaps]]
        for place, column in self._categories:
            known = len(column["values"])
            codes = values[:, place].nan_to_num(known + 1).long()
            if _varies(column):
                chosen = [*range(known), *[known] * column["other"], *[known + 1] * column["gaps"]]
                parts.append(one_hot(codes, known + 2)[:, chosen].float())
        return torch.cat(parts, 1)

    def _number(self, name: str, column: Mapping[str, Any], value: Any) -> float:
        if _is_empty(value):
            return math.nan
        try:
            if column["kind"] == "category":
                return float(self._codes[name].get(_text(value), len(column["values"])))
            number = _PARSERS[column["kind"]](value)
        except _NO_VALUE as error:
            raise ValueError(f"{name}: expected {_EXPECTED[column['kind']]}; got {str(value)[:40]!r}") from error
        if not abs(number) < float(np.finfo(np.float32).max):
            raise ValueError(f"{name}: expected a finite number; got {value}")
        return number


def table_settings(
    records: Iterable[Mapping[str, Any]], kinds: Mapping[str, Any] | None = None, clip: float | None = 5.0
) -> dict[str, Any]:
    """The arguments of a `TableReader` that fits records, e.g. those of the training rows.

    A column of truth values, numbers or dates is one, also if they are written as texts (dates as 2024-05-31 or
    2024-05-31T12:00); all others are categories.

    Args:
        records: column -> value.
        kinds: column -> one of `COLUMN_KINDS`, where it is not to be guessed; whole numbers may be a category.
        clip: see `TableReader`.

    Raises:
        ValueError: a column of lists; of texts that nearly all differ; or no column with two values.

    >>> table_settings([{"sex": "f"}, {"sex": "m"}, {"sex": None}, {"sex": "m"}])["columns"]
    {'sex': {'kind': 'category', 'values': ['m'], 'other': True, 'gaps': True}}
    """
    rows, kinds = list(records), kinds or {}
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in kinds:
        check_known("columns: the table has the column", name, names)
    columns: dict[str, dict[str, Any]] = {}
    for name in names:
        values = [value for row in rows if not _is_empty(value := row.get(name))]
        kind, gaps = kinds.get(name) or _column_kind(name, values), 0 < len(values) < len(rows)
        if isinstance(kind, Mapping):  # fitted before
            columns[name] = dict(kind)
            continue
        check_known(f"columns.{name}", kind, COLUMN_KINDS)
        if kind == "category":
            columns[name] = {"kind": kind, **_categories(name, values, asked=name in kinds), "gaps": gaps}
        else:
            columns[name] = {"kind": kind, **_moments(_PARSERS[kind], values), "gaps": gaps}
    settings = {"columns": columns, "clip": clip}
    if len(TableReader(**settings).constant) == len(columns):
        raise ValueError(f"each of the columns {', '.join(columns)} has one value in all rows; give others")
    return settings


def _moments(parse: Any, values: Sequence[Any]) -> dict[str, float]:
    numbers = []
    for value in values:
        try:
            numbers.append(float(np.float32(parse(value))))
        except _NO_VALUE:  # listed when the rows are read
            continue
    finite = [torch.tensor([number]) for number in numbers if math.isfinite(number)]
    scale: Any = Scaling(1, scale="standard").fit(finite).scale
    return {key: scale[key][0] for key in ("mean", "std")}


def _categories(name: str, values: Sequence[Any], asked: bool) -> dict[str, Any]:
    counts = Counter(map(_text, values))
    if not asked and len(values) >= _FEW and len(counts) > _UNIQUE * len(values):
        raise ValueError(
            f"column {name!r}: {len(counts)} of {len(values)} values differ, such as {next(iter(counts))[:40]!r}: no "
            f"category. Leave it out, make it a modality of kind text, or say reader: {{columns: {{{name}: category}}}}"
        )
    kept = sorted(value for value, count in counts.most_common(_MOST_VALUES) if count > 1)
    return {"values": kept, "other": len(kept) < len(counts)}


def _varies(column: Mapping[str, Any]) -> bool:
    """Whether the training rows differ in a column; that of one value and of gaps tells by its gaps."""
    if "values" in column:
        return len(column["values"]) + column["other"] + column["gaps"] > 1
    return column["std"] > 0 or column["gaps"]


def _column_kind(name: str, values: Sequence[Any]) -> str:
    """What a column is by its values; one without any is a number."""
    for kinds, kind in (((bool, np.bool_), "boolean"), ((int, float, np.number), "number"), ((date,), "date")):
        if all(isinstance(value, kinds) for value in values):
            return kind if values else "number"
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        other = next(value for value in values if not isinstance(value, str))
        raise ValueError(
            f"column {name!r}: expected numbers, truth values, dates or texts in a table; got {type(other).__name__}. "
            "Make it a modality of its own"
        )
    if {text.strip().lower() for text in texts} <= {"true", "false", "yes", "no"}:
        return "boolean"
    for kind in ("number", "date"):
        if sum(_can_parse(kind, text) for text in texts) >= _SHARE * len(texts):
            return kind
    return "category"


def _can_parse(kind: str, text: str) -> bool:
    try:
        _PARSERS[kind](text)
    except _NO_VALUE:
        return False
    return True


def _is_empty(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value)


def _text(value: Any) -> str:
    """A category's name; truth values as JSON writes them."""
    if isinstance(value, list | tuple | Mapping | np.ndarray):
        raise TypeError("several values")
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    return str(role_text(value.item() if isinstance(value, np.generic) else value))


def _boolean(value: Any) -> float:
    return _BOOLEANS[_text(value).strip().lower()]


def _days(value: Any) -> float:
    """Days since 1970; a time without a zone is taken as UTC."""
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None
    if value is None:
        raise TypeError("no date")
    return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH).total_seconds() / 86400


_PARSERS: dict[str, Any] = {"number": float, "boolean": _boolean, "date": _days}
_EXPECTED = {
    "number": "a number",
    "boolean": "true or false",
    "date": "a date such as 2024-05-31 or 2024-05-31T12:00",
    "category": "a text or a number",
}
