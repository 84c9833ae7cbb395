"""AV-MNIST (Section 5.1, Table 1): what is the digit, from a weak image, a noisy voice, or both?"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from confu.checks import check_known
from confu.data import Splits
from confu.embeddings import EmbeddingTable
from confu.evaluation import ReportRow, evaluate_retrieval
from confu.evaluation.scoring import answers, disjoint_pairs, queryable_subsets
from confu.inference import embed
from confu.methods import METHODS, Tweaks, build_objective, suffix, tweaked
from confu.models import LateFusionClassifier, MultimodalModel, load_model
from confu.nn.encoders import build_encoder
from confu.plan import Subset
from confu.training import ContrastiveObjective, SupervisedObjective, TrainSettings
from confu_paper.datasets import digit_prompt_dataset, digit_vocabulary, load_av_mnist
from confu_paper.experiments.benchmark import Benchmark, zero_shot
from confu_paper.experiments.published import AV_MNIST, AV_MNIST_SUPERVISED
from confu_paper.experiments.run import Run
from confu_paper.experiments.supervised import classifier_accuracy
from confu_paper.protocols.zero_shot import Reference
from confu_paper.sweeps.numbers import number_name

Size = Literal["smoke", "small", "paper"]
NAMES = ("image", "audio", "text")
TEXT = Subset("text")


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
PAPER_ENCODERS: dict[str, dict[str, Any]] = {
    "image": {"kind": "resnet", "depth": 18, "in_channels": 1, "out_dim": 256},
    "audio": {"kind": "resnet", "depth": 18, "in_channels": 1, "out_dim": 256},
    "text": {
        "kind": "bert", "vocab_size": len(digit_vocabulary()), "hidden_size": 384, "layers": 6, "heads": 12,
        "out_dim": 256,
    },
}  # fmt: skip

SMALL_TRAIN = TrainSettings(epochs=5, lr=2e-3, weight_decay=0.05, warmup_steps=100, precision="auto")

SCALES: dict[str, Scale] = {
    # A minute: does everything run? The numbers mean little.
    "smoke": Scale(
        SMALL_ENCODERS, SMALL_TRAIN.model_copy(update={"epochs": 1, "warmup_steps": 0}), limit=(2_560, 512, 1_000)
    ),
    # All rows; encoders that two cores train in minutes.
    "small": Scale(SMALL_ENCODERS, SMALL_TRAIN, time_shift=16),
    # Appendix A.3: ResNet-18 and a six-layer BERT from scratch, 30 epochs, batch 256, learning rate 1e-4.
    "paper": Scale(PAPER_ENCODERS, TrainSettings(epochs=30, lr=1e-4, batch_size=256)),
}

# The modalities of each model that a method trains: CLIP has a model for each of its two queries.
MODELS: dict[str, dict[str, tuple[str, ...]]] = {"clip": {"-image": ("image", "text"), "-audio": ("audio", "text")}}
SUPERVISED = {"-image": ("image",), "-audio": ("audio",), "-both": ("image", "audio")}


def contrastive_runs(
    method: str,
    data: Path,
    seed: int = 0,
    size: Size = "small",
    limit: int | None = None,
    epochs: int | None = None,
    tweaks: Tweaks | None = None,
) -> list[Run]:
    """The runs of a contrastive method: one model, or for CLIP one for each pair with text.

    Args:
        method: one of `confu.methods.METHODS`.
        data: folder of AV-MNIST, as `confu data av-mnist` builds it or MultiBench distributes it.
        seed: of the weights and the order of the rows.
        size: of encoders and training.
        limit: train on the first rows only.
        epochs: instead of the size's.
        tweaks: changed settings, by the names in `confu_paper.sweeps.space.DOMAINS`.
    """
    check_known("method", method, METHODS)
    return [
        _run(method + ending, data, seed, size, limit, epochs, names,
             objective=partial(_contrastive, method, names, dict(tweaks or {})),
             measure=partial(_measure_zero_shot, method, seed), monitor=_monitor_zero_shot,
             method=method, tweaks=dict(tweaks or {}))
        for ending, names in MODELS.get(method, {"": NAMES}).items()
    ]  # fmt: skip


def av_mnist_benchmark(
    data: Path, size: Size = "small", limit: int | None = None, epochs: int | None = None
) -> Benchmark:
    """AV-MNIST as a benchmark: the digit is read from the image, the voice, and both."""

    def runs(method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        return contrastive_runs(method, data, seed, size, limit, epochs, tweaks)

    def splits(modalities: Sequence[str], seed: int) -> Splits:
        return load_av_mnist(data, modalities=tuple(modalities), **_row_limits(SCALES[size], limit))

    return Benchmark(
        name="av-mnist", size=size, modalities=NAMES, target=TEXT,
        queries=(Subset("audio"), Subset("image"), Subset("image", "audio")),
        runs=runs, splits=splits, prompts=digit_prompt_dataset,
        letters={"audio": "A", "image": "V", "image+audio": "A+V", "mean(image, audio)": "mean(A, V)"},
        published=AV_MNIST,
        notes=_notes(size, limit, epochs),
    )  # fmt: skip


def supervised_runs(
    data: Path, seed: int = 0, size: Size = "small", limit: int | None = None, epochs: int | None = None
) -> list[Run]:
    """The classifiers with the same encoders and the same training: image, audio, and late fusion, the ceiling."""
    return [supervised_run(suffix, data, seed, size, limit, epochs) for suffix in SUPERVISED]


def supervised_run(
    which: str, data: Path, seed: int = 0, size: Size = "small", limit: int | None = None, epochs: int | None = None,
    name: str | None = None,
) -> Run:  # fmt: skip
    """One of the classifiers; `which` is a key of `SUPERVISED`, `name` that of the run, if not the usual one."""
    names = SUPERVISED[which]
    return _run(
        name or "supervised" + which, data, seed, size, limit, epochs, names,
        objective=partial(_supervised, names), measure=partial(_measure_supervised, names, seed, SCALES[size]),
        monitor=None,
    )  # fmt: skip


def _run(
    name: str, data: Path, seed: int, size: Size, limit: int | None, epochs: int | None, modalities: Sequence[str],
    objective: Any, measure: Any, monitor: Any, method: str | None = None, tweaks: Tweaks | None = None,
) -> Run:  # fmt: skip
    scale, tweaks = SCALES[size], tweaks or {}
    train = scale.train.model_copy(update={"seed": seed} | ({} if epochs is None else {"epochs": epochs}))
    train = train if method is None else tweaked(train, method, tweaks)
    rows = _row_limits(scale, limit)
    ending = "".join(f"-{key}{value}" for key, value in (("n", limit), ("e", epochs)) if value is not None)
    description = {
        "recipe": "av-mnist", "size": size, "method": name, "data": _identity(data), **rows,
        "time_shift": scale.time_shift,
        "encoders": {modality: dict(scale.encoders[modality]) for modality in modalities},
        "dim": scale.dim, "learned_temperature": scale.learned_temperature,
        **({"tweaks": dict(tweaks)} if tweaks else {}),
    }  # fmt: skip
    return Run(
        name=f"av-mnist/{size}/{name}{ending}{suffix(tweaks)}-s{seed}",
        description=description,
        train=train,
        splits=partial(load_av_mnist, data, modalities=tuple(modalities), time_shift=scale.time_shift, **rows),
        objective=partial(objective, scale),
        measure=measure,
        monitor=monitor,
    )


def _row_limits(scale: Scale, limit: int | None) -> dict[str, Any]:
    limits = scale.limit or (None, None, None)
    return {"train_limit": limit or limits[0], "validation_limit": limits[1], "test_limit": limits[2]}


def _contrastive(method: str, names: Sequence[str], tweaks: Tweaks, scale: Scale) -> ContrastiveObjective:
    encoders = {name: build_encoder(scale.encoders[name]) for name in names}
    return build_objective(method, names, encoders, scale.dim, scale.learned_temperature, tweaks)


def _supervised(names: Sequence[str], scale: Scale) -> nn.Module:
    encoders = {name: build_encoder(scale.encoders[name]) for name in names}
    return SupervisedObjective(LateFusionClassifier(encoders, num_classes=10))


def _monitor_zero_shot(objective: nn.Module, splits: Splits) -> dict[str, float]:
    """Zero-shot accuracy on validation rows, for the curves and for the time that an accuracy takes."""
    assert isinstance(objective, ContrastiveObjective)
    model = objective.model
    table = embed(model, splits.validation)
    return {number_name(row): row.value for row in zero_shot(model, table, *_question(model)).rows}


def _question(model: MultimodalModel) -> tuple[Any, Subset, list[Subset]]:
    """The prompts, the target, and the queries of a model's modalities."""
    queries = [Subset(name) for name in model.plan.modalities if name != "text"]
    return digit_prompt_dataset(), TEXT, queries + ([Subset("image", "audio")] if len(queries) == 2 else [])


