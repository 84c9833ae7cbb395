"""What the paper leaves open on AV-MNIST: rows that lack a modality, and rows of one caption as negatives."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from confu.checks import check_fraction, check_known
from confu.data import ArrayDataset, CaptionColumn, Dataset, Splits
from confu.data.dataset import RowsOf
from confu.data.gaps import FilledDataset, IncompleteDataset, random_gaps
from confu.evaluation import summarise
from confu.evaluation.plots import lines
from confu_paper.experiments.av_mnist import (
    ASK,
    LETTERS,
    NAMES,
    SCALES,
    contrastive_objective,
    contrastive_runs,
)
from confu_paper.experiments.benchmark import Recipe, Request
from confu_paper.experiments.run import Budget, Outcome, Run
from confu_paper.experiments.tables import Cell, ResultTable, bands, percent, without_gaps

WAYS = {
    "masks": "every row is used by the terms that it is complete for, and is a negative in the others; batches are at "
    "least half complete",
    "drop": "rows that lack anything are left out, the others come up more often",
    "zeros": "what is missing is zeros, or an empty text, and counts as there",
}
LEAST_COMPLETE = 0.5
STRETCHES = 10
SHARES = (0.0, 0.3, 0.5, 0.7, 0.9)
QUERIES = {letter: query for query, letter in LETTERS.items()}

OPTIONS = {
    "negatives": "rows of one caption are negatives of one another, as in the paper",
    "positives": "rows of one caption are positives of one another",
    "excluded": "rows of one caption are left out of the negatives",
    "equal-positives": "the same in the terms of which the caption is a side by itself",
    "equal-excluded": "left out of the negatives in these terms alone",
    "unique": "no caption twice in a batch: batches of 30 rows, as many rows in all",
}
CAPTIONS = 30


def gap_run(data: Path, share: float, way: str = "masks", seed: int = 0, budget: Budget | None = None) -> Run:
    """ConFu on AV-MNIST whose training and validation rows lack one of image, audio and text; test rows are whole.

    Args:
        data: folder of AV-MNIST.
        share: of the rows that lack one modality, drawn by the seed.
        way: how they are treated, a key of `WAYS`.
        seed: of the gaps, the weights and the order of the rows.
    """
    check_known("way", way, WAYS)
    check_fraction("share", share)
    budget = budget or Budget()
    (run,) = contrastive_runs("confu", data, seed, budget)
    if share == 0:  # nothing is missing: all ways are the same
        return run
    rows = budget.limit or (SCALES[budget.size].limit or (55_000,))[0]
    steps = run.train.epochs * (rows // run.train.batch_size)
    sampling = {}
    if way == "masks":
        # As many inputs are encoded as in the other ways, where every row of a batch has all three.
        steps = steps * 3 / (2 + max(LEAST_COMPLETE, 1 - share))
        sampling = {"sampling": "balanced", "least_complete": LEAST_COMPLETE}
    length = {"epochs": STRETCHES, "steps_per_epoch": max(1, round(steps / STRETCHES))}
    return replace(
        run,
        name=run.name.replace("av-mnist/", "av-mnist-gaps/").replace("/confu", f"/{way}{share:g}", 1),
        description={**run.description, "gaps": {"share": share, "way": way, "seed": seed}},
        train=run.train.model_copy(update={**length, **sampling}),
        splits=partial(_with_gaps, run.splits, share, way, seed),
        measure=Recipe("confu", seed, run.train, {}, ASK).measure,
        monitor=None,
    )


def _with_gaps(complete: Callable[[], Splits], share: float, way: str, seed: int) -> Splits:
    def holed(dataset: Dataset, part: int) -> Dataset:
        present = random_gaps(len(dataset), NAMES, share, (seed, part))
        if way == "drop":
            whole = torch.stack(list(present.values())).all(dim=0)
            return RowsOf(dataset, whole.nonzero().squeeze(1))
        incomplete = IncompleteDataset(dataset, present)
        return FilledDataset(incomplete) if way == "zeros" else incomplete

    splits = complete()
    return Splits(holed(splits.train, 0), holed(splits.validation, 1), splits.test)


def reproduce_gaps(request: Request) -> Outcome:
    """Zero-shot accuracy by the share of rows that lack a modality, for each way to deal with them."""
    data, budget = request.folder("av-mnist"), request.budget
    shares = list(SHARES if request.shares is None else request.shares)
    outcome = Outcome(budget.size)
    reports = {}
    for seed in request.seeds:  # seed by seed, so that what is there after a while is a whole picture
        for share in shares:
            for way in WAYS:
                run = gap_run(data, share, way, seed, budget)
                if run.name not in reports:
                    (reports[run.name],) = outcome.execute([run], request.runs, request.progress)

    def cells_of(share: float, way: str) -> dict[str, Cell]:
        names = [gap_run(data, share, way, seed, budget).name for seed in request.seeds]
        return _accuracies(summarise([reports[name] for name in names]))

    cells = {way: {share: cells_of(share, way) for share in shares} for way in WAYS}
    notes = (
        *(f"{way}: {what}" for way, what in WAYS.items()),
        f"size {budget.size}; a share of the training and validation rows lacks one of image, audio and text, any "
        "alike; test rows are whole",
        f"as many inputs are encoded in each; {STRETCHES} validations, the weights with the lowest loss (without gaps: "
        "one an epoch)",
    )
    title = "AV-MNIST with gaps: zero-shot accuracy (%)"
    rows = {f"{share:.0%} missing, {way}": cells[way][share] for share in shares for way in WAYS}
    table = ResultTable(title, tuple(QUERIES), rows, notes, row_header="training rows")
    # Fused and single accuracy of each way over the share of incomplete rows.
    curves = {
        f"{name}, {way}": {str(share): by_share[share][name] for share in shares if name in by_share[share]}
        for name in ("A+V", "V", "A")
        for way, by_share in cells.items()
    }
    percents = [100 * share for share in shares]
    figure = lines(percents, bands(curves, list(map(str, shares))), x_label="training rows that lack a modality (%)")
    outcome.add("gaps", table, figure)
    return outcome


def _accuracies(summaries: Sequence) -> dict[str, Cell]:
    return without_gaps({name: percent(summaries, "confu", query) for name, query in QUERIES.items()})


def false_negatives_run(data: Path, option: str, seed: int = 0, budget: Budget | None = None) -> Run:
    """ConFu on AV-MNIST, whose batches of 256 hold 30 captions, with the caption as the group of a row.

    Args:
        data: folder of AV-MNIST.
        option: what rows of one caption are to one another, a key of `OPTIONS`.
        seed: of the weights and the order of the rows.
    """
    check_known("option", option, OPTIONS)
    budget = budget or Budget()
    (run,) = contrastive_runs("confu", data, seed, budget)
    if option == "negatives":
        return run
    unique = {"sampling": "unique", "batch_size": CAPTIONS} if option == "unique" else {}
    setting = "equal_inputs" if option.startswith("equal-") else "same_group"
    alike = {} if option == "unique" else {setting: option.removeprefix("equal-")}
    return replace(
        run,
        name=run.name.replace("av-mnist/", "av-mnist-captions/").replace("/confu", f"/{option}", 1),
        description={**run.description, "captions": option},
        train=run.train.model_copy(update=unique),
        splits=partial(_grouped, run.splits),
        objective=partial(contrastive_objective, SCALES[budget.size], "confu", NAMES, {}, **alike),
        measure=Recipe("confu", seed, run.train, {}, ASK).measure,
        monitor=None,
    )


def _grouped(load: Callable[[], Splits]) -> Splits:
    def by_caption(dataset: Dataset) -> ArrayDataset:
        assert isinstance(dataset, ArrayDataset)
        captions = dataset.columns["text"]
        assert isinstance(captions, CaptionColumn)
        return ArrayDataset(dataset.columns, dataset.labels, dataset.ids, dataset.class_names, groups=captions.index)

    splits = load()
    return Splits(by_caption(splits.train), by_caption(splits.validation), splits.test)


def reproduce_false_negatives(request: Request) -> Outcome:
    """Zero-shot accuracy by what rows of one caption are to one another."""
    data, budget = request.folder("av-mnist"), request.budget
    outcome = Outcome(budget.size)
    rows = {}
    for option in OPTIONS:
        runs = [false_negatives_run(data, option, seed, budget) for seed in request.seeds]
        rows[option] = _accuracies(summarise(outcome.execute(runs, request.runs, request.progress)))
    notes = (
        *(f"{option}: {what}" for option, what in OPTIONS.items()),
        f"size {budget.size}; the epoch with the lowest validation loss, each loss by its own measure",
    )
    title = "AV-MNIST: zero-shot accuracy (%) by what equal captions are to one another"
    table = ResultTable(title, tuple(QUERIES), rows, notes, row_header="rows of one caption")
    outcome.add("false-negatives", table)
    return outcome
