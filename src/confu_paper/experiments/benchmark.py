"""A benchmark: a data set with its methods' runs, in the one form that every measurement of the paper works on."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from confu.checks import check_known
from confu.data import Dataset, Splits
from confu.data.corruptions import CorruptedDataset, Corruption
from confu.embeddings import EmbeddingTable
from confu.evaluation import Report, ReportRow, Summary, ZeroShotResult, evaluate_zero_shot, summarise
from confu.evaluation.few_shot import SHOTS
from confu.evaluation.scoring import answers, disjoint_pairs, queryable_subsets, singles_of
from confu.inference import embed
from confu.methods import METHODS, VARIANTS, Tweaks, suffix, tweaked
from confu.models import MultimodalModel, load_model
from confu.plan import Subset
from confu.training import ContrastiveObjective, TrainSettings
from confu_paper.datasets.registry import data_set
from confu_paper.experiments.published import Value
from confu_paper.experiments.run import Budget, Outcome, Run, Size, execute, measured
from confu_paper.sweeps.numbers import number_name

if TYPE_CHECKING:
    from confu_paper.experiments.birds_rows import BirdTestRows


@dataclass(frozen=True)
class Request:
    """What a user requests, beside the name of the table or figure.

    Attributes:
        size: of the experiment.
        methods: names in `confu.methods.METHODS`, and `supervised`; None for those of the variant.
        variant: `"fair"`, `"as_released"` or `"both"`.
        seeds: one run each.
        runs: folder of the runs; finished ones are read, interrupted ones go on.
        data: folder of the data set's files; None is `data/`, and in it the folder that `confu data list` names.
        train_data: folder of the data that models are trained on, where that is another set; None as for `data`.
        pairing: of Bird-MML's photos, sounds and captions, `"afresh"` in every batch or `"fixed"`; None is the size's.
        on: the data set; None for those of the paper whose files are there.
        limit, epochs: instead of the size's.
        ps, dims: of the XOR experiments.
        snr_db: noise levels of tables 6 and 9.
        shares: of the rows that lack a modality, for `gaps`.
        progress: draw progress bars.
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

    @property
    def budget(self) -> Budget:
        """How much is trained."""
        return Budget(self.size, self.limit, self.epochs)

    @property
    def seeds_note(self) -> str:
        """The seeds, for a table's notes."""
        return f"seeds {', '.join(map(str, self.seeds))}"

    def folder(self, name: str) -> Path:
        """Where a data set's files are: the folder that was given, or the usual one."""
        return self.data or data_set(name).folder_in("data")

    def chosen(self, but: Sequence[str] = ("supervised",)) -> list[str]:
        """The methods, those named or those of the variant; without some that an experiment has no use for."""
        check_known("variant", self.variant, VARIANTS)
        names = list(VARIANTS[self.variant]) if self.methods is None else list(self.methods)
        for name in names:
            check_known("method", name, [*METHODS, "supervised"])
        return [name for name in names if name not in but]


Conditions = Mapping[str, tuple[str, Corruption]]
"""Name of a condition -> the modality that is disturbed, and how."""