def measure_accuracy(method: str, seed: int, folder: Path, splits: Splits) -> list[ReportRow]:
    """Embed the test rows, keep the table beside the run, and read the digit from every query."""
    model = load_model(folder / "best")
    table = embed(model, splits.test)
    table.save(folder / "test.parquet")
    return zero_shot(model, table, *_question(model), method=method, seed=seed).rows


def _measure_zero_shot(method: str, seed: int, folder: Path, splits: Splits) -> list[ReportRow]:
    found = measure_accuracy(method, seed, folder, splits)
    table = EmbeddingTable.load(folder / "test.parquet")
    pairs = None
    if table.score != "cosine":  # those of Table 2; the fused targets would be twice as many, of 10,000 x 10,000 each
        subsets = queryable_subsets(table)
        pairs = [(query, target) for query, target in disjoint_pairs(subsets)
                 if not target.is_fused and answers(table, query, target)]  # fmt: skip
    return found + evaluate_retrieval(table, pairs=pairs, method=method, seed=seed)


def _measure_supervised(names: Sequence[str], seed: int, scale: Scale, folder: Path, splits: Splits) -> list[ReportRow]:
    objective = _supervised(names, scale)
    assert isinstance(objective, SupervisedObjective)
    objective.load(folder / "best")
    accuracy = classifier_accuracy(objective.model, splits.test)
    return [ReportRow("accuracy", "+".join(names), "label", accuracy, len(splits.test), "supervised", seed)]


def supervised_reference(
    data: Path, size: Size, limit: int | None = None, epochs: int | None = None
) -> dict[str, Reference]:
    """The supervised classifiers, as rows of a table of zero-shot accuracies that do not compete."""

    def make(seed: int) -> list[Run]:
        return supervised_runs(data, seed, size, limit, epochs)

    return {"supervised (ceiling)": (make, AV_MNIST_SUPERVISED)}


def _notes(size: Size, limit: int | None, epochs: int | None) -> tuple[str, ...]:
    train = SCALES[size].train
    notes = [
        f"size {size}: {epochs or train.epochs} epochs, batch {train.batch_size}, learning rate {train.lr:g}; the "
        "epoch with the lowest validation loss, test rows looked at once",
        "the published data set mixes ESC-50 into its spoken digits; ours may mix other recordings, calibrated to the "
        "published accuracy of an audio classifier",
        "paper: ResNet-18 and BERT, 30 epochs, learning rate 1e-4"
        + ("" if size == "paper" else "; here small encoders"),
    ]
    if size == "smoke":
        notes.append("size smoke shows that everything runs: its numbers mean little, and are not comparable")
    if limit is not None:
        notes.append(f"trained on the first {limit} rows only: not comparable")
    return tuple(notes)


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
