"""The temperature of a model's loss, which is no part of the model, from the record of its training."""

import json
from pathlib import Path

_LAST = 1 << 16  # bytes of the log that are looked at


def logged_temperature(model: Path | str) -> float | None:
    """What the cosines were divided by at the end of a training; None if no record of it lies by the model.

    Args:
        model: a run folder, or its `best` or `last`.

    >>> logged_temperature("no/such/run") is None
    True
    """
    for folder in (Path(model), Path(model).parent):
        file = folder / "log.jsonl"
        try:
            with file.open("rb") as log:
                log.seek(max(0, file.stat().st_size - _LAST))
                lines = log.read().splitlines()
        except OSError:  # a model of the hub, or one that was saved without its record
            continue
        for line in reversed(lines):
            if (found := _temperature(line)) is not None:
                return found
    return None


def _temperature(line: bytes) -> float | None:
    try:
        found = json.loads(line)["metrics"]["temperature"]
    except (ValueError, KeyError, TypeError):  # the first line may be cut, and others are no steps
        return None
    return float(found) if isinstance(found, int | float) and 0 < found < float("inf") else None
