"""Linear probe: how well does a linear classifier on the embeddings tell the labels?

Shapes: n rows, c classes.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_finite
from confu.embeddings import EmbeddingTable
from confu.evaluation.report import ReportRow
from confu.plan import Subset

DEFAULT_CS = tuple(10.0**power for power in range(-3, 4))
"""From weights near zero to hardly regularised, for unit embeddings and tens to 100,000 rows."""

TARGET = "label"
"""The target of a probe's rows in a report; no modality can be called so."""

Feature = Subset | str | tuple[Subset | str, ...]
"""A subset, or a tuple of subsets whose embeddings are concatenated: `"image"`, `("image", "image+audio")`."""


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear classifier, softmax(W x + b).

    Attributes:
        weight: (c, dim) float64. Of two classes the rows are -w/2 and w/2, with w scikit-learn's.
        bias: (c,) float64.
        classes: (c,) the labels, ascending; they may have gaps.
        c: the inverse strength of the regularisation.
    """

    weight: Float[Tensor, "classes dim"]
    bias: Float[Tensor, " classes"]
    classes: Int[Tensor, " classes"]
    c: float

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
    tolerance: float = 1e-6,
    max_iterations: int = 3000,
) -> tuple[LinearProbe, ...]:
    """Logistic regression with an L2 penalty on the weights and none on the intercepts, for each value of C.

        min_{W, b}  C sum_i log-loss(softmax(W x_i + b), y_i) + 1/2 |W|^2

    scikit-learn's `LogisticRegression` fits it, which for two classes writes 1/2 |w|^2 with w = W_1 - W_0. Each C
    starts from the weights of the next smaller one. The rows are taken as they are: neither centred nor scaled.

    Args:
        x: (n, dim).
        y: (n,) labels; any integers.
        cs: the values of C, above zero.
        tolerance: the largest element of the gradient of the mean loss at which the fit ends.
        max_iterations: a warning says where they did not suffice.

    Returns:
        a probe for each C, in their order.

    Raises:
        ImportError: without scikit-learn.
        ValueError: if a number is not finite, there are fewer than two classes, or a C is not above zero.

    Reference:
        The classifier behind Table 3 of the ConFu paper. Its released code penalises |W|, not |W|^2.

    Example:
        >>> weak, strong = fit_linear_probe(torch.tensor([[1.0], [3.0]]), torch.tensor([7, 5]), cs=(0.1, 10.0))
        >>> weak.predict(torch.tensor([[0.0], [2.5]])).tolist(), bool(weak.weight.norm() < strong.weight.norm())
        ([7, 5], True)
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError(
            'probes need scikit-learn, which is not installed: pip install "contrastive-fusion[probe]"'
        ) from error
    if len(x) != len(y):
        raise ValueError(f"y must hold a label per row of x; got {len(y)} for {len(x)}")
    if not cs or not all(math.isfinite(c) and c > 0 for c in cs):
        raise ValueError(f"cs must hold numbers above zero; got {tuple(cs)}")
    check_finite("x", x)
    classes = y.unique()
    if len(classes) < 2:
        have = f"class {int(classes[0])} only" if len(classes) else "no row"
        raise ValueError(f"a probe needs rows of at least two classes; got {have}. Check the labels")
    rows, labels = x.double().cpu().numpy(), y.cpu().numpy()
    model = LogisticRegression(tol=tolerance, max_iter=max_iterations, warm_start=True)
    probes: dict[float, LinearProbe] = {}
    unfinished = []
    for c in sorted(set(cs)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it stopped at; whether it stopped early is asked below
            model.set_params(C=c).fit(rows, labels)
        if int(model.n_iter_.max()) >= max_iterations:
            unfinished.append(f"{c:g}")
        weight, bias = torch.tensor(model.coef_), torch.tensor(model.intercept_)
        if len(classes) == 2:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        probes[c] = LinearProbe(weight.to(x.device), bias.to(x.device), classes.to(x.device), float(c))
    if unfinished:
        warnings.warn(
            f"the probe did not reach tolerance {tolerance:g} in {max_iterations} iterations for C = "
            f"{', '.join(unfinished)}; leave these out, or raise max_iterations",
            stacklevel=2,
        )
    return tuple(probes[c] for c in cs)


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
) -> LinearProbeResult:
    """The accuracy of a linear probe on each feature, its regularisation chosen on the validation rows.

    Of the values of C with the best validation accuracy the smallest is taken. The test rows are looked at once,
    after that. Each feature is measured on the rows that are complete for it.

    Args:
        train: with labels, as all three.
        validation: rows that are not in `train`; it need not have every class.
        test: rows that are in neither.
        features: subsets, and tuples of subsets for concatenations, e.g. `["image", ("image", "audio")]`; by default
            every subset, all single modalities side by side and all subsets side by side. Leave out a modality that
            holds the label itself, such as a caption.
        cs: the values of C to choose from.
        refit: whether to fit once more, with the C that was chosen, on the train and validation rows together.

    Returns:
        the rows and, by feature name, the probe, the validation accuracies, the predictions and the credit. A row's
        note says which C was chosen, and whether it is the first or last of `cs`, so that the list is too short.

    Raises:
        ImportError: without scikit-learn.
        ValueError: if a table has no labels, no such subset or no complete row; a number is not finite; a label of
            validation or test is not in train, or train has only one; two of the tables are the same.

    Reference:
        Table 3 of the ConFu paper, whose feature is the concatenation of the three single embeddings.

    Example:
        >>> from confu import Subset
        >>> x = torch.nn.functional.normalize(torch.randn(60, 4, generator=torch.Generator().manual_seed(0)))
        >>> table = EmbeddingTable([str(i) for i in range(60)], {Subset("image"): x}, labels=(x[:, 0] > 0).long())
        >>> parts = [table.select(torch.arange(60) % 3 == part) for part in range(3)]
        >>> [(row.metric, row.query) for row in evaluate_linear_probe(*parts, features=["image"]).rows]
        [('linear probe accuracy', 'image'), ('linear probe macro accuracy', 'image')]
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
        rows, x, y = {}, {}, {}
        for part, table in tables.items():
            rows[part], y[part] = labelled_rows(part, table, feature)
            x[part] = feature_vectors(table, feature, rows[part])
        for part in ("validation", "test"):
            check_seen(part, y[part], y["train"])
        probes = fit_linear_probe(x["train"], y["train"], cs)
        seen = {probe.c: accuracy(probe.predict(x["validation"]).cpu(), y["validation"]) for probe in probes}
        best = max(range(len(cs)), key=lambda i: (seen[probes[i].c], -i))
        probe = probes[best]
        if refit:
            both = torch.cat([x["train"], x["validation"]]), torch.cat([y["train"], y["validation"]])
            (probe,) = fit_linear_probe(*both, (probe.c,))
        predicted = probe.predict(x["test"]).cpu()
        edge = ", the end of the range tried" if len(cs) > 1 and best in (0, len(cs) - 1) else ""
        measures = {"accuracy": accuracy(predicted, y["test"]), "macro accuracy": macro_accuracy(predicted, y["test"])}
        for metric, value in measures.items():
            note = f"C = {probe.c:g}{edge}"
            result.rows.append(
                ReportRow(f"linear probe {metric}", name, TARGET, value, len(predicted), method, seed, note)
            )
        right = (predicted == y["test"]).float()
        result.probes[name], result.validation[name] = probe, seen
        result.predictions[name] = torch.full((len(test),), -1).index_copy_(0, rows["test"], predicted)
        result.credit[name] = torch.full((len(test),), float("nan")).index_copy_(0, rows["test"], right)
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
    """Refuse labels that the probe is not fitted on."""
    if new := sorted(set(labels.tolist()) - set(train.tolist())):
        raise ValueError(
            f"{len(new)} labels of the {what} table are in no row that the probe is fitted on, so it can never be "
            f"right there; the first is {new[0]}. Leave these rows out with table.select(...), or split again"
        )


def feature_subsets(feature: Feature) -> tuple[Subset, ...]:
    """The subsets that a feature is made of, each once."""
    parts = tuple(Subset.parse(one) for one in feature) if isinstance(feature, tuple) else (Subset.parse(feature),)
    if not parts or len(set(parts)) != len(parts):
        names = ", ".join(map(str, parts)) or "none"
        raise ValueError(f"a feature names at least one subset, and each once; got {names}")
    return parts


def feature_name(feature: Feature) -> str:
    """How a feature is printed.

    Example:
        >>> feature_name("image+audio"), feature_name(("image", "audio"))
        ('image+audio', 'concat(image, audio)')
    """
    parts = feature_subsets(feature)
    return str(parts[0]) if len(parts) == 1 else f"concat({', '.join(map(str, parts))})"


def feature_vectors(
    table: EmbeddingTable, feature: Feature, rows: Int[Tensor, " rows"] | None = None
) -> Float[Tensor, "rows dim"]:
    """The vectors of a feature: one subset's, or several concatenated. Nothing is rescaled.

    Example:
        >>> table = EmbeddingTable(("a",), {Subset("image"): torch.eye(1), Subset("audio"): -torch.eye(1)})
        >>> feature_vectors(table, ("audio", "image"))
        tensor([[-1.,  1.]])
    """
    vectors = [table[subset] for subset in feature_subsets(feature)]
    return torch.cat(vectors if rows is None else [one[rows.to(one.device)] for one in vectors], dim=1)


def choose_features(table: EmbeddingTable, features: Iterable[Feature] | None) -> Mapping[str, Feature]:
    """The features by name, in their order; for None every subset, all singles and all subsets side by side.

    Example:
        >>> table = EmbeddingTable(("a",), {Subset.parse(name): torch.eye(1) for name in ("image", "audio")})
        >>> list(choose_features(table, None))
        ['image', 'audio', 'concat(image, audio)']
    """
    if features is None:
        singles = tuple(subset for subset in table.subsets if not subset.is_fused)
        together = [parts for parts in dict.fromkeys((singles, table.subsets)) if len(parts) > 1]
        chosen: list[Feature] = [*table.subsets, *together]
    else:
        chosen = list(features)
    named = {feature_name(feature): feature for feature in chosen}
    if not named or len(named) != len(chosen):
        names = ", ".join(map(feature_name, chosen)) or "none"
        raise ValueError(f"features must name at least one feature, and each once; got {names}")
    return named


def labelled_rows(what: str, table: EmbeddingTable, *features: Feature) -> tuple[Tensor, Tensor]:
    """The indices of the rows that are complete for these features, and their labels; `what` names the table."""
    if table.labels is None:
        raise ValueError(f"the {what} table has no labels, which a probe needs; embed a data set with labels")
    subsets = list(dict.fromkeys(part for feature in features for part in feature_subsets(feature)))
    if missing := [str(subset) for subset in subsets if subset not in table]:
        raise ValueError(
            f"the {what} table has no subset {', '.join(missing)}; it has {', '.join(map(str, table.subsets))}. "
            "Leave it out of `features`, or embed it"
        )
    rows = table.rows_with(*subsets)
    if len(rows) == 0:
        names = ", ".join(map(str, subsets))
        raise ValueError(f"no row of the {what} table is complete for {names}; leave it out of `features`")
    for subset in subsets:
        check_finite(f"{what} table, {subset}", table[subset])
    labels = table.labels.cpu()[rows]
    if bool((labels < 0).any()):
        row = int(rows[labels < 0][0])
        raise ValueError(f"labels must be class indices from 0; row {row} of the {what} table has {table.labels[row]}")
    return rows, labels
