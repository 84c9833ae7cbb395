"""A benchmark: a data set with its methods' runs, in the one form that every measurement of the paper works on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from confu.data import Dataset, Splits
from confu.data.corruptions import CorruptedDataset, Corruption
from confu.embeddings import EmbeddingTable
from confu.evaluation import ZeroShotResult, evaluate_zero_shot
from confu.evaluation.few_shot import SHOTS
from confu.evaluation.scoring import answers, singles_of
from confu.inference import embed
from confu.methods import Tweaks
from confu.models import MultimodalModel, load_model
from confu.plan import Subset
from confu_paper.experiments.published import Value
from confu_paper.experiments.run import Run


@runtime_checkable
class MakeRuns(Protocol):
    """Makes the runs of a method: one, or one for each of its models."""

    def __call__(self, method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        """The runs."""
        ...


Conditions = Mapping[str, tuple[str, Corruption]]
"""Name of a condition -> the modality that is disturbed, and how."""


@runtime_checkable
class OtherRows(Protocol):
    """Rows of another data set than that of the runs, on which their models are evaluated."""

    @property
    def name(self) -> str:
        """Of the measurements that are kept beside a run."""
        ...

    def settings(self) -> dict[str, Any]:
        """What decides the rows and how they are embedded; JSON-able."""
        ...

    def class_names(self) -> tuple[str, ...]:
        """What each label means."""
        ...

    def tables(
        self, model: MultimodalModel, folder: Path, changed: tuple[str, Corruption] | None = None, seed: int = 0
    ) -> list[EmbeddingTable]:
        """Embeddings of the rows, once for each view of them, e.g. each frame of a video.

        Args:
            model: of the run.
            folder: of the run, where undisturbed embeddings are kept.
            changed: a modality that is disturbed, and how.
            seed: of the disturbance.
        """
        ...

    def snr_db(self, modality: str, how: Corruption) -> float | None:
        """The signal-to-noise ratio that noise has on these rows, estimated; None if `how` is no such noise."""
        ...


@dataclass(frozen=True)
class Benchmark:
    """A data set, and what is asked of it.

    Attributes:
        name: for titles and folders.
        size: of the experiment.
        modalities: in the order of printing.
        target: what labels are read from in zero-shot classification, e.g. `text`; None where they are not.
        queries: the subsets that are asked with, the single ones first, e.g. image, audio, image+audio.
        runs: makes the runs of a method.
        splits: the data of these modalities for a seed, as it is evaluated: without augmentation.
        prompts: the target's inputs that stand for the classes, with the classes as labels; None without a target.
        score: the metric that sweeps are judged by, `"accuracy"` or `"recall@10"`.
        letters: short names of the queries in the paper's tables, e.g. `{"audio": "A"}`.
        published: the paper's values by method and query, where it has this data set.
        notes: what every table on it must say.
        weights: folder in that of a run, with the model that is evaluated.
        rows: what is classified, if not the test rows of the runs' own data.
        shots: labelled rows a class of few-shot probes.
    """

    name: str
    size: str
    modalities: tuple[str, ...]
    target: Subset | None
    queries: tuple[Subset, ...]
    runs: MakeRuns
    splits: Callable[[Sequence[str], int], Splits]
    prompts: Callable[[], Dataset] | None = None
    score: str = "accuracy"
    letters: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weights: str = "best"
    rows: OtherRows | None = None
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

    def asked_of(self, modalities: Iterable[str]) -> list[str]:
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

    def stored(self, name: str) -> str:
        """What a measurement beside a run is called."""
        return name if self.rows is None else f"{name}-{self.rows.name}"

    def measurement(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What decides a measurement, with the rows that it is made on."""
        return dict(settings) if self.rows is None else {**settings, "rows": self.rows.settings()}

    def test_tables(self, model: MultimodalModel, folder: Path) -> list[EmbeddingTable]:
        """Embeddings of the test rows without the target, once for each view of them."""
        if self.rows is not None:
            return self.rows.tables(model, folder)
        return [without_target(EmbeddingTable.load(folder / "test.parquet"), self.asked_of(model.plan.modalities))]

    def disturbed_tables(
        self, model: MultimodalModel, folder: Path, conditions: Conditions, seed: int
    ) -> Iterator[tuple[str, list[EmbeddingTable]]]:
        """`test_tables` under each condition that disturbs one of the model's modalities, one after another."""
        names = self.asked_of(model.plan.modalities)
        there = {label: changed for label, changed in conditions.items() if changed[0] in names}
        if self.rows is not None:
            yield from ((label, self.rows.tables(model, folder, changed, seed)) for label, changed in there.items())
            return
        (clean,) = self.test_tables(model, folder)
        test = self.splits(names, seed).test
        for label, (modality, how) in there.items():
            touched = [subset for subset in clean.subsets if modality in subset]
            noisy = CorruptedDataset(test, {modality: how}, seed=seed)
            yield label, [replaced(clean, embed(model, noisy, subsets=touched))]


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
    possible = [one for one in queries if answers(table, one, target, target_given=True) or singles_of(table, one)]
    return evaluate_zero_shot(table, embedded[target], embedded.labels, target, possible, method, seed)


def replaced(table: EmbeddingTable, new: EmbeddingTable) -> EmbeddingTable:
    """The table with the subsets of another one of the same rows in place of its own."""
    return EmbeddingTable(
        table.ids, {**table.vectors, **new.vectors}, {**table.complete, **new.complete}, table.labels, table.model,
        table.plan, table.score,
    )  # fmt: skip


def without_target(table: EmbeddingTable, names: Sequence[str]) -> EmbeddingTable:
    """The table's subsets of these modalities."""
    kept = [subset for subset in table.subsets if subset <= set(names)]
    return EmbeddingTable(
        table.ids, {one: table.vectors[one] for one in kept}, {one: table.complete[one] for one in kept}, table.labels,
        table.model, table.plan, table.score,
    )  # fmt: skip
