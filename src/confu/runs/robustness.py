"""Robustness: what a query still finds when one of its modalities is missing, exchanged, noisy or attacked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from rich.table import Table
from torch import Tensor, nn

from confu.data import Dataset
from confu.data.corrupted import CorruptedDataset, Corruption, ModalityRows, one_a_row, samples
from confu.data.corruptions import GaussianNoise, Swapped
from confu.embeddings import EmbeddingTable
from confu.evaluation.ranking import usual_ks
from confu.evaluation.report import ReportRow
from confu.evaluation.retrieval import rank_pair
from confu.evaluation.scoring import mean_name, singles_of, why_not
from confu.inference import embed
from confu.inference.embedding import embed_batch
from confu.plan import Subset
from confu.types import Inputs

NOISE_DB = (20.0, 15.0, 10.0)
CLEAN, MISSING, EXCHANGED, ADVERSARIAL = "clean", "missing", "exchanged", "adversarial"
_MOST_LINES = 60  # in a terminal
_POINT = 0.01
_BATCH = 256
_WAYS = ("fused", "mean", "single")  # of asking: each is attacked by itself


@dataclass(frozen=True, eq=False)
class Adversarial:
    r"""Move each number of an input by at most a bound, so that the row's query is less like its own target.

    Projected gradient descent on their cosine, in the space of the tensors that the encoder gets:

    $$x \leftarrow \Pi_{|x - x_0| \le b} \left( x - \tfrac{2.5\, b}{s}\, \mathrm{sign}\, \nabla_x \cos \right)$$

    Like noise, it is not clipped to the range of the values, and moves real steps of sequences only.

    Args:
        model: whose gradients are used, in evaluation mode.
        queries: the subset that asks, or several, whose mean does.
        target: what is sought; it is not disturbed.
        bound: b, in units of the values.
        steps: s, of the descent.

    Raises:
        ValueError: from `corrupt`, for inputs that are no numbers, as tokens.

    Reference: Madry et al. 2018.
    """

    model: nn.Module
    queries: Sequence[Subset]
    target: Subset
    bound: float
    steps: int = 5

    def __str__(self) -> str:
        return f"adversarial within {self.bound:g}"

    def corrupt(self, inputs: Inputs, indices: Int[Tensor, " _"], source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        samples(inputs, str(self), source.modality)
        own, batch = one_a_row(inputs), source.dataset.batch(indices)
        masked = own.values if isinstance(own.values, dict) else None
        start = own.values if isinstance(own.values, Tensor) else own.values["values"]
        names = {name for subset in (self.target, *self.queries) for name in subset}
        rows = torch.stack([batch.inputs[name].present for name in names]).all(0)
        if not bool(rows.any()):
            return own
        device = next(self.model.parameters()).device
        targets = embed_batch(self.model, batch, [self.target])[self.target][0][rows].to(device)
        moved = start
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_()
            changed = Inputs(moved if masked is None else {**masked, "values": moved}, own.rows)
            # The gradients of cuDNN's recurrent networks exist in training mode only.
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                inputs_of = {**batch.inputs, source.modality: changed}
                embeddings = self.model(replace(batch, inputs=inputs_of).to(device), list(self.queries))
                asked = F.normalize(torch.stack([embeddings[query] for query in self.queries]).sum(0), dim=-1)[rows]
                (gradient,) = torch.autograd.grad((asked * targets).sum(), moved)
            step = moved.detach() - 2.5 * self.bound / self.steps * gradient.sign()
            moved = start + (step - start).clamp(-self.bound, self.bound)
        if masked is None:
            return Inputs(moved.detach(), own.rows)
        return Inputs({**masked, "values": torch.where(masked["mask"][..., None], moved.detach(), start)}, own.rows)


@dataclass(frozen=True)
class RobustnessLine:
    """Recall@k of one query -> target under one disturbance: fused, by the mean of embeddings, by the best part.

    Attributes:
        query, target: subsets, as text.
        modality: the part of the query that is disturbed; empty for none.
        disturbance: "clean", "missing", "exchanged", "adversarial" or that of a noise. Where a part is missing, what is
            left of the query asks.
        k: of the recall.
        count: queries, which are also the gallery.
        fused, mean: fractions; None where the model has no such query.
        best_single, single: the part that finds most under this disturbance, and what it finds.
    """

    query: str
    target: str
    modality: str
    disturbance: str
    k: int
    count: int
    fused: float | None
    mean: float | None
    best_single: str | None
    single: float | None


@dataclass(frozen=True)
class Robustness:
    """The table of a model under disturbances, and why some were left out."""

    lines: list[RobustnessLine] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Robustness":
        """The table that `to_dict` wrote."""
        return cls([RobustnessLine(**line) for line in data["lines"]], list(data["notes"]))

    def to_rows(self) -> list[ReportRow]:
        """Rows of `recall@k, MODALITY DISTURBANCE`."""
        rows = []
        for line in self.lines:
            metric = f"recall@{line.k}, {' '.join(filter(None, (line.modality, line.disturbance)))}"
            names = (line.query, mean_name(Subset.parse(line.query)), f"best part of {line.query}")
            for name, value in zip(names, (line.fused, line.mean, line.single)):
                if value is not None:
                    rows.append(ReportRow(metric, name, line.target, value, line.count))
        return rows

    def averages(self) -> list[RobustnessLine]:
        """By disturbance, the mean over queries and parts; of the lines that have all three numbers."""
        groups: dict[str, list[RobustnessLine]] = {}
        for line in self.lines:
            if None not in (line.fused, line.mean, line.single):
                groups.setdefault(line.disturbance, []).append(line)
        return [
            RobustnessLine(
                query=f"mean of {len(group)}",
                target="",
                modality="",
                disturbance=disturbance,
                k=group[0].k,
                count=group[0].count,
                fused=fmean(line.fused or 0.0 for line in group),
                mean=fmean(line.mean or 0.0 for line in group),
                best_single=None,
                single=fmean(line.single or 0.0 for line in group),
            )
            for disturbance, group in groups.items()
        ]

    def sentences(self) -> list[str]:
        """In how many cases the fused query finds less than the better of the mean and the best part."""
        known = [line for line in self.lines if line.fused is not None and line.single is not None]
        lost = {line: max(line.mean or 0.0, line.single or 0.0) - (line.fused or 0.0) for line in known}
        worse = [line for line in known if lost[line] > _POINT]
        sentences = list(self.notes)
        if known:
            text = "The fused query finds over a point less than the mean or the best part in "
            text += f"{len(worse)} of {len(known)}"
            if worse:
                worst = max(worse, key=lambda line: lost[line])
                what = f"{worst.modality} {worst.disturbance}" if worst.modality else worst.disturbance
                text += f" cases, at most {100 * lost[worst]:.1f} points ({worst.query} -> {worst.target}, {what})."
            sentences.insert(0, text if worse else f"{text} cases.")
        return sentences


def measure_robustness(
    model: nn.Module,
    data: Dataset,
    table: EmbeddingTable,
    contents: Mapping[str, Int[Tensor, " _"]] | None = None,
    tick: Callable[[str], None] = lambda what: None,
    noise_db: Sequence[float] = NOISE_DB,
    bound: float = 0.1,
) -> Robustness:
    """Disturb one modality of each two-to-one and three-to-one query at a time, and rank the targets, which stay clean.

    Args:
        model: in evaluation mode.
        data: the rows.
        table: its embeddings of them.
        contents: as for `rank_pair`.
        tick: told what is being measured.
        noise_db: signal-to-noise ratios.
        bound: of the adversarial disturbance, as a share of the standard deviation of all numbers of the modality.
    """
    measure = _Measure(model, data, table, contents, bound)
    queries = _queries(table)
    lines = [measure.line(query, target, "", CLEAN, table) for query, target in queries]
    corruptions: dict[str, Corruption] = {EXCHANGED: Swapped()}
    corruptions |= {f"noise {level:g} dB": GaussianNoise(snr_db=level) for level in noise_db}
    notes: dict[str, None] = {}
    for name in dict.fromkeys(name for query, _ in queries for name in query):
        asked = [(query, target) for query, target in queries if name in query]
        lines += [measure.line(query, target, name, MISSING, table, without=name) for query, target in asked]
        for disturbance, corruption in corruptions.items():
            tick(f"{name}, {disturbance}")
            try:
                disturbed = measure.disturbed(name, corruption)
            except ValueError as error:
                notes[str(error)] = None
                continue
            lines += [measure.line(query, target, name, disturbance, disturbed) for query, target in asked]
        for query, target in asked if table.score == "cosine" else ():
            tick(f"{name}, {ADVERSARIAL}, {query} -> {target}")
            try:
                fused, mean, single = (measure.attacked(name, query, target, how) for how in _WAYS)
            except ValueError as error:
                notes[str(error)] = None
                break
            lines.append(measure.line(query, target, name, ADVERSARIAL, fused, mean, single))
    return Robustness(sorted(lines, key=lambda line: (line.target, line.query)), list(notes))


def _queries(table: EmbeddingTable) -> list[tuple[Subset, Subset]]:
    """Two and three modalities that can ask for another one, or whose mean can."""
    names = list(dict.fromkeys(name for subset in table.subsets for name in subset))
    pairs = []
    for target in (Subset(name) for name in names if Subset(name) in table):
        others = [name for name in names if name not in target]
        for chosen in (Subset(*some) for size in (2, 3) for some in combinations(others, size)):
            query = next((subset for subset in table.subsets if subset == chosen), chosen)  # in the table's order
            rows = table.rows_with(target, *(Subset(name) for name in query if Subset(name) in table))
            if len(rows) > 1 and (why_not(table, query, target) is None or singles_of(table, query)):
                pairs.append((query, target))
    return pairs


@dataclass(frozen=True, eq=False)
class _Measure:
    """What `measure_robustness` measures with."""

    model: nn.Module
    data: Dataset
    table: EmbeddingTable
    contents: Mapping[str, Tensor] | None
    bound: float
    spreads: dict[str, float] = field(default_factory=dict)
    singles: dict[tuple[str, Subset], EmbeddingTable] = field(default_factory=dict)  # attacked, by part and target

    def line(
        self,
        query: Subset,
        target: Subset,
        modality: str,
        disturbance: str,
        fused: EmbeddingTable,
        mean: EmbeddingTable | None = None,
        single: EmbeddingTable | None = None,
        without: str = "",
    ) -> RobustnessLine:
        """Recall by the embeddings of three tables; one for all unless more are given."""
        single = single or fused
        sides = [one for one in (query, target, *map(Subset, query)) if one in self.table]
        rows = self.table.rows_with(*sides)
        k, left = usual_ks([len(rows)])[-1], Subset(*(name for name in query if name != without))
        own = self.recalls(fused, left, target, rows, k)
        means = own if mean is None else self.recalls(mean, left, target, rows, k)
        singles = {name: self.recalls(single, Subset(name), target, rows, k).get(name) for name in left}
        best = max(((value, name) for name, value in singles.items() if value is not None), default=(None, None))
        # Where there is no network for what is left, its mean asks; so it does of one part alone.
        value = own.get(str(left), own.get(mean_name(left)) if without else None)
        mean_value = means.get(mean_name(left), best[0] if without and len(left) == 1 else None)
        if query not in self.table and self.table.score == "cosine":
            value = None
        return RobustnessLine(
            str(query), str(target), modality, disturbance, k, len(rows), value, mean_value, best[1], best[0]
        )

    def recalls(self, table: EmbeddingTable, query: Subset, target: Subset, rows: Tensor, k: int) -> dict[str, float]:
        """Recall@k of a query and of the mean of its parts, by name; empty if it cannot be asked."""
        if why_not(table, query, target) is not None and not singles_of(table, query):
            return {}
        few = table if len(rows) == len(table) else table.select(rows)
        contents = self.contents
        if contents is not None and few is not table:
            contents = {name: numbers[rows] for name, numbers in contents.items()}
        return {
            name: float(one.recall(k).mean()) for name, one in rank_pair(few, query, target, None, contents).items()
        }

    def disturbed(self, modality: str, corruption: Corruption, subsets: Sequence[Subset] = ()) -> EmbeddingTable:
        """The table with the embeddings of a disturbed modality, of these subsets or of all that hold it."""
        chosen = list(subsets) or [subset for subset in self.table.subsets if modality in subset]
        new = embed(self.model, CorruptedDataset(self.data, {modality: corruption}), chosen, batch_size=_BATCH)
        return replace(self.table, vectors={**self.table.vectors, **new.vectors})

    def attacked(self, modality: str, query: Subset, target: Subset, how: str) -> EmbeddingTable:
        """The table with one modality disturbed so that this query, the mean or the modality alone finds less."""
        if how == "fused":
            queries = [query] if query in self.table else []
        else:
            queries = list(map(Subset, query)) if how == "mean" else [Subset(modality)]
        if not queries or any(one not in self.table for one in queries):
            return self.table
        if modality not in self.spreads:
            values = ModalityRows(self.data, modality).take(torch.arange(min(_BATCH, len(self.data))))
            numbers = [part.flatten() for part in samples(values, ADVERSARIAL, modality)]
            self.spreads[modality] = float(torch.cat(numbers).double().std())
        attack = Adversarial(self.model, queries, target, self.bound * self.spreads[modality])
        key = (modality, target)
        if how == "single" and key in self.singles:
            return self.singles[key]
        attacked = self.disturbed(modality, attack, [query] if how == "fused" else [Subset(modality)])
        if how == "single":
            self.singles[key] = attacked
        return attacked


def robustness_table(result: Robustness) -> Table:
    """The table of a terminal, in percent: means over queries and parts first, then each query."""
    table = Table(box=None, pad_edge=False)
    k = max((line.k for line in result.lines), default=1)
    table.add_column(f"recall@{k} (%)", no_wrap=True)
    for name in ("disturbed", "fused", "mean", "best part"):
        table.add_column(name, justify="left" if name == "disturbed" else "right", no_wrap=True)
    lines = [*result.averages(), *result.lines]
    for line in lines[:_MOST_LINES]:
        table.add_row(*line_cells(line))
    if len(lines) > _MOST_LINES:
        table.caption = f"{len(lines) - _MOST_LINES} further lines are in the report."
    return table


def line_cells(line: RobustnessLine) -> list[str]:
    """What is asked, what is disturbed, and the three numbers in percent."""
    asked = f"{line.query} -> {line.target}" if line.target else line.query
    fused, mean, single = ("–" if one is None else f"{100 * one:.1f}" for one in (line.fused, line.mean, line.single))
    best = single if line.best_single is None else f"{line.best_single} {single}"
    return [asked, " ".join(filter(None, (line.modality, line.disturbance))), fused, mean, best]
