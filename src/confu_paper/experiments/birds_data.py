"""Bird-MML as the bird models are trained on it: sizes, parts, readers, cached features, pairing and prompts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from confu.data import ArrayDataset, CaptionColumn, Splits
from confu.data.readers import Reader, WordsReader, build_reader, words_reader_from_texts
from confu.data.readers.text import Tokenizer
from confu.nn.encoders import build_encoder, encoder_for
from confu.training import TrainSettings
from confu_paper.datasets.bird_mml import read_bird_mml
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.media import media_dataset, paired_by_class, with_features

Pairing = Literal["afresh", "fixed"]
NAMES = ("image", "audio", "text")


@dataclass(frozen=True)
class BirdScale:
    """A size of the experiments.

    Attributes:
        encoders: of each modality, settings of `confu.nn.encoders.build_encoder`, or a `name` of `encoder_for`. A text
            encoder of our own kinds gets its `vocab_size` from the captions.
        readers: of each modality, settings of `confu.data.readers.build_reader`. A modality that is not there is read
            as its pretrained encoder says, texts otherwise by whole words.
        train: epochs, batch size, learning rate and precision.
        dim: size of the common space.
        learned_temperature: learn it from 0.07, or keep it there.
        held_out: rows of each species for validation, and as many again for Bird-MML's own test rows.
        per_species: training rows of each species at most; None for all.
        clips: evaluated rows of each species at most; None for all.
        pairing: of the modalities of training rows: "afresh" by species in every batch, or "fixed" as listed.
    """

    encoders: Mapping[str, Mapping[str, Any]]
    readers: Mapping[str, Mapping[str, Any]]
    train: TrainSettings
    dim: int = 256
    learned_temperature: bool = False
    held_out: int = 10
    per_species: int | None = None
    clips: int | None = None
    pairing: Pairing = "afresh"


# A.1, with the band of the released code, which the paper does not state.
PAPER_MEL: dict[str, Any] = {
    "kind": "mel",
    "rate": 22_050,
    "seconds": 10.0,
    "mels": 128,
    "window": 1024,
    "hop": 512,
    "low": 500.0,
    "high": 10_000.0,
}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

SCALES: dict[str, BirdScale] = {
    # A minute or two: does everything run? The numbers mean little.
    "smoke": BirdScale(
        encoders={
            "image": {"kind": "conv", "in_channels": 3, "channels": [16, 32, 64], "out_dim": 64},
            "audio": {"kind": "conv", "in_channels": 1, "channels": [16, 32, 64], "out_dim": 64},
            "text": {"kind": "tokens", "width": 64, "layers": 1, "out_dim": 64},
        },
        readers={
            "image": {"kind": "image", "size": 32},
            "audio": {**PAPER_MEL, "mels": 32, "hop": 2048},
        },
        train=TrainSettings(epochs=2, lr=2e-3, batch_size=32),
        dim=64,
        held_out=2,
        per_species=16,
        clips=4,
    ),
    # Hours on two cores: pretrained networks for photos and captions, frozen, so that their features are computed once.
    "small": BirdScale(
        encoders={
            "image": {"kind": "efficientnet-lite0", "tune": "frozen", "pretrained": True, "size": 160, "out_dim": 256},
            "audio": {
                "kind": "conv",
                "in_channels": 1,
                "channels": [32, 64, 128, 256],
                "out_dim": 256,
                "first_pool": 2,
                "first_kernel": 5,
                "pooling": "max-time",
                "height": 64,
                "feature_norm": True,
                "dropout": 0.2,
            },
            "text": {"name": "minilm", "out_dim": 256},
        },
        readers={"audio": {**PAPER_MEL, "mels": 64, "hop": 1024}},
        train=TrainSettings(epochs=10, lr=1e-3, batch_size=64, warmup_steps=100),
        held_out=4,
        per_species=200,
    ),
    # Appendix A.1; the number of epochs is that of the released code, which takes the last one.
    "paper": BirdScale(
        encoders={
            "image": {"kind": "resnet", "pretrained": "microsoft/resnet-50", "in_channels": 3, "out_dim": 512},
            "audio": {"kind": "resnet", "pretrained": "microsoft/resnet-50", "in_channels": 1, "out_dim": 512},
            "text": {"kind": "bert", "hidden_size": 384, "layers": 6, "heads": 12, "out_dim": 512},
        },
        readers={"image": {"kind": "image", "size": 224, "resize": "stretch", **IMAGENET}, "audio": PAPER_MEL},
        train=TrainSettings(epochs=100, lr=1e-4, batch_size=64, weight_decay=1e-4),
        dim=512,
    ),
}


PARTS = ("train", "validation", "test")
MOST_LOST = 0.2


def bird_parts(
    rows: BirdRows, held_out: int, per_species: int | None = None, limit: int | None = None
) -> dict[str, BirdRows]:
    """The rows in three parts, decided by their ids alone.

    No photo of a held-out row is in another part. Neither is a sound, unless a fifth of a species' rows would be lost
    to training by it, where recordings are used again and again. If the file says itself which rows are for validation
    and test, that is kept.

    Args:
        rows: all.
        held_out: rows of each species for validation, and as many for test; at most a quarter of it each.
        per_species: training rows of each species at most.
        limit: training rows at most, as many of each species as there are.

    Returns:
        by "train", "validation" and "test".

    Raises:
        ValueError: if no row is left to learn from, or none to validate or test on.
    """
    chosen: dict[str, list[int]] = {part: [] for part in PARTS}
    if {"validation", "test"} <= set(rows.splits):
        for row, split in enumerate(rows.splits):
            if split in chosen:
                chosen[split].append(row)
    else:
        for of_class in _by_class(rows):
            for part, of_part in _divided(rows, of_class, held_out).items():
                chosen[part] += of_part
    for part in PARTS:
        if not chosen[part]:
            raise ValueError(
                f"{len(rows)} rows leave none for {part}: a species needs at least 4 rows with different photos"
            )
    ranked = [
        (rank, _draw(rows.ids[row]), row)
        for of_class in _by_class(rows, chosen["train"])
        for rank, row in enumerate(sorted(of_class, key=lambda row: _draw(rows.ids[row])))
        if per_species is None or rank < per_species
    ]
    chosen["train"] = sorted(row for *_, row in sorted(ranked)[:limit])
    return {part: rows.select(of_part) for part, of_part in chosen.items()}


def evenly(rows: BirdRows, per_class: int | None) -> BirdRows:
    """So many rows of each class at most, decided by their ids alone, in their order; all for None."""
    if per_class is None:
        return rows
    kept = [sorted(of_class, key=lambda row: _draw(rows.ids[row]))[:per_class] for of_class in _by_class(rows)]
    return rows.select(sorted(row for of_class in kept for row in of_class))


def digest(rows: BirdRows) -> str:
    """What tells one listing from another: ids, classes and texts, not where the files lie."""
    hashed = hashlib.sha256()
    texts = rows.sources.get("text", [None] * len(rows))
    for row, label, text in zip(rows.ids, rows.labels.tolist(), texts):
        hashed.update(f"{row}\0{label}\0{text}\n".encode())
    hashed.update("\n".join(rows.class_names).encode())
    return hashed.hexdigest()[:16]


def _by_class(rows: BirdRows, among: Sequence[int] | None = None) -> list[list[int]]:
    by_label: dict[int, list[int]] = {}
    labels = rows.labels.tolist()
    for row in range(len(rows)) if among is None else among:
        by_label.setdefault(labels[row], []).append(row)
    return [by_label[label] for label in sorted(by_label)]


def _divided(rows: BirdRows, of_class: list[int], held_out: int) -> dict[str, list[int]]:
    """The rows of one species by part. Rows of one sound are together, so that few sounds are held out."""
    number = min(held_out, len(of_class) // 4)
    order = sorted(of_class, key=lambda row: (_draw(str(rows.sources["audio"][row])), _draw(rows.ids[row])))
    for apart in (("image", "audio"), ("image",)):
        files = {row: {rows.sources[name][row] for name in apart} - {None} for row in order}
        validation, used = order[:number], set().union(*(files[row] for row in order[:number]))
        test = [row for row in order[number:] if not files[row] & used][:number]
        used = used.union(*(files[row] for row in test))
        train = [row for row in order if not files[row] & used and row not in {*validation, *test}]
        if len(of_class) - len(train) - len(validation) - len(test) <= MOST_LOST * len(of_class):
            break
    return {"train": train, "validation": validation, "test": test}


def _draw(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


LONGEST_CAPTION = 100  # words; those of Bird-MML have 10 to 20, and a BERT takes 512 tokens


@dataclass
class BirdMML:
    """Bird-MML at a size of the experiments; nothing is read before it is asked for.

    Attributes:
        folder: or the csv or manifest itself, see `confu_paper.datasets.bird_mml.read_bird_mml`.
        scale: the size.
        cache: a folder for what is decoded and for frozen networks' features.
        limit: training rows at most.
        pairing: of training rows; None is the size's.
        workers: threads that decode.
        progress: draw progress bars.
    """

    folder: Path
    scale: BirdScale
    cache: Path
    limit: int | None = None
    pairing: Pairing | None = None
    workers: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        self.pairing = self.pairing or self.scale.pairing
        self._splits: dict[tuple[str, ...], Splits] = {}

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
        readers = {name: build_reader(settings) for name, settings in self.scale.readers.items()}
        for name in NAMES:
            if name == "text" and "name" not in self.scale.encoders[name]:
                readers.setdefault(name, self.words)
            elif name not in readers:
                readers[name] = build_reader(self.encoder(name).reader)  # pyright: ignore[reportArgumentType]
        return readers

    def encoder(self, modality: str) -> nn.Module:
        """A modality's encoder with the weights that training begins with."""
        settings = dict(self.scale.encoders[modality])
        if "name" in settings:
            return build_encoder(encoder_for(settings["name"], modality, settings["out_dim"]))
        if settings["kind"] in ("tokens", "bert"):
            settings["vocab_size"] = len(self.words.vocabulary)
        return build_encoder(settings)

    def splits(self, modalities: Sequence[str]) -> Splits:
        """The three parts with these modalities; of a frozen encoder its features in place of inputs."""
        names = tuple(modalities)
        if names not in self._splits:
            train, validation, test = (self._dataset(self.parts[part], names) for part in PARTS)
            train = paired_by_class(train, names[0]) if self.pairing == "afresh" else train
            self._splits[names] = Splits(train, validation, test)
        return self._splits[names]

    def prompts(self, class_names: Sequence[str]) -> ArrayDataset:
        """The bare names as texts, each the prompt of its class."""
        index, tokenizer = torch.arange(len(class_names)), self.readers["text"]
        assert isinstance(tokenizer, Tokenizer)
        column = CaptionColumn(class_names, index, tokenizer)
        return ArrayDataset({"text": column}, index, class_names=class_names)

    def _dataset(self, rows: BirdRows, names: Sequence[str]) -> ArrayDataset:
        readers = {name: self.readers[name] for name in names}
        dataset, _ = media_dataset(rows, readers, self.cache, self.workers, self.progress)
        encoders = {name: self.encoder(name) for name in names}
        columns = with_features(dataset.columns, encoders, self.cache, self.progress)
        return ArrayDataset(columns, dataset.labels, dataset.ids, dataset.class_names)
