"""Filters: what can be written, what is refused, and random filters in every store against plain Python."""

import operator
import random
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pytest
import torch

from confu.embeddings import EmbeddingTable
from confu.index import And, Condition, Items, Not, Or, parse_condition
from confu.index.conditions import checked
from index.conftest import SUBSETS
from index.test_contract import STORES

TREES = {
    "year >= 2020": Condition("year", ">=", "2020"),
    "year=2020": Condition("year", "==", "2020"),
    "species in robin, wren": Condition("species", "in", ("robin", "wren")),
    "species not in ('a, b', c (d))": Condition("species", "not in", ("a, b", "c (d)")),
    "who == Smith, J.": Condition("who", "==", "Smith, J."),
    "who == O'Neil": Condition("who", "==", "O'Neil"),
    "who == 'O''Neil'": Condition("who", "==", "O'Neil"),
    'who = " lead"': Condition("who", "==", " lead"),
    "who == x in y": Condition("who", "==", "x in y"),
    "who == 'null'": Condition("who", "==", "null"),
    "who == 'salt and pepper'": Condition("who", "==", "salt and pepper"),
    "year of rec != 3": Condition("year of rec", "!=", "3"),
    "within <> sand": Condition("within", "!=", "sand"),
    "`size>=` >= 3": Condition("size>=", ">=", "3"),
    "note IS NOT Null": Condition("note", "is not null"),
    "tags not contains red": Condition("tags", "not contains", "red"),
    "a == 1 or b == 2 and c == 3": Or(
        (Condition("a", "==", "1"), And((Condition("b", "==", "2"), Condition("c", "==", "3"))))
    ),
    "not (a == 1 OR b is null) and name == Smith (Jr.)": And(
        (Not(Or((Condition("a", "==", "1"), Condition("b", "is null")))), Condition("name", "==", "Smith (Jr.)"))
    ),
    "(name == Smith (Jr.))": Condition("name", "==", "Smith (Jr.)"),
}


@pytest.mark.parametrize("text", TREES)
def test_a_filter_is_parsed_and_printed_again(text):
    tree = parse_condition(text)
    assert tree == TREES[text]
    assert parse_condition(str(tree)) == tree


@pytest.mark.parametrize(
    ("text", "place"),
    {
        "year": 1, "": 1, ">= 3": 1, "year >=": 8, "year >> 3": 7, "year > 3 and": 13, "year > 3 and size": 14,
        "(year > 3": 10, "year > 3) x": 0, "who == 'a": 8, "who == 'a' b": 12, "who in (a, b": 13, "who in a,": 10,
        "who in ()": 9, "who is 3": 1, "year > 3 or or": 13, "(" * 60 + "a == 1": 51,
        "who == null": 8, "who in (a, NULL)": 12,
    }.items(),
)  # fmt: skip
def test_an_error_points_at_the_place(text, place):
    if not place:  # a parenthesis that closes none is part of a value
        assert parse_condition(text).value == "3) x"
        return
    with pytest.raises(ValueError, match=f"at character {place}:") as error:
        parse_condition(text)
    line, caret = str(error.value).splitlines()[-2:]
    assert line == f"  {text}" and caret.index("^") == place + 1


SCHEMA = pa.schema({
    "year": pa.int64(), "weight": pa.float64(), "who": pa.string(), "ok": pa.bool_(), "day": pa.date32(),
    "at": pa.timestamp("us"), "clock": pa.time64("us"), "tags": pa.list_(pa.string()),
})  # fmt: skip


@pytest.mark.parametrize(
    ("text", "same"),
    {
        "year < 2002.5": "year <= 2002", "year >= 2002.5": "year > 2002", "not year > 2002.5": "year <= 2002",
        "year == 2e3": "year == 2000",
        "at > 2024-01-01T00:00:00+02:00": "at > 2023-12-31T22:00:00",
        "year in [1, 2]": "year in 1,2",
        "ok == 1": "ok == True", "ok > false": "ok == true", "ok <= true": "ok == false or ok == true",
        "not (year > 1 and not who == a)": "year <= 1 or who == a",
        "year > 9007199254740993": "not year <= 9007199254740993",
    }.items(),
)  # fmt: skip
def test_values_get_the_type_of_their_column(text, same):
    assert checked(text, SCHEMA) == checked(same, SCHEMA) == checked(checked(text, SCHEMA), SCHEMA)


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "yaer > 1": "did you mean 'year'", "year == 2002.5": "holds int64; '2002.5' is none",
        "year > 1e999999999": "64 bits",
        "year in (1, x)": "'x' is none", "weight == nan": "is null", "ok == 2": "holds bool",
        "day > 2024-13-01": "is none",
        "clock > 25:00": "holds time64", "tags == red": "ask with contains",
        "year contains 2": "ask with ==", "who contains ''": "not empty",
    }.items(),
)  # fmt: skip
def test_a_value_of_another_type_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        checked(text, SCHEMA)


def test_a_filter_has_bounds():
    with pytest.raises(ValueError, match="at most 500 conditions"):
        checked(["year > 1"] * 501, SCHEMA)
    with pytest.raises(ValueError, match="at most 10000 values"):
        checked(Condition("year", "in", range(10_001)), SCHEMA)
    with pytest.raises(ValueError, match="Or needs one or more parts"):
        checked(Or(()), SCHEMA)


