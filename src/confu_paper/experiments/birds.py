"""Birds (Section 5.3): models trained on Bird-MML, evaluated on SSW60, VB100 and CUB-200-2011."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from confu.checks import check_known
from confu.data import Splits
from confu.evaluation import ReportRow
from confu.evaluation.few_shot import RELEASED_SHOTS
from confu.inference import embed
from confu.methods import METHODS, Tweaks, build_objective, suffix, tweaked
from confu.models import MultimodalModel, load_model
from confu.plan import Subset
from confu.training import ContrastiveObjective
from confu_paper.experiments.benchmark import Benchmark, zero_shot
from confu_paper.experiments.birds_data import BirdMML
from confu_paper.experiments.birds_noise import noise_conditions
from confu_paper.experiments.birds_notes import bird_notes, bird_numbers
from confu_paper.experiments.birds_rows import READ, BirdTestRows
from confu_paper.experiments.birds_scales import NAMES, SCALES, BirdScale, Pairing, Size
from confu_paper.experiments.run import Run
from confu_paper.sweeps.numbers import number_name

TEXT = Subset("text")
QUERIES = (Subset("audio"), Subset("image"), Subset("image", "audio"))
LETTERS = {"audio": "A", "image": "V", "image+audio": "A+V", "mean(image, audio)": "mean(A, V)"}
# The modalities of each model that a method trains: CLIP has a model for each of its two queries.
MODELS: dict[str, dict[str, tuple[str, ...]]] = {"clip": {"-image": ("image", "text"), "-audio": ("audio", "text")}}
LAST = "last"


def bird_benchmark(
    name: str,
    data: Path,
    train_data: Path,
    size: Size,
    limit: int | None = None,
    epochs: int | None = None,
    frames: str = "eight",
    cache: Path = Path("runs/cache"),
    pairing: Pairing | None = None,
    progress: bool = True,
) -> Benchmark:
    """Videos or photos of birds as a benchmark: the species is read from the picture, the sound, and both.

    The models are those of `bird_runs`, whatever they are evaluated on, and are trained once.

    Args:
        name: "ssw60", "vb100" or "cub200", which has no sound.
        data: the folder of its files.
        train_data: Bird-MML's folder, csv or manifest.
        size: of encoders and training.
        limit: train on so many rows only.
        epochs: instead of the size's.
        frames: "eight" of each video as one mean embedding (Table 4), or "single" frames one by one (Table 5).
        cache: a folder for what is decoded and for frozen networks' features.
        pairing: of Bird-MML's modalities, "afresh" by species in every batch or "fixed"; None is the size's.
        progress: whether to draw progress bars.

    Raises:
        ValueError: an unknown name, size or choice of frames; single frames of photos.
    """
    check_known("data set", name, READ)
    check_known("size", size, SCALES)
    check_known("frames", frames, ("eight", "single"))
    if name == "cub200" and frames == "single":
        raise ValueError("cub200 holds photos, not videos: leave out frames='single'")
    trained_on = _bird_mml(train_data, SCALES[size], cache, limit, pairing, progress)
    rows = BirdTestRows(name, data, trained_on, frames)
    queries = QUERIES[1:2] if name == "cub200" else QUERIES

    def runs(method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        found = _runs(method, trained_on, seed, size, limit, epochs, pairing, tweaks)
        asked = {modality for query in queries for modality in query}
        return [run for names, run in found if asked & set(names)]

    def splits(modalities: Sequence[str], seed: int) -> Splits:
        raise ValueError(
            f"{name} has no rows to learn from: its models are trained on Bird-MML, and what they know of {name} is "
            "measured zero-shot or from a few of its rows (few-shot)"
        )

    return Benchmark(
        name=name, size=size, modalities=NAMES, target=TEXT, queries=queries, runs=runs, splits=splits,
        prompts=lambda: trained_on.prompts(rows.class_names()),
        letters=LETTERS, published=bird_numbers(name, frames),
        notes=bird_notes(name, size, limit, epochs, frames, trained_on),
        weights=LAST, rows=rows, shots=RELEASED_SHOTS,
    )  # fmt: skip


def bird_noise(benchmark: Benchmark, name: str) -> dict[str, Any]:
    """The conditions of Table 6 or 9 for `reproduce_noise`, with the paper's numbers.

    Args:
        benchmark: of `bird_benchmark`.
        name: one that begins with `"table6"`, or any other for Table 9.
    """
    assert isinstance(benchmark.rows, BirdTestRows)
    there = {modality for query in benchmark.queries for modality in query}
    return noise_conditions(name, benchmark.name, benchmark.rows.trained_on.readers["image"], there)


def bird_runs(
    method: str,
    train_data: Path,
    seed: int = 0,
    size: Size = "small",
    limit: int | None = None,
    epochs: int | None = None,
    tweaks: Tweaks | None = None,
    cache: Path = Path("runs/cache"),
    pairing: Pairing | None = None,
    progress: bool = True,
) -> list[Run]:
    """The runs of a method on Bird-MML: one model, or for CLIP one for each pair with text.

    Args: see `bird_benchmark`.
        method: one of `confu.methods.METHODS`.
        seed: of the weights, the order of the rows and their pairing.
        tweaks: changed settings, by the names in `confu_paper.sweeps.space.DOMAINS`.
    """
    trained_on = _bird_mml(train_data, SCALES[size], cache, limit, pairing, progress)
    return [run for _, run in _runs(method, trained_on, seed, size, limit, epochs, pairing, tweaks or {})]


def _bird_mml(
    folder: Path, scale: BirdScale, cache: Path, limit: int | None, pairing: Pairing | None, progress: bool
) -> BirdMML:
    return BirdMML(folder, scale, cache, limit, pairing, min(8, os.cpu_count() or 1), progress)


def _runs(
    method: str, data: BirdMML, seed: int, size: Size, limit: int | None, epochs: int | None, pairing: Pairing | None,
    tweaks: Tweaks,
) -> list[tuple[tuple[str, ...], Run]]:  # fmt: skip
    """Each run with the modalities of its model."""
    check_known("method", method, METHODS)
    scale = data.scale
    train = scale.train.model_copy(update={"seed": seed} | ({} if epochs is None else {"epochs": epochs}))
    given = (("n", limit), ("e", epochs), ("", pairing if pairing != scale.pairing else None))
    ending = "".join(f"-{key}{value}" for key, value in given if value is not None) + suffix(tweaks)

    def run(name: str, modalities: tuple[str, ...]) -> Run:
        return Run(
            name=f"bird-mml/{size}/{name}{ending}-s{seed}",
            description=_description(name, modalities, data, size, limit, tweaks),
            train=tweaked(train, method, tweaks),
            splits=partial(data.splits, modalities),
            objective=partial(_objective, method, modalities, data, dict(tweaks)),
            measure=partial(_measure, method, seed, data),
            monitor=partial(_monitor, data),
        )

    return [(names, run(method + part, names)) for part, names in MODELS.get(method, {"": NAMES}).items()]


def _description(
    name: str, modalities: Sequence[str], data: BirdMML, size: Size, limit: int | None, tweaks: Tweaks
) -> dict[str, Any]:
    scale = data.scale
    return {
        "recipe": "bird-mml", "size": size, "method": name, "data": data.identity, "limit": limit,
        "held_out": scale.held_out, "per_species": scale.per_species, "pairing": data.pairing,
        "encoders": {modality: dict(scale.encoders[modality]) for modality in modalities},
        "readers": {name: dict(settings) for name, settings in scale.readers.items() if name in modalities},
        "dim": scale.dim, "learned_temperature": scale.learned_temperature,
        **({"tweaks": dict(tweaks)} if tweaks else {}),
    }  # fmt: skip


def _objective(method: str, names: Sequence[str], data: BirdMML, tweaks: Tweaks) -> ContrastiveObjective:
    encoders: Mapping[str, nn.Module] = {name: data.encoder(name) for name in names}
    return build_objective(method, names, encoders, data.scale.dim, data.scale.learned_temperature, tweaks)


def _question(model: MultimodalModel, data: BirdMML) -> tuple[Any, Subset, list[Subset]]:
    """The prompts, the target, and the queries of a model's modalities, on Bird-MML's own species."""
    queries = [query for query in QUERIES if query <= set(model.plan.modalities)]
    return data.prompts(data.rows.class_names), TEXT, queries


def _monitor(data: BirdMML, objective: nn.Module, splits: Splits) -> dict[str, float]:
    """Zero-shot accuracy on held-out rows of Bird-MML, for the curves."""
    assert isinstance(objective, ContrastiveObjective)
    table = embed(objective.model, splits.validation, batch_size=256)
    return {
        number_name(row): row.value for row in zero_shot(objective.model, table, *_question(objective.model, data)).rows
    }


def _measure(method: str, seed: int, data: BirdMML, folder: Path, splits: Splits) -> list[ReportRow]:
    """Zero-shot accuracy on Bird-MML's own test rows, of the last epoch's model."""
    model = load_model(folder / LAST)
    table = embed(model, splits.test, batch_size=256)
    table.save(folder / "test.parquet")
    return zero_shot(model, table, *_question(model, data), method=method, seed=seed).rows
