"""VB100: videos of 100 species of birds."""

from pathlib import Path

from confu.data.datasets.birds import BirdRows


def read_vb100(folder: Path | str) -> BirdRows:
    """The rows of VB100, training list first; a clip's sound is the video's own.

    Args:
        folder: holds `vb100_annotations_v1/` and `vb100_all_videos/`.

    Returns:
        Rows with the sources "video" and "audio" (the same paths). A class is named as its folder, with spaces for
        underscores. A row whose file is gone is left out and named in `problems`.

    Raises:
        ValueError: a list is not there, or a line that is not `<Species_Name>/<file> <number>`.
    """
    raise NotImplementedError
