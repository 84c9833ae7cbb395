"""What a reader is, and the readers by name.

A reader is rebuilt from its `settings` on any machine, so that a trained model takes new files as it took those of its
training.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from confu.checks import check_known
from confu.data.media import FILE_KINDS
from confu.data.readers.source import Source

READERS = {
    "image": "image.ImageReader",
    "mel": "audio.MelReader",
    "mfcc": "mfcc.MfccReader",
    "waveform": "audio.WaveformReader",
    "video": "video.VideoReader",
    "words": "text.WordsReader",
    "tokens": "text.TokensReader",
    "vector": "numbers.VectorReader",
    "sequence": "numbers.SequenceReader",
    "number": "numbers.NumberReader",
    "table": "table.TableReader",
}
"""Each kind of reader with its module here and its class; loaded when it is built."""


@runtime_checkable
class Reader(Protocol):
    """How one modality is read."""

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-able: "kind", a name in `READERS`, and every argument of its constructor."""
        ...

    @property
    def stackable(self) -> bool:
        """Whether `read` gives one shape for all sources."""
        ...

    @property
    def modality_kind(self) -> str:
        """The kind of column that it reads, one of `KINDS`."""
        ...

    def read(self, source: Source, /) -> Any:
        """One item as a tensor, as it is stored, e.g. pixels as uint8; of a text, the text itself.

        Raises:
            ValueError: naming the source and what is wrong with it.
        """
        ...

    def collate(self, items: Any, /) -> Any:
        """The tensor, or dict of tensors, that the encoder gets for a sequence of items, which may be empty.

        Stackable items may come as one tensor.
        """
        ...


def build_reader(settings: Mapping[str, Any]) -> Reader:
    """A reader from its settings.

    >>> build_reader({"kind": "vector", "dim": 5}).settings
    {'kind': 'vector', 'dim': 5}

    Args:
        settings: "kind", a name in `READERS`, and the arguments of that class; of readers of files also "list", "first"
            or "mean", for cells that hold several (see `ListReader`).

    Raises:
        ValueError: for no kind, an unknown one, or arguments that it lacks or does not know.
    """
    arguments = dict(settings)
    if "kind" not in arguments:
        raise ValueError(f"a reader's settings must name its kind, one of {', '.join(READERS)}; got {arguments}")
    kind, use = arguments.pop("kind"), arguments.pop("list", None)
    check_known("reader kind", kind, READERS)
    module, name = READERS[kind].split(".")
    reader = getattr(import_module(f"confu.data.readers.{module}"), name)
    parameters = inspect.signature(reader).parameters
    for argument in arguments:
        check_known(f"setting of the {kind!r} reader", argument, parameters)
    for argument, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and argument not in arguments:
            raise ValueError(f"the {kind!r} reader needs the setting {argument!r}; got {dict(settings)}")
    if use is None:
        return reader(**arguments)
    from confu.data.readers.several import ListReader

    return ListReader(reader(**arguments), use)


def reading_settings(reader: Reader) -> dict[str, Any]:
    """The settings that decide what `read` gives: those of the scaling are applied to batches, by `collate`.

    >>> reading_settings(build_reader({"kind": "vector", "dim": 2, "scale": "standard", "clip": 5}))
    {'kind': 'vector', 'dim': 2}
    """
    own = getattr(reader, "reading_settings", None)
    return own or {name: value for name, value in reader.settings.items() if name not in ("scale", "clip")}


def read_checked(reader: Reader, source: Source) -> Any:
    """What a reader makes of a source, if an encoder can take it.

    Raises:
        ValueError: as `read`; or for an empty text, one that the tokenizer cannot take, no numbers, NaN or infinity.
    """
    if isinstance(source, list) and reader.modality_kind in FILE_KINDS and "list" not in reader.settings:
        raise ValueError(
            f"holds a list of {len(source)} files; in the run file, reader: {{list: first}} takes the first of each "
            "list, and {list: mean} the mean of the features of all"
        )
    item = reader.read(source)
    if isinstance(item, str):
        if not item.strip():
            raise ValueError("holds an empty text; leave the cell empty if the text is missing")
        reader.collate([item])  # a text may hold nothing that the tokenizer knows
        return item
    if not item.numel():
        raise ValueError(f"holds no number: its shape is {tuple(item.shape)}; leave the cell empty if it is missing")
    finite = ~item.isinf() if getattr(reader, "reads_nan", False) else item.isfinite()
    if item.is_floating_point() and not bool(finite.all()):
        raise ValueError(f"holds NaN or infinity ({int((~finite).sum())} of {item.numel()}); repair it")
    return item
