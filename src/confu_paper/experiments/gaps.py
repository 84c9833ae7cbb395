"""AV-MNIST with rows that lack a modality: ConFu with masks against leaving such rows out and against zeros."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from confu.checks import check_fraction, check_known
from confu.data import Dataset, Splits
from confu.data.dataset import RowsOf
from confu.data.gaps import FilledDataset, IncompleteDataset, random_gaps
from confu.evaluation import summarise
from confu.evaluation.plots import lines
from confu_paper.experiments.av_mnist import NAMES, SCALES, Size, contrastive_runs, measure_accuracy
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import Cell, ResultTable, percent, without_gaps

WAYS = {
    "masks": "every row is used by the terms that it is complete for, and is a negative in the others; batches are at "
    "least half complete",
    "drop": "rows that lack anything are left out, the others come up more often",
    "zeros": "what is missing is zeros, or an empty text, and counts as there",
}
LEAST_COMPLETE = 0.5
STRETCHES = 10
SHARES = (0.0, 0.3, 0.5, 0.7, 0.9)
QUERIES = {"A": "audio", "V": "image", "A+V": "image+audio", "mean(A, V)": "mean(image, audio)"}


def gap_run(
    data: Path,
    share: float,
    way: str = "masks",
    seed: int = 0,
    size: Size = "small",
    limit: int | None = None,
    epochs: int | None = None,
) -> Run:
    """ConFu on AV-MNIST whose training and validation rows lack one of image, audio and text; test rows are whole.

    Args:
        data: folder of AV-MNIST.
        share: of the rows that lack one modality, drawn by the seed.
        way: what is done about it, a key of `WAYS`.
        seed: of the gaps, the weights and the order of the rows.
        size: of encoders and training.
        limit: train on the first rows only.
        epochs: instead of the size's.
    """
    check_known("way", way, WAYS)
    check_fraction("share", share)
    (run,) = contrastive_runs("confu", data, seed, size, limit, epochs)
    if share == 0:  # nothing is missing: all ways are the same
        return run
    rows = limit or (SCALES[size].limit or (55_000,))[0]
    steps = run.train.epochs * (rows // run.train.batch_size)
    sampling = {}
    if way == "masks":
        # As many inputs are encoded as in the other ways, where every row of a batch has all three.
        steps = steps * 3 / (2 + max(LEAST_COMPLETE, 1 - share))
        sampling = {"sampling": "balanced", "least_complete": LEAST_COMPLETE}
    train = run.train.model_copy(
        update={"epochs": STRETCHES, "steps_per_epoch": max(1, round(steps / STRETCHES)), **sampling}
    )
    return replace(
        run,
        name=run.name.replace("av-mnist/", "av-mnist-gaps/").replace("/confu", f"/{way}{share:g}", 1),
        description={**run.description, "gaps": {"share": share, "way": way, "seed": seed}},
        train=train,
        splits=partial(_with_gaps, run.splits, share, way, seed),
        measure=partial(measure_accuracy, "confu", seed),
        monitor=None,
    )


def _with_gaps(complete: Callable[[], Splits], share: float, way: str, seed: int) -> Splits:
    splits = complete()
    return Splits(
        _holed(splits.train, share, way, (seed, 0)), _holed(splits.validation, share, way, (seed, 1)), splits.test
    )


def _holed(dataset: Dataset, share: float, way: str, seed: Sequence[int]) -> Dataset:
    present = random_gaps(len(dataset), NAMES, share, seed)
    if way == "drop":
        whole = torch.stack(list(present.values())).all(dim=0)
        return RowsOf(dataset, whole.nonzero().squeeze(1))
    holed = IncompleteDataset(dataset, present)
    return FilledDataset(holed) if way == "zeros" else holed


def reproduce_gaps(
    data: Path,
    size: Size,
    seeds: Sequence[int],
    runs: Path,
    shares: Sequence[float] | None = None,
    ways: Sequence[str] | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    progress: bool = True,
) -> Outcome:
    """Zero-shot accuracy by the share of rows that lack a modality, for each way to deal with them.

    Args:
        data: folder of AV-MNIST.
        size: of encoders and training.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        shares: of incomplete rows; `SHARES` by default.
        ways: keys of `WAYS`; all by default.
        limit: train on the first rows only.
        epochs: instead of the size's.
        progress: whether to draw progress bars.
    """
    shares, ways = list(SHARES if shares is None else shares), list(WAYS if ways is None else ways)
    outcome = Outcome(size)
    cells: dict[str, dict[float, dict[str, Cell]]] = {way: {} for way in ways}
    for seed in seeds:  # seed by seed, so that what is there after a while is a whole picture
        for share in shares:
            for way in ways[:1] if share == 0 else ways:
                outcome.execute([gap_run(data, share, way, seed, size, limit, epochs)], runs, progress)
    for share in shares:
        for way in ways:
            these = [gap_run(data, share, way, seed, size, limit, epochs) for seed in seeds]
            reports = [report for report in outcome.reports if report.settings["run"] in {run.name for run in these}]
            summaries = summarise({report.settings["run"]: report for report in reports}.values())
            cells[way][share] = without_gaps(
                {name: percent(summaries, "confu", query) for name, query in QUERIES.items()}
            )
    rows = {f"{share:.0%} missing, {way}": cells[way][share] for share in shares for way in ways}
    table = ResultTable(
        "AV-MNIST with gaps: zero-shot accuracy (%)", tuple(QUERIES), rows,
        (*(f"{way}: {WAYS[way]}" for way in ways),
         f"size {size}; a share of the training and validation rows lacks one of image, audio and text, any alike; "
         "test rows are whole",
         f"as many inputs are encoded in each; {STRETCHES} validations, the weights with the lowest "
         "loss (without gaps: one an epoch)"),
        row_header="training rows",
    )  # fmt: skip
    outcome.add("gaps", table, _figure(cells, shares))
    return outcome


def _figure(cells: dict[str, dict[float, dict[str, Cell]]], shares: Sequence[float]) -> Figure:
    """Fused and single accuracy of each way over the share of incomplete rows."""
    bands = {}
    for name in ("A+V", "V", "A"):
        for way, by_share in cells.items():
            found = [by_share[share].get(name) for share in shares]
            means = [math.nan if cell is None else cell.mean for cell in found]
            stds = [0.0 if cell is None or cell.std is None else cell.std for cell in found]
            bands[f"{name}, {way}"] = (means, stds)
    return lines([100 * share for share in shares], bands, x_label="training rows that lack a modality (%)")
