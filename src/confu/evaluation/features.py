"""What a probe reads: the embedding of one subset, or several side by side."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_finite
from confu.embeddings import EmbeddingTable
from confu.plan import Subset

Feature = Subset | str | tuple[Subset | str, ...]
"""A subset, or a tuple of subsets whose embeddings are concatenated: `"image"`, `("image", "image+audio")`."""

TARGET = "label"
"""The target of a probe's rows in a report; no modality can be called so."""


def feature_subsets(feature: Feature) -> tuple[Subset, ...]:
    """The subsets that a feature is made of.

    Raises:
        ValueError: if there is none, or one comes twice.

    Example:
        >>> feature_subsets(("image", "image+audio"))
        (Subset('image'), Subset('image+audio'))
    """
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

    Args:
        table: with all subsets of the feature.
        feature: see `Feature`.
        rows: (rows,) indices; all by default.

    Returns:
        (rows, dim of the table times the number of subsets).

    Example:
        >>> table = EmbeddingTable(("a",), {Subset("image"): torch.eye(1), Subset("audio"): -torch.eye(1)})
        >>> feature_vectors(table, ("audio", "image"))
        tensor([[-1.,  1.]])
    """
    vectors = [table[subset] for subset in feature_subsets(feature)]
    return torch.cat(vectors if rows is None else [one[rows.to(one.device)] for one in vectors], dim=1)


def default_features(table: EmbeddingTable) -> list[Feature]:
    """Every subset of the table; all single modalities side by side; and, if some are fused, all subsets side by side.

    Example:
        >>> table = EmbeddingTable(("a",), {Subset.parse(name): torch.eye(1) for name in ("image", "audio")})
        >>> [feature_name(feature) for feature in default_features(table)]
        ['image', 'audio', 'concat(image, audio)']
    """
    singles = tuple(subset for subset in table.subsets if not subset.is_fused)
    together = [parts for parts in dict.fromkeys((singles, table.subsets)) if len(parts) > 1]
    return [*table.subsets, *together]


def choose_features(table: EmbeddingTable, features: Iterable[Feature] | None) -> dict[str, Feature]:
    """The features by name, in their order; the table's default ones for None.

    Raises:
        ValueError: if there is none, or one comes twice.
    """
    chosen = default_features(table) if features is None else list(features)
    named = {feature_name(feature): feature for feature in chosen}
    if not named or len(named) != len(chosen):
        names = ", ".join(map(feature_name, chosen)) or "none"
        raise ValueError(f"features must name at least one feature, and each once; got {names}")
    return named


def labelled_rows(what: str, table: EmbeddingTable, *features: Feature) -> tuple[Tensor, Tensor]:
    """The rows that are complete for these features, and their labels.

    Args:
        what: the table's name, for the messages, e.g. `"train"`.
        table: with labels.
        features: see `Feature`.

    Returns:
        indices and labels, each (rows,).

    Raises:
        ValueError: if the table has no labels, a negative one, not all subsets, no complete row, or a number in one
            that is not finite.
    """
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