ROWS, FILTERS = 40, 80
COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
WORDS = (
    "robin",
    "Smith, J.",
    "O'Neil",
    'say "a"',
    "müller",
    "a=b",
    "x in y",
    " lead",
    "this or that",
    "(b)",
    "",
    "é€😀",
)


def random_table(draw: random.Random) -> dict[str, list]:
    """Columns of all types, about an eighth of each not known."""
    makers = {
        "tweet": lambda: 1234567890123456789 + draw.randrange(-4, 5),
        "year of rec": lambda: 2000 + draw.randrange(8),
        "weight": lambda: draw.choice([0.1, 0.25, 1e300, -0.0, 7.0]),
        "who": lambda: draw.choice(WORDS),
        "ok": lambda: draw.random() < 0.5,
        "day": lambda: date(2024, 1, draw.randrange(1, 9)),
        "when": lambda: datetime(2024, 1, draw.randrange(1, 9), 23, 30, 0, draw.randrange(3)),
        "sent": lambda: datetime(2024, 1, draw.randrange(1, 9), 23, 30, tzinfo=UTC),
        "clock": lambda: time(draw.randrange(24), 30),
        "lasts": lambda: timedelta(seconds=draw.randrange(6) / 2),
        "tags": lambda: draw.sample(WORDS[:-2], draw.randrange(1, 4)),
        "codes": lambda: draw.choices(range(5), k=draw.randrange(1, 4)),
    }
    return {name: [None if draw.random() < 0.12 else make() for _ in range(ROWS)] for name, make in makers.items()}


def random_filter(draw: random.Random, table: dict[str, list], refused: tuple[str, ...], depth: int = 0):
    """A filter as a text, and the same as a function: row number -> True, False, or None where it is not known."""
    if depth < 3 and draw.random() < 0.55:
        kind = draw.choice(["and", "or", "not"])
        parts = [random_filter(draw, table, refused, depth + 1) for _ in range(1 if kind == "not" else 2)]
        if kind == "not":
            text, part = parts[0]
            return f"not ({text})", lambda row: None if (known := part(row)) is None else not known

        def both(row, decides=kind == "or"):
            values = [part(row) for _, part in parts]
            return decides if decides in values else None if None in values else not decides

        return f" {kind} ".join(f"({text})" for text, _ in parts), both
    name = draw.choice(list(table))
    column = [value.total_seconds() if isinstance(value, timedelta) else value for value in table[name]]
    shown = draw.choice([name, f"'{name}'", f"`{name}`"])
    if draw.random() < 0.15:
        negated = draw.random() < 0.5
        return f"{shown} is {'not ' * negated}null", lambda row: (column[row] is None) != negated
    known = [value for value in column if value is not None]
    value, negated = draw.choice(known), draw.random() < 0.5
    if isinstance(value, list) or (name == "who" not in refused and draw.random() < 0.4):
        part = draw.choice(value or "a")
        return (
            f"{shown} {'not ' * negated}contains {quote(draw, part)}",
            lambda row: None if column[row] is None else (part in column[row]) != negated,
        )
    if draw.random() < 0.3:
        several = draw.choices(known, k=draw.randrange(1, 4))
        return (
            f"{shown} {'not ' * negated}in ({', '.join(quote(draw, one) for one in several)})",
            lambda row: None if column[row] is None else (column[row] in several) != negated,
        )
    sign = draw.choice(["==", "!="] if name in refused else list(COMPARE))
    return (
        f"{shown} {sign} {quote(draw, value)}",
        lambda row: None if column[row] is None else COMPARE[sign](column[row], value),
    )


def quote(draw: random.Random, value) -> str:
    text = value.isoformat() if isinstance(value, date | time) else str(value)
    if text in ("robin", "O'Neil", "müller", "a=b", "é€😀") or (not isinstance(value, str) and draw.random() < 0.5):
        return text
    mark = draw.choice("'\"")
    return mark + text.replace(mark, 2 * mark) + mark


@pytest.mark.parametrize(
    "maker", [STORES[name] for name in ("exact", "faiss hnsw", "postgres flat", "qdrant")], ids=str, indirect=True
)
def test_random_filters_fit_what_plain_python_says(maker):
    draw = random.Random(5)
    table, index = random_table(draw), maker.create()
    types = {"lasts": pa.duration("ms"), "sent": pa.timestamp("ns", "Europe/Berlin"), "tweet": pa.uint64()}
    metadata = pa.table({name: pa.array(values, types.get(name)) for name, values in table.items()})
    ids = tuple(f"row {row}" for row in range(ROWS))
    index.add(Items(EmbeddingTable(ids, {SUBSETS[0]: torch.eye(12)[torch.arange(ROWS) % 12]}), metadata))
    index.delete(ids[:3])
    stored = index.fetch(ids[3:]).metadata.to_pylist()
    assert [row["lasts"] for row in stored] == [
        None if one is None else one.total_seconds() for one in table["lasts"][3:]
    ]
    assert all([row[name] for row in stored] == table[name][3:] for name in table if name != "lasts")
    refused = ("who", "tweet") if maker.kind == "qdrant" else ()
    sizes = set()
    for _ in range(FILTERS):
        text, fits = random_filter(draw, table, refused)
        expected = {ids[row] for row in range(3, ROWS) if fits(row)}
        assert {hit.id for hit in index.search(torch.ones(12), "image", ROWS, text)[0]} == expected, text
        tree = parse_condition(text)
        assert parse_condition(str(tree)) == tree
        sizes.add(len(expected))
    assert len(sizes) > 20  # neither all nor nothing
