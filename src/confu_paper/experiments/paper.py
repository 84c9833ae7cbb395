"""Runs a table or a figure of the paper by its name, on the paper's data or on another that the same is asked of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from confu.checks import check_known
from confu.data.corruptions import Blurred, Clipped, Dropped, Swapped, TimeShifted
from confu.methods import METHODS, VARIANTS
from confu_paper.datasets.finding import found as files_found
from confu_paper.datasets.listing import folder_of
from confu_paper.experiments.affect import affect_benchmark
from confu_paper.experiments.av_mnist import Size, av_mnist_benchmark, supervised_reference
from confu_paper.experiments.benchmark import Benchmark
from confu_paper.experiments.birds import bird_benchmark, bird_noise
from confu_paper.experiments.false_negatives import reproduce_false_negatives
from confu_paper.experiments.gaps import reproduce_gaps
from confu_paper.experiments.paper_index import SOURCES, Entry, entry, index_table
from confu_paper.experiments.published import Published
from confu_paper.experiments.run import Outcome
from confu_paper.experiments.tables import Cell, ResultTable
from confu_paper.experiments.xor import reproduce_xor, reproduce_xor_dimension, xor_benchmark
from confu_paper.protocols.ablation import reproduce_lambda, reproduce_mask
from confu_paper.protocols.few_shot import reproduce_few_shot
from confu_paper.protocols.linear_probe import reproduce_linear_probe
from confu_paper.protocols.noise import Conditions, reproduce_noise, snr_conditions
from confu_paper.protocols.overlap import reproduce_overlap
from confu_paper.protocols.retrieval import reproduce_retrieval
from confu_paper.protocols.zero_shot import reproduce_zero_shot

ALIASES = {"xor": "fig3", "xor-dimension": "fig6", "av-mnist": "table1"}


@dataclass(frozen=True)
class Request:
    """What a user asks for, beside the name of the table or figure.

    Attributes:
        size: of the experiment.
        methods: names in `confu.methods.METHODS`, and `supervised`; None for those of the variant.
        variant: `"fair"`, `"as_released"` or `"both"`.
        seeds: one run each.
        runs: folder of the runs.
        data: folder of the data set's files; None is `data/`, and in it the folder that `confu data list` names.
        train_data: folder of the data that models are trained on, where that is another set; None as for `data`.
        pairing: of Bird-MML's photos, sounds and captions, `"afresh"` in every batch or `"fixed"`; None is the size's.
        on: the data set; None for those of the paper whose files are there.
        limit, epochs: instead of the size's.
        ps, dims: of the XOR experiments.
        snr_db: noise levels of tables 6 and 9.
        shares: of the rows that lack a modality, for `gaps`.
        progress: whether to draw progress bars.
    """

    size: Size = "small"
    methods: Sequence[str] | None = None
    variant: str = "fair"
    seeds: Sequence[int] = (0, 1, 2)
    runs: Path = Path("runs")
    data: Path | None = None
    train_data: Path | None = None
    pairing: Literal["afresh", "fixed"] | None = None
    on: str | None = None
    limit: int | None = None
    epochs: int | None = None
    ps: Sequence[float] | None = None
    dims: Sequence[int] | None = None
    snr_db: Sequence[float] = (20, 15, 10)
    shares: Sequence[float] | None = None
    progress: bool = True

    def folder(self, name: str) -> Path:
        """Where a data set's files are: the folder that was given, or the usual one."""
        return self.data or folder_of(SOURCES[name], "data")

    def chosen(self, but: Sequence[str] = ()) -> list[str]:
        """The methods, those named or those of the variant; without some that an experiment has no use for."""
        check_known("variant", self.variant, VARIANTS)
        names = list(VARIANTS[self.variant]) if self.methods is None else list(self.methods)
        for name in names:
            check_known("method", name, [*METHODS, "supervised"])
        return [name for name in names if name not in but]


def benchmark(name: str, request: Request, frames: str = "eight") -> Benchmark:
    """A data set that the library reads, by name; `frames` of a video, `"eight"` of them or `"single"` ones."""
    check_known("data set", name, BENCHMARKS)
    return BENCHMARKS[name](request, frames)


def _av_mnist(request: Request, frames: str) -> Benchmark:
    return av_mnist_benchmark(request.folder("av-mnist"), request.size, request.limit, request.epochs)


def _xor_rows(request: Request, frames: str) -> Benchmark:
    return xor_benchmark(request.size, 1.0 if request.ps is None else request.ps[0])


