"""Filters on the metadata of items: `year >= 2020 and (species in (robin, wren) or note contains "at dusk")`.

    filter      conjunction ("or" conjunction)*
    conjunction term ("and" term)*
    term        "not" term | "(" filter ")" | COLUMN comparison
    comparison  ("==" | "=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") VALUE | ["not"] "contains" VALUE
                | ["not"] "in" "(" VALUE ("," VALUE)* ")" | ["not"] "in" VALUE ("," VALUE)* | "is" ["not"] "null"

A column or value in quotes (', " or `) is taken as it is; a quote inside it is written twice. A value without quotes
goes on to `and`, `or`, a closing parenthesis or the end of the text, within `in` also to a comma. An item whose value
is not known fits no comparison but `is null`, also behind `not`, as in SQL.
"""

import math
import operator as compare
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any, TypeVar

import pyarrow as pa

from confu.checks import check_known

T = TypeVar("T")
_OPPOSITE = {
    "==": "!=",
    "<": ">=",
    ">": "<=",
    "in": "not in",
    "contains": "not contains",
    "is null": "is not null",
}
_OPPOSITE |= {opposite: operator for operator, opposite in _OPPOSITE.items()}
OPERATORS = tuple(sorted(_OPPOSITE))
_ORDER = {"<": compare.lt, "<=": compare.le, ">": compare.gt, ">=": compare.ge}
_OPERATOR = re.compile(
    r"\s*(==|!=|<>|<=|>=|<|>|=|(?<![^\s'\"`])(?:(?:not\s+)?(?:in|contains)(?=[\s('\"`]|$)|is\s+(?:not\s+)?null\b))",
    re.I,
)
_WORD = r"\s*(?<![^\s()'\"`]){}(?=[\s(]|$)"
_CONNECTIVE = re.compile(r"\s+(?:and|or)(?=[\s(]|$)", re.I)
_QUOTES = "'\"`"
_DEPTH, _CONDITIONS, _VALUES = 50, 500, 10_000  # a filter may nest so deep, and hold so many conditions and values


@dataclass(frozen=True)
class Condition:
    """A comparison of one column of metadata; an item whose value is not known fits `is null` only.

    Attributes:
        column: by name.
        operator: one of `OPERATORS`.
        value: one value, a tuple of values for `in` and `not in`, None for `is null` and `is not null`.
    """

    column: str
    operator: str
    value: Any = None

    def __str__(self) -> str:
        if self.operator.endswith("null"):
            return f"{_quoted(self.column)} {self.operator}"
        if self.operator.endswith("in") and isinstance(self.value, list | tuple):
            return f"{_quoted(self.column)} {self.operator} ({', '.join(map(_quoted, self.value))})"
        return f"{_quoted(self.column)} {self.operator} {_quoted(self.value)}"


@dataclass(frozen=True)
class And:
    """All of its parts hold."""

    parts: tuple["Filter", ...]

    def __str__(self) -> str:
        return f"({' and '.join(map(str, self.parts))})"


@dataclass(frozen=True)
class Or:
    """One of its parts holds, or several."""

    parts: tuple["Filter", ...]

    def __str__(self) -> str:
        return f"({' or '.join(map(str, self.parts))})"


@dataclass(frozen=True)
class Not:
    """Its part does not hold, and is known not to."""

    part: "Filter"

    def __str__(self) -> str:
        return f"not {self.part}"


Filter = Condition | And | Or | Not
Where = str | Filter | Sequence["Filter | str"]
"""What a search takes: one filter, as a text or parsed, or several of which all must hold."""


def parse_condition(text: str) -> Filter:
    """Parse a filter; values stay texts until `checked` knows their columns.

    Raises:
        ValueError: with a caret below the place that cannot be read.

    >>> parse_condition("year >= 2020")
    Condition(column='year', operator='>=', value='2020')
    >>> print(parse_condition("species in robin, 'great tit' and not (year < 2020 or note is null)"))
    (species in (robin, great tit) and not (year < 2020 or note is null))
    """
    return _Parser(text).parse()


def parsed(where: Where) -> list[Filter]:
    """The filters of which all must hold."""
    several = [where] if isinstance(where, str | Condition | And | Or | Not) else where
    return [parse_condition(one) if isinstance(one, str) else one for one in several]