@dataclass(frozen=True)
class Benchmark:
    """A data set, and the queries and targets on it.

    Attributes:
        name: for titles and folders.
        size: of the experiment.
        modalities: in the order of printing.
        target: what labels are read from in zero-shot classification, e.g. `text`; None where they are not.
        queries: the single ones first, e.g. image, audio, image+audio.
        runs: (method, seed, tweaks) -> the runs of the method: one, or one for each of its models.
        splits: (modalities, seed) -> the data as they are evaluated, without augmentation.
        prompts: the target's inputs that stand for the classes, with the classes as labels; None without a target.
        score: the metric that sweeps are judged by, `"accuracy"` or `"recall@10"`.
        letters: short names of the queries in the paper's tables, e.g. `{"audio": "A"}`.
        published: the paper's values by method and query, where it has this data set.
        notes: what every table on it has to say.
        weights: folder in that of a run, with the model that is evaluated.
        rows: what is classified, if not the test rows of the runs' own data.
        shots: labelled rows a class of few-shot probes.
    """

    name: str
    size: str
    modalities: tuple[str, ...]
    target: Subset | None
    queries: tuple[Subset, ...]
    runs: Callable[[str, int, Tweaks], list[Run]]
    splits: Callable[[Sequence[str], int], Splits]
    prompts: Callable[[], Dataset] | None = None
    score: str = "accuracy"
    letters: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weights: str = "best"
    rows: "BirdTestRows | None" = None
    shots: tuple[int, ...] = SHOTS

    @property
    def classes(self) -> tuple[Subset, Dataset]:
        """The target and its prompts, for zero-shot classification.

        Raises:
            ValueError: if its classes are not read from any modality.
        """
        if self.target is None or self.prompts is None:
            raise ValueError(
                f"the classes of {self.name} are not said by any of its modalities, so that nothing can be classified "
                "without labels; measure its retrieval or a linear probe"
            )
        return self.target, self.prompts()

    def queried(self, modalities: Iterable[str]) -> list[str]:
        """Those modalities that are not the target."""
        return [name for name in modalities if self.target is None or name not in self.target]

    def letter(self, query: str) -> str:
        """The short name of a query, or of the mean of a fused one's embeddings."""
        return self.letters.get(query, query)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What each label of the test rows means."""
        return self.splits(self.modalities[:1], 0).test.class_names if self.rows is None else self.rows.class_names()

    def model(self, folder: Path) -> MultimodalModel:
        """The model of a run. For rows of other data it is on a GPU, if there is one."""
        gpu = self.rows is not None and torch.cuda.is_available()
        return load_model(folder / self.weights, device="cuda" if gpu else "cpu")

    def queries_of(self, model: MultimodalModel) -> list[Subset]:
        """The queries whose modalities a model has."""
        return [query for query in self.queries if query <= set(model.plan.modalities)]

    def measure(
        self,
        run: Run,
        request: Request,
        name: str,
        settings: Mapping[str, Any],
        rows: Callable[[Path], list[ReportRow]],
    ) -> Report:
        """`measured` under a name, and with settings, that say the rows it is made on."""
        if self.rows is not None:
            name, settings = f"{name}-{self.rows.name}", {**settings, "rows": self.rows.settings()}
        return measured(run, request.runs, name, settings, rows, request.progress)

    def test_tables(self, model: MultimodalModel, folder: Path) -> list[EmbeddingTable]:
        """Embeddings of the test rows without the target, once for each view of them."""
        if self.rows is not None:
            return self.rows.tables(model, folder)
        return [without_target(EmbeddingTable.load(folder / "test.parquet"), self.queried(model.plan.modalities))]

    def disturbed_tables(
        self, model: MultimodalModel, folder: Path, conditions: Conditions, seed: int
    ) -> Iterator[tuple[str, list[EmbeddingTable]]]:
        """`test_tables` under each condition that disturbs one of the model's modalities, one after another."""
        names = self.queried(model.plan.modalities)
        conditions = {label: changed for label, changed in conditions.items() if changed[0] in names}
        if self.rows is not None:
            for label, changed in conditions.items():
                yield label, self.rows.tables(model, folder, changed, seed)
            return
        (clean,) = self.test_tables(model, folder)
        test = self.splits(names, seed).test
        for label, (modality, how) in conditions.items():
            touched = [subset for subset in clean.subsets if modality in subset]
            noisy = CorruptedDataset(test, {modality: how}, seed=seed)
            yield label, [replaced(clean, embed(model, noisy, subsets=touched))]


Ask = Callable[[MultimodalModel, EmbeddingTable, str, int], list[ReportRow]]
"""(model, embedded rows, method, seed) -> what is measured of them."""


def asking_classes(prompts: Callable[[], Dataset], target: Subset, queries: Sequence[Subset]) -> Ask:
    """Zero-shot accuracies of those queries whose modalities a model has."""

    def ask(model: MultimodalModel, table: EmbeddingTable, method: str, seed: int) -> list[ReportRow]:
        own = [query for query in queries if query <= set(model.plan.modalities)]
        return zero_shot(model, table, prompts(), target, own, method, seed).rows

    return ask


@dataclass(frozen=True)
class Recipe:
    """What is common to a method's runs on a benchmark, whatever model they train.

    Attributes:
        method: one of `confu.methods.METHODS`.
        seed: of the weights and the order of the rows.
        train: settings of the size.
        tweaks: changed settings, by the names in `confu.methods.DOMAINS`.
        ask: what is measured on validation rows in training, and on test rows after it.
        more: what is measured of the test rows besides, of a model and its folder, the table and the splits.
        weights: folder of the weights in that of a run.
        batch_size: rows that are embedded at a time.
        threads: see `Run`.
    """

    method: str
    seed: int
    train: TrainSettings
    tweaks: Tweaks
    ask: Ask
    more: Callable[[MultimodalModel, EmbeddingTable, Splits, str, int], list[ReportRow]] | None = None
    weights: str = "best"
    batch_size: int = 1024
    threads: int | None = None

    def run(
        self, name: str, description: dict[str, Any], splits: Callable[[], Splits], objective: Callable[[], nn.Module]
    ) -> Run:
        """One of the runs; its name and description get the tweaks."""
        return Run(
            name=f"{name}{suffix(self.tweaks)}-s{self.seed}",
            description=description | ({"tweaks": dict(self.tweaks)} if self.tweaks else {}),
            train=tweaked(self.train, self.method, self.tweaks),
            splits=splits,
            objective=objective,
            measure=self.measure,
            monitor=self.monitor,
            threads=self.threads,
        )

    def monitor(self, objective: nn.Module, splits: Splits) -> dict[str, float]:
        """Numbers of the validation rows by name: for the curves, and for λ and masks to be chosen by."""
        assert isinstance(objective, ContrastiveObjective)
        table = embed(objective.model, splits.validation, batch_size=self.batch_size)
        return {number_name(row): row.value for row in self.ask(objective.model, table, "", 0)}

    def measure(self, folder: Path, splits: Splits) -> list[ReportRow]:
        """Embed the test rows, keep the table beside the run, and measure."""
        model = load_model(folder / self.weights)
        table = embed(model, splits.test, batch_size=self.batch_size)
        table.save(folder / "test.parquet")
        rows = self.ask(model, table, self.method, self.seed)
        return rows if self.more is None else rows + self.more(model, table, splits, self.method, self.seed)


