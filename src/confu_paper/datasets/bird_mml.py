"""Bird-MML: photos, 10 s of sound and captions of birds, as released or as the library's own pipeline makes it."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from confu_paper.datasets.birds import BirdRows, RowList, read_csv

COLUMNS = ("scientific_name", "audio_file", "photo_file", "combined_caption")
MANIFEST = "manifest.parquet"
TAXA = ("taxa_ssw60_vb100_all.csv", "taxa.csv")
_TOP = "bird-mml"


def read_bird_mml(folder_or_csv: Path | str, taxa: Path | str | None = None) -> BirdRows:
    """The rows of Bird-MML.

    Args:
        folder_or_csv: the released csv (`scientific_name`, `audio_file`, `photo_file`, `combined_caption`), the
            `manifest.parquet` of `confu data bird-mml`, or a folder that holds one of them.
        taxa: csv with `scientific_name` and `common_name`; by default `taxa_ssw60_vb100_all.csv` or `taxa.csv` beside
            the rows. A manifest has the common names itself.

    Returns:
        Rows with the sources "image", "audio" and "text", in the file's order, all of the split "train". Classes are
        sorted by their scientific names, and called by their common ones (with the scientific one where two species
        share theirs). Paths are taken as they stand, otherwise
        relative to the csv's folder, otherwise by what follows `bird-mml/` in them. A file that is gone leaves the row
        without that modality, and is named in `problems`; so is a species without any photo, sound or caption, or
        without a common name.

    Raises:
        ValueError: no such file, several that it could be, a csv without these columns, or no row with a file.
    """
    file = _file(Path(folder_or_csv))
    read = list(_manifest(file) if file.suffix == ".parquet" else read_csv(file, COLUMNS))
    rows = RowList("image", "audio", "text")
    names = _common_names(file, taxa, read, rows.problems)
    species = sorted({cells["scientific_name"] for _, cells in read if cells["scientific_name"]})
    index = {name: label for label, name in enumerate(species)}
    used: set[str] = set()
    for number, (where, cells) in enumerate(read):
        if not cells["scientific_name"]:
            rows.problems.append(f"{where}: no scientific_name; the row is left out")
            continue
        photo, sound = (
            _locate(cells[name], file.parent, rows, f"{where}, {name}") for name in ("photo_file", "audio_file")
        )
        text = cells["combined_caption"] or None
        if text is None:
            rows.problems.append(f"{where}: no combined_caption; the row has no text")
        row = cells.get("id") or f"{PurePosixPath(cells['photo_file']).stem}:{PurePosixPath(cells['audio_file']).stem}"
        row = f"{row}:{number}" if row in used else row
        used.add(row)
        if photo is not None or sound is not None:  # a caption alone says nothing that the species does not
            split = cells.get("split") or "train"
            rows.add(row, index[cells["scientific_name"]], split, image=photo, audio=sound, text=text)
    called = [names.get(name.lower(), name) for name in species]
    twice = {name for name in called if called.count(name) > 1}
    return rows.finish([f"{name} ({one})" if name in twice else name for name, one in zip(called, species)], file)


def _file(place: Path) -> Path:
    if not place.is_dir():
        if not place.is_file():
            raise ValueError(f"{place}: no such file or folder; `confu data list` says where Bird-MML is from")
        return place
    if (place / MANIFEST).is_file():
        return place / MANIFEST
    fitting = [file for file in sorted(place.glob("*.csv")) if set(COLUMNS) <= set(_header(file))]
    if len(fitting) != 1:
        names = ", ".join(file.name for file in fitting) or f"no {MANIFEST}, no csv with these columns"
        raise ValueError(f"{place}: expected one csv with {', '.join(COLUMNS)}; got {names}. Give the csv itself")
    return fitting[0]


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return [name.strip().strip('"') for name in lines.readline().split(",")]


def _manifest(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: not readable as Parquet ({error}); make it again") from error
    if lacking := [name for name in COLUMNS if name not in table.column_names]:
        raise ValueError(f"{file}: expected the columns {', '.join(COLUMNS)}; {', '.join(lacking)} is not there")
    known = [name for name in (*COLUMNS, "id", "common_name", "split") if name in table.column_names]
    for number, row in enumerate(table.select(known).to_pylist()):
        cells = {name: "" if value is None else str(value).strip() for name, value in row.items()}
        yield f"{file.name}, row {number}", cells


def _common_names(
    file: Path, taxa: Path | str | None, read: list[tuple[str, dict[str, str]]], problems: list[str]
) -> dict[str, str]:
    """Common names by scientific ones in small letters, as the lists differ in capitals; what has none is a problem."""
    names = {cells["scientific_name"].lower(): cells["common_name"] for _, cells in read if cells.get("common_name")}
    beside = [file.parent / name for name in TAXA]
    sources = [Path(taxa)] if taxa is not None else [path for path in beside if path.is_file()]
    for source in sources:
        for _, cells in read_csv(source, ("scientific_name", "common_name")):
            if cells["common_name"]:
                names.setdefault(cells["scientific_name"].lower(), cells["common_name"])
    where = ", ".join(source.name for source in sources) or "no taxa.csv"
    unnamed = sorted({name for _, cells in read if (name := cells["scientific_name"]) and name.lower() not in names})
    problems += [f"{where}: {name}: no common name; the class is called by its scientific one" for name in unnamed]
    return names


def _locate(written: str, folder: Path, rows: RowList, where: str) -> Path | None:
    if not written:
        rows.problems.append(f"{where}: empty")
        return None
    parts = PurePosixPath(written).parts
    places = [folder / written]  # an absolute path stays as it is
    if _TOP in parts:
        tail = parts[len(parts) - parts[::-1].index(_TOP) :]
        places += [folder.joinpath(*tail), folder.joinpath(_TOP, *tail)]
    if file := next((place for place in places if place in rows.files), None):
        return file
    rows.problems.append(f"{where}: no file {written}")
    return None
