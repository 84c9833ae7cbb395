from .checking import WHOLE_COLUMN, Problem, check_labels, check_manifest, described
from .guess import ColumnGuess, guess_columns, unread_columns
from .manifest import KINDS, ROLES, Manifest, split_rows
from .reading import read_manifest

__all__ = [
    "KINDS",
    "ROLES",
    "WHOLE_COLUMN",
    "ColumnGuess",
    "Manifest",
    "Problem",
    "check_labels",
    "check_manifest",
    "described",
    "guess_columns",
    "read_manifest",
    "split_rows",
    "unread_columns",
]
