"""Sapsucker Woods 60: videos, photos and recordings of 60 species of birds."""

from pathlib import Path
from typing import Literal

from confu.checks import check_known
from confu_paper.datasets.birds import BirdRows, RowList, read_csv, root_of

_COLUMNS = ("asset_id", "label", "split")
_SPLITS = {"val": "validation"}  # of the photos of iNaturalist; the other splits are called train and test
# By part: csv file, folder and ending of its files, and what the ids begin with.
_FILES = {
    "video": (("video_ml", ".mp4", ""),),
    "image": (("images_inat", ".jpg", "inat-"), ("images_nabirds", ".jpg", "nabirds-")),
    "audio": (("audio_ml", ".wav", ""),),
}


def read_ssw60(folder: Path | str, part: Literal["video", "image", "audio"] = "video") -> BirdRows:
    """The rows of SSW60, training and test split alike.

    Args:
        folder: the unpacked archive, with `taxa.csv`.
        part: "video" (`video_ml.csv`; a clip's sound is `audio_ml/<asset_id>.wav` if there is one, otherwise the
            video's own), "image" (`images_inat.csv` and `images_nabirds.csv`) or "audio" (`audio_ml.csv`).

    Returns:
        Rows whose sources are "video" and "audio", "image", or "audio"; the classes are the common names of
        `taxa.csv`, in its order. A row whose file is gone, or whose label `taxa.csv` does not list, is left out and
        named in `problems`.

    Raises:
        ValueError: a file of the layout is not there, a csv without the columns it needs, or nothing is left.
    """
    check_known("part", part, _FILES)
    root = root_of(folder, f"{_FILES[part][0][0]}.csv", "SSW60")
    numbers, names = _classes(root / "taxa.csv")
    rows = RowList("video", "audio") if part == "video" else RowList(part)
    for stem, ending, prefix in _FILES[part]:
        for where, cells in read_csv(root / f"{stem}.csv", _COLUMNS):
            asset, label = cells["asset_id"], numbers.get(cells["label"])
            file = root / stem / f"{asset}{ending}"
            if label is None:
                rows.problems.append(f"{where}: label {cells['label']!r} is not in taxa.csv; the row is left out")
            elif rows.has(file, where, f"{stem}/{file.name}"):
                sources = {part: file}
                if part == "video":
                    own = root / "audio_ml" / f"{asset}.wav"
                    sources["audio"] = own if own in rows.files else file
                rows.add(prefix + asset, label, _SPLITS.get(cells["split"], cells["split"]), **sources)
    return rows.finish(names, root)


def _classes(file: Path) -> tuple[dict[str, int], list[str]]:
    """The index of each label as it is written, and the common names."""
    numbers: dict[str, int] = {}
    names: list[str] = []
    for where, cells in read_csv(file, ("label", "common_name")):
        if not cells["label"] or not cells["common_name"] or cells["label"] in numbers:
            raise ValueError(f"{where}: expected a label of its own and a common name; got {cells}")
        numbers[cells["label"]] = len(names)
        names.append(cells["common_name"])
    return numbers, names
