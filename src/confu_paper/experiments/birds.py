"""Birds (Section 5.3): models trained on Bird-MML, evaluated on SSW60, VB100 and CUB-200-2011."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from confu.checks import check_known
from confu.data import Splits
from confu.evaluation.few_shot import RELEASED_SHOTS
from confu.methods import METHODS, Tweaks, build_objective
from confu.plan import Subset
from confu.training import ContrastiveObjective
from confu_paper.datasets.registry import data_set
from confu_paper.experiments.av_mnist import LETTERS, MODELS, QUERIES
from confu_paper.experiments.benchmark import Benchmark, Recipe, Request, asking_classes
from confu_paper.experiments.birds_data import NAMES, SCALES, BirdMML, Pairing
from confu_paper.experiments.birds_rows import EIGHT, READ, BirdTestRows, bird_conditions
from confu_paper.experiments.published import by_method, published
from confu_paper.experiments.run import Budget, Run
from confu_paper.protocols.noise import Disturbance

TEXT = Subset("text")
LAST = "last"
_PAIRED = {"afresh": "afresh in every batch", "fixed": "as they are listed"}


def bird_benchmark(name: str, request: Request, frames: str = "eight") -> Benchmark:
    """Videos or photos of birds as a benchmark: the species is read from the picture, the sound, and both.

    The models are those of `bird_runs`, whatever they are evaluated on, and are trained once.

    Args:
        name: "ssw60", "vb100" or "cub200", which has no sound.
        request: size, folders, limits; `train_data` is Bird-MML's folder, csv or manifest.
        frames: "eight" of each video as one mean embedding (Table 4), or "single" frames one by one (Table 5).

    Raises:
        ValueError: an unknown name, size or choice of frames; single frames of photos.
    """
    check_known("data set", name, READ)
    check_known("size", request.size, SCALES)
    check_known("frames", frames, ("eight", "single"))
    if name == "cub200" and frames == "single":
        raise ValueError("cub200 holds photos, not videos: leave out frames='single'")
    train_data = request.train_data or data_set("bird-mml").folder_in("data")
    trained_on = bird_mml(train_data, request.runs / "cache", request.budget, request.pairing, request.progress)
    rows = BirdTestRows(name, request.folder(name), trained_on, frames)
    queries = QUERIES[1:2] if name == "cub200" else QUERIES

    def runs(method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        modalities = {modality for query in queries for modality in query}
        models = _runs(method, trained_on, seed, request.budget, tweaks)
        return [run for names, run in models if modalities & set(names)]

    def splits(modalities: Sequence[str], seed: int) -> Splits:
        raise ValueError(
            f"{name} has no rows to learn from: its models are trained on Bird-MML, and what they know of {name} is "
            "measured zero-shot or from a few of its rows (few-shot)"
        )

    # The paper has no numbers of CUB-200-2011.
    numbers = published("table4" if frames == "eight" else "table5", name) if name != "cub200" else ()
    return Benchmark(
        name=name,
        size=request.size,
        modalities=NAMES,
        target=TEXT,
        queries=queries,
        runs=runs,
        splits=splits,
        prompts=lambda: trained_on.prompts(rows.class_names()),
        letters=LETTERS,
        published=by_method(numbers),
        notes=_notes(name, request.budget, frames, trained_on),
        weights=LAST,
        rows=rows,
        shots=RELEASED_SHOTS,
    )


def bird_noise(benchmark: Benchmark, name: str) -> Disturbance:
    """The noise of Table 6 (a name that begins with `"table6"`) or 9 (any other), with the paper's numbers."""
    assert isinstance(benchmark.rows, BirdTestRows)
    modalities = {modality for query in benchmark.queries for modality in query}
    table6 = name.startswith("table6")
    conditions, levels = bird_conditions(table6, benchmark.rows.trained_on.readers["image"], modalities)
    numbers = {}
    if benchmark.name == "ssw60":
        table = "table6" if table6 else "table9"
        numbers = {label: by_method(published(table, condition=level)) for label, level in levels.items()}
    return Disturbance(conditions, "noise-table6" if table6 else "noise", numbers)


