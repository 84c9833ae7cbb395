"""A look at some cells of a column: how large the pictures are, how long the sounds, so that a reader fits them."""

import io
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import fsspec
import soundfile
from PIL import Image

from confu.data.readers import words_reader_from_texts
from confu.data.readers.source import array_of

_LOOKS = 24  # files opened a column; a proposal needs no more


def spread(items: Sequence[Any], count: int = _LOOKS) -> list[Any]:
    """Up to so many items, evenly over the whole.

    >>> spread(list(range(100)), 4)
    [0, 33, 66, 99]
    """
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def image_facts(sources: Iterable[Any]) -> list[tuple[int, int, bool]]:
    """(width, height, whether in colour) of pictures, from their headers; those that cannot be opened are left out."""
    found = []
    for source in sources:
        try:
            with _opened(source) as file, Image.open(file) as image:
                found.append((*image.size, image.mode not in ("1", "L", "LA", "I", "I;16", "F")))
        except Exception:  # each library has its own errors; a broken file is for the check to tell of
            continue
    return found


def sound_facts(sources: Iterable[Any]) -> list[tuple[int, float]]:
    """(rate in Hz, seconds) of sounds, from their headers; those that cannot be opened are left out."""
    found = []
    for source in sources:
        try:
            with _opened(source) as file:
                info = soundfile.info(file)
        except Exception:
            continue
        if info.samplerate > 0 and info.frames > 0:
            found.append((int(info.samplerate), info.frames / info.samplerate))
    return found


def image_reader(facts: Sequence[tuple[int, int, bool]]) -> dict[str, Any]:
    """Settings that fit most of the pictures: their size up to 64 pixels, grey if all are grey.

    >>> image_reader([(28, 28, False), (28, 28, False)])
    {'kind': 'image', 'size': 28, 'channels': 1, 'mean': 0.5, 'std': 0.5}
    """
    sides = sorted(min(width, height) for width, height, _ in facts) or [64]
    size = max(8, min(64, sides[len(sides) // 2]))
    colour = any(colour for *_, colour in facts) or not facts
    return {"kind": "image", "size": size, "channels": 3 if colour else 1, "mean": 0.5, "std": 0.5}


def mel_reader(facts: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Settings that fit most of the sounds: their rate up to 22,050 Hz, nearly the longest length up to 10 seconds.

    >>> mel_reader([(8000, 0.4), (8000, 0.62)])
    {'kind': 'mel', 'rate': 8000, 'seconds': 0.7, 'mels': 64, 'window': 512, 'hop': 128}
    """
    if not facts:
        return {"kind": "mel", "rate": 22050, "seconds": 10.0, "mels": 128, "window": 1024, "hop": 512}
    rate = min(22050, Counter(rate for rate, _ in facts).most_common(1)[0][0])
    lengths = sorted(seconds for _, seconds in facts)
    longest = lengths[round(0.95 * (len(lengths) - 1))]
    seconds = min(10.0, max(0.2, (int(longest * 10) + 1) / 10 if longest < 2 else float(int(longest) + 1)))
    high = rate >= 16000
    window = 1024 if high else 512
    # Short sounds need finer frames: at least about 32 of them.
    hop = next((hop for hop in (window // 2, window // 4) if seconds * rate / hop >= 32), window // 4)
    return {"kind": "mel", "rate": rate, "seconds": seconds, "mels": 128 if high else 64, "window": window, "hop": hop}


def proposed_reader(kind: str, sources: Sequence[Any]) -> dict[str, Any]:
    """The settings of a reader that fits these sources."""
    if kind == "image":
        return image_reader(image_facts(spread(sources)))
    if kind == "audio":
        return mel_reader(sound_facts(spread(sources)))
    if kind == "video":
        return {"kind": "video", "frames": 8, "size": 64, "channels": 3, "mean": 0.5, "std": 0.5}
    if kind == "text":
        return words_reader_from_texts(map(str, sources)).settings
    if kind == "number":
        numbers = [float(one) for one in sources]
        return {"kind": "number", "mean": statistics.fmean(numbers), "std": statistics.pstdev(numbers) or 1.0}
    return {"kind": kind, "dim": common_width(sources)}


def common_width(sources: Sequence[Any]) -> int:
    """How many numbers most vectors have, or most steps of sequences.

    Raises:
        ValueError: if none can be read.
    """
    widths: Counter[int] = Counter()
    for source in spread(sources, 200):
        try:
            shape = array_of(source).shape
        except ValueError:
            continue
        widths[shape[-1] if shape else 1] += 1
    if not widths:
        raise ValueError("none of its cells can be read as numbers; `confu check` says why")
    return widths.most_common(1)[0][0]


def _opened(source: Any) -> Any:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return fsspec.open(str(source), "rb")
