"""AV-MNIST's batches of 256 hold 30 captions: what rows of one caption may be to one another, and what each costs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from confu.checks import check_known
from confu.data import ArrayDataset, CaptionColumn, Dataset, Splits
from confu.evaluation import summarise
from confu.methods import build_objective
from confu.nn.encoders import build_encoder
from confu_paper.experiments.av_mnist import NAMES, SCALES, Scale, Size, contrastive_runs, measure_accuracy
from confu_paper.experiments.gaps import QUERIES
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import ResultTable, percent, without_gaps

OPTIONS = {
    "negatives": "rows of one caption are negatives of one another, as in the paper",
    "positives": "rows of one caption are positives of one another",
    "excluded": "rows of one caption are left out of the negatives",
    "unique": "no caption twice in a batch: batches of 30 rows, as many rows in all",
}
CAPTIONS = 30


def false_negatives_run(
    data: Path,
    option: str,
    seed: int = 0,
    size: Size = "small",
    limit: int | None = None,
    epochs: int | None = None,
) -> Run:
    """ConFu on AV-MNIST with the caption as the group of a row.

    Args:
        data: folder of AV-MNIST.
        option: a key of `OPTIONS`.
        seed: of the weights and the order of the rows.
        size: of encoders and training.
        limit: train on the first rows only.
        epochs: instead of the size's.
    """
    check_known("option", option, OPTIONS)
    (run,) = contrastive_runs("confu", data, seed, size, limit, epochs)
    if option == "negatives":
        return run
    unique = {"sampling": "unique", "batch_size": CAPTIONS} if option == "unique" else {}
    return replace(
        run,
        name=run.name.replace("av-mnist/", "av-mnist-captions/").replace("/confu", f"/{option}", 1),
        description={**run.description, "captions": option},
        train=run.train.model_copy(update=unique),
        splits=partial(_grouped, run.splits),
        objective=partial(_objective, "negatives" if option == "unique" else option, SCALES[size]),
        measure=partial(measure_accuracy, "confu", seed),
        monitor=None,
    )


def _grouped(load: Callable[[], Splits]) -> Splits:
    splits = load()
    return Splits(_by_caption(splits.train), _by_caption(splits.validation), splits.test)


def _by_caption(dataset: Dataset) -> ArrayDataset:
    assert isinstance(dataset, ArrayDataset)
    captions = dataset.columns["text"]
    assert isinstance(captions, CaptionColumn)
    return ArrayDataset(dataset.columns, dataset.labels, dataset.ids, dataset.class_names, groups=captions.index)


def _objective(same_group: str, scale: Scale) -> nn.Module:
    encoders = {name: build_encoder(scale.encoders[name]) for name in NAMES}
    return build_objective(
        "confu", NAMES, encoders, scale.dim, scale.learned_temperature, same_group=same_group
    )  # fmt: skip


def reproduce_false_negatives(
    data: Path,
    size: Size,
    seeds: Sequence[int],
    runs: Path,
    options: Sequence[str] | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    progress: bool = True,
) -> Outcome:
    """Zero-shot accuracy by what rows of one caption are to one another.

    Args:
        data: folder of AV-MNIST.
        size: of encoders and training.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        options: keys of `OPTIONS`; all by default.
        limit: train on the first rows only.
        epochs: instead of the size's.
        progress: whether to draw progress bars.
    """
    options = list(OPTIONS if options is None else options)
    outcome = Outcome(size)
    rows = {}
    for option in options:
        these = [false_negatives_run(data, option, seed, size, limit, epochs) for seed in seeds]
        summaries = summarise(outcome.execute(these, runs, progress))
        rows[option] = without_gaps({name: percent(summaries, "confu", query) for name, query in QUERIES.items()})
    notes = (
        *(f"{option}: {OPTIONS[option]}" for option in options),
        f"size {size}; the epoch with the lowest validation loss, each loss by its own measure",
    )
    outcome.add(
        "false-negatives",
        ResultTable("AV-MNIST: zero-shot accuracy (%) by what equal captions are to one another", tuple(QUERIES), rows,
                    notes, row_header="rows of one caption"),
    )  # fmt: skip
    return outcome
