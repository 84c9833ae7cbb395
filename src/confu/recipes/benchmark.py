"""A benchmark: a data set with its methods' runs, in the one form that every measurement of the paper works on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from confu._typing import Subset
from confu.data import Dataset, Splits
from confu.embeddings import EmbeddingTable
from confu.evaluation import ZeroShotResult, evaluate_zero_shot
from confu.evaluation.scoring import answers, singles_of
from confu.inference import embed
from confu.models import MultimodalModel
from confu.recipes.published import Value
from confu.recipes.run import Run
from confu.recipes.sweeps.space import Tweaks


@runtime_checkable
class MakeRuns(Protocol):
    """Makes the runs of a method: one, or one for each of its models."""

    def __call__(self, method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        """The runs."""
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


def without_target(table: EmbeddingTable, names: Sequence[str]) -> EmbeddingTable:
    """The table's subsets of these modalities."""
    kept = [subset for subset in table.subsets if subset <= set(names)]
    return EmbeddingTable(
        table.ids, {one: table.vectors[one] for one in kept}, {one: table.complete[one] for one in kept}, table.labels,
        table.model, table.plan, table.score,
    )  # fmt: skip
