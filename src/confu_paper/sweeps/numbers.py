"""The numbers of finished runs by name: those of validation rows, which may choose, and those of test rows."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from confu.evaluation import Report, ReportRow
from confu.training.log import read_log

Read = Callable[[Report], Mapping[str, float]]


def number_name(row: ReportRow) -> str:
    """What a measured number is called in sweeps and logs.

    >>> number_name(ReportRow("accuracy", "image+audio", "text", 0.7, count=10))
    'accuracy image+audio'
    >>> number_name(ReportRow("recall@10", "image", "text", 0.7, count=10))
    'recall@10 image -> text'
    >>> number_name(ReportRow("recall@10", "2 -> 1", "mean", 0.7, count=10))  # of `retrieval_means`
    'mean recall@10 2 -> 1'
    """
    if row.target == "mean":
        return f"mean {row.metric} {row.query}"
    return f"{row.metric} {row.query}" if row.metric == "accuracy" else f"{row.metric} {row.query} -> {row.target}"


def report_numbers(report: Report) -> dict[str, float]:
    """The numbers of a report by name, fractions as fractions. A run's report is of its test rows."""
    return {number_name(row): row.value for row in report.rows}


def validation_metrics(folder: Path | str) -> dict[str, float]:
    """What a run logged on its validation rows after its best epoch, whose weights are the model.

    Args:
        folder: of the run.

    Returns:
        `"loss"`, which chose the epoch, and every number that the loss and the recipe's monitor logged.

    Raises:
        ValueError: if the folder has no log, or none of a whole epoch.
    """
    folder = Path(folder)
    if not (folder / "log.jsonl").is_file():
        raise ValueError(f"{folder} has no log.jsonl: not the folder of a run, or its log was taken away; run it again")
    records = read_log(folder, "validation")
    if not records:
        raise ValueError(f"{folder}: no epoch of this run is finished; run it again, and it goes on")
    best = min(records, key=lambda record: record["total"])  # the first of equals, as in training
    return {"loss": best["total"], **best["metrics"]}


def with_means(numbers: Mapping[str, float], metrics: Sequence[str] = ("accuracy", "recall@10")) -> dict[str, float]:
    """Add the means over queries of one modality, 1 -> 1, and of two, 2 -> 1 (Tables 2 and 7), if they are missing.

    Queries that are a mean of two embeddings, and fused targets, count in neither.

    >>> with_means({"recall@10 a -> c": 0.25, "recall@10 b -> c": 0.5, "recall@10 a+b -> c": 0.5})
    {..., 'mean recall@10 1 -> 1': 0.375, 'mean recall@10 2 -> 1': 0.5}

    Args:
        numbers: by name, as `number_name` gives it.
        metrics: those to average.
    """
    groups: dict[str, list[float]] = {}
    for name, value in numbers.items():
        metric, _, pair = name.partition(" ")
        query, _, target = pair.partition(" -> ")
        if metric in metrics and not query.startswith("mean(") and "+" not in target:
            groups.setdefault(f"mean {metric} {query.count('+') + 1} -> 1", []).append(value)
    means = {name: statistics.fmean(values) for name, values in sorted(groups.items())}
    return {**numbers, **{name: value for name, value in means.items() if name not in numbers}}


def lower_is_better(name: str) -> bool:
    """Whether a number is better when it is lower: losses and median ranks.

    >>> lower_is_better("loss"), lower_is_better("median rank a -> b"), lower_is_better("accuracy a")
    (True, True, False)
    """
    return name == "loss" or name.removeprefix("mean ").startswith("median rank")


def is_share(name: str) -> bool:
    """Whether a number lies in [0, 1], and is shown in percent.

    >>> is_share("mean recall@10 2 -> 1"), is_share("loss")
    (True, False)
    """
    return name.removeprefix("mean ").startswith(("accuracy", "recall@")) or "reciprocal rank" in name


def averaged(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The numbers of the runs that belong together; one that several of them have is their mean.

    >>> averaged([{"loss": 1.0, "accuracy image": 0.5}, {"loss": 2.0, "accuracy audio": 0.7}])
    {'loss': 1.5, 'accuracy image': 0.5, 'accuracy audio': 0.7}
    """
    groups: dict[str, list[float]] = {}
    for numbers in found:
        for name, value in numbers.items():
            groups.setdefault(name, []).append(float(value))
    return {name: statistics.fmean(values) for name, values in groups.items()}
