"""The reader and the encoder of each modality: what the run file says, completed by what the data hold."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from confu.checks import check_known
from confu.data.manifest import Manifest
from confu.data.readers import Reader, WordsReader, build_reader, table_settings, train_tokens_reader
from confu.data.readers.scaling import scaling_of
from confu.data.readers.text import limit_lengths
from confu.nn.encoders import build_encoder, encoder_for, encoder_row, input_sizes
from confu.nn.encoders.wrappers import ListEncoder
from confu.runs.columns import proposed_reader, read_sources, readable_sources, spread
from confu.runs.run_file import ModalitySettings, RunFile
from confu.runs.start import Start

Example = Tensor | dict[str, Tensor]
_MIN_TOKENS = 64  # a text in use may be longer than those of the training
_MOST_WORDS = 512  # the memory of attention grows as the square of a text's length
_DEFAULT_READERS = {"audio": "mel", "text": "words"}  # of other kinds the reader has the kind's name


def build_inputs(
    run: RunFile,
    manifest: Manifest,
    rows: Sequence[int],
    readers: Mapping[str, Reader] | None = None,
    start: Start | None = None,
) -> tuple[dict[str, Reader], dict[str, nn.Module]]:
    """The reader and the encoder of each modality, the weights drawn from torch's random state.

    Args:
        run: checked.
        manifest: of the run.
        rows: to learn sizes, vocabularies and means from: the training rows.
        readers: of an earlier start of the same run; they are taken as they are.
        start: the model whose readers are taken, and the sizes of its encoders that depend on data.

    Raises:
        ValueError: naming the modality.
    """
    built: dict[str, Reader] = {}
    encoders: dict[str, nn.Module] = {}
    for name, modality in run.modalities.items():
        try:
            sources = readable_sources(manifest, modality.column, modality.kind, rows)
            if not sources:
                problems = read_sources(manifest, modality.column, modality.kind, rows)[1]
                empty = f"no training row has anything in the column {modality.column!r}"
                raise ValueError(f"none of its cells can be read: {problems[0]}" if problems else empty)
            stored = readers or (None if start is None else start.readers)
            fixed = (None if start is None else start.encoders[name]) or {}
            fixed = fixed["encoder"] or {} if fixed.get("kind") == "list" else fixed
            reader = None if stored is None else stored[name]
            built[name], encoders[name] = _build_pair(modality, run.model.dim, manifest, sources, reader, fixed)
        except ValueError as error:
            raise ValueError(f"modalities.{name}: {error}") from error
    return built, encoders


def _build_pair(
    modality: ModalitySettings,
    dim: int,
    manifest: Manifest,
    sources: Sequence[Any],
    stored: Reader | None,
    fixed: Mapping[str, Any],
) -> tuple[Reader, nn.Module]:
    settings = encoder_settings(modality, dim)
    # An encoder that is made for inputs of a size: the reader comes first and says it.
    takes_sizes = encoder_row(settings["kind"]).sized_by is not None
    sized = takes_sizes and not settings.get("pretrained")
    if takes_sizes and not sized and modality.reader is None:
        raise ValueError(
            "its pretrained weights do not say how inputs are read; add a reader, or take the kind 'transformers', "
            "which knows it"
        )
    encoder = None if sized else build_encoder(settings)
    reader = stored or build_reader(_reader_settings(modality, getattr(encoder, "reader", None), sources))
    tried, scaling = reader, scaling_of(reader)
    if scaling is not None and scaling.unfitted:
        if getattr(encoder, "reader", None) is not None or getattr(encoder, "frozen", False):
            raise ValueError("reader.scale: its encoder is pretrained with a normalisation of its own; remove scale")
        # The statistics come from the items, which are read after all networks fit.
        tried = build_reader({**reader.settings, **scaling.as_if_fitted()})
    if reader.modality_kind != modality.kind:
        raise ValueError(f"its reader {reader.settings['kind']!r} reads {reader.modality_kind}, not {modality.kind}")
    example = _example(tried, sources)
    several = reader.settings.get("list") == "mean"
    if encoder is None:
        one = example["values"].flatten(0, 1) if several and isinstance(example, dict) else example
        sizes = input_sizes(settings, one, getattr(reader, "vocab_size", None))
        if settings["kind"] == "tokens":  # of all rows: validation and test are encoded too
            texts = readable_sources(manifest, modality.column, modality.kind, range(len(manifest)))
            longest = _longest_text(reader, texts)
            if isinstance(reader, WordsReader) and stored is None:
                longest = min(longest, _MOST_WORDS)
            sizes["max_length"] = max(_MIN_TOKENS, longest)
        sizes = {name: fixed.get(name, size) for name, size in sizes.items()}
        # Sizes that the user wrote are kept; those of a short name are a guess.
        named = isinstance(modality.encoder, str) or "name" in modality.encoder
        encoder = build_encoder({**settings, **sizes} if named else {**sizes, **settings})
    encoder = ListEncoder(encoder) if several else encoder
    if reader.modality_kind == "text":
        limit_lengths({"": reader}, {"": encoder})
        example = _example(reader, sources)
    _try_encoder(encoder, reader, example)
    return reader, encoder


def encoder_settings(modality: ModalitySettings, dim: int) -> dict[str, Any]:
    """The settings that an encoder is built from, as far as they do not depend on the data.

    Raises:
        ValueError: for an unknown name, or one that does not fit the kind.
    """
    given = modality.encoder
    if isinstance(given, str):
        return encoder_for(given, modality.kind, dim)
    if "name" not in given:
        return dict(given)
    rest = {key: value for key, value in given.items() if key != "name"}
    return {**encoder_for(given["name"], modality.kind, dim), **rest}


def _reader_settings(
    modality: ModalitySettings, own: Mapping[str, Any] | None, sources: Sequence[Any]
) -> dict[str, Any]:
    """What the run file says, on top of what the encoder was trained with, or of what fits the data."""
    given = modality.reader or {}
    if own is not None and given.get("kind", own["kind"]) == own["kind"]:
        return {**own, **given}
    if given.get("kind") == "tokens" and "tokenizer" not in given:  # learned from the training texts
        options = {key: value for key, value in given.items() if key != "kind"}
        for key in options:
            check_known("setting of the 'tokens' reader", key, inspect.signature(train_tokens_reader).parameters)
        return train_tokens_reader(map(str, sources), **options).settings
    if modality.kind == "table" and given.get("kind", "table") == "table":
        clip = {"clip": given["clip"]} if "clip" in given else {}
        for name in given:
            check_known("reader", name, ("kind", "columns", "clip"))
        return {"kind": "table", **table_settings(sources, given.get("columns"), **clip)}
    default = _DEFAULT_READERS.get(modality.kind, modality.kind)
    proposed = proposed_reader(modality.kind, sources) if given.get("kind", default) == default else {}
    return {**proposed, **given}


def _example(reader: Reader, sources: Sequence[Any]) -> Example:
    """What the encoder gets for two sources that can be read."""
    items, why = [], ""
    for source in spread(sources, 100):
        try:
            items.append(reader.read(source))
        except ValueError as error:
            why = str(error)
        if len(items) == 2:
            break
    if not items:
        raise ValueError(f"none of its cells can be read: {why}")
    return reader.collate([items[0], items[-1]])


def _longest_text(reader: Reader, texts: Sequence[Any]) -> int:
    longest = 0
    for text in set(texts):
        try:
            tokens: Any = reader.collate([reader.read(text)])
        except ValueError:  # listed when all rows are read
            continue
        longest = max(longest, tokens["input_ids"].shape[1])
    return longest


def _try_encoder(encoder: nn.Module, reader: Reader, example: Example) -> None:
    """Run the encoder once, so that parts that do not fit are an error here and not after hours of decoding."""
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(**example) if isinstance(example, dict) else encoder.eval()(example)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"{type(encoder).__name__} cannot read what its reader {reader.settings['kind']!r} gives: {error}"
        ) from error
    finally:
        encoder.train(training)
