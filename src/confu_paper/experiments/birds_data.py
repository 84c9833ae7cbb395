"""Bird-MML as the bird models are trained on it: parts, readers, cached features, pairing and prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from confu.data import ArrayDataset, CaptionColumn, Column, Splits
from confu.data.readers import Reader, WordsReader, words_reader_from_texts
from confu.nn.encoders import features_fingerprint, frozen_features
from confu_paper.datasets.bird_mml import read_bird_mml
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.decoding import feature_column
from confu_paper.datasets.media import media_dataset
from confu_paper.datasets.paired import paired_by_class
from confu_paper.experiments.birds_parts import PARTS, bird_parts, digest
from confu_paper.experiments.birds_scales import BirdScale, Pairing, new_encoder, reader_for, text_tokenizer

LONGEST_CAPTION = 100  # words; those of Bird-MML have 10 to 20, and a BERT takes 512 tokens
_FEATURE_BATCH = 64


class BirdMML:
    """Bird-MML at a size of the experiments; nothing is read before it is asked for.

    Args:
        folder: or the csv or manifest itself, see `confu_paper.datasets.bird_mml.read_bird_mml`.
        scale: the size.
        cache: a folder for what is decoded and for frozen networks' features.
        limit: training rows at most.
        pairing: of training rows; None is the size's.
        workers: threads that decode.
        progress: whether to draw progress bars.
    """

    def __init__(
        self,
        folder: Path,
        scale: BirdScale,
        cache: Path,
        limit: int | None = None,
        pairing: Pairing | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> None:
        self.folder = folder
        self.scale = scale
        self.cache = cache
        self.limit = limit
        self.pairing: Pairing = scale.pairing if pairing is None else pairing
        self.workers = workers
        self.progress = progress
        self._made: dict[tuple[str, ...], Splits] = {}

    @cached_property
    def rows(self) -> BirdRows:
        """All rows, captions cut to `LONGEST_CAPTION` words."""
        rows = read_bird_mml(self.folder)
        texts = [None if text is None else " ".join(text.split()[:LONGEST_CAPTION]) for text in rows.sources["text"]]
        return replace(rows, sources={**rows.sources, "text": texts})

    @cached_property
    def parts(self) -> dict[str, BirdRows]:
        """The rows by part."""
        return bird_parts(self.rows, self.scale.held_out, self.scale.per_species, self.limit)

    @cached_property
    def words(self) -> WordsReader:
        """The words of the training captions and of the species' names."""
        return words_reader_from_texts([*self.parts["train"].sources["text"], *self.rows.class_names])

    @property
    def identity(self) -> dict[str, Any]:
        """What tells one build of the data from another, without naming the folder that it happens to lie in."""
        return {"rows": len(self.rows), "digest": digest(self.rows)}

    @cached_property
    def readers(self) -> dict[str, Reader]:
        """By modality, how training and evaluation data are read alike."""
        return {name: reader_for(self.scale, name, self.words) for name in ("image", "audio", "text")}

    def encoder(self, modality: str) -> nn.Module:
        """A modality's encoder with the weights that training begins with."""
        return new_encoder(self.scale, modality, len(self.words.vocabulary))

    def splits(self, modalities: Sequence[str]) -> Splits:
        """The three parts with these modalities; of a frozen encoder its features in place of inputs."""
        names = tuple(modalities)
        if names not in self._made:
            readers = {name: self.readers[name] for name in names}
            made = {part: self._dataset(self.parts[part], readers) for part in PARTS}
            train = made["train"]
            if self.pairing == "afresh":
                self._made[names] = Splits(paired_by_class(train, names[0]), made["validation"], made["test"])
            else:
                self._made[names] = Splits(train, made["validation"], made["test"])
        return self._made[names]

    def prompts(self, class_names: Sequence[str]) -> ArrayDataset:
        """The bare names as texts, each the prompt of its class."""
        index = torch.arange(len(class_names))
        column = CaptionColumn(class_names, index, text_tokenizer(self.readers["text"]))
        return ArrayDataset({"text": column}, index, class_names=class_names)

    def _dataset(self, rows: BirdRows, readers: Mapping[str, Reader]) -> ArrayDataset:
        dataset, _ = media_dataset(rows, readers, self.cache, self.workers, self.progress)
        encoders = {name: self.encoder(name) for name in readers}
        columns = with_features(dataset.columns, encoders, self.cache, self.progress)
        return ArrayDataset(columns, dataset.labels, dataset.ids, dataset.class_names)


def is_frozen(encoder: nn.Module) -> bool:
    """Whether an encoder's features may be computed once."""
    return bool(getattr(encoder, "frozen", False)) and getattr(encoder, "feature_dim", None) is not None


def with_features(
    columns: Mapping[str, Column], encoders: Mapping[str, nn.Module], cache: Path, progress: bool
) -> dict[str, Column]:
    """The columns, with features in place of what frozen encoders read; computed once for the same content.

    Args:
        columns: by modality, from the cache or captions.
        encoders: by modality; they stay where and as they are.
        cache: a folder.
        progress: whether to draw a progress bar.
    """
    found = dict(columns)
    for name, column in columns.items():
        if is_frozen(encoders[name]):
            key = features_fingerprint(encoders[name])
            with frozen_features(encoders[name]) as features:
                found[name] = feature_column(column, sources_of(column), features, key, cache, _FEATURE_BATCH, progress)
    return found


def sources_of(column: Column) -> list[str | None]:
    """What tells the rows of a column apart: a key of their content, or their text."""
    if isinstance(column, CaptionColumn):
        return [None if row < 0 else column.captions[row] for row in column.index.tolist()]
    keys: list[str | None] | None = getattr(column, "keys", None)
    assert keys is not None, "only columns from the cache know what their rows are made of"
    return list(keys)