def bird_runs(
    method: str, data: BirdMML, seed: int = 0, budget: Budget | None = None, tweaks: Tweaks | None = None
) -> list[Run]:
    """The runs of a method on Bird-MML (see `bird_mml`): one model, or for CLIP one for each pair with text.

    Args:
        data: with the size of the budget.
        seed: of the weights, the order of the rows and their pairing.
    """
    return [run for _, run in _runs(method, data, seed, budget or Budget(), tweaks or {})]


def bird_mml(
    folder: Path, cache: Path, budget: Budget, pairing: Pairing | None = None, progress: bool = True
) -> BirdMML:
    """Bird-MML at a size.

    Args:
        folder: or csv, or manifest.
        cache: a folder for what is decoded and for frozen networks' features.
        pairing: of the modalities, "afresh" by species in every batch or "fixed"; None is the size's.
    """
    workers = min(8, os.cpu_count() or 1)
    return BirdMML(folder, SCALES[budget.size], cache, budget.limit, pairing, workers, progress)


def _runs(method: str, data: BirdMML, seed: int, budget: Budget, tweaks: Tweaks) -> list[tuple[tuple[str, ...], Run]]:
    """Each run with the modalities of its model."""
    check_known("method", method, METHODS)
    pairing = f"-{data.pairing}" if data.pairing != data.scale.pairing else ""
    ask = asking_classes(lambda: data.prompts(data.rows.class_names), TEXT, QUERIES)  # Bird-MML's own species
    train = budget.train(data.scale.train, seed)
    recipe = Recipe(method, seed, train, dict(tweaks), ask, weights=LAST, batch_size=256)
    return [
        (
            names,
            recipe.run(
                f"bird-mml/{budget.size}/{method}{part}{budget.ending}{pairing}",
                _description(method + part, names, data, budget),
                partial(data.splits, names),
                partial(_objective, method, names, data, dict(tweaks)),
            ),
        )
        for part, names in MODELS.get(method, {"": NAMES}).items()
    ]


def _description(name: str, modalities: Sequence[str], data: BirdMML, budget: Budget) -> dict[str, Any]:
    scale = data.scale
    return {
        "recipe": "bird-mml",
        "size": budget.size,
        "method": name,
        "data": data.identity,
        "limit": budget.limit,
        "held_out": scale.held_out,
        "per_species": scale.per_species,
        "pairing": data.pairing,
        "encoders": {modality: dict(scale.encoders[modality]) for modality in modalities},
        "readers": {name: dict(settings) for name, settings in scale.readers.items() if name in modalities},
        "dim": scale.dim,
        "learned_temperature": scale.learned_temperature,
    }


def _objective(method: str, names: Sequence[str], data: BirdMML, tweaks: Tweaks) -> ContrastiveObjective:
    encoders: Mapping[str, nn.Module] = {name: data.encoder(name) for name in names}
    return build_objective(method, names, encoders, data.scale.dim, data.scale.learned_temperature, tweaks)


def _notes(name: str, budget: Budget, frames: str, data: BirdMML) -> tuple[str, ...]:
    """What every table on these rows has to say."""
    scale, train, size = data.scale, data.scale.train, budget.size
    views = {
        "eight": f"the mean embedding of {EIGHT} frames of a video, renormalised (for TRIANGLE too, unlike the "
        "released code), with all of its sound",
        "single": "frames at 0.5, 1, ... 9.5 s, each with all of the video's sound; the mean over frames",
    }
    notes = [
        f"trained on Bird-MML, size {size}: {budget.epochs or train.epochs} epochs, batch {train.batch_size}, learning "
        f"rate {train.lr:g}, the last epoch; photos, sounds and captions of a species paired "
        f"{_PAIRED[str(data.pairing)]}",
        f"{scale.held_out} rows of each species are held out from training for validation, as many for a test on "
        "Bird-MML itself; the paper trains on all",
        "photos of birds; prompts are the bare names, of which Bird-MML has none of most species"
        if name == "cub200"
        else views[frames] + "; a video without sound is left out where sound is asked",
        "rows of both splits of the data set, as in the released code",
    ]
    if size != "paper":
        notes.append(
            "paper: two ResNet-50 and BERT, 512 dimensions, 100 epochs, learning rate 1e-4; here small encoders"
        )
    if scale.clips is not None:
        notes.append(f"evaluated on {scale.clips} rows of each species only: not comparable")
    return (*notes, *budget.notes())
