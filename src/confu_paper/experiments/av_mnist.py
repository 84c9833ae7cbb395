"""AV-MNIST (Section 5.1, Table 1): which digit is it, from a weak image, a noisy voice, or both?"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from confu.checks import check_known
from confu.data import Dataset, Splits
from confu.embeddings import EmbeddingTable
from confu.evaluation import ReportRow, evaluate_retrieval
from confu.methods import METHODS, Tweaks, build_objective
from confu.models import LateFusionClassifier, MultimodalModel
from confu.nn.encoders import build_encoder
from confu.plan import Subset
from confu.training import ContrastiveObjective, SupervisedObjective, TrainSettings
from confu_paper.datasets import digit_prompt_dataset, digit_vocabulary, load_av_mnist
from confu_paper.experiments.benchmark import Benchmark, Recipe, Request, asking_classes, single_target_pairs
from confu_paper.experiments.published import AV_MNIST_SUPERVISED, by_method, published
from confu_paper.experiments.run import Budget, Run

NAMES = ("image", "audio", "text")
TEXT = Subset("text")
QUERIES = (Subset("audio"), Subset("image"), Subset("image", "audio"))
LETTERS = {"audio": "A", "image": "V", "image+audio": "A+V", "mean(image, audio)": "mean(A, V)"}


@dataclass(frozen=True)
class Scale:
    """Encoders and training of a size; the same for every method.

    Attributes:
        encoders: settings of each modality's encoder (see `confu.nn.encoders.build_encoder`).
        train: epochs, batch size, learning rate and precision.
        dim: size of the common space.
        learned_temperature: learn it from 0.07, or keep it there.
        limit: rows of train, validation and test at most; None for all.
        time_shift: frames by which training spectrograms are shifted at random.
    """

    encoders: Mapping[str, Mapping[str, Any]]
    train: TrainSettings
    dim: int = 256
    learned_temperature: bool = False
    limit: tuple[int, int, int] | None = None
    time_shift: int = 0

    def rows(self, limit: int | None) -> dict[str, Any]:
        """The limits of rows as `load_av_mnist` takes them, with another one of training rows."""
        limits = self.limit or (None, None, None)
        return {"train_limit": limit or limits[0], "validation_limit": limits[1], "test_limit": limits[2]}


SMALL_ENCODERS: dict[str, dict[str, Any]] = {
    "image": {"kind": "mlp", "in_dim": 784, "hidden_dims": [256], "out_dim": 256},
    # Chosen among a dozen small networks by validation accuracy a minute, see docs/reproduction.md.
    "audio": {
        "kind": "conv",
        "channels": [32, 64, 128, 256],
        "out_dim": 256,
        "first_pool": 2,
        "first_kernel": 5,
        "pooling": "max-time",
        "height": 112,
        "feature_norm": True,
        "dropout": 0.2,
    },
    "text": {"kind": "tokens", "vocab_size": len(digit_vocabulary()), "width": 64, "layers": 2, "out_dim": 256},
}
_BERT = {"kind": "bert", "vocab_size": len(digit_vocabulary()), "hidden_size": 384, "layers": 6, "heads": 12}
PAPER_ENCODERS: dict[str, dict[str, Any]] = {
    "image": {"kind": "resnet", "depth": 18, "in_channels": 1, "out_dim": 256},
    "audio": {"kind": "resnet", "depth": 18, "in_channels": 1, "out_dim": 256},
    "text": {**_BERT, "out_dim": 256},
}

SMALL_TRAIN = TrainSettings(epochs=5, lr=2e-3, weight_decay=0.05, warmup_steps=100, precision="auto")
_SMOKE_TRAIN = SMALL_TRAIN.model_copy(update={"epochs": 1, "warmup_steps": 0})

SCALES: dict[str, Scale] = {
    # A minute: does everything run? The numbers mean little.
    "smoke": Scale(SMALL_ENCODERS, _SMOKE_TRAIN, limit=(2_560, 512, 1_000)),
    # All rows; encoders that two cores train in minutes.
    "small": Scale(SMALL_ENCODERS, SMALL_TRAIN, time_shift=16),
    # Appendix A.3: ResNet-18 and a six-layer BERT from scratch, 30 epochs, batch 256, learning rate 1e-4.
    "paper": Scale(PAPER_ENCODERS, TrainSettings(epochs=30, lr=1e-4, batch_size=256)),
}

# The modalities of each model that a method trains: CLIP has a model for each of its two queries.
MODELS: dict[str, dict[str, tuple[str, ...]]] = {"clip": {"-image": ("image", "text"), "-audio": ("audio", "text")}}
ASK = asking_classes(digit_prompt_dataset, TEXT, QUERIES)
SUPERVISED = {"-image": ("image",), "-audio": ("audio",), "-both": ("image", "audio")}


def contrastive_runs(
    method: str, data: Path, seed: int = 0, budget: Budget | None = None, tweaks: Tweaks | None = None
) -> list[Run]:
    """The runs of a contrastive method: one model, or for CLIP one for each pair with text.

    Args:
        data: folder of AV-MNIST, as `confu data av-mnist` builds it or MultiBench distributes it.
        seed: of the weights and the order of the rows.
    """
    check_known("method", method, METHODS)
    budget, tweaks = budget or Budget(), dict(tweaks or {})
    scale = SCALES[budget.size]
    recipe = Recipe(method, seed, budget.train(scale.train, seed), tweaks, ASK, _retrieval)
    return [
        recipe.run(
            f"av-mnist/{budget.size}/{method}{ending}{budget.ending}",
            _description(method + ending, data, budget, names),
            _splits(data, budget, names),
            partial(contrastive_objective, scale, method, names, tweaks),
        )
        for ending, names in MODELS.get(method, {"": NAMES}).items()
    ]


def supervised_run(which: str, data: Path, seed: int = 0, budget: Budget | None = None, name: str | None = None) -> Run:
    """A classifier with the same encoders and training; `which` is a key of `SUPERVISED`, `name` that of the run."""
    budget, names = budget or Budget(), SUPERVISED[which]
    name, scale = name or "supervised" + which, SCALES[budget.size]
    return Run(
        name=f"av-mnist/{budget.size}/{name}{budget.ending}-s{seed}",
        description=_description(name, data, budget, names),
        train=budget.train(scale.train, seed),
        splits=_splits(data, budget, names),
        objective=partial(_supervised, scale, names),
        measure=partial(_measure_supervised, scale, names, seed),
    )


def supervised_runs(data: Path, seed: int = 0, budget: Budget | None = None) -> list[Run]:
    """The classifiers of image, of audio, and late fusion of both, the ceiling."""
    return [supervised_run(which, data, seed, budget) for which in SUPERVISED]


def av_mnist_benchmark(name: str, request: Request, frames: str = "eight") -> Benchmark:
    """AV-MNIST as a benchmark: the digit is read from the image, the voice, and both."""
    data, budget = request.folder("av-mnist"), request.budget

    def runs(method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        return contrastive_runs(method, data, seed, budget, tweaks)

    def splits(modalities: Sequence[str], seed: int) -> Splits:
        return load_av_mnist(data, modalities=tuple(modalities), **SCALES[budget.size].rows(budget.limit))

    return Benchmark(
        name="av-mnist",
        size=budget.size,
        modalities=NAMES,
        target=TEXT,
        queries=QUERIES,
        runs=runs,
        splits=splits,
        prompts=digit_prompt_dataset,
        letters=LETTERS,
        published=by_method(published("table1")),
        notes=_notes(budget),
    )


def supervised_reference(request: Request) -> dict[str, tuple[Callable[[int], list[Run]], Mapping[str, Any]]]:
    """The supervised classifiers, as rows of a table of zero-shot accuracies that do not compete."""
    data, budget = request.folder("av-mnist"), request.budget
    return {"supervised (ceiling)": (lambda seed: supervised_runs(data, seed, budget), AV_MNIST_SUPERVISED)}


def _description(name: str, data: Path, budget: Budget, modalities: Sequence[str]) -> dict[str, Any]:
    scale = SCALES[budget.size]
    return {
        "recipe": "av-mnist",
        "size": budget.size,
        "method": name,
        "data": _identity(data),
        **scale.rows(budget.limit),
        "time_shift": scale.time_shift,
        "encoders": {modality: dict(scale.encoders[modality]) for modality in modalities},
        "dim": scale.dim,
        "learned_temperature": scale.learned_temperature,
    }


def _splits(data: Path, budget: Budget, modalities: Sequence[str]) -> Callable[[], Splits]:
    scale = SCALES[budget.size]
    rows = scale.rows(budget.limit)
    return partial(load_av_mnist, data, modalities=tuple(modalities), time_shift=scale.time_shift, **rows)


def contrastive_objective(
    scale: Scale,
    method: str,
    names: Sequence[str],
    tweaks: Tweaks,
    same_group: str = "negatives",
    equal_inputs: str = "negatives",
) -> ContrastiveObjective:
    """The model of a method with the encoders of a size, and its loss."""
    encoders = {name: build_encoder(scale.encoders[name]) for name in names}
    settings = (scale.dim, scale.learned_temperature, tweaks)
    return build_objective(method, names, encoders, *settings, same_group=same_group, equal_inputs=equal_inputs)


def _supervised(scale: Scale, names: Sequence[str]) -> SupervisedObjective:
    encoders = {name: build_encoder(scale.encoders[name]) for name in names}
    return SupervisedObjective(LateFusionClassifier(encoders, num_classes=10))


def _retrieval(
    model: MultimodalModel, table: EmbeddingTable, splits: Splits, method: str, seed: int
) -> list[ReportRow]:
    # Of other scores those of Table 2; the fused targets would be twice as many, of 10,000 x 10,000 each.
    pairs = None if table.score == "cosine" else single_target_pairs(table)
    return evaluate_retrieval(table, pairs=pairs, method=method, seed=seed)


def _measure_supervised(scale: Scale, names: Sequence[str], seed: int, folder: Path, splits: Splits) -> list[ReportRow]:
    objective = _supervised(scale, names)
    objective.load(folder / "best")
    return [supervised_row(objective.model, splits.test, "+".join(names), seed)]


def supervised_row(model: LateFusionClassifier, dataset: Dataset, query: str, seed: int) -> ReportRow:
    """The accuracy of a classifier, left in evaluation mode: the share of rows whose largest logit is their label's."""
    device = next(model.parameters()).device
    model.eval()
    right = 0
    with torch.inference_mode():
        for rows in torch.arange(len(dataset)).split(1024):
            batch = dataset.batch(rows).to(device)
            assert batch.labels is not None
            right += int((model(batch).argmax(dim=1) == batch.labels).sum())
    return ReportRow("accuracy", query, "label", right / len(dataset), len(dataset), "supervised", seed)


