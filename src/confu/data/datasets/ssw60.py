"""Sapsucker Woods 60: videos, photos and recordings of 60 species of birds."""

from pathlib import Path
from typing import Literal

from confu.data.datasets.birds import BirdRows


def read_ssw60(folder: Path | str, part: Literal["video", "image", "audio"] = "video") -> BirdRows:
    """The rows of SSW60, training and test split alike.

    Args:
        folder: the unpacked archive, with `taxa.csv`.
        part: "video" (`video_ml.csv`; a clip's sound is `audio_ml/<asset_id>.wav` if there is one, otherwise the
            video's own), "image" (`images_inat.csv` and `images_nabirds.csv`) or "audio" (`audio_ml.csv`).

    Returns:
        Rows whose sources are "video" and "audio", "image", or "audio"; the classes are the common names of
        `taxa.csv`. A row whose file is gone is left out and named in `problems`.

    Raises:
        ValueError: a file of the layout is not there, a csv without the columns it needs, or a label that `taxa.csv`
            does not list.
    """
    raise NotImplementedError
