"""What a table holds that confu has never seen: roles, modalities, and what to look at. No torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from confu.checks import check_known
from confu.data.manifest import (
    PANDAS_MISSING,
    ROLES,
    ColumnGuess,
    ColumnRole,
    Manifest,
    TableOptions,
    find_roles,
    guess_column,
    read_manifest,
    why_no_modality,
)
from confu.data.manifest.cells import joined_name
from confu.data.media import FILE_KINDS, kind_of_name
from confu.runs.columns import (
    constant_features,
    modality_name,
    read_sources,
    readable_sources,
    some_numbers,
    spread,
)

_REPEATED = 0.5  # with fewer distinct texts than this share of the rows, texts are captions that repeat
_SEEN_ONCE = 0.9  # with more classes than this share that have one row, labels are hardly classes
LOOKED_AT = 1000
"""Rows of vectors and sequences that are looked at."""


def read_with_roles(
    address: str | Path,
    given: Mapping[str, str] | None = None,
    missing: Sequence[str] | None = None,
    label_separator: str | None = None,
    allow_outside: bool = False,
) -> tuple[Manifest, dict[str, ColumnRole]]:
    """The table as a run file will have it read, and the columns that have a role in it; see `InitOptions`."""
    given, missing = given or {}, PANDAS_MISSING if missing is None else tuple(missing)
    named = {role: given.get(role, role) or None for role in ROLES}
    table = read_manifest(address, allow_outside, TableOptions(named, missing, label_separator))
    roles = find_roles(table, given)
    columns = {role: roles[role].column if role in roles else None for role in ROLES}
    if all(columns[role] == table.role_column(role) for role in ROLES):
        return table, roles
    return read_manifest(address, allow_outside, TableOptions(columns, missing, label_separator)), roles


def guess_modalities(
    table: Manifest, columns: Sequence[str] | None = None
) -> tuple[dict[str, ColumnGuess], dict[str, str]]:
    """The columns that can be modalities, by modality name, and why the others are not used.

    Without `columns` a category, codes and row numbers are none, see `why_no_modality`, and several columns of numbers
    are one table.
    """
    tables: dict[str, ColumnGuess] = {}
    for column in columns or ():
        name, sign, joined = column.partition("=")
        parts = joined.split("+") if sign else [column]
        for part in parts:
            check_known(f"{table.address}: column", part, table.table.column_names)
        if sign:
            tables[name] = _table_guess(table, parts)
    in_tables = {part for guess in tables.values() for part in guess.column.split("+")}
    candidates = dict.fromkeys([*table.columns, *(column for column in columns or () if "=" not in column)])
    names = [name for name in candidates if name not in in_tables]
    unused: dict[str, str] = {}
    guesses: dict[str, ColumnGuess] = {}
    for column in names:
        guess = guess_column(table, column)
        if isinstance(guess, str):
            unused[column] = guess
        elif columns and column not in columns:
            unused[column] = "not among those that were asked for"
        elif guess.filled < 2:
            unused[column] = "one cell is filled" if guess.filled else "every cell is empty"
        elif not columns and guess.kind in ("text", "number") and (why := why_no_modality(table, column)) is not None:
            unused[column] = why
        else:
            guesses[modality_name(column, list(guesses))] = guess
    numbers = [name for name, guess in guesses.items() if guess.kind == "number" and "+" not in guess.column]
    if not columns and 1 < len(numbers) < len(guesses):  # alone they would have nothing to be aligned with
        parts = [guesses.pop(name).column for name in numbers]
        tables[modality_name("numbers", list(guesses))] = _table_guess(table, parts)
    return {**guesses, **tables}, unused


def _table_guess(table: Manifest, columns: Sequence[str]) -> ColumnGuess:
    name = joined_name(columns)
    why = f"the columns {', '.join(columns)} together"
    return ColumnGuess(name, "table", why, None, int(table.present(name).sum()))


def table_notes(table: Manifest, guesses: Mapping[str, ColumnGuess]) -> list[str]:
    """What to look at: cells taken as missing, labels that are hardly classes, texts that repeat, constant features."""
    emptied = [
        f"{count:,} cells of {column!r} say {text!r}, and are missing."
        for (column, text), count in table.emptied.items()
    ]
    notes = [*emptied, *_label_notes(table), *_repeated_texts(table, guesses), *_constant_notes(table, guesses)]
    for guess in guesses.values():
        rows = spread(np.flatnonzero(table.present(guess.column)).tolist(), LOOKED_AT)
        if guess.kind in FILE_KINDS and (problems := read_sources(table, guess.column, guess.kind, rows)[1]):
            notes.append(
                f"{len(problems):,} of {len(rows):,} cells of {guess.column!r} that were looked at are no files that "
                f"may be read, such as {problems[0].source!r}: {problems[0].what}."
            )
    if files := [name for name in table.table.column_names if kind_of_name(name) in FILE_KINDS]:
        notes.append(
            f"The column {files[0]!r} is named as a file is: is the first line of the table a row, and no header? "
            "Write one above it, with a name for each column."
        )
    return notes


def _label_notes(table: Manifest) -> list[str]:
    """Notes on labels that can hardly be classes."""
    if table.label_sets is None:
        return []
    column, counts = table.role_column("label"), Counter(label for row in table.label_sets for label in row)
    if not counts:
        return [f"Every label in {column!r} is missing: the report will have no classes."]
    if len(counts) == 1:
        return [f"Every label in {column!r} is {next(iter(counts))!r}: with one class nothing is classified."]
    once = sum(count == 1 for count in counts.values())
    if once < _SEEN_ONCE * len(counts):
        return []
    return [
        f"{once:,} of {len(counts):,} classes in {column!r} have one row, which is not both in training and in test. "
        "Does the column name the rows? --label COLUMN chooses another column."
    ]


def _repeated_texts(table: Manifest, guesses: Mapping[str, ColumnGuess]) -> list[str]:
    """Notes on the texts that stand in many rows."""
    notes = []
    for guess in guesses.values():
        if guess.kind == "text":
            distinct = len(set(readable_sources(table, guess.column, "text", range(len(table)))))
            if distinct < _REPEATED * guess.filled:
                notes.append(
                    f"Only {distinct:,} of {guess.filled:,} texts in {guess.column!r} differ: rows with the same one "
                    "are right answers of one another (loss.equal_inputs)."
                )
    return notes


def _constant_notes(table: Manifest, guesses: Mapping[str, ColumnGuess]) -> list[str]:
    notes = []
    for name, guess in guesses.items():
        if guess.kind not in ("vector", "sequence"):
            continue
        rows = spread(np.flatnonzero(table.present(guess.column)).tolist(), LOOKED_AT)
        if constant := constant_features(readable_sources(table, guess.column, guess.kind, rows)):
            notes.append(
                f"{name}: {len(constant)} of {guess.dim} features have one value in all of the {len(rows):,} rows that "
                f"were looked at, and tell nothing: {some_numbers(constant)} (counted from 0)."
            )
    return notes