class _Parser:
    """Recursive descent over a text."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.depth = text, 0, 0

    def parse(self) -> Filter:
        result = self._several(Or, "or", lambda: self._several(And, "and", self._term))
        if self._rest():
            raise self._error('expected "and", "or" or the end; put a value that goes on here in quotes')
        return result

    def _several(self, kind: type[And] | type[Or], word: str, part: Callable[[], Filter]) -> Filter:
        parts = [part()]
        while self._match(_WORD.format(word)):
            parts.append(part())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _term(self) -> Filter:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self._error(f"expected at most {_DEPTH} levels of parentheses and not")
        try:
            if self._match(_WORD.format("not")):
                return Not(self._term())
            if not self._match(r"\s*\("):
                return self._comparison()
            result = self._several(Or, "or", lambda: self._several(And, "and", self._term))
            if not self._match(r"\s*\)"):
                raise self._error('expected "and", "or" or ")"')
            return result
        finally:
            self.depth -= 1

    def _comparison(self) -> Condition:
        column, operator = "", None
        if self._rest() and self._rest()[0] in _QUOTES:
            column, operator = self._quotation(), self._match(_OPERATOR)
        elif operator := _OPERATOR.search(self.text, self.place):
            column = self.text[self.place : operator.start()].strip()
            self.place, operator = (operator.end(), operator) if column else (self.place, None)
        if operator is None:
            raise self._error(
                f'a condition is COLUMN OPERATOR VALUE with one of {" ".join(OPERATORS)}, e.g. "year >= 2020"; '
                "a value that holds and, or is put in quotes"
            )
        name = " ".join(operator[1].lower().split())
        name = {"=": "==", "<>": "!="}.get(name, name)
        if name.endswith("null"):
            return Condition(column, name)
        if not name.endswith("in") or name == "contains":
            return Condition(column, name, self._value())
        closing = {"(": ")", "[": "]", None: ""}[(opened := self._match(r"\s*([(\[])")) and opened[1]]
        values = [self._value("," + closing)]
        while self._match(r"\s*,"):
            values.append(self._value("," + closing))
        if closing and not self._match(rf"\s*\{closing}"):
            raise self._error(f'expected "," or "{closing}"')
        return Condition(column, name, tuple(values))

    def _value(self, ends: str = "") -> str:
        if self._rest()[:1] and self._rest()[0] in _QUOTES:
            return self._quotation()
        end, depth = self.place, 0
        while end < len(self.text):
            letter = self.text[end]
            if depth == 0 and (letter in ends or _CONNECTIVE.match(self.text, end)):
                break
            if letter == ")" and depth == 0 and self.depth > 1:
                break
            depth = max(0, depth + (letter == "(") - (letter == ")"))
            end += 1
        value = self.text[self.place : end].strip()
        if not value or value[0] in "=<>":
            raise self._error("expected a value; an empty text, or one that begins like this, is put in quotes")
        if value.lower() == "null":
            raise self._error(
                'nothing is equal to null: write "is null" or "is not null"; a text "null" is put in quotes'
            )
        self.place = end
        return value

    def _quotation(self) -> str:
        quote = self._rest()[0]
        found = re.compile(f"{quote}((?:[^{quote}]|{quote}{quote})*){quote}").match(self.text, self.place)
        if found is None:
            raise self._error(f"this quote is not closed; one inside a text is written twice, {2 * quote}")
        self.place = found.end()
        return found[1].replace(2 * quote, quote)

    def _match(self, pattern: str | re.Pattern) -> re.Match | None:
        found = (re.compile(pattern, re.I) if isinstance(pattern, str) else pattern).match(self.text, self.place)
        self.place = self.place if found is None else found.end()
        return found

    def _rest(self) -> str:
        """What is left, from the next letter on."""
        while self.place < len(self.text) and self.text[self.place].isspace():
            self.place += 1
        return self.text[self.place :]

    def _error(self, message: str) -> ValueError:
        self._rest()
        line = re.sub(r"\s", " ", self.text)
        start = max(0, self.place - 60)
        caret = " " * (self.place - start) + "^"
        return ValueError(f"{message}; at character {self.place + 1}:\n  {line[start : start + 120]}\n  {caret}")


def checked(where: Where, schema: pa.Schema) -> tuple[Filter, ...]:
    """The filters without `Not`, their values of the types of their columns; all of them must hold.

    Raises:
        ValueError: for an unknown column or operator, or a value that is not of the column's type.
    """
    filters = tuple(_positive(one, schema, False) for one in parsed(where))
    leaves = [leaf for one in filters for leaf in _leaves(one)]
    if len(leaves) > _CONDITIONS:
        raise ValueError(f"a filter has at most {_CONDITIONS} conditions; write `in (a, b, c)` for many values")
    if (count := sum(len(leaf.value) for leaf in leaves if isinstance(leaf.value, tuple))) > _VALUES:
        raise ValueError(f"a filter has at most {_VALUES} values of `in`; got {count}")
    return tuple(part for one in filters for part in (one.parts if isinstance(one, And) else (one,)))


def translate(where: Sequence[Filter], leaf: Callable[[Condition], T], join: Callable[[type, list[T]], T]) -> T:
    """Filters as a store writes them.

    Args:
        where: as `checked` gives them.
        leaf: one condition as the store writes it.
        join: several, of which all hold (`And`) or one (`Or`).
    """

    def one(part: Filter) -> T:
        if isinstance(part, Condition):
            return leaf(part)
        assert not isinstance(part, Not)
        return join(type(part), [one(inner) for inner in part.parts])

    return join(And, [one(part) for part in where])


def _leaves(part: Filter) -> list[Condition]:
    assert not isinstance(part, Not)
    return [part] if isinstance(part, Condition) else [leaf for inner in part.parts for leaf in _leaves(inner)]


def _positive(part: Filter, schema: pa.Schema, negated: bool) -> Filter:
    if isinstance(part, Not):
        return _positive(part.part, schema, not negated)
    if isinstance(part, And | Or):
        if not part.parts:
            raise ValueError(f"{type(part).__name__} needs one or more parts")
        kind = And if isinstance(part, And) != negated else Or
        return kind(tuple(_positive(one, schema, negated) for one in part.parts))
    if not schema.names:
        raise ValueError(f"the index has no metadata, so nothing can be asked of {part.column!r}")
    check_known("a condition's column", part.column, schema.names)
    check_known("a condition's operator", part.operator, OPERATORS)
    operator, kind = part.operator, schema.field(part.column).type
    if operator.endswith("null"):
        return Condition(part.column, _OPPOSITE[operator] if negated else operator)
    is_list, contains = pa.types.is_list(kind), operator.endswith("contains")
    if is_list != contains and not (contains and pa.types.is_string(kind)):
        usable = "contains or is null" if is_list else "==, <, in or is null"
        raise ValueError(f"{part}: column {part.column!r} holds {kind}; ask with {usable}")
    inner = kind.value_type if is_list else kind
    if operator.endswith("in") and not contains:
        if isinstance(part.value, str) or not isinstance(part.value, Sequence) or not part.value:
            raise ValueError(f"{part.column} {operator}: needs one or more values, as {part.column} in (a, b)")
        values = tuple(_value(part, one, inner) for one in part.value)
        return Condition(part.column, _OPPOSITE[operator] if negated else operator, values)
    if contains and part.value == "":
        raise ValueError(f"{part}: contains needs a text that is not empty")
    value = _value(part, part.value, inner)
    operator = _OPPOSITE[operator] if negated else operator
    if isinstance(value, Decimal):  # a fraction among whole numbers: year < 2002.5 is year <= 2002
        value, operator = int(value.to_integral_value(ROUND_FLOOR)), "<=" if operator in ("<", "<=") else ">"
    if pa.types.is_boolean(kind) and operator in _ORDER:  # which not every store knows of truth values
        ends = Condition(part.column, "==", False), Condition(part.column, "==", True)
        fits = tuple(one for one in ends if _ORDER[operator](one.value, value))
        return fits[0] if len(fits) == 1 else Or(fits) if fits else And(ends)
    return Condition(part.column, operator, value)


def _value(condition: Condition, value: Any, kind: pa.DataType) -> Any:
    """The value as one of the column; a Decimal where a fraction is compared with whole numbers."""
    types, advice = pa.types, ""
    try:
        if types.is_boolean(kind):
            return {"true": True, "1": True, "false": False, "0": False}[str(value).strip().lower()]
        if types.is_integer(kind):
            number = Decimal(value.item() if hasattr(value, "item") else value)
            if not -(2**63) <= number < 2**63:
                advice = "; whole numbers have 64 bits"
                raise ValueError
            if number == number.to_integral_value():
                return int(number)
            if condition.operator not in _ORDER:
                raise ValueError
            return number
        if types.is_floating(kind):
            if math.isnan(number := float(value)):
                advice = "; ask for unknown values with `is null`"
                raise ValueError
            return number
        if types.is_timestamp(kind):
            advice = ", such as 2024-12-31T23:59:59 or 2024-12-31"
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            # Times without a zone are of UTC.
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
            return moment if kind.tz else moment.replace(tzinfo=None)
        if types.is_date(kind) and not isinstance(value, datetime):
            advice = ", such as 2024-12-31"
            return value if isinstance(value, date) else date.fromisoformat(str(value))
        if types.is_time(kind):
            advice = ", such as 23:59"
            clock = value if isinstance(value, time) else time.fromisoformat(str(value))
            if clock.tzinfo is None:
                return clock
    except (ValueError, KeyError, TypeError, OverflowError, InvalidOperation):
        pass
    else:
        if types.is_string(kind):
            return str(value)
    raise ValueError(f"{condition}: column {condition.column!r} holds {kind}; {value!r} is none{advice}")


def _quoted(value: Any) -> str:
    text = str(value)
    plain = text == text.strip() and text and not set(text) & set(_QUOTES + ",()<>=!")
    if plain and not re.search(r"(^|\s)(and|or|not|in|is|contains|null)(\s|$)", text, re.I):
        return text
    return '"' + text.replace('"', '""') + '"'
