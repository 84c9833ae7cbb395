"""Conditions on the metadata of items: `year >= 2020`, `species in robin,wren`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from confu.checks import check_known

OPERATORS = ("==", "!=", "<=", ">=", "<", ">", "in")
_PATTERN = re.compile(r"^\s*(?P<column>.+?)\s*(?P<operator>==|!=|<=|>=|<|>|=|\sin\s)\s*(?P<value>.*?)\s*$")


@dataclass(frozen=True)
class Condition:
    """A condition on one column of metadata; an item whose value is not known does not fit.

    Attributes:
        column: by name.
        operator: one of `OPERATORS`.
        value: one value, or a tuple of values for `in`.
    """

    column: str
    operator: str
    value: Any

    def __str__(self) -> str:
        value = ",".join(map(str, self.value)) if self.operator == "in" else self.value
        return f"{self.column} {self.operator} {value}"


def parse_condition(text: str) -> Condition:
    """Read `column operator value`; the value stays a text until `checked` knows its column.

    Raises:
        ValueError: if it is not of this form.

    >>> parse_condition("year >= 2020")
    Condition(column='year', operator='>=', value='2020')
    >>> parse_condition("species in robin, wren")
    Condition(column='species', operator='in', value=('robin', 'wren'))
    """
    match = _PATTERN.match(text)
    if match is None or not match["value"]:
        raise ValueError(
            f'a condition is COLUMN OPERATOR VALUE with one of {" ".join(OPERATORS)}, e.g. "year >= 2020" or '
            f'"species in robin,wren"; got {text!r}'
        )
    operator = {"=": "=="}.get(match["operator"].strip(), match["operator"].strip())
    value: Any = match["value"]
    if operator == "in":
        value = tuple(part.strip() for part in value.split(","))
    return Condition(match["column"], operator, value)


def checked(conditions: Sequence[Condition], schema: pa.Schema) -> tuple[Condition, ...]:
    """The same conditions, their values of the type of their columns.

    Raises:
        ValueError: for a column or operator that is not there, or a value that is not of the column's type.
    """
    return tuple(_checked(condition, schema) for condition in conditions)


def _checked(condition: Condition, schema: pa.Schema) -> Condition:
    if not schema.names:
        raise ValueError(f"the index has no metadata, so nothing can be asked of {condition.column!r}")
    check_known("a condition's column", condition.column, schema.names)
    check_known("a condition's operator", condition.operator, OPERATORS)
    kind = schema.field(condition.column).type
    if condition.operator == "in":
        if isinstance(condition.value, str) or not isinstance(condition.value, Sequence) or not condition.value:
            raise ValueError(f"{condition}: `in` needs one or more values, as {condition.column} in a,b")
        return Condition(condition.column, "in", tuple(_value(condition, one, kind) for one in condition.value))
    return Condition(condition.column, condition.operator, _value(condition, condition.value, kind))


def _value(condition: Condition, value: Any, kind: pa.DataType) -> Any:
    types = pa.types
    try:
        if types.is_boolean(kind):
            return {"true": True, "false": False}[str(value).strip().lower()]
        if types.is_integer(kind):
            number = float(value) if isinstance(value, str) and "." in value else value
            if int(number) != float(number) and condition.operator in ("==", "!=", "in"):
                raise ValueError
            return int(number) if int(number) == float(number) else float(number)
        if types.is_floating(kind):
            return float(value)
        if types.is_timestamp(kind):
            return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if types.is_date(kind):
            return value if isinstance(value, date) else date.fromisoformat(str(value))
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError(f"{condition}: column {condition.column!r} holds {kind}; {value!r} is none") from None
    return str(value)
