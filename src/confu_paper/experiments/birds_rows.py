"""The birds that models are evaluated on: eight frames of a video as one embedding, frames one by one, or photos."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import normalize

from confu.data import ArrayDataset, Column
from confu.data.corruptions import Corruption
from confu.data.dataset import RowsOf
from confu.data.readers import ImageReader, MelReader
from confu.embeddings import EmbeddingTable
from confu.inference import embed
from confu.models import MultimodalModel
from confu.plan import Subset
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.cub200 import read_cub200
from confu_paper.datasets.frames import SECONDS, frame_dataset
from confu_paper.datasets.media import media_dataset
from confu_paper.datasets.ssw60 import read_ssw60
from confu_paper.datasets.vb100 import read_vb100
from confu_paper.experiments.benchmark import replaced
from confu_paper.experiments.birds_data import BirdMML, with_features
from confu_paper.experiments.birds_noise import NoisyColumn, estimated_snr_db
from confu_paper.experiments.birds_parts import digest, evenly

READ: dict[str, Callable[[Path], BirdRows]] = {"ssw60": read_ssw60, "vb100": read_vb100, "cub200": read_cub200}
EIGHT = 8
_BATCH = 256  # pictures at once


@dataclass(frozen=True)
class Views:
    """Pictures with their sounds, a row a picture, and which of them are views of one clip.

    Attributes:
        data: all rows.
        of_clip: (clips, views) row numbers.
        clips: the ids of the clips.
        labels: (clips,) their classes.
    """

    data: ArrayDataset
    of_clip: Int[Tensor, "clips views"]
    clips: Sequence[str]
    labels: Int[Tensor, " clips"]

    def changed(self, columns: Mapping[str, Column]) -> "Views":
        """The same rows with other columns."""
        data = self.data
        return replace(self, data=ArrayDataset(columns, data.labels, data.ids, data.class_names))


class BirdTestRows:
    """The rows of SSW60, VB100 or CUB-200-2011, read as the models' training data are.

    Args:
        name: of the data set.
        folder: of its files.
        trained_on: says the size, how inputs are read, and where the cache is.
        frames: "eight" of each video, as one mean embedding; or "single", the 19 of
            `confu_paper.datasets.frames.SECONDS`, each a view. Photos are what they are.
    """

    def __init__(self, name: str, folder: Path, trained_on: BirdMML, frames: str = "eight") -> None:
        self.data_set = name
        self.folder = folder
        self.trained_on = trained_on
        self.frames = frames

    @property
    def name(self) -> str:
        """See `OtherRows`."""
        return f"{self.data_set}-single" if self.frames == "single" else self.data_set

    @cached_property
    def rows(self) -> BirdRows:
        """The listed rows that are evaluated: those of every split, as in the released code."""
        return evenly(READ[self.data_set](self.folder), self.trained_on.scale.clips)

    def settings(self) -> dict[str, Any]:
        """See `OtherRows`."""
        return {"data": self.data_set, "frames": self.frames, "rows": len(self.rows), "digest": digest(self.rows)}

    def class_names(self) -> tuple[str, ...]:
        """See `OtherRows`."""
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
        found = frame_dataset(self.rows, image, audio, of.cache, EIGHT, seconds, of.workers, of.progress)
        data = ArrayDataset(found.columns, found.labels, found.ids, found.class_names)
        return Views(data, found.frames_of, found.videos.ids, found.videos.labels)

    def tables(
        self, model: MultimodalModel, folder: Path, changed: tuple[str, Corruption] | None = None, seed: int = 0
    ) -> list[EmbeddingTable]:
        """See `OtherRows`. Undisturbed tables are kept in the run's folder.

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
        """See `OtherRows`."""
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
        return [frame_table(table, width, number, views.clips) for number in range(width)]


def clip_means(table: EmbeddingTable, views: int, clips: Sequence[str]) -> EmbeddingTable:
    """The mean embedding of each clip's frames, of length one again.

    Args:
        table: of frames, each clip's side by side.
        views: frames of each clip.
        clips: their ids.

    Returns:
        A row a clip, complete where all its frames are.
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


def frame_table(table: EmbeddingTable, views: int, number: int, clips: Sequence[str]) -> EmbeddingTable:
    """The rows of one frame of each clip; arguments as for `clip_means`."""
    chosen = table.select(torch.arange(number, len(table), views))
    return replace(chosen, ids=tuple(clips))
