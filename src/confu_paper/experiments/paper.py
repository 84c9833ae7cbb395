"""Runs a table or a figure of the paper by its name, on the paper's data or on another data set."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from confu.data.corruptions import Blurred, Clipped, Dropped, Swapped, TimeShifted
from confu_paper.datasets.registry import check_files, data_set
from confu_paper.experiments.av_mnist import supervised_reference
from confu_paper.experiments.av_mnist_variants import reproduce_false_negatives, reproduce_gaps
from confu_paper.experiments.benchmark import Benchmark, Conditions, Request
from confu_paper.experiments.birds import bird_noise
from confu_paper.experiments.paper_index import Entry, entry
from confu_paper.experiments.run import Outcome
from confu_paper.experiments.tables import Cell, ResultTable
from confu_paper.experiments.xor import reproduce_xor, reproduce_xor_dimension
from confu_paper.protocols.ablation import reproduce_lambda, reproduce_mask
from confu_paper.protocols.few_shot import reproduce_few_shot
from confu_paper.protocols.linear_probe import reproduce_linear_probe
from confu_paper.protocols.noise import Disturbance, reproduce_noise, snr_conditions
from confu_paper.protocols.overlap import reproduce_overlap
from confu_paper.protocols.retrieval import reproduce_retrieval
from confu_paper.protocols.zero_shot import reproduce_zero_shot

ALIASES = {"xor": "fig3", "xor-dimension": "fig6", "av-mnist": "table1"}

CORRUPTIONS: dict[str, Conditions] = {
    "av-mnist": {
        "half of image missing": ("image", Dropped(0.5)),
        "image swapped": ("image", Swapped()),
        "image clipped": ("image", Clipped(0.0, 0.3)),
        "image blurred": ("image", Blurred(2.0)),
        "half of audio missing": ("audio", Dropped(0.5)),
        "audio swapped": ("audio", Swapped()),
        "audio clipped": ("audio", Clipped(0.0, 0.5)),
        "audio shifted": ("audio", TimeShifted(28)),
        "audio blurred": ("audio", Blurred(2.0)),
    },
}


def benchmark(name: str, request: Request, frames: str = "eight") -> Benchmark:
    """The benchmark of a data set by name; `frames` of a video, `"eight"` of them or `"single"` ones.

    Raises:
        ValueError: an unknown data set, or one that is no benchmark.
    """
    return data_set(name).load_benchmark()(name, request, frames)


def _zero_shot(bench: Benchmark, request: Request, name: str) -> Outcome:
    supervised = request.methods is None or "supervised" in request.methods
    if not supervised or bench.name != "av-mnist":
        return reproduce_zero_shot(bench, request, name)
    note = "supervised: classifiers on the labels with the same encoders and training; A+V is late fusion"
    return reproduce_zero_shot(bench, request, name, supervised_reference(request), [note])


def _noise(bench: Benchmark, request: Request, name: str) -> Outcome:
    if bench.rows is not None:
        return reproduce_noise(bench, request, bird_noise(bench, name), name)
    singles = [str(query) for query in bench.queries if not query.is_fused]
    return reproduce_noise(bench, request, Disturbance(snr_conditions(singles, request.snr_db)), name)


def _lambda(bench: Benchmark, request: Request, name: str) -> Outcome:
    _check_trained_on(bench)
    return reproduce_lambda(bench, request, name)


def _mask(bench: Benchmark, request: Request, name: str) -> Outcome:
    _check_trained_on(bench)
    # Fig 7 shows changes over several λ, Table 8 those at λ = 0.5.
    lambdas = (0.3, 0.5, 0.7) if name.startswith("fig7") and bench.score != "accuracy" else (0.5,)
    return reproduce_mask(bench, request, name, lambdas=lambdas)


def _check_trained_on(bench: Benchmark) -> None:
    if bench.rows is not None:
        raise ValueError(
            f"{bench.name} only evaluates models that are trained on other data; λ and masks are compared where models "
            "are trained, e.g. --on mosi or --on av-mnist"
        )


EXPERIMENTS: dict[str, Callable[[Benchmark, Request, str], Outcome]] = {
    "zero-shot": _zero_shot,
    "retrieval": reproduce_retrieval,
    "linear-probe": reproduce_linear_probe,
    "few-shot": reproduce_few_shot,
    "overlap": reproduce_overlap,
    "noise": _noise,
    "lambda": _lambda,
    "mask": _mask,
    "xor": lambda bench, request, name: reproduce_xor(request),
    "xor-dimension": lambda bench, request, name: reproduce_xor_dimension(request),
}


def _corruptions(request: Request) -> Outcome:
    """What the paper does not test: missing, swapped, clipped, shifted and blurred inputs."""
    bench = benchmark(request.on or "av-mnist", request)
    if bench.name not in CORRUPTIONS:
        raise ValueError(
            f"no corruptions are chosen for {bench.name}; they are for {', '.join(CORRUPTIONS)}. Disturb other data "
            "with confu.data.corruptions.CorruptedDataset"
        )
    return reproduce_noise(bench, request, Disturbance(CORRUPTIONS[bench.name], "corruptions"), "corruptions")


BEYOND: dict[str, Callable[[Request], Outcome]] = {
    "corruptions": _corruptions,
    "gaps": reproduce_gaps,
    "false-negatives": reproduce_false_negatives,
}
"""What the paper does not measure."""


def reproduce(name: str, request: Request) -> Outcome:
    """Run what a table or figure of the paper measures, or read what is finished; killed, the same call goes on.

    Args:
        name: of the table or figure, or one of `ALIASES`, or of `BEYOND`.
        request: how large, which methods, where.

    Raises:
        ValueError: if there is no such table, it is not an experiment, or its data are not there.
    """
    if name in BEYOND:
        if name != "corruptions" and request.on not in (None, "av-mnist"):
            raise ValueError(f"{name} is measured on av-mnist, not on {request.on}; leave out --on")
        return BEYOND[name](request)
    item = entry(ALIASES.get(name, name))
    if item.experiment is None:
        raise ValueError(
            f"{item.label} ({item.title}) is an illustration, not an experiment; nothing can be run for it"
        )
    data_sets = _data_sets(item, request)
    file_name = name if name in ALIASES else item.name
    outcome = Outcome(request.size)
    for data in data_sets:
        part = file_name if len(data_sets) == 1 else f"{file_name}-{data}"
        outcome.include(EXPERIMENTS[item.experiment](benchmark(data, request, item.frames), request, part))
    # Where our rows do not carry the paper's numbers, because the data are others, those stand beside them whole.
    if not set(data_sets) <= set(item.data) and (printed := paper_table(item)) is not None:
        outcome.add(f"{file_name}-paper", printed)
    return outcome


def _data_sets(item: Entry, request: Request) -> list[str]:
    """The data sets to measure on: the requested one, or those of the paper that are there."""
    on = request.on
    if on is not None:
        if item.experiment in ("xor", "xor-dimension") and on != "xor":
            raise ValueError(f"{item.label} ({item.title}) asks a question of XOR itself, not of {on}; leave out --on")
        return [on]
    folders = {data_set(name).folder_in("") for name in item.data}
    if request.data is not None and len(folders) > 1:
        raise ValueError(
            f"{item.label} ({item.title}) is measured on {', '.join(item.data)}; say with --on which of them --data "
            "holds"
        )
    present = [name for name in item.data if _has_files(name, request.folder(name))]
    missing = [name for name in item.data if name not in present]
    where = "; ".join(f"{data_set(name).title} is not in {request.folder(name)}" for name in missing)
    if not present:
        other = "" if item.also is None else f", or ask the same of other data with --on {item.also}"
        raise ValueError(
            f"{item.label} ({item.title}): {where}. `confu data list` says where to get it; give its folder with "
            f"--data{other}"
        )
    if missing:
        Console(stderr=True).print(f"left out: {where}; `confu data list` says where to get it", highlight=False)
    return present


def _has_files(name: str, folder: Path) -> bool:
    return check_files(data_set(name), folder, checksums=False).state != "missing"


def paper_table(item: Entry) -> ResultTable | None:
    """What the paper prints for a table, to stand beside ours; None if it is a figure without numbers."""
    if not item.values:
        return None
    rows: dict[str, dict[str, Cell]] = {}
    data = list(dict.fromkeys(number.data for number in item.values))
    for number in item.values:
        label = f"{number.method}, {number.data}" if len(data) > 1 else number.method
        metric = "" if number.metric == "accuracy" else number.metric
        parts = [f"{number.query} -> {number.target}", number.condition, metric]
        rows.setdefault(label, {})[", ".join(part for part in parts if part)] = Cell(number.mean, number.std)
    columns = tuple(dict.fromkeys(column for cells in rows.values() for column in cells))
    note = f"values of arXiv 2511.21331, measured on {', '.join(data)}; not run here"
    return ResultTable(f"{item.label} as the paper prints it (%)", columns, rows, (note,))
