"""The real steps of padded sequences of features, and what is done about numbers that are not finite.

Shapes: n rows, s real steps of all of them one after the other, d features.
"""

from dataclasses import dataclass

import numpy as np

from confu_paper.datasets.affect_pickle import MODALITIES, Part


@dataclass(frozen=True, eq=False)
class Steps:
    """The real steps of some rows.

    Attributes:
        values: (s, d) float32.
        lengths: (n,) steps of each row; 0 for a row that is not there.
        begins: (n,) where the first word stands; -1 where there is none.
        cut: (n,) bool, rows that went on after the last step kept.
        broken: (n,) bool, rows with NaN, +infinity or a number that float32 cannot hold.
    """

    values: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    cut: np.ndarray
    broken: np.ndarray

    @property
    def all_zero(self) -> np.ndarray:
        """(n,) bool, rows that have steps, of nothing but zeros."""
        return (self.lengths > 0) & ~_any_of_row((self.values != 0).any(axis=1), self.lengths)

    def of(self, rows: np.ndarray) -> "Steps":
        """The same with the steps of these rows only, (n,) bool."""
        values = self.values[np.repeat(rows, self.lengths)]
        return Steps(values, np.where(rows, self.lengths, 0), self.begins, self.cut, self.broken & rows)


def real_steps(part: Part, modality: str, rows: slice, max_steps: int) -> Steps:
    """The steps from a row's first word on, at most so many; the same for every modality, as they are aligned.

    Args:
        part: of a pickle.
        modality: whose features.
        rows: of the part.
        max_steps: later steps are left out.
    """
    words = (part.arrays["text"][rows] != 0).any(axis=2)  # NaN is a word that is broken
    begins = np.where(words.any(axis=1), words.argmax(axis=1), -1)
    total = words.shape[1]
    place = np.arange(total) - begins[:, None]
    kept = (place >= 0) & (place < max_steps) & (begins >= 0)[:, None]
    stored = part.arrays[modality][rows][kept]
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        values = stored.astype(np.float32)
    lengths = kept.sum(axis=1)
    sound = np.isfinite(values) | np.isneginf(stored)
    broken = _any_of_row(~sound.all(axis=1), lengths)
    return Steps(values, lengths, begins, (begins >= 0) & (total - begins > max_steps), broken)


def least_values(part: Part, max_steps: int, chunk: int) -> dict[str, np.ndarray]:
    """By modality, (d,) the least finite value of each feature in the rows that are not broken.

    A feature that is never finite gets the least of all features.
    """
    least = {modality: np.full(part.arrays[modality].shape[2], np.inf, dtype=np.float32) for modality in MODALITIES}
    for start in range(0, len(part), chunk):
        rows = slice(start, min(start + chunk, len(part)))
        for modality in MODALITIES:
            found = real_steps(part, modality, rows, max_steps)
            values = found.of(~found.broken).values
            finite = np.where(np.isfinite(values), values, np.inf)
            least[modality] = np.minimum(least[modality], finite.min(axis=0, initial=np.inf))
    return {modality: np.where(np.isfinite(found), found, found.min()) for modality, found in least.items()}


def without_infinity(found: Steps, least: np.ndarray) -> Steps:
    """-infinity, the logarithm of nothing, as the least value (d,) of its feature.

    Raises:
        ValueError: if there is no least value, as the training rows hold no finite number.
    """
    infinite = np.isneginf(found.values)
    if not infinite.any():
        return found
    if not np.isfinite(least).all():
        raise ValueError("a modality holds -infinity, and no finite number in the training rows to take in its place")
    values = np.where(infinite, least, found.values)
    return Steps(values, found.lengths, found.begins, found.cut, found.broken)


def _any_of_row(of_step: np.ndarray | np.bool, lengths: np.ndarray) -> np.ndarray:
    row = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(row[np.asarray(of_step)], minlength=len(lengths)) > 0
