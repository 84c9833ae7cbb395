"""MOSI, UR-FUNNY, MUStARD and MOSEI (Section 5.3, Tables 2, 3, 7 and 8, Fig 7): which voice and words are whose?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from torch import nn

from confu.checks import check_known
from confu.data import Splits
from confu.embeddings import EmbeddingTable
from confu.evaluation import ReportRow, evaluate_retrieval
from confu.evaluation.linear_probe import Feature, evaluate_linear_probe
from confu.evaluation.scoring import answers, disjoint_pairs, queryable_subsets
from confu.inference import embed
from confu.methods import METHODS, Tweaks, build_objective, suffix, tweaked
from confu.models import load_model
from confu.nn.encoders import build_encoder
from confu.plan import Subset
from confu.training import ContrastiveObjective, TrainSettings
from confu_paper.datasets.affect import AFFECT, affect_facts, load_affect
from confu_paper.experiments.benchmark import Benchmark
from confu_paper.experiments.published import VALUES, Value
from confu_paper.experiments.run import Run
from confu_paper.sweeps.numbers import number_name

Size = Literal["smoke", "small", "paper"]
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


SMALL_ENCODER = {"width": 80, "heads": 5, "layers": 2, "hidden_dim": 160, "norm_first": True}
SMALL_TRAIN = TrainSettings(epochs=20, batch_size=128, lr=1e-3, warmup_steps=20)
SCALES: dict[str, Scale] = {
    # Seconds: does everything run? The numbers mean little.
    "smoke": Scale(
        {"width": 20, "heads": 5, "layers": 1, "hidden_dim": 40, "norm_first": True},
        SMALL_TRAIN.model_copy(update={"epochs": 2, "batch_size": 32, "warmup_steps": 0}),
        limits=(512, 256, 256), dim=32,
    ),
    # All rows; encoders that two cores train in minutes.
    "small": Scale(SMALL_ENCODER, SMALL_TRAIN),
    # Appendix A.2: five layers with five heads (300 wide, as features are projected to what five divides), 100 epochs.
    "paper": Scale(
        {"width": 300, "heads": 5, "layers": 5, "hidden_dim": 2048}, TrainSettings(epochs=100, batch_size=128, lr=5e-5)
    ),
}  # fmt: skip

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
    size: Size = "small",
    limit: int | None = None,
    epochs: int | None = None,
    tweaks: Tweaks | None = None,
    reading: Reading = "masked",
) -> list[Run]:
    """The runs of a method on a data set: one model, or for CLIP one for each pair.

    Args:
        method: one of `confu.methods.METHODS`.
        name: one of `confu_paper.datasets.affect.AFFECT`.
        data: folder that holds NAME.parquet, as `confu data affect` writes it.
        seed: of the weights and the order of the rows.
        size: of encoders and training.
        limit: train on so many rows only, at even distances.
        epochs: instead of the size's.
        tweaks: changed settings, by the names in `confu_paper.sweeps.space.DOMAINS`.
        reading: how an encoder sees a sequence: "masked", its mean over real steps with their places; or "released".

    Raises:
        ValueError: for an unknown name, or as `load_affect`.
    """
    check_known("method", method, METHODS)
    check_known("affect data set", name, AFFECT)
    check_known("reading", reading, READINGS)
    file, scale, tweaks = data / f"{name}.parquet", SCALES[size], dict(tweaks or {})
    facts = affect_facts(file)
    train = scale.train.model_copy(update={"seed": seed} | ({} if epochs is None else {"epochs": epochs}))
    limits = (limit or scale.limits[0], *scale.limits[1:])
    ending = "" if reading == "masked" else f"-{reading}-reading"
    ending += "".join(f"-{key}{value}" for key, value in (("n", limit), ("e", epochs)) if value is not None)
    runs = []
    for names in combinations(NAMES, 2) if method == "clip" else [NAMES]:
        own = method + "".join(f"-{one}" for one in names) if method == "clip" else method
        encoders = {
            one: {"kind": "sequence", "in_dim": facts["dims"][one], **scale.encoder, **READINGS[reading]}
            for one in names
        }
        description = {
            "recipe": "affect", "size": size, "method": own, "limits": list(limits), "encoders": encoders,
            "data": {key: facts[key] for key in ("name", "sha256", "format")}, "dim": scale.dim, "reading": reading,
            **({"tweaks": tweaks} if tweaks else {}),
        }  # fmt: skip
        runs.append(
            Run(
                name=f"{name}/{size}/{own}{ending}{suffix(tweaks)}-s{seed}",
                description=description,
                train=tweaked(train, method, tweaks),
                splits=partial(load_affect, file, names, limits, padded=reading == "released"),
                objective=partial(_objective, method, encoders, scale.dim, tweaks),
                measure=partial(_measure, method, seed),
                monitor=_monitor,
            )
        )
    return runs


def affect_benchmark(
    name: str,
    data: Path,
    size: Size = "small",
    limit: int | None = None,
    epochs: int | None = None,
    reading: Reading = "masked",
) -> Benchmark:
    """An affect data set as a benchmark: every modality is sought with each other one and with both.

    Nothing but the labels says its classes, so there is no zero-shot classification: methods are compared by recall@10,
    and by a linear probe. For the arguments see `affect_runs`.

    Raises:
        ValueError: as `affect_runs`.
    """
    check_known("affect data set", name, AFFECT)
    limits = (limit or SCALES[size].limits[0], *SCALES[size].limits[1:])
    file = data / f"{name}.parquet"
    affect_facts(file)  # says at once what is missing

    def runs(method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        return affect_runs(method, name, data, seed, size, limit, epochs, tweaks, reading)

    def splits(modalities: Sequence[str], seed: int) -> Splits:
        return load_affect(file, tuple(modalities), limits, padded=reading == "released")

    return Benchmark(
        name=name, size=size, modalities=NAMES, target=None, queries=QUERIES, runs=runs, splits=splits,
        score="recall@10", published=_published(name), notes=_notes(name, size, limit, epochs, reading),
    )  # fmt: skip


def _objective(
    method: str, encoders: Mapping[str, Mapping[str, Any]], dim: int, tweaks: Tweaks
) -> ContrastiveObjective:
    built = {name: build_encoder(dict(settings)) for name, settings in encoders.items()}
    return build_objective(method, tuple(encoders), built, dim, tweaks=tweaks)


def _retrieval(table: EmbeddingTable, ks: Sequence[int], method: str = "", seed: int = 0) -> list[ReportRow]:
    """Every query of one modality or more with every single one that it can find; as Table 2, no fused targets."""
    pairs = [
        (query, target)
        for query, target in disjoint_pairs(queryable_subsets(table))
        if not target.is_fused and answers(table, query, target)
    ]
    return evaluate_retrieval(table, ks, pairs, method, seed)


def _monitor(objective: nn.Module, splits: Splits) -> dict[str, float]:
    """Recall@10 on validation rows, which λ and masks are chosen by."""
    assert isinstance(objective, ContrastiveObjective)
    found = _retrieval(embed(objective.model, splits.validation), ks=(10,))
    return {number_name(row): row.value for row in found if row.metric == "recall@10"}


def _measure(method: str, seed: int, folder: Path, splits: Splits) -> list[ReportRow]:
    """Embed the test rows, keep the table beside the run; retrieval, and a probe on all embeddings side by side."""
    model = load_model(folder / "best")
    table = embed(model, splits.test)
    table.save(folder / "test.parquet")
    rows = _retrieval(table, (1, 5, 10), method, seed)
    train, validation = embed(model, splits.train), embed(model, splits.validation)
    singles = tuple(subset for subset in table.subsets if not subset.is_fused)
    features: list[Feature] = [*dict.fromkeys((singles, table.subsets))]  # what is fused adds one, for ConFu
    return rows + evaluate_linear_probe(train, validation, table, features, method=method, seed=seed).rows


def _published(name: str) -> dict[str, dict[str, Value]]:
    """The paper's values of Tables 2 and 3 by method and column: `audio -> vision`, `concat(vision, audio, text)`."""
    found: dict[str, dict[str, Value]] = {}
    for one in VALUES:
        if one.data == name and one.source in ("table2", "table3"):
            column = one.query if one.target == "label" else f"{one.query} -> {one.target}"
            column = f"mean {one.query}" if one.target == "mean" else column
            found.setdefault(one.method, {})[column] = one.value
    return found


def _notes(name: str, size: Size, limit: int | None, epochs: int | None, reading: Reading) -> tuple[str, ...]:
    train = SCALES[size].train
    notes = [
        f"size {size}: {epochs or train.epochs} epochs, batch {train.batch_size}, learning rate {train.lr:g}; the "
        "epoch with the lowest validation loss, test rows looked at once",
        "encoders read the real steps only and know their places; the paper's released code reads the last of 50 "
        "steps, for a shorter clip padding"
        if reading == "masked"
        else "encoders read the last of 50 steps without a mask or places, as the paper's released code",
        "-infinity in a feature became its least finite value in the training rows; the released code writes 0",
    ]
    if size != "paper":
        notes.append("paper: five layers with five heads, 300 wide, 100 epochs, batch 128, learning rate 5e-5")
    if name == "mosei":
        notes.append("the paper does not measure MOSEI")
    if size == "smoke":
        notes.append("size smoke shows that everything runs: its numbers mean little, and are not comparable")
    if limit is not None:
        notes.append(f"trained on {limit} rows only: not comparable")
    return tuple(notes)
