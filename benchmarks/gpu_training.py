"""Training as on AV-MNIST, with random pictures and spectrograms: what the settings for a GPU give."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from confu import ConFuLoss, ContrastiveObjective, MultimodalModel, build_encoder
from confu.data import ArrayDataset, TensorColumn
from confu.plan import confu_plan
from confu.training import TrainSettings, fit
from confu_paper.datasets.spoken_digits import digit_captions
from confu_paper.experiments.av_mnist import PAPER_ENCODERS

NAMES = ("image", "audio", "text")
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "resident": {"resident": True},
    "resident, bfloat16": {"resident": True, "precision": "bfloat16"},
    "resident, bfloat16, channels_last": {"resident": True, "precision": "bfloat16", "channels_last": True},
    "the same, compiled": {"resident": True, "precision": "bfloat16", "channels_last": True, "compile": True},
}


def rows_of(count: int) -> ArrayDataset:
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(0, 10, (count,), generator=generator)
    pictures = torch.randint(0, 256, (count, 28 * 28), generator=generator, dtype=torch.uint8)
    sounds = torch.randint(0, 256, (count, 112, 112), generator=generator, dtype=torch.uint8)
    columns = {
        "image": TensorColumn(pictures, scale=255, shape=(1, 28, 28)),
        "audio": TensorColumn(sounds, scale=255, shape=(1, 112, 112)),
        "text": digit_captions(labels, 0),
    }
    return ArrayDataset(columns, labels)


def throughput(
    count: int = 20_480, batch_size: int = 256, encoders: dict[str, dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Samples a second of `fit` in its second epoch, ResNet-18 twice and a BERT of six layers, by settings."""
    train, validation = rows_of(count), rows_of(2 * batch_size)
    found = []
    for name, changes in SETTINGS.items():
        torch.manual_seed(0)
        plan = confu_plan(NAMES)
        built = {modality: build_encoder((encoders or PAPER_ENCODERS)[modality]) for modality in NAMES}
        objective = ContrastiveObjective(MultimodalModel(plan, built), ConFuLoss(plan))
        seconds = []
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainSettings(epochs=2, batch_size=batch_size, log_every=50, checkpoint_every=10**6, **changes)

            def look(seconds: list[float] = seconds, file: Path = Path(folder) / "log.jsonl") -> dict[str, float]:
                seconds.append(_now())
                return {}

            fit(objective, train, validation, settings, Path(folder), monitor=look, progress=False)
        rate = count // batch_size * batch_size / (seconds[1] - seconds[0])
        found.append({"settings": name, "samples_a_second": rate})
        print(f"training, {name}: {rate:.0f} samples a second (with a validation)", flush=True)
    return found


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
