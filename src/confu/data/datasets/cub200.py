"""CUB-200-2011: photos of 200 species of birds."""

from pathlib import Path

from confu.data.datasets.birds import BirdRows


def read_cub200(folder: Path | str) -> BirdRows:
    """The rows of CUB-200-2011, by class and file name.

    Args:
        folder: holds `images/`, directly or in `CUB_200_2011/`.

    Returns:
        Rows with the source "image". The folder `001.Black_footed_Albatross` is the class "Black footed Albatross".
        `splits` are those of `train_test_split.txt`, "" if it is not there. A photo that `images.txt` lists and that
        is gone is left out and named in `problems`.

    Raises:
        ValueError: no `images/`, or a list that does not fit.
    """
    raise NotImplementedError
