"""CUB-200-2011: photos of 200 species of birds."""

import re
from pathlib import Path, PurePosixPath

from confu_paper.datasets.birds import BirdRows, RowList, read_pairs, root_of

_ENDINGS = (".jpg", ".jpeg", ".png")
_PAIR = (r"(\S+)\s+(.+)", "'<image number> <value>'")


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
    root = root_of(folder, "images", "CUB-200-2011")
    images = root / "images"
    rows, training = RowList("image"), {}
    if (root / "images.txt").is_file():
        listed = {path: number for _, number, path in read_pairs(root / "images.txt", *_PAIR)}
        if (root / "train_test_split.txt").is_file():
            training = {number: value for _, number, value in read_pairs(root / "train_test_split.txt", *_PAIR)}
    else:
        photos = (path for path in images.glob("*/*") if path.suffix.lower() in _ENDINGS)
        listed = {path.relative_to(images).as_posix(): "" for path in photos}
    folders = sorted({PurePosixPath(path).parts[0] for path in listed})
    for path in sorted(listed):
        if rows.has(images / path, f"images.txt, image {listed[path]}", f"images/{path}"):
            split = {"1": "train", "0": "test"}.get(training.get(listed[path], ""), "")
            rows.add(path, folders.index(PurePosixPath(path).parts[0]), split, image=images / path)
    return rows.finish([re.sub(r"^\d+\.", "", name).replace("_", " ") for name in folders], root)
