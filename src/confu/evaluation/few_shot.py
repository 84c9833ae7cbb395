"""Few-shot probes: a linear classifier from a few labelled rows of each class, drawn several times.

Shapes: n rows, c classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.evaluation.linear_probe import (
    TARGET,
    Feature,
    accuracy,
    check_seen,
    choose_features,
    feature_vectors,
    fit_linear_probe,
    labelled_rows,
)
from confu.evaluation.report import ReportRow

SHOTS = (1, 2, 4, 8, 16)
RELEASED_SHOTS = (1, 2, 5, 10, 20)
"""Of the paper's released code."""


def draw_supports(
    labels: Int[Tensor, " n"],
    shots: Sequence[int] = SHOTS,
    repeats: int = 10,
    draw_seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> dict[int, Int[Tensor, "repeats _"]]:
    """Draw rows to learn from: as many of each class, several times over.

    Within a repeat the supports are nested: the 2-shot support holds the 1-shot one. A repeat does not depend on how
    many there are.

    Example:
        >>> supports = draw_supports(torch.tensor([0, 1, 0, 1, 1]), shots=(1, 2), repeats=3)
        >>> supports[2].shape, set(supports[1][0].tolist()) < set(supports[2][0].tolist())
        (torch.Size([3, 4]), True)
    """
    if not shots or min(shots) < 1 or len(set(shots)) != len(shots):
        raise ValueError(f"shots must hold numbers from 1, each once; got {tuple(shots)}")
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more; got {repeats}")
    classes, counts = labels.unique(return_counts=True)
    most = max(shots)
    if short := [(int(one), int(count)) for one, count in zip(classes, counts) if count < most]:
        label, count = min(short, key=lambda pair: pair[1])
        named = class_names is not None and label < len(class_names)
        name = f"{class_names[label]!r} (label {label})" if named and class_names else str(label)
        raise ValueError(
            f"{most} shots need {most} rows of each class; {len(short)} of {len(classes)} classes have fewer. Class "
            f"{name} has {count}: ask for at most {count} shots, or leave such classes out with table.select(...)"
        )
    generator = torch.Generator().manual_seed(draw_seed)
    drawn: dict[int, list[Tensor]] = {number: [] for number in shots}
    for _ in range(repeats):
        order = torch.randperm(len(labels), generator=generator)
        shuffled = labels[order]
        by_class = [order[shuffled == one] for one in classes]
        for number in shots:
            drawn[number].append(torch.cat([rows[:number] for rows in by_class]))
    return {number: torch.stack(rows) for number, rows in drawn.items()}


@dataclass(frozen=True)
class FewShotResult:
    """The accuracies of few-shot probes.

    Attributes:
        rows: one a feature and number of shots, `16-shot accuracy`: the mean over the repeats, as a fraction; its note
            tells the standard deviation.
        shots: ascending.
        accuracies: feature name -> (shots, repeats) the accuracy of every probe. Column j was fitted on the same rows
            for each feature.
    """

    rows: list[ReportRow]
    shots: tuple[int, ...]
    accuracies: dict[str, Float[Tensor, "shots repeats"]]

    def curve(self, feature: str) -> tuple[list[float], list[float] | None]:
        """Means and standard deviations (divisor repeats - 1) in percent, one per number of shots.

        They are what `confu.evaluation.plots.lines` draws; the deviations are None for a single repeat.
        """
        if feature not in self.accuracies:
            raise ValueError(f"there is no curve of {feature!r}; there are {', '.join(self.accuracies)}")
        percent = 100 * self.accuracies[feature]
        return percent.mean(dim=1).tolist(), percent.std(dim=1).tolist() if percent.shape[1] > 1 else None


def evaluate_few_shot(
    support: EmbeddingTable,
    queries: EmbeddingTable | None = None,
    features: Iterable[Feature] | None = None,
    shots: Sequence[int] = SHOTS,
    repeats: int = 10,
    c: float = 1.0,
    draw_seed: int = 0,
    class_names: Sequence[str] | None = None,
    method: str = "",
    seed: int = 0,
) -> FewShotResult:
    """The accuracy of a linear probe that has seen only a few rows of each class.

    All features learn from the same rows, which are complete for all of them, so that they can be compared repeat by
    repeat; for the same labels all methods do too. There are no rows to choose the regularisation on, so it is fixed.

    Args:
        support: the table to draw from, with labels.
        queries: the table to classify, each feature on the rows that are complete for it. None: all the rows of
            `support` that a probe was not fitted on, as in the paper's released code.
        features: subsets, and tuples of subsets for concatenations; see `evaluate_linear_probe`.
        shots: how many rows of each class; see `RELEASED_SHOTS` for the released code's.
        repeats: how many supports to draw of each size.
        c: the inverse strength of the regularisation, see `fit_linear_probe`; the default is the released code's.
        draw_seed: of the supports. Keep it the same for all methods and training seeds.
        seed: of the training run; copied into the rows.

    Returns:
        a row for each feature and number of shots, and the accuracy of every probe.

    Raises:
        ValueError: if a class has fewer rows than shots, there is no row left to classify, a label of the queries is
            not in the support, or as `evaluate_linear_probe`.

    Reference:
        Figs 4 and 9 to 13 of the ConFu paper.

    Example:
        >>> from confu import Subset
        >>> x = torch.nn.functional.normalize(torch.randn(80, 4, generator=torch.Generator().manual_seed(0)))
        >>> table = EmbeddingTable([str(i) for i in range(80)], {Subset("image"): x}, labels=(x[:, 0] > 0).long())
        >>> result = evaluate_few_shot(table, features=["image"], shots=(1, 16), repeats=5)
        >>> [(row.metric, row.count) for row in result.rows], result.accuracies["image"].shape
        ([('1-shot accuracy', 78), ('16-shot accuracy', 48)], torch.Size([2, 5]))
    """
    if queries is support:
        raise ValueError("queries is the support table itself; give None to classify the rows that are not drawn")
    if queries is not None and queries.dim != support.dim:
        raise ValueError(f"both tables must come from one model; support has dim {support.dim}, queries {queries.dim}")
    named, shots = choose_features(support, features), tuple(sorted(shots))
    eligible, labels = labelled_rows("support", support, *named.values())
    assert support.labels is not None
    supports = {
        number: eligible[rows] for number, rows in draw_supports(labels, shots, repeats, draw_seed, class_names).items()
    }
    result = FewShotResult([], shots, {})
    for name, feature in named.items():
        table, what = (support, "support") if queries is None else (queries, "queries")
        rows, expected = labelled_rows(what, table, feature)
        check_seen(what, expected, labels)
        x, counts = feature_vectors(table, feature, rows), {}
        accuracies = torch.empty(len(shots), repeats, dtype=torch.float64)
        for i, (number, draws) in enumerate(supports.items()):
            for j, drawn in enumerate(draws):
                kept = ~torch.isin(rows, drawn) if queries is None else torch.ones(len(rows), dtype=torch.bool)
                counts[number] = int(kept.sum())
                if counts[number] == 0:
                    raise ValueError(
                        f"{number} shots of each class take every row, so that none is left to classify; "
                        "ask for fewer shots, or give a table of queries"
                    )
                learned = feature_vectors(support, feature, drawn), support.labels.cpu()[drawn]
                (probe,) = fit_linear_probe(*learned, cs=(c,))
                accuracies[i, j] = accuracy(probe.predict(x).cpu()[kept], expected[kept])
        result.accuracies[name] = accuracies
        for number, values in zip(shots, result.accuracies[name]):
            spread = f", std {float(values.std()):.4f}" if repeats > 1 else ""
            note = f"mean of {repeats} draws{spread}; C = {c:g}"
            row = ReportRow(
                f"{number}-shot accuracy", name, TARGET, float(values.mean()), counts[number], method, seed, note
            )
            result.rows.append(row)
    return result
