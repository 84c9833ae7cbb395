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
    """Parse `column operator value`; the value stays a text until `checked` knows its column.

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
    """The same conditions, their values converted to the types of their columns.

    Raises:
        ValueError: for an unknown column or operator, or a value that is not of the column's type.
    """
    converted = []
    for condition in conditions:
        column, operator, value = condition.column, condition.operator, condition.value
        if not schema.names:
            raise ValueError(f"the index has no metadata, so nothing can be asked of {column!r}")
        check_known("a condition's column", column, schema.names)
        check_known("a condition's operator", operator, OPERATORS)
        if operator == "in" and (isinstance(value, str) or not isinstance(value, Sequence) or not value):
            raise ValueError(f"{condition}: `in` needs one or more values, as {column} in a,b")
        values = value if operator == "in" else [value]
        values = tuple(_value(condition, one, schema.field(column).type) for one in values)
        converted.append(Condition(column, operator, values if operator == "in" else values[0]))
    return tuple(converted)


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
