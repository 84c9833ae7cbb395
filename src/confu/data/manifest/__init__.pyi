from .checking import WHOLE_COLUMN, Problem, check_labels, check_manifest, described
from .guess import ColumnGuess, guess_column, guess_columns
from .manifest import KINDS, PANDAS_MISSING, ROLES, Manifest, TableOptions
from .reading import read_manifest
from .roles import ColumnRole, find_roles, why_no_modality
from .splitting import assign_splits, split_rows

__all__ = [
    "KINDS",
    "PANDAS_MISSING",
    "ROLES",
    "WHOLE_COLUMN",
    "ColumnGuess",
    "ColumnRole",
    "Manifest",
    "Problem",
    "TableOptions",
    "assign_splits",
    "check_labels",
    "check_manifest",
    "described",
    "find_roles",
    "guess_column",
    "guess_columns",
    "read_manifest",
    "split_rows",
    "why_no_modality",
]
