"""Build AV-MNIST from MNIST, spoken digits and a folder of noise, in the layout that MultiBench distributes."""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from rich.progress import Progress

from confu.data.idx import read_mnist
from confu_paper.datasets.av_mnist import num_validation
from confu_paper.datasets.av_mnist_sound import (
    SIZE,
    SPLITS,
    Draws,
    Sounds,
    draw,
    log_spectrogram,
    mix,
    read_noise,
    read_speech,
    wav_files,
)

_PCA_ROWS = 10_000  # at a time
_CHUNK = 200  # rows at a time; five times as many took twice as long, in fresh memory pages
_FORMAT = 1
_LICENCES = {
    "mnist": "MNIST (LeCun, Cortes, Burges): CC BY-SA 3.0",
    "speech": "Free Spoken Digit Dataset (Jakobovski): CC BY-SA 4.0, if that is what was given",
    "noise": "as the folder that was given (ESC-50: CC BY-NC 3.0)",
}


def build_av_mnist(
    mnist: Path | str,
    speech: Path | str,
    noise: Path | str,
    out: Path | str,
    snr_db: float,
    seed: int = 0,
    progress: bool = True,
    limit: int | None = None,
) -> Path:
    """Build AV-MNIST; about a minute and 0.95 GB for all of it.

    Images are projected on the fewest principal components that hold 25 % of the variance, fitted on the training rows.
    Sounds are log spectrograms of a spoken digit at a random place in one second of noise. Training, validation and
    test share no recording and no noise clip: `provenance.parquet` lists those of every row.

    Args:
        mnist: folder of the four IDX files, plain or gzipped.
        speech: folder of `{digit}_{speaker}_{index}.wav`; index 0 to 4 is for test, 5 to 9 for validation.
        noise: folder of WAV files of a second or more, at any rate (see `split_noise`).
        out: folder to make; it appears when all is written. If it holds the same build, nothing is done.
        snr_db: level of the speech above the noise, in dB.
        seed: of every draw.
        progress: show a bar.
        limit: build only this many of the first training images, and at most as many test images.

    Returns:
        `out`, which `load_av_mnist` reads.

    Raises:
        ValueError: a folder or file is missing or damaged; `out` holds a build of other settings, or something else.

    Reference: appendix D.3. The paper mixes ESC-50 at a level that it does not state.
    """
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db: expected a finite number of dB; got {snr_db}")
    if limit is not None and limit < 2:
        raise ValueError(f"limit: expected at least 2 rows, one to train and one to validate; got {limit}")
    out = Path(out)
    digits = {part: tuple(array[:limit] for array in arrays) for part, arrays in read_mnist(mnist).items()}
    digest = hashlib.sha256()
    for array in (array for arrays in digits.values() for array in arrays):
        digest.update(array.tobytes())
    settings: dict[str, Any] = {
        "format": _FORMAT,
        "seed": seed,
        "snr_db": float(snr_db),
        "limit": limit,
        "mnist": digest.hexdigest(),
        "speech": _checksum_files(wav_files(speech, "speech")),
        "noise": _checksum_files(wav_files(noise, "noise")),
    }
    if _built_already(out, settings):
        print(f"{out}: built already with these settings")
        return out
    sounds = (read_speech(speech), read_noise(noise, seed))
    with whole_folder(out) as folder, Progress(*Progress.get_default_columns(), disable=not progress) as bar:
        _write(folder, bar, digits, *sounds, settings)
    return out


