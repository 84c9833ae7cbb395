"""Bird-MML: photos, 10 s of sound and captions of birds, as released or as the library's own pipeline makes it."""

from pathlib import Path

from confu.data.datasets.birds import BirdRows


def read_bird_mml(folder_or_csv: Path | str, taxa: Path | str | None = None) -> BirdRows:
    """The rows of Bird-MML.

    Args:
        folder_or_csv: the released csv (`scientific_name`, `audio_file`, `photo_file`, `combined_caption`), the
            `manifest.parquet` of `confu data bird-mml`, or a folder that holds one of them.
        taxa: csv with `scientific_name` and `common_name`; by default `taxa_ssw60_vb100_all.csv` or `taxa.csv` beside
            the rows. A manifest has the common names itself.

    Returns:
        Rows with the sources "image", "audio" and "text", in the file's order, all of the split "train". Paths are
        taken as they stand, otherwise relative to the csv's folder, otherwise by what follows `bird-mml/` in them. A
        file that is gone leaves the row without that modality, and is named in `problems`; so is a species without
        any photo or any sound.

    Raises:
        ValueError: no such file, several that it could be, a csv without these columns, or no row with a file.
    """
    raise NotImplementedError
