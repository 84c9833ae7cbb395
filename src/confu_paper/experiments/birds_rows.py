"""The birds that models are evaluated on: eight frames of a video as one embedding, single frames, photos; noise."""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import normalize

from confu.data import Column, Dataset
from confu.data.columns import Indices
from confu.data.corrupted import ModalityRows, samples, signal_power
from confu.data.corruptions import Corruption, GaussianNoise
from confu.data.dataset import RowsOf
from confu.data.readers import ImageReader, MelReader, Reader
from confu.embeddings import EmbeddingTable
from confu.inference import embed
from confu.models import MultimodalModel
from confu.plan import Subset
from confu.types import Inputs
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.cub200 import read_cub200
from confu_paper.datasets.media import SECONDS, Views, frame_dataset, media_dataset, with_features
from confu_paper.datasets.ssw60 import read_ssw60
from confu_paper.datasets.vb100 import read_vb100
from confu_paper.experiments.benchmark import replaced
from confu_paper.experiments.birds_data import BirdMML, digest, evenly

READ: dict[str, Callable[[Path], BirdRows]] = {"ssw60": read_ssw60, "vb100": read_vb100, "cub200": read_cub200}
EIGHT = 8
_BATCH = 256  # pictures at once


class BirdTestRows:
    """The rows of SSW60, VB100 or CUB-200-2011, read as the models' training data are.

    Args:
        name: of the data set.
        folder: of its files.
        trained_on: says the size, how inputs are read, and where the cache is.
        frames: "eight" of each video, as one mean embedding; or "single", the 19 of
            `confu_paper.datasets.media.SECONDS`, each a view. Photos are what they are.
    """

    def __init__(self, name: str, folder: Path, trained_on: BirdMML, frames: str = "eight") -> None:
        self.data_set = name
        self.folder = folder
        self.trained_on = trained_on
        self.frames = frames

    @property
    def name(self) -> str:
        """Of the measurements that are kept beside a run."""
        return f"{self.data_set}-single" if self.frames == "single" else self.data_set

    @cached_property
    def rows(self) -> BirdRows:
        """The listed rows that are evaluated: those of every split, as in the released code."""
        return evenly(READ[self.data_set](self.folder), self.trained_on.scale.clips)

    def settings(self) -> dict[str, Any]:
        """What decides the rows and how they are embedded; JSON-able."""
        return {"data": self.data_set, "frames": self.frames, "rows": len(self.rows), "digest": digest(self.rows)}

    def class_names(self) -> tuple[str, ...]:
        """What each label means."""
        return self.rows.class_names

    @cached_property
    def views(self) -> Views:
        """The decoded rows."""
        of = self.trained_on
        image, audio = of.readers["image"], of.readers["audio"]
        if "video" not in self.rows.sources:
            data, _ = media_dataset(self.rows, {"image": image}, of.cache, of.workers, of.progress)
            assert data.labels is not None
            return Views(data, torch.arange(len(data))[:, None], data.ids, data.labels)
        assert isinstance(image, ImageReader) and isinstance(audio, MelReader)
        seconds = SECONDS if self.frames == "single" else None
        return frame_dataset(self.rows, image, audio, of.cache, EIGHT, seconds, of.workers, of.progress)

    def tables(
        self, model: MultimodalModel, folder: Path, changed: tuple[str, Corruption] | None = None, seed: int = 0
    ) -> list[EmbeddingTable]:
        """Embeddings of the rows, once for each view of them, e.g. each frame of a video; undisturbed ones are kept.

        Raises:
            ValueError: if the rows have none of the model's modalities.
        """
        files = self._files(model, folder)
        if not files[-1].is_file():  # written last
            for file, table in zip(files, self._embedded(model, self.views), strict=True):
                table.save(file)
        clean = [EmbeddingTable.load(file) for file in files]
        if changed is None:
            return clean
        modality, how = changed
        views = self.views
        # A clip's sound is one sound, whichever of its frames it is heard with.
        clip_of = torch.empty(len(views.data), dtype=torch.long)
        clip_of[views.of_clip] = torch.arange(len(views.clips))[:, None].expand_as(views.of_clip)
        item_of = clip_of if modality == "audio" else torch.arange(len(views.data))
        noisy = NoisyColumn(views.data.columns[modality], how, item_of, views.data, modality, seed)
        views = views.changed({**views.data.columns, modality: noisy})
        touched = [subset for subset in clean[0].subsets if modality in subset]
        return [replaced(old, new) for old, new in zip(clean, self._embedded(model, views, touched), strict=True)]

    def snr_db(self, modality: str, how: Corruption) -> float | None:
        """The signal-to-noise ratio that noise has on these rows, estimated; None if `how` is no such noise."""
        return estimated_snr_db(self.views.data, modality, how)

    def _files(self, model: MultimodalModel, folder: Path) -> list[Path]:
        settings = json.dumps(self.settings(), sort_keys=True)
        name = f"{self.name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
        # A model without pictures hears the same whatever is seen.
        if self.frames == "eight" or "image" not in model.plan.modalities or self.data_set == "cub200":
            return [folder / f"{name}.parquet"]
        return [folder / name / f"{number:02d}.parquet" for number in range(len(SECONDS))]

    def _embedded(
        self, model: MultimodalModel, views: Views, subsets: Sequence[Subset] | None = None
    ) -> list[EmbeddingTable]:
        """A table of the clips for each view, or one of their means."""
        names = [name for name in views.data.modalities if name in model.plan.modalities]
        if not names:
            raise ValueError(
                f"{self.data_set} has {', '.join(views.data.modalities)}, and the model reads "
                f"{', '.join(model.plan.modalities)} only; leave it out"
            )
        columns = {name: views.data.columns[name] for name in names}
        encoders = {name: model.encoders[name] for name in names}
        views = views.changed(with_features(columns, encoders, self.trained_on.cache, self.trained_on.progress))
        if "image" not in names:
            views = replace(views, of_clip=views.of_clip[:, :1])
        order = views.of_clip.flatten()  # a clip's frames side by side, so that its sound is encoded once
        width = views.of_clip.shape[1]
        size = max(1, _BATCH // width) * width
        table = embed(model, RowsOf(views.data, order), subsets, size, self.trained_on.progress)
        if self.frames == "eight" or width == 1:
            return [clip_means(table, width, views.clips)]
        frames = (table.select(torch.arange(number, len(table), width)) for number in range(width))
        return [replace(frame, ids=tuple(views.clips)) for frame in frames]


def clip_means(table: EmbeddingTable, views: int, clips: Sequence[str]) -> EmbeddingTable:
    """The mean embedding of each clip's frames, of length one again; complete where all its frames are.

    Args:
        table: of frames, each clip's side by side.
        views: frames of each clip.
        clips: their ids.
    """

    def mean(vectors: Tensor) -> Tensor:
        return normalize(vectors.view(len(clips), views, -1).mean(dim=1), dim=-1)

    return replace(
        table,
        ids=tuple(clips),
        vectors={subset: mean(vectors) for subset, vectors in table.vectors.items()},
        complete={subset: mask.view(-1, views).all(dim=1) for subset, mask in table.complete.items()},
        labels=None if table.labels is None else table.labels.view(-1, views)[:, 0],
    )


STDS = {"image": (0.05, 0.1, 0.15), "audio": (0.1, 0.2, 0.3)}
LEVELS = (20, 15, 10)
"""What the paper calls these standard deviations, in dB."""
_POWER_ROWS = 256  # rows that a power is estimated on


@dataclass(frozen=True)
class PixelNoise:
    """Normal noise on pixels from 0 to 1, before they are normalised; nothing is clipped.

        (p + σ ε - mean) / std

    Args:
        std: σ.
        mean: of each channel, what the reader subtracts.
        scale: of each channel, what it divides by.

    >>> print(PixelNoise(0.05, (0.5,), (0.5,)))
    noise of std 0.05 on pixels from 0 to 1
    """

    std: float
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __str__(self) -> str:
        return f"noise of std {self.std:g} on pixels from 0 to 1"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        noisy = GaussianNoise(std=self.std).corrupt(Inputs(self.pixels(inputs), inputs.rows), indices, source)
        assert isinstance(noisy.values, Tensor)
        mean, scale = self._channels
        return Inputs((noisy.values - mean) / scale, noisy.rows)

    def pixels(self, inputs: Inputs) -> Tensor:
        """The pixels from 0 to 1 of pictures that were normalised."""
        assert isinstance(inputs.values, Tensor)
        mean, scale = self._channels
        return inputs.values * scale + mean

    @property
    def _channels(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean)[:, None, None], torch.tensor(self.scale)[:, None, None]


class NoisyColumn:
    """A column with noise on what it gives; rows of one item get the same noise.

    Args:
        column: from the cache.
        how: the noise.
        item_of: (n,) the number of the item that each row is, which its noise depends on.
        dataset: of the column.
        modality: of the column.
        seed: of the noise.
    """

    def __init__(
        self, column: Column, how: Corruption, item_of: Int[Tensor, " n"], dataset: Dataset, modality: str, seed: int
    ) -> None:
        self.column = column
        self.how = how
        self.item_of = item_of
        self.source = ModalityRows(dataset, modality, seed)
        reader: Reader = column.reader  # type: ignore[attr-defined]
        self.reader = SimpleNamespace(settings={**reader.settings, "noise": str(how), "seed": seed})
        self.keys: list[str | None] = column.keys  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.column)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """(n,) the rows that have an item."""
        return self.column.present

    def check(self, modality: str) -> None:
        """See `Column`; the column was checked."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`; rows of one item share one input."""
        items, position = self.item_of[indices].unique(return_inverse=True)
        first = torch.full((len(items),), len(indices)).scatter_reduce(0, position, torch.arange(len(indices)), "amin")
        inputs = self.column.take(indices[first], modality)
        changed = self.how.corrupt(inputs, items, self.source)
        return Inputs(changed.values, changed.rows[position])


