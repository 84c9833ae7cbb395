"""The sizes of the bird experiments: encoders, how their inputs are read, and training; the same for every method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from confu.data.readers import Reader, build_reader
from confu.data.readers.text import Tokenizer
from confu.nn.encoders import build_encoder, encoder_for
from confu.training import TrainSettings

Size = Literal["smoke", "small", "paper"]
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
    "kind": "mel", "rate": 22_050, "seconds": 10.0, "mels": 128, "window": 1024, "hop": 512, "low": 500.0,
    "high": 10_000.0,
}  # fmt: skip
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
        dim=64, held_out=2, per_species=16, clips=4,
    ),
    # Hours on two cores: pretrained networks for photos and captions, frozen, so that their features are computed once.
    "small": BirdScale(
        encoders={
            "image": {"kind": "efficientnet-lite0", "tune": "frozen", "pretrained": True, "size": 160, "out_dim": 256},
            "audio": {
                "kind": "conv", "in_channels": 1, "channels": [32, 64, 128, 256], "out_dim": 256, "first_pool": 2,
                "first_kernel": 5, "pooling": "max-time", "height": 64, "feature_norm": True, "dropout": 0.2,
            },
            "text": {"name": "minilm", "out_dim": 256},
        },
        readers={"audio": {**PAPER_MEL, "mels": 64, "hop": 1024}},
        train=TrainSettings(epochs=10, lr=1e-3, batch_size=64, warmup_steps=100),
        held_out=4, per_species=200,
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
}  # fmt: skip


def encoder_settings(scale: BirdScale, modality: str, words: int) -> dict[str, Any]:
    """The settings of a modality's encoder.

    Args:
        scale: the size.
        modality: of `NAMES`.
        words: in the vocabulary of whole words.
    """
    settings = dict(scale.encoders[modality])
    if "name" in settings:
        return encoder_for(settings["name"], modality, settings["out_dim"])
    return {**settings, "vocab_size": words} if settings["kind"] in ("tokens", "bert") else settings


def new_encoder(scale: BirdScale, modality: str, words: int) -> nn.Module:
    """A modality's encoder with the weights that training begins with."""
    return build_encoder(encoder_settings(scale, modality, words))


def reader_for(scale: BirdScale, modality: str, vocabulary: Reader | None = None) -> Reader:
    """How a modality is read.

    Args:
        scale: the size.
        modality: of `NAMES`.
        vocabulary: the reader of texts by whole words.

    Raises:
        ValueError: if neither the size nor the encoder says it.
    """
    if modality in scale.readers:
        return build_reader(scale.readers[modality])
    if modality == "text" and "name" not in scale.encoders["text"] and vocabulary is not None:
        return vocabulary
    settings = getattr(new_encoder(scale, modality, words=3), "reader", None)
    if settings is None:
        raise ValueError(f"readers: nothing says how {modality} is read; give its reader's settings")
    return build_reader(settings)


def text_tokenizer(reader: Reader) -> Tokenizer:
    """The reader of texts as what turns them into tokens."""
    assert isinstance(reader, Tokenizer)
    return reader
