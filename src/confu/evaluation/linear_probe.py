"""Linear probe: how well does a linear classifier on the embeddings tell the labels?

Shapes: n rows, c classes.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_finite
from confu.embeddings import EmbeddingTable
from confu.evaluation.features import TARGET, Feature, choose_features, feature_vectors, labelled_rows
from confu.evaluation.logistic import minimise_log_loss
from confu.evaluation.report import ReportRow

DEFAULT_CS = tuple(10.0**power for power in range(-3, 4))
"""From weights near zero to hardly regularised, for unit embeddings and tens to 100,000 rows."""


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear classifier, softmax(W x + b).

    Attributes:
        weight: (c, dim) float64. Of two classes the rows are w/2 and -w/2, with w scikit-learn's.
        bias: (c,) float64.
        classes: (c,) the labels, ascending; they may have gaps.
        c: the inverse strength of the regularisation.
        loss: c * (sum of the log-losses, in nats) + |W|^2 / 2, as scikit-learn counts it.
    """

    weight: Float[Tensor, "classes dim"]
    bias: Float[Tensor, " classes"]
    classes: Int[Tensor, " classes"]
    c: float
    loss: float

    def scores(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n classes"]:
        """The logits, in float64."""
        return x.to(self.weight.dtype) @ self.weight.T + self.bias

    def predict(self, x: Float[Tensor, "n dim"]) -> Int[Tensor, " n"]:
        """The label of the largest logit."""
        return self.classes[self.scores(x).argmax(dim=1)]


def fit_linear_probe(
    x: Float[Tensor, "n _"],
    y: Int[Tensor, " _"],
    cs: Sequence[float] = (1.0,),
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
) -> tuple[LinearProbe, ...]:
    """Logistic regression with an L2 penalty on the weights and none on the intercepts, for all values of C at once.

        min_{W, b}  C sum_i log-loss(softmax(W x_i + b), y_i) + 1/2 |W|^2

    The objective, and so C, is that of scikit-learn's `LogisticRegression`, which for two classes writes
    1/2 |w|^2 with w = W_1 - W_0. The rows are taken as they are: neither centred nor scaled.

    Args:
        x: (n, dim).
        y: (n,) labels; any integers.
        cs: the values of C, above zero.
        tolerance: an upper bound of the relative error of the weights, |W - W*| / |W|.
        max_iterations: a warning says where they did not suffice.

    Returns:
        a probe for each C, in their order.

    Raises:
        ValueError: if a number is not finite, there are fewer than two classes, or a C is not above zero.

    Reference:
        The classifier behind Table 3 of the ConFu paper. Its released code penalises |W|, not |W|^2.

    Example:
        >>> weak, strong = fit_linear_probe(torch.tensor([[1.0], [3.0]]), torch.tensor([7, 5]), cs=(0.1, 10.0))
        >>> weak.predict(torch.tensor([[0.0], [2.5]])).tolist(), bool(weak.weight.norm() < strong.weight.norm())
        ([7, 5], True)
    """
    if len(x) != len(y):
        raise ValueError(f"y must hold a label per row of x; got {len(y)} for {len(x)}")
    if not cs or not all(math.isfinite(c) and c > 0 for c in cs):
        raise ValueError(f"cs must hold numbers above zero; got {tuple(cs)}")
    if not bool(x.sum().isfinite()):  # a sum is ten times as fast to make as the question for each number
        check_finite("x", x)
    classes, targets = y.unique(return_inverse=True)
    if len(classes) < 2:
        have = f"class {int(classes[0])} only" if len(classes) else "no row"
        raise ValueError(f"a probe needs rows of at least two classes; got {have}. Check the labels")
    # Of two classes, scikit-learn penalises their difference: |W_1 - W_0|^2 is 2 |W|^2 at the minimum.
    strength = [(2.0 if len(classes) == 2 else 1.0) / (c * len(x)) for c in cs]
    penalties = torch.tensor(strength, dtype=torch.float64, device=x.device)
    found = minimise_log_loss(x, targets.to(x.device), penalties, len(classes), max_iterations, tolerance)
    if slow := [f"{c:g}" for c, converged in zip(cs, found.converged) if not converged]:
        warnings.warn(
            f"the probe did not reach tolerance {tolerance:g} in {max_iterations} iterations for C = "
            f"{', '.join(slow)}; leave these out, or raise max_iterations",
            stacklevel=2,
        )
    return tuple(
        LinearProbe(found.weight[i], found.bias[i], classes.to(x.device), float(c), float(found.value[i]) * c * len(x))
        for i, c in enumerate(cs)
    )


@dataclass(frozen=True)
class LinearProbeResult:
    """The accuracies of an evaluation, and what is behind them. Every dict is by feature name.

    Attributes:
        rows: a `linear probe accuracy` and a `linear probe macro accuracy` per feature, fractions of the test rows.
        probes: the classifier that was tested.
        validation: C -> accuracy on the validation rows, from which the C was chosen.
        predictions: (n,) the predicted label of each test row, -1 where it is not complete.
        credit: (n,) 1 right, 0 wrong, NaN where the row is not complete; what `evaluate_overlap` takes.
    """

    rows: list[ReportRow] = field(default_factory=list)
    probes: dict[str, LinearProbe] = field(default_factory=dict)
    validation: dict[str, dict[float, float]] = field(default_factory=dict)
    predictions: dict[str, Int[Tensor, " n"]] = field(default_factory=dict)
    credit: dict[str, Float[Tensor, " n"]] = field(default_factory=dict)


def evaluate_linear_probe(
    train: EmbeddingTable,
    validation: EmbeddingTable,
    test: EmbeddingTable,
    features: Iterable[Feature] | None = None,
    cs: Sequence[float] = DEFAULT_CS,
    refit: bool = True,
    method: str = "",
    seed: int = 0,
    tolerance: float = 1e-3,
    max_iterations: int = 300,
) -> LinearProbeResult:
    """The accuracy of a linear probe on each feature, its regularisation chosen on the validation rows.

    Of the values of C with the best validation accuracy the smallest is taken. The test rows are looked at once,
    after that. Each feature is measured on the rows that are complete for it.

    Args:
        train: with labels, as all three.
        validation: rows that are not in `train`; it need not have every class.
        test: rows that are in neither.
        features: subsets, and tuples of subsets for concatenations, e.g. `["image", ("image", "audio")]`; see
            `default_features` for what None means. Leave out a modality that holds the label itself, such as a caption.
        cs: the values of C to choose from.
        refit: whether to fit once more, with the C that was chosen, on the train and validation rows together.
        method: copied into the rows.
        seed: copied into the rows.
        tolerance: of the weights, see `fit_linear_probe`. On 55,000 embeddings of AV-MNIST 1e-2 and 1e-3 gave the same
            accuracies to 0.05 points.
        max_iterations: likewise; a warning says where they did not suffice.

    Returns:
        the rows and, by feature name, the probe, the validation accuracies, the predictions and the credit. A row's
        note says which C was chosen, and whether it is the first or last of `cs`, so that the list is too short.

    Raises:
        ValueError: if a table has no labels, no such subset or no complete row; a number is not finite; a label of
            validation or test is not in train, or train has only one; two of the tables are the same.

    Reference:
        Table 3 of the ConFu paper, whose feature is the concatenation of the three single embeddings.

    Example:
        >>> from confu import Subset
        >>> x = torch.nn.functional.normalize(torch.randn(60, 4, generator=torch.Generator().manual_seed(0)))
        >>> table = EmbeddingTable([str(i) for i in range(60)], {Subset("image"): x}, labels=(x[:, 0] > 0).long())
        >>> parts = [table.select(torch.arange(60) % 3 == part) for part in range(3)]
        >>> result = evaluate_linear_probe(*parts, features=["image"])
        >>> [(row.metric, row.query, row.value > 0.8) for row in result.rows]
        [('linear probe accuracy', 'image', True), ('linear probe macro accuracy', 'image', True)]
    """
    tables = {"train": train, "validation": validation, "test": test}
    if train is validation or train is test or validation is test:
        raise ValueError("train, validation and test must be three tables of different rows; got one table twice")
    if len({table.dim for table in tables.values()}) > 1:
        dims = ", ".join(f"{name} {table.dim}" for name, table in tables.items())
        raise ValueError(f"the tables must come from one model; their dims differ: {dims}")
    cs = sorted(set(cs))
    result = LinearProbeResult()
    for name, feature in choose_features(train, features).items():
        rows = {what: labelled_rows(what, table, feature) for what, table in tables.items()}
        for what in ("validation", "test"):
            check_seen(what, rows[what][1], rows["train"][1])
        x = {what: feature_vectors(table, feature, rows[what][0]) for what, table in tables.items()}
        y = {what: labels for what, (_, labels) in rows.items()}
        probes = fit_linear_probe(x["train"], y["train"], cs, tolerance, max_iterations)
        seen = {probe.c: accuracy(probe.predict(x["validation"]).cpu(), y["validation"]) for probe in probes}
        best = max(range(len(cs)), key=lambda i: (seen[probes[i].c], -i))
        probe = probes[best]
        if refit:
            both = torch.cat([x["train"], x["validation"]]), torch.cat([y["train"], y["validation"]])
            (probe,) = fit_linear_probe(*both, (probe.c,), tolerance, max_iterations)
        predicted = probe.predict(x["test"]).cpu()
        edge = ", the end of the range tried" if len(cs) > 1 and best in (0, len(cs) - 1) else ""
        for metric, of in (("linear probe accuracy", accuracy), ("linear probe macro accuracy", macro_accuracy)):
            value, note = of(predicted, y["test"]), f"C = {probe.c:g}{edge}"
            result.rows.append(ReportRow(metric, name, TARGET, value, len(predicted), method, seed, note))
        where = rows["test"][0]
        right = (predicted == y["test"]).float()
        result.probes[name], result.validation[name] = probe, seen
        result.predictions[name] = torch.full((len(test),), -1).index_copy_(0, where, predicted)
        result.credit[name] = torch.full((len(test),), float("nan")).index_copy_(0, where, right)
    return result


def accuracy(predictions: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> float:
    """The share of rows whose prediction is their label."""
    return float((predictions == labels).double().mean())


def macro_accuracy(predictions: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> float:
    """The mean over the classes that occur of the share of their rows that is predicted right: each class counts alike.

    Example:
        >>> macro_accuracy(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]))
        0.5
    """
    recalls = [(predictions[labels == one] == one).double().mean() for one in labels.unique()]
    return float(torch.stack(recalls).mean())


def check_seen(what: str, labels: Int[Tensor, " _"], train: Int[Tensor, " _"]) -> None:
    """Check that every label is one that the probe is fitted on.

    Raises:
        ValueError: naming the first that is not.
    """
    if new := sorted(set(labels.tolist()) - set(train.tolist())):
        raise ValueError(
            f"{len(new)} labels of the {what} table are in no row that the probe is fitted on, so it can never be "
            f"right there; the first is {new[0]}. Leave these rows out with table.select(...), or split again"
        )