def bird_conditions(
    table6: bool, image: Reader, modalities: Collection[str]
) -> tuple[dict[str, tuple[str, Corruption]], dict[str, str]]:
    """Noise on pictures and on sounds (Tables 6 and 9), at the standard deviations of Appendix B.4.

    Args:
        table6: one level on the picture, as in Table 6; otherwise three levels on picture and sound.
        image: how pictures are read.
        modalities: of the data set.

    Returns:
        label -> the modality that is disturbed, and how; label -> the paper's name of the condition.
    """
    mean, scale = tuple(image.settings["mean"]), tuple(image.settings["std"])
    conditions: dict[str, tuple[str, Corruption]] = {}
    names = {}
    for modality, stds in STDS.items():
        for std, level in zip(stds, LEVELS):
            if modality not in modalities or (table6 and (modality, level) != ("image", LEVELS[0])):
                continue
            how = PixelNoise(std, mean, scale) if modality == "image" else GaussianNoise(std=std)
            conditions[f"{modality} noise {std:g}"] = (modality, how)
            names[f"{modality} noise {std:g}"] = f"{modality} noise {level} dB"
    return conditions, names


def estimated_snr_db(dataset: Dataset, modality: str, how: Corruption) -> float | None:
    r"""The signal-to-noise ratio of noise of a given deviation, $10 \log_{10}(P / \sigma^2)$.

    P is the mean square of the numbers that the noise is added to: pixels from 0 to 1, or the spectrogram as the model
    receives it. It is estimated on 256 rows, evenly among all.

    Args:
        dataset: undisturbed.
        modality: that is disturbed.
        how: `PixelNoise`, or `GaussianNoise` by its `std`.

    Returns:
        decibels; None for another corruption.
    """
    if not isinstance(how, PixelNoise | GaussianNoise) or not how.std:
        return None
    rows = torch.linspace(0, len(dataset) - 1, min(_POWER_ROWS, len(dataset))).round().long()
    inputs = dataset.batch(rows).inputs[modality]
    if not bool(inputs.present.any()):
        return None
    if isinstance(how, PixelNoise):
        inputs = Inputs(how.pixels(inputs), inputs.rows)
    powers = torch.cat([signal_power(sample) for sample in samples(inputs, str(how), modality)])
    power = float(powers.mean())
    return 10 * math.log10(power / how.std**2) if power > 0 else None