def _affect(name: str, request: Request, frames: str) -> Benchmark:
    return affect_benchmark(name, request.folder(name), request.size, request.limit, request.epochs)


def _birds(name: str, request: Request, frames: str) -> Benchmark:
    trained = request.train_data or folder_of(SOURCES["bird-mml"], "data")
    return bird_benchmark(
        name, request.folder(name), trained, request.size, request.limit, request.epochs, frames,
        request.runs / "cache", pairing=request.pairing, progress=request.progress,
    )  # fmt: skip


BENCHMARKS: dict[str, Callable[[Request, str], Benchmark]] = {
    "av-mnist": _av_mnist,
    "xor": _xor_rows,
    **{name: partial(_affect, name) for name in ("mosi", "ur-funny", "mustard", "mosei")},
    **{name: partial(_birds, name) for name in ("ssw60", "vb100", "cub200")},
}


def _zero_shot(bench: Benchmark, request: Request, name: str) -> Outcome:
    wanted = request.methods is None or "supervised" in request.methods
    reference, notes = {}, []
    if wanted and bench.name == "av-mnist":
        reference = supervised_reference(request.folder("av-mnist"), request.size, request.limit, request.epochs)
        notes = ["supervised: classifiers on the labels with the same encoders and training; A+V is late fusion"]
    return _compare(reproduce_zero_shot, bench, request, name, references=reference, notes=notes)


def _noise(bench: Benchmark, request: Request, name: str) -> Outcome:
    if bench.rows is not None:
        return _compare(reproduce_noise, bench, request, name, **bird_noise(bench, name))
    conditions = snr_conditions([str(query) for query in bench.queries if not query.is_fused], request.snr_db)
    return _compare(reproduce_noise, bench, request, name, conditions=conditions)


def corruptions(bench: Benchmark, request: Request, name: str = "corruptions") -> Outcome:
    """What the paper does not test: missing, swapped, clipped, shifted and blurred inputs."""
    if bench.name not in CORRUPTIONS:
        raise ValueError(
            f"no corruptions are chosen for {bench.name}; they are for {', '.join(CORRUPTIONS)}. Disturb other data "
            "with confu.data.corruptions.CorruptedDataset"
        )
    return _compare(reproduce_noise, bench, request, name, conditions=CORRUPTIONS[bench.name], stored=name)


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


def _compare(
    reproduce: Callable[..., Outcome], bench: Benchmark, request: Request, name: str, **more: object
) -> Outcome:
    methods = request.chosen(but=["supervised"])
    return reproduce(bench, methods, request.seeds, request.runs, progress=request.progress, name=name, **more)


def _xor(bench: Benchmark, request: Request, name: str) -> Outcome:
    return reproduce_xor(
        request.size, request.chosen(), request.seeds, request.runs, request.ps, progress=request.progress
    )


def _xor_dimension(bench: Benchmark, request: Request, name: str) -> Outcome:
    methods = request.chosen(but=["clip", "tri-clip"] if request.methods is None else [])  # at chance at any size
    return reproduce_xor_dimension(
        request.size, methods, request.seeds, request.runs, request.dims, progress=request.progress
    )


def _lambda(bench: Benchmark, request: Request, name: str) -> Outcome:
    _check_trained_on(bench)
    return reproduce_lambda(bench, request.seeds, request.runs, request.progress, name=name)


def _mask(bench: Benchmark, request: Request, name: str) -> Outcome:
    _check_trained_on(bench)
    # Fig 7 shows changes over several λ, Table 8 those at λ = 0.5.
    lambdas = (0.3, 0.5, 0.7) if name.startswith("fig7") and bench.score != "accuracy" else (0.5,)
    return reproduce_mask(bench, request.seeds, request.runs, request.progress, lambdas=lambdas, name=name)


def _check_trained_on(bench: Benchmark) -> None:
    if bench.rows is not None:
        raise ValueError(
            f"{bench.name} only evaluates models that are trained on other data; λ and masks are compared where models "
            "are trained, e.g. --on mosi or --on av-mnist"
        )


EXPERIMENTS: dict[str, Callable[[Benchmark, Request, str], Outcome]] = {
    "zero-shot": _zero_shot,
    "retrieval": lambda bench, request, name: _compare(reproduce_retrieval, bench, request, name),
    "linear-probe": lambda bench, request, name: _compare(reproduce_linear_probe, bench, request, name),
    "few-shot": lambda bench, request, name: _compare(reproduce_few_shot, bench, request, name),
    "overlap": lambda bench, request, name: _compare(reproduce_overlap, bench, request, name),
    "noise": _noise,
    "lambda": _lambda,
    "mask": _mask,
    "xor": _xor,
    "xor-dimension": _xor_dimension,
}


