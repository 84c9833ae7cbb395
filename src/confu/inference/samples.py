"""Made-up sources of any kind, to run a model when there are no data at hand."""

from typing import Any

import numpy as np

from confu.data.readers import Reader

_WORDS = "one two three four five six seven eight nine ten"


def sample_sources(reader: Reader, number: int, length: int, seed: int = 0) -> list[Any]:
    """Sources that a reader takes, the same for the same seed.

    Args:
        reader: any of confu's.
        number: how many.
        length: words, steps or tenths of a second of the longest, for kinds whose items differ in length; 1 to 10.
        seed: of the noise.

    Raises:
        ValueError: for a reader of an unknown kind.

    >>> from confu.data.readers import build_reader
    >>> sample_sources(build_reader({"kind": "words", "vocabulary": ["one"]}), number=2, length=3)
    ['one two three', 'one two']
    """
    draw, settings = np.random.default_rng(seed), reader.settings
    return [_sample(reader.modality_kind, settings, draw, max(1, length - item)) for item in range(number)]


def _sample(kind: str, settings: dict[str, Any], draw: np.random.Generator, length: int) -> Any:
    if kind == "image":
        return draw.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    if kind == "video":
        return draw.integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    if kind == "audio":
        rate = settings["rate"]
        return draw.uniform(-0.5, 0.5, int(rate * (0.4 + 0.1 * length))).astype(np.float32), rate
    if kind == "text":
        return " ".join(_WORDS.split()[:length])
    if kind == "vector":
        return draw.normal(size=settings["dim"]).astype(np.float32)
    if kind == "sequence":
        return draw.normal(size=(length, settings["dim"])).astype(np.float32)
    if kind == "number":
        return float(draw.normal())
    raise ValueError(f"there is no made-up source for a reader of the kind {kind!r}; give `samples`")
