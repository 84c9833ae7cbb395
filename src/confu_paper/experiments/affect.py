"""MOSI, UR-FUNNY, MUStARD and MOSEI (Section 5.3, Tables 2, 3, 7 and 8, Fig 7): which voice and words are whose?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from confu.checks import check_known
from confu.data import Splits
from confu.embeddings import EmbeddingTable
from confu.evaluation import ReportRow, evaluate_linear_probe, evaluate_retrieval
from confu.evaluation.linear_probe import Feature
from confu.inference import embed
from confu.methods import METHODS, Tweaks, build_objective
from confu.models import MultimodalModel
from confu.nn.encoders import build_encoder
from confu.plan import Subset
from confu.training import ContrastiveObjective, TrainSettings
from confu_paper.datasets.affect import AFFECT, affect_facts, load_affect
from confu_paper.experiments.benchmark import Benchmark, Recipe, Request, single_target_pairs
from confu_paper.experiments.published import VALUES, Value
from confu_paper.experiments.run import Budget, Run

Reading = Literal["masked", "released"]
NAMES = ("vision", "audio", "text")
QUERIES = tuple(Subset(*names) for size in (1, 2) for names in combinations(NAMES, size))


@dataclass(frozen=True)
class Scale:
    """Encoders and training of a size; the same for every method.

    Attributes:
        encoder: settings of the three sequence encoders, but for the features of a step, which the data say.
        train: epochs, batch size, learning rate.
        limits: rows of train, validation and test at most; None for all.
        dim: size of the common space.
    """

    encoder: Mapping[str, Any]
    train: TrainSettings
    limits: tuple[int | None, int | None, int | None] = (None, None, None)
    dim: int = 256

    def rows(self, limit: int | None) -> tuple[int | None, int | None, int | None]:
        """The limits, with another one of training rows."""
        return (limit or self.limits[0], *self.limits[1:])


SMALL_ENCODER = {"width": 80, "heads": 5, "layers": 2, "hidden_dim": 160, "norm_first": True}
SMALL_TRAIN = TrainSettings(epochs=20, batch_size=128, lr=1e-3, warmup_steps=20)
_SMOKE_ENCODER = {"width": 20, "heads": 5, "layers": 1, "hidden_dim": 40, "norm_first": True}
_SMOKE_TRAIN = SMALL_TRAIN.model_copy(update={"epochs": 2, "batch_size": 32, "warmup_steps": 0})
SCALES: dict[str, Scale] = {
    # Seconds: does everything run? The numbers mean little.
    "smoke": Scale(_SMOKE_ENCODER, _SMOKE_TRAIN, limits=(512, 256, 256), dim=32),
    # All rows; encoders that two cores train in minutes.
    "small": Scale(SMALL_ENCODER, SMALL_TRAIN),
    # Appendix A.2: five layers with five heads (300 wide, as features are projected to what five divides), 100 epochs.
    "paper": Scale(
        {"width": 300, "heads": 5, "layers": 5, "hidden_dim": 2048}, TrainSettings(epochs=100, batch_size=128, lr=5e-5)
    ),
}

READINGS: dict[str, Mapping[str, Any]] = {
    "masked": {},
    # The released code: no places, no mask, and the last of 50 steps, which for a shorter clip is padding.
    "released": {"pooling": "last", "positions": False},
}


def affect_runs(
    method: str,
    name: str,
    data: Path,
    seed: int = 0,
    budget: Budget | None = None,
    tweaks: Tweaks | None = None,
    reading: Reading = "masked",
) -> list[Run]:
    """The runs of a method on a data set: one model, or for CLIP one for each pair.

    Args:
        name: one of `confu_paper.datasets.affect.AFFECT`.
        data: folder that holds NAME.parquet, as `confu data affect` writes it.
        seed: of the weights and the order of the rows.
        reading: how an encoder sees a sequence: "masked", its mean over real steps with their places; or "released".

    Raises:
        ValueError: for an unknown name, or as `load_affect`.
    """
    check_known("method", method, METHODS)
    check_known("affect data set", name, AFFECT)
    check_known("reading", reading, READINGS)
    budget, tweaks, file = budget or Budget(), dict(tweaks or {}), data / f"{name}.parquet"
    scale, facts = SCALES[budget.size], affect_facts(file)
    limits = scale.rows(budget.limit)
    ending = ("" if reading == "masked" else f"-{reading}-reading") + budget.ending
    recipe = Recipe(method, seed, budget.train(scale.train, seed), tweaks, _recalls, _probe)
    settings = {"kind": "sequence", **scale.encoder, **READINGS[reading]}
    runs = []
    for names in combinations(NAMES, 2) if method == "clip" else [NAMES]:
        own = "-".join([method, *(names if method == "clip" else ())])
        encoders = {modality: {**settings, "in_dim": facts["dims"][modality]} for modality in names}
        description = {
            "recipe": "affect",
            "size": budget.size,
            "method": own,
            "limits": list(limits),
            "encoders": encoders,
            "data": {key: facts[key] for key in ("name", "sha256", "format")},
            "dim": scale.dim,
            "reading": reading,
        }
        runs.append(
            recipe.run(
                f"{name}/{budget.size}/{own}{ending}",
                description,
                partial(load_affect, file, names, limits, padded=reading == "released"),
                partial(_objective, method, encoders, scale.dim, tweaks),
            )
        )
    return runs


def affect_benchmark(name: str, request: Request, frames: str = "eight", reading: Reading = "masked") -> Benchmark:
    """An affect data set as a benchmark: every modality is sought with each other one and with both.

    Nothing but the labels says its classes, so there is no zero-shot classification: methods are compared by recall@10,
    and by a linear probe.

    Raises:
        ValueError: as `affect_runs`.
    """
    check_known("affect data set", name, AFFECT)
    data, budget = request.folder(name), request.budget
    file = data / f"{name}.parquet"
    affect_facts(file)  # says at once what is missing

    def runs(method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        return affect_runs(method, name, data, seed, budget, tweaks, reading)

    def splits(modalities: Sequence[str], seed: int) -> Splits:
        limits = SCALES[budget.size].rows(budget.limit)
        return load_affect(file, tuple(modalities), limits, padded=reading == "released")

    return Benchmark(
        name=name,
        size=budget.size,
        modalities=NAMES,
        target=None,
        queries=QUERIES,
        runs=runs,
        splits=splits,
        score="recall@10",
        published=_published(name),
        notes=_notes(name, budget, reading),
    )


def _objective(
    method: str, encoders: Mapping[str, Mapping[str, Any]], dim: int, tweaks: Tweaks
) -> ContrastiveObjective:
    built = {name: build_encoder(dict(settings)) for name, settings in encoders.items()}
    return build_objective(method, tuple(encoders), built, dim, tweaks=tweaks)


def _recalls(model: MultimodalModel, table: EmbeddingTable, method: str, seed: int) -> list[ReportRow]:
    """Recall, which λ and masks are chosen by."""
    rows = evaluate_retrieval(table, (1, 5, 10), single_target_pairs(table), method, seed)
    return [row for row in rows if row.metric == "recall@10"] if not method else rows


def _probe(model: MultimodalModel, table: EmbeddingTable, splits: Splits, method: str, seed: int) -> list[ReportRow]:
    """A linear probe on all embeddings side by side."""
    train, validation = embed(model, splits.train), embed(model, splits.validation)
    singles = tuple(subset for subset in table.subsets if not subset.is_fused)
    features: list[Feature] = [*dict.fromkeys((singles, table.subsets))]  # what is fused adds one, for ConFu
    return evaluate_linear_probe(train, validation, table, features, method=method, seed=seed).rows


def _published(name: str) -> dict[str, dict[str, Value]]:
    """The paper's values of Tables 2 and 3 by method and column: `audio -> vision`, `concat(vision, audio, text)`."""
    values: dict[str, dict[str, Value]] = {}
    for number in VALUES:
        if number.data == name and number.source in ("table2", "table3"):
            column = number.query if number.target == "label" else f"{number.query} -> {number.target}"
            column = f"mean {number.query}" if number.target == "mean" else column
            values.setdefault(number.method, {})[column] = number.value
    return values


def _notes(name: str, budget: Budget, reading: Reading) -> tuple[str, ...]:
    train = SCALES[budget.size].train
    notes = [
        f"size {budget.size}: {budget.epochs or train.epochs} epochs, batch {train.batch_size}, learning rate "
        f"{train.lr:g}; the epoch with the lowest validation loss, test rows looked at once",
        "encoders read the real steps only and know their places; the paper's released code reads the last of 50 "
        "steps, for a shorter clip padding"
        if reading == "masked"
        else "encoders read the last of 50 steps without a mask or places, as the paper's released code",
        "-infinity in a feature became its least finite value in the training rows; the released code writes 0",
    ]
    if budget.size != "paper":
        notes.append("paper: five layers with five heads, 300 wide, 100 epochs, batch 128, learning rate 5e-5")
    if name == "mosei":
        notes.append("the paper does not measure MOSEI")
    return (*notes, *budget.notes())