def single_target_pairs(table: EmbeddingTable) -> list[tuple[Subset, Subset]]:
    """Every query with every single modality that it can find; as Table 2, no fused targets."""
    pairs = disjoint_pairs(queryable_subsets(table))
    return [(query, target) for query, target in pairs if not target.is_fused and answers(table, query, target)]


def summaries_by_method(
    benchmark: Benchmark, request: Request, outcome: Outcome, report: Callable[[str, int, Run], list[Report]]
) -> Iterator[tuple[str, list[Summary]]]:
    """For each requested method the summaries over seeds of the reports of its runs, which the outcome keeps."""
    for method in request.chosen():
        runs = [(seed, run) for seed in request.seeds for run in benchmark.runs(method, seed, {})]
        reports = [one for seed, run in runs for one in report(method, seed, run)]
        outcome.reports += reports
        yield method, summarise(reports)


def zero_shot(
    model: MultimodalModel,
    table: EmbeddingTable,
    prompts: Dataset,
    target: Subset,
    queries: Sequence[Subset],
    method: str = "",
    seed: int = 0,
) -> ZeroShotResult:
    """Zero-shot classification by those of the queries that the model's method can answer."""
    embedded = embed(model, prompts, subsets=[target])
    assert embedded.labels is not None
    # A method without fusion answers a fused query too, with the mean of the single embeddings.
    possible = [
        query for query in queries if answers(table, query, target, target_given=True) or singles_of(table, query)
    ]
    return evaluate_zero_shot(table, embedded[target], embedded.labels, target, possible, method, seed)


def replaced(table: EmbeddingTable, new: EmbeddingTable) -> EmbeddingTable:
    """The table with the subsets of another one of the same rows in place of its own."""
    return replace(table, vectors={**table.vectors, **new.vectors}, complete={**table.complete, **new.complete})


def without_target(table: EmbeddingTable, names: Sequence[str]) -> EmbeddingTable:
    """The table's subsets of these modalities."""
    kept = [subset for subset in table.subsets if subset <= set(names)]
    vectors = {subset: table.vectors[subset] for subset in kept}
    return replace(table, vectors=vectors, complete={subset: table.complete[subset] for subset in kept})


DEVIATION = ", deviation over views"
"""What is added to a metric whose value is a standard deviation over views."""


def mean_rows(views: Sequence[Sequence[ReportRow]], deviations: bool = False) -> list[ReportRow]:
    """The mean of each number over views of the same rows, such as frames of a video; one view's rows as they are.

    Args:
        views: each view's rows; the same numbers in each.
        deviations: add, after each mean, the standard deviation (divisor views - 1) as a number of its own.

    >>> rows = [ReportRow("accuracy", "image", "text", value, count=10) for value in (0.25, 0.75)]
    >>> [(row.metric, round(row.value, 3)) for row in mean_rows([[rows[0]], [rows[1]]], deviations=True)]
    [('accuracy', 0.5), ('accuracy, deviation over views', 0.354)]
    """
    if len(views) == 1:
        return list(views[0])
    means = []
    for same in zip(*views, strict=True):
        assert len({(row.metric, row.query, row.target) for row in same}) == 1
        values = [row.value for row in same]
        std = statistics.stdev(values)
        note = "; ".join(part for part in (same[0].note, f"mean of {len(values)} views, std {std:.4f}") if part)
        means.append(replace(same[0], value=statistics.fmean(values), note=note))
        if deviations:
            means.append(replace(same[0], metric=same[0].metric + DEVIATION, value=std, note=f"{len(values)} views"))
    return means


def accuracies(benchmark: Benchmark, request: Request, method: str, seed: int, run: Run) -> Report:
    """The zero-shot accuracies of a run: those of its own report, or those on the benchmark's other rows.

    Trains the run first if it has to.
    """
    if benchmark.rows is None:
        return execute(run, request.runs, request.progress)
    return benchmark.measure(run, request, "zero-shot", {}, partial(_accuracy_rows, benchmark, method, seed))


def _accuracy_rows(benchmark: Benchmark, method: str, seed: int, folder: Path) -> list[ReportRow]:
    model, (target, prompts) = benchmark.model(folder), benchmark.classes
    queries = benchmark.queries_of(model)
    tables = benchmark.test_tables(model, folder)
    views = [zero_shot(model, table, prompts, target, queries, method, seed).rows for table in tables]
    return mean_rows(views, deviations=True)