def _write(
    folder: Path,
    bar: Progress,
    digits: dict[str, tuple[np.ndarray, ...]],
    speech: dict[str, Sounds],
    noise: dict[str, Sounds],
    settings: dict[str, Any],
) -> None:
    images, labels = digits["train"]
    first = len(images) - num_validation(len(images))
    pca = fit_pca(images[:first].reshape(first, -1))
    parts = {"train": (("train", 0, first), ("validation", first, len(images))), "test": (("test", 0, None),)}
    task = bar.add_task("AV-MNIST", total=sum(len(arrays[0]) for arrays in digits.values()))
    (folder / "image").mkdir()
    (folder / "audio").mkdir()
    provenance, splits = [], {}
    for part, (images, labels) in digits.items():
        np.save(folder / f"{part}_labels.npy", labels.astype(np.int64))
        shapes = {"image": (len(images), images[0].size), "audio": (len(images), SIZE, SIZE)}
        pixels, spectra = (
            np.lib.format.open_memmap(folder / name / f"{part}_data.npy", mode="w+", dtype=np.uint8, shape=shape)
            for name, shape in shapes.items()
        )
        for split, start, stop in parts[part]:
            rows = slice(start, len(images) if stop is None else stop)
            draws = draw(labels[rows], speech[split], noise[split], (settings["seed"], SPLITS.index(split)))
            provenance.append(_provenance(split, start, labels[rows], draws, speech[split], noise[split]))
            splits[split] = {
                "file": part,
                "rows": [rows.start, rows.stop],
                "recordings": len(np.unique(draws.recording)),
                "noise_clips": sorted({noise[split].names[clip] for clip in draws.noise}),
            }
            for begin in range(rows.start, rows.stop, _CHUNK):
                end = min(begin + _CHUNK, rows.stop)
                pixels[begin:end] = pca.project(images[begin:end].reshape(end - begin, -1))
                mixed = mix(draws, slice(begin - start, end - start), speech[split], noise[split], settings["snr_db"])
                spectra[begin:end] = log_spectrogram(mixed).numpy()
                bar.advance(task, end - begin)
        pixels.flush()
        spectra.flush()
    pq.write_table(pa.concat_tables(provenance), folder / "provenance.parquet")
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".npy", ".parquet"))
    description = {
        "settings": settings,
        "pca": pca.summary(),
        "splits": splits,
        "sha256": {str(path.relative_to(folder)): _checksum_files([path]) for path in files},
        "licences": _LICENCES,
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n")


def _provenance(split: str, start: int, labels: np.ndarray, draws: Draws, speech: Sounds, noise: Sounds) -> pa.Table:
    """One line a row: what it was made of, and where in its .npy file it stands."""
    return pa.table(
        {
            "split": [split] * len(labels),
            "row": np.arange(start, start + len(labels)),
            "digit": labels.astype(np.int64),
            "recording": [speech.names[index] for index in draws.recording],
            "speech_offset": draws.speech_offset,
            "noise": [noise.names[index] for index in draws.noise],
            "noise_offset": draws.noise_offset,
        }
    )


def _built_already(out: Path, settings: dict[str, Any]) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    description = out / "dataset.json"
    if not description.is_file():
        raise ValueError(f"out: {out}: exists and was not built by this command; choose another folder")
    built = json.loads(description.read_text())["settings"]
    differing = [
        f"{name} is {built.get(name)}, asked {value}" for name, value in settings.items() if built.get(name) != value
    ]
    if differing:
        raise ValueError(f"out: {out}: built with other settings ({'; '.join(differing)}); remove it or choose another")
    return True


def _checksum_files(paths: list[Path]) -> str:
    """SHA-256 of the contents, and of the names if there are several."""
    digest = hashlib.sha256()
    for path in paths:
        if len(paths) > 1:
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


@dataclass(frozen=True)
class PCA:
    """A projection on principal components.

    Attributes:
        mean: (pixels,).
        components: (kept, pixels), orthonormal.
        ratios: (pixels,) the share of the variance in each component, largest first.
        share: the share that was asked for.
    """

    mean: np.ndarray
    components: np.ndarray
    ratios: np.ndarray
    share: float

    def project(self, images: np.ndarray) -> np.ndarray:
        """What is left of images (n, pixels), clipped to 0 to 255, as uint8."""
        codes = (images - self.mean) @ self.components.T
        return (codes @ self.components + self.mean).round().clip(0, 255).astype(np.uint8)

    def summary(self) -> dict[str, Any]:
        """What was kept, and by how much it exceeds what was asked."""
        kept = len(self.components)
        reached = float(self.ratios[:kept].sum())
        return {
            "components": kept,
            "variance_asked": self.share,
            "variance_kept": round(reached, 6),
            "excess": round(reached - self.share, 6),
            "variance_with_one_less": round(float(self.ratios[: kept - 1].sum()), 6),
        }


def fit_pca(images: np.ndarray, share: float = 0.25) -> PCA:
    """The fewest principal components that hold a share of the variance.

    Args:
        images: (n, pixels) uint8, at least two that differ.
        share: of the variance, in (0, 1].

    Raises:
        ValueError: images without variance, or a share outside (0, 1].

    Reference: appendix D.3, "retaining only 25% of the total variance".
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: expected a share of the variance in (0, 1]; got {share}")
    mean = images.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((images.shape[1],) * 2)
    for start in range(0, len(images), _PCA_ROWS):
        centred = images[start : start + _PCA_ROWS] - mean
        covariance += centred.T @ centred
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = variances[::-1].clip(min=0), vectors[:, ::-1]
    if not variances.sum():
        raise ValueError(f"images: the {len(images)} training images do not differ, so they have no components")
    ratios = variances / variances.sum()
    kept = min(int(np.searchsorted(ratios.cumsum(), share)) + 1, len(ratios))
    return PCA(mean, vectors[:, :kept].T.copy(), ratios, share)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name when the block ends, and vanishes if the block fails.

    A process that is killed cannot clean up, so what it left is removed the next time.

    Args:
        out: must not exist, or be an empty folder.

    Raises:
        ValueError: `out` exists and is not an empty folder, or another process is writing it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     with whole_folder(Path(place) / "data") as folder:
    ...         _ = (folder / "a.txt").write_text("whole")
    ...     [str(path.relative_to(place)) for path in Path(place).rglob("*")]
    ['data', 'data/a.txt']
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out}: exists already; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder, lock = (out.with_name(f".{out.name}.{ending}") for ending in ("unfinished", "lock"))
    try:
        with FileLock(lock, timeout=0):  # the system drops it with its process
            try:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                yield folder
                folder.replace(out)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
    except Timeout:
        raise ValueError(f"{out}: another process is writing it; wait for it, or choose another place") from None
