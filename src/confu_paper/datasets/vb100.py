"""VB100: videos of 100 species of birds."""

from pathlib import Path, PurePosixPath

from confu_paper.datasets.birds import BirdRows, Listing, RowList, root_of
from confu_paper.datasets.registry import DataSet

_LISTS, _VIDEOS = "vb100_annotations_v1", "vb100_all_videos"


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
    listed: list[tuple[str, str, int, str, str]] = []
    seen: dict[str, str] = {}
    rows = RowList("video", "audio")
    for split in ("train", "test"):
        for where, path, number in _lines(root / _LISTS / f"{split}_video.txt"):
            if path in seen:
                rows.problems.append(f"{where}: {path} stands in {seen[path]} already; the row is left out")
                continue
            seen[path] = where
            listed.append((path, PurePosixPath(path).parent.name.replace("_", " "), number, split, where))
    order: dict[str, int] = {}
    for _, species, number, _, where in listed:
        if order.setdefault(species, number) != number:
            rows.problems.append(f"{where}: {species} has the label {number} here, {order[species]} before; by name")
    names = sorted(order, key=lambda species: (order[species], species))
    index = {species: label for label, species in enumerate(names)}
    files = Listing()
    for path, species, _, split, where in listed:
        file = root / _VIDEOS / path
        if file in files:
            rows.add(path, index[species], split, video=file, audio=file)
        else:
            rows.problems.append(f"{where}: no file {_VIDEOS}/{path}; the row is left out")
    return rows.finish(names, root)


def _lines(file: Path) -> list[tuple[str, str, int]]:
    """Where each line stands, its path and its number."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file; unpack VB100's annotations beside its videos")
    lines = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        path = path.strip()
        if "/" not in path or not label.lstrip("-").isdigit():
            raise ValueError(f"{file}: line {number}: expected '<Species_Name>/<file> <whole number>'; got {line!r}")
        lines.append((f"{file.name}, line {number}", path, int(label)))
    return lines


DATA_SETS = (
    DataSet(
        name="vb100",
        title="VB100",
        what="videos of 100 species, with their own sound",
        get="http://arma.sourceforge.net/vb100/: the videos and the annotations, unpacked beside each other",
        files=(f"{_LISTS}/train_video.txt", f"{_LISTS}/test_video.txt", _VIDEOS),
        rows=(read_vb100,),
        layout=(
            f"{_LISTS}/{{train,test}}_video.txt: lines of <Species_Name>/<file> and a whole number, the label",
            f"{_VIDEOS}/<Species_Name>/<file>",
        ),
        benchmark="confu_paper.experiments.birds:bird_benchmark",
    ),
)
