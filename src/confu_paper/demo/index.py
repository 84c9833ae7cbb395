"""The demo's index: the first test rows, embedded from files of pictures and sounds."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa

from confu.data import Splits
from confu.index import Index
from confu.index.about import About
from confu.index.items import Items
from confu.inference import Embedder
from confu_paper.datasets import DigitSources
from confu_paper.datasets.digit_captions import DIGIT_WORDS
from confu_paper.demo.files import NOISE_DB, embedded, files_of

INDEXED = 600


def make_index(
    folder: Path,
    model: Path,
    embedder: Embedder,
    splits: Splits,
    sources: DigitSources,
    seed: int,
    rows: int = INDEXED,
) -> None:
    """Index the first test rows, unless they are indexed.

    Args:
        folder: of the index; pictures and sounds go to `media` in it.
        model: its folder, which the index names.
        embedder: the model with its readers.
        splits: the data of the demo.
        sources: what lies behind them.
        seed: of the sounds' noise.
        rows: how many.

    Raises:
        ValueError: if the index that is there cannot be read.
    """
    kinds = {name: reader.modality_kind for name, reader in embedder.readers.items()}
    source = {"recipe": "demo", "rows": rows, "seed": seed, "noise_db": NOISE_DB}
    about = About(
        str(model.resolve()), embedder.parts.fingerprint(), embedder.dim, embedder.subsets, kinds, source
    )  # fmt: skip
    if (folder / "index.json").exists():
        with Index.open(folder) as index:
            if index.about == about:
                return
    files = files_of(splits, sources, range(rows), seed)
    words = [DIGIT_WORDS[label] for label in files.labels.tolist()]
    table = embedded(embedder, files, [f"{row:03d}-{word}" for row, word in enumerate(words)])
    metadata = pa.table(
        {"label": words, "digit": files.labels.tolist(), "picture": files.image_of, "recording": files.sound_of}
    )
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with Index.create(made, about) as index:
            media = {
                "image": [_stored(one, made, ".png") for one in files.pictures],
                "audio": [_stored(one, made, ".wav") for one in files.sounds],
                "text": files.captions,
            }
            index.add(Items(table, metadata, media))
        made.chmod(folder.parent.stat().st_mode & 0o777)  # mkdtemp's is for its owner alone
        if folder.exists():
            shutil.rmtree(folder)
        made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _stored(content: bytes, index: Path, suffix: str) -> str:
    """Write a file into the index and return its address there, so that the folder can be moved."""
    name = f"media/{hashlib.sha256(content).hexdigest()}{suffix}"
    (index / "media").mkdir(exist_ok=True)
    (index / name).write_bytes(content)
    return name