def gaps(request: Request) -> Outcome:
    """AV-MNIST with rows that lack a modality, which the paper leaves open."""
    return reproduce_gaps(
        request.folder("av-mnist"), request.size, request.seeds, request.runs, request.shares, limit=request.limit,
        epochs=request.epochs, progress=request.progress,
    )  # fmt: skip


def false_negatives(request: Request) -> Outcome:
    """AV-MNIST with equal captions as negatives, positives, neither, or apart."""
    return reproduce_false_negatives(
        request.folder("av-mnist"), request.size, request.seeds, request.runs, limit=request.limit,
        epochs=request.epochs, progress=request.progress,
    )  # fmt: skip


BEYOND: dict[str, Callable[[Request], Outcome]] = {
    "corruptions": lambda request: corruptions(benchmark(request.on or "av-mnist", request), request),
    "gaps": gaps,
    "false-negatives": false_negatives,
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
    found = entry(ALIASES.get(name, name))
    experiment, names = _experiment(found), _data(found, request)
    file_name = name if name in ALIASES else found.name
    outcome = Outcome(request.size)
    for data in names:
        part = file_name if len(names) == 1 else f"{file_name}-{data}"
        outcome.include(EXPERIMENTS[experiment](benchmark(data, request, found.frames), request, part))
    # Where our rows do not carry the paper's numbers, because the data are others, those stand beside them whole.
    if not set(names) <= set(found.data) and (printed := paper_table(found)) is not None:
        outcome.add(f"{file_name}-paper", printed)
    return outcome


def about() -> Table:
    """The index of the paper for the terminal."""
    return index_table(EXPERIMENTS)


def _experiment(found: Entry) -> str:
    if found.experiment is None:
        raise ValueError(
            f"{found.label} ({found.title}) is an illustration, not an experiment; nothing can be run for it"
        )
    return found.experiment


def _data(found: Entry, request: Request) -> list[str]:
    """The data sets to measure on: the one that was asked for, or those of the paper that are there."""
    on = request.on
    if on is not None:
        if found.experiment in ("xor", "xor-dimension") and on != "xor":
            raise ValueError(
                f"{found.label} ({found.title}) asks a question of XOR itself, not of {on}; leave out --on"
            )
        return [on]
    folders = {folder_of(SOURCES[name], "") for name in found.data}
    if request.data is not None and len(folders) > 1:
        raise ValueError(
            f"{found.label} ({found.title}) is measured on {', '.join(found.data)}; say with --on which of them --data "
            "holds"
        )
    there = [name for name in found.data if _has_files(name, request.folder(name))]
    missing = [name for name in found.data if name not in there]
    told = "; ".join(f"{SOURCES[name].title} is not in {request.folder(name)}" for name in missing)
    if not there:
        other = "" if found.also is None else f", or ask the same of other data with --on {found.also}"
        raise ValueError(
            f"{found.label} ({found.title}): {told}. `confu data list` says where to get it; give its folder with "
            f"--data{other}"
        )
    if missing:
        Console(stderr=True).print(f"left out: {told}; `confu data list` says where to get it", highlight=False)
    return there


def _has_files(name: str, folder: Path) -> bool:
    return files_found(SOURCES[name], folder, checksums=False).state != "missing"


def paper_table(found: Entry) -> ResultTable | None:
    """What the paper prints for a table, to stand beside ours; None if it is a figure without numbers."""
    if not found.values:
        return None
    rows: dict[str, dict[str, Cell]] = {}
    several = len({one.data for one in found.values}) > 1
    for one in found.values:
        label = f"{one.method}, {one.data}" if several else one.method
        rows.setdefault(label, {})[_column(one)] = Cell(one.mean, one.std)
    columns = tuple(dict.fromkeys(column for cells in rows.values() for column in cells))
    data = ", ".join(dict.fromkeys(one.data for one in found.values))
    notes = (f"values of arXiv 2511.21331, measured on {data}; not run here",)
    return ResultTable(f"{found.label} as the paper prints it (%)", columns, rows, notes)


def _column(one: Published) -> str:
    parts = [f"{one.query} -> {one.target}", one.condition, "" if one.metric == "accuracy" else one.metric]
    return ", ".join(part for part in parts if part)
