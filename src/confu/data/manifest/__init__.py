"""Manifests: a table of samples as people keep it, with gaps, read and checked before anything is trained on it."""

from confu.data.manifest.checking import check_manifest
from confu.data.manifest.guess import ColumnGuess, guess_columns, unread_columns
from confu.data.manifest.kinds import KINDS, ROLES
from confu.data.manifest.labels import check_labels
from confu.data.manifest.manifest import Manifest
from confu.data.manifest.problem import WHOLE_COLUMN, Problem
from confu.data.manifest.reading import read_manifest
from confu.data.manifest.splitting import split_rows

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
