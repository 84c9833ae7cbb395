"""Pickles in MultiBench's layout of affect data, tiny, with what the real ones have: front padding, -infinity."""

import pickle
from pathlib import Path

import numpy as np

DIMS = {"mosi": (20, 5, 300), "ur-funny": (371, 81, 300), "mustard": (371, 81, 300), "mosei": (35, 74, 300)}
ROWS = {"train": 48, "valid": 24, "test": 24}


def affect_content(name="mosi", rows=None, steps=12, dims=None, seed=0, infinite=True):
    """What the pickle holds: a dict of arrays a split. Row i has 1 + i % steps words; all modalities say its class."""
    random = np.random.default_rng(seed)
    widths = dict(zip(("vision", "audio", "text"), dims or DIMS[name]))
    maps = {modality: random.normal(size=(4, width)) for modality, width in widths.items()}
    content = {}
    for split, count in (rows or ROWS).items():
        latent = random.normal(size=(count, 1, 4))
        fields = {
            modality: (latent @ maps[modality] + 0.5 * random.normal(size=(count, steps, width))).astype(np.float32)
            for modality, width in widths.items()
        }
        for row in range(count):
            fields["text"][row, : steps - 1 - row % steps] = 0
        if infinite and name in ("mosi", "mosei"):
            fields["audio"][1::4, -1, 2] = -np.inf
        positive = latent[:, 0, 0] > 0
        content[split] = {**fields, **_labels(name, positive, random), "id": _ids(name, split, count)}
    return content


def _labels(name, positive, random):
    if name in ("mosi", "mosei"):  # (n, 1, 1) real
        scores = np.where(positive, 1, -1) * random.uniform(0.2, 3, len(positive))
        return {"labels": scores.reshape(-1, 1, 1).astype(np.float32)}
    if name == "ur-funny":  # (n, 1)
        return {"labels": positive.reshape(-1, 1).astype(np.int64)}
    return {"labels": np.where(positive, 1.0, -1.0).reshape(-1, 1, 1)}


def _ids(name, split, count):
    if name in ("mosi", "mosei"):  # a video, and where the segment begins and ends
        return np.array([[f"{split}{row}".encode(), b"0.5", b"2.0"] for row in range(count)])
    return np.arange(count).reshape(-1, 1) + 1000 * list(ROWS).index(split)


def write_affect(path: Path, content=None, protocol=4, **arguments) -> Path:
    """Pickle it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(affect_content(**arguments) if content is None else content, protocol))
    return path