def _notes(budget: Budget) -> tuple[str, ...]:
    train, size = SCALES[budget.size].train, budget.size
    return (
        f"size {size}: {budget.epochs or train.epochs} epochs, batch {train.batch_size}, learning rate {train.lr:g}; "
        "the epoch with the lowest validation loss, test rows looked at once",
        "the published data set mixes ESC-50 into its spoken digits; ours may mix other recordings, calibrated to the "
        "published accuracy of an audio classifier",
        "paper: ResNet-18 and BERT, 30 epochs, learning rate 1e-4"
        + ("" if size == "paper" else "; here small encoders"),
        *budget.notes("the first {} rows"),
    )


def _identity(data: Path) -> dict[str, Any]:
    """What tells one build of the data from another, without naming the folder that it happens to lie in."""
    labels = data / "train_labels.npy"
    if not labels.is_file():
        raise ValueError(
            f"{data}: no AV-MNIST there (train_labels.npy is missing). Build it with\n"
            f"  confu data av-mnist --mnist DIR --speech DIR --noise DIR --out {data}\n"
            "or give the folder of MultiBench's avmnist files with --data"
        )
    identity: dict[str, Any] = {"labels": hashlib.sha256(labels.read_bytes()).hexdigest()[:16]}
    settings = data / "dataset.json"
    if settings.is_file():
        identity["built"] = json.loads(settings.read_text())["settings"]
    return identity
