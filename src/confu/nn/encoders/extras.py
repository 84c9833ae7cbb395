"""Packages that only some encoders need: imported when one is built and not before."""

import importlib
from typing import Any


def import_extra(package: str, what: str, extra: str) -> Any:
    """A package of one of confu's extras.

    Args:
        package: to import.
        what: needs it, for the error, e.g. "the 'bert' encoder".
        extra: that brings it.

    Raises:
        ImportError: with the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(
            f'{what} needs {package}, which is not installed: pip install "contrastive-fusion[{extra}]"'
        ) from error
