from .checking import check_manifest
from .guess import ColumnGuess, guess_columns, unread_columns
from .kinds import KINDS, ROLES
from .labels import check_labels
from .manifest import Manifest
from .problem import WHOLE_COLUMN, Problem
from .reading import read_manifest
from .splitting import split_rows

__all__ = [
    "KINDS",
    "ROLES",
    "WHOLE_COLUMN",
    "ColumnGuess",
    "Manifest",
    "Problem",
    "check_labels",
    "check_manifest",
    "guess_columns",
    "read_manifest",
    "split_rows",
    "unread_columns",
]
