"""CUB-200-2011: photos of 200 species of birds."""

import re
from pathlib import Path, PurePosixPath

from confu_paper.datasets.birds import BirdRows, Listing, RowList, root_of
from confu_paper.datasets.registry import DataSet

_NUMBER = re.compile(r"^\d+\.")
_ENDINGS = (".jpg", ".jpeg", ".png")


def read_cub200(folder: Path | str) -> BirdRows:
    """The rows of CUB-200-2011, by class and file name.

    Args:
        folder: holds `images/`, directly or in `CUB_200_2011/`.

    Returns:
        Rows with the source "image". The folder `001.Black_footed_Albatross` is the class "Black footed Albatross".
        `splits` are those of `train_test_split.txt`, "" if it is not there. A photo that `images.txt` lists and that
        is gone is left out and named in `problems`.

    Raises:
        ValueError: no `images/`, a list that cannot be read, or nothing is left.
    """
    root = root_of(folder, "images", "CUB-200-2011", ["CUB_200_2011", "CUB_200_2011/CUB_200_2011"])
    images = root / "images"
    rows = RowList("image")
    listed: dict[str, str] = {}  # path -> number, "" without a list
    if (root / "images.txt").is_file():
        listed = {path: number for number, path in _pairs(root / "images.txt").items()}
    else:
        for path in sorted(images.glob("*/*")):
            if path.suffix.lower() in _ENDINGS:
                listed[path.relative_to(images).as_posix()] = ""
    training = _pairs(root / "train_test_split.txt") if listed and (root / "train_test_split.txt").is_file() else {}
    folders = sorted({PurePosixPath(path).parts[0] for path in listed})
    files = Listing()
    for path in sorted(listed):
        if images / path not in files:
            rows.problems.append(f"images.txt, image {listed[path]}: no file images/{path}; the row is left out")
            continue
        split = {"1": "train", "0": "test"}.get(training.get(listed[path], ""), "")
        rows.add(path, folders.index(PurePosixPath(path).parts[0]), split, image=images / path)
    return rows.finish([_NUMBER.sub("", name).replace("_", " ") for name in folders], root)


def _pairs(file: Path) -> dict[str, str]:
    """The two words of each line, the second by the first."""
    pairs = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split(maxsplit=1)
        if len(words) == 2:
            pairs[words[0]] = words[1].strip()
        elif words:
            raise ValueError(f"{file}: line {number}: expected '<image number> <value>'; got {line!r}")
    return pairs


DATA_SETS = (
    DataSet(
        name="cub200",
        title="CUB-200-2011",
        what="11,788 photos of 200 species; no sound",
        get="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz, as "
        "https://www.vision.caltech.edu/datasets/cub_200_2011/ says",
        size="1.1 GB",
        files=("images", "images.txt", "train_test_split.txt"),
        # That of the download at data.caltech.edu, as many public programs that fetch it there have it.
        checksums={"CUB_200_2011.tgz": ("md5", "97eceeb196236b17998738112f37df78")},
        downloads=("CUB_200_2011.tgz",),
        unpack="tar xzf CUB_200_2011.tgz",
        rows=(read_cub200,),
        layout=("CUB_200_2011/images/<class>/<file>.jpg",),
        benchmark="confu_paper.experiments.birds:bird_benchmark",
    ),
)
