"""VB100: videos of 100 species of birds."""

from pathlib import Path, PurePosixPath

from confu_paper.datasets.birds import BirdRows, RowList, read_pairs, root_of

_LISTS, _VIDEOS = "vb100_annotations_v1", "vb100_all_videos"
_LINE = (r"(.*/.*?)\s+(-?\d+)", "'<Species_Name>/<file> <whole number>'")


def read_vb100(folder: Path | str) -> BirdRows:
    """The rows of VB100, training list first; a clip's sound is the video's own.

    Args:
        folder: holds `vb100_annotations_v1/` and `vb100_all_videos/`.

    Returns:
        Rows with the sources "video" and "audio" (the same paths). A class is named as its folder, with spaces for
        underscores; classes are in the order of the lists' numbers, which may skip some. A row whose file is gone is
        left out and named in `problems`.

    Raises:
        ValueError: a list is not there, a line that is not `<Species_Name>/<file> <number>`, or nothing is left.
    """
    root = root_of(folder, _LISTS, "VB100")
    listed: dict[str, tuple[str, str, str]] = {}  # path -> species, split and where
    rows = RowList("video", "audio")
    order: dict[str, int] = {}
    for split in ("train", "test"):
        for where, path, number in read_pairs(root / _LISTS / f"{split}_video.txt", *_LINE):
            if path in listed:
                rows.problems.append(f"{where}: {path} stands in {listed[path][2]} already; the row is left out")
                continue
            species = PurePosixPath(path).parent.name.replace("_", " ")
            listed[path] = (species, split, where)
            if order.setdefault(species, int(number)) != int(number):
                rows.problems.append(
                    f"{where}: {species} has the label {number} here, {order[species]} before; by name"
                )
    names = sorted(order, key=lambda species: (order[species], species))
    for path, (species, split, where) in listed.items():
        file = root / _VIDEOS / path
        if rows.has(file, where, f"{_VIDEOS}/{path}"):
            rows.add(path, names.index(species), split, video=file, audio=file)
    return rows.finish(names, root)
