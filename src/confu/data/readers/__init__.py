"""Readers: from what a cell of a table holds to the numbers of an encoder.

A reader is rebuilt from its `settings` on any machine, so that a trained model takes new files as it took those of its
training.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from confu.checks import check_known
from confu.data.readers.audio import MelReader, WaveformReader
from confu.data.readers.image import ImageReader
from confu.data.readers.mfcc import MfccReader
from confu.data.readers.numbers import NumberReader, SequenceReader, VectorReader, number_reader
from confu.data.readers.source import Source
from confu.data.readers.text import TokensReader, WordsReader, tokens_reader, words_reader_from_texts
from confu.data.readers.video import VideoReader

__all__ = [
    "READERS",
    "ImageReader",
    "MelReader",
    "MfccReader",
    "NumberReader",
    "Reader",
    "SequenceReader",
    "Source",
    "TokensReader",
    "VectorReader",
    "VideoReader",
    "WaveformReader",
    "WordsReader",
    "build_reader",
    "number_reader",
    "tokens_reader",
    "words_reader_from_texts",
]


@runtime_checkable
class Reader(Protocol):
    """How one modality is read.

    Attributes:
        settings: JSON-able: "kind", a name in `READERS`, and every argument of its constructor.
        stackable: whether `read` gives one shape for all sources.
        modality_kind: the kind of column that it reads: "image", "audio", "video", "text", "vector", "sequence" or
            "number".
    """

    settings: dict[str, Any]
    stackable: bool
    modality_kind: str

    def read(self, source: Source) -> Tensor | str:
        """One item as it is stored, e.g. pixels as uint8; of a text, the text itself.

        Raises:
            ValueError: naming the source and what is wrong with it.
        """
        ...

    def collate(self, items: Any) -> Tensor | dict[str, Tensor]:
        """What the encoder gets for a sequence of items, or for stackable ones as one tensor. There may be none."""
        ...


READERS: dict[str, type] = {
    "image": ImageReader,
    "mel": MelReader,
    "mfcc": MfccReader,
    "waveform": WaveformReader,
    "video": VideoReader,
    "words": WordsReader,
    "tokens": TokensReader,
    "vector": VectorReader,
    "sequence": SequenceReader,
    "number": NumberReader,
}


def build_reader(settings: Mapping[str, Any]) -> Reader:
    """A reader from its settings.

    >>> build_reader({"kind": "vector", "dim": 5}).settings
    {'kind': 'vector', 'dim': 5}

    Args:
        settings: "kind", a name in `READERS`, and the arguments of that class.

    Raises:
        ValueError: for no kind, an unknown one, or arguments that it lacks or does not know.
    """
    arguments = dict(settings)
    if "kind" not in arguments:
        raise ValueError(f"a reader's settings must name its kind, one of {', '.join(READERS)}; got {arguments}")
    kind = arguments.pop("kind")
    check_known("reader kind", kind, READERS)
    parameters = inspect.signature(READERS[kind]).parameters
    for name in arguments:
        check_known(f"setting of the {kind!r} reader", name, parameters)
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            raise ValueError(f"the {kind!r} reader needs the setting {name!r}; got {dict(settings)}")
    return READERS[kind](**arguments)
