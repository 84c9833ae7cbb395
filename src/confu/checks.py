"""The input checks that losses, fusers and metrics share, with their error texts.

Every check returns nothing and raises a `ValueError` that names the argument, what was expected, what came and what
to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

# Commands that compute nothing check names too: they start without torch.
if TYPE_CHECKING:
    import torch


def _shape(tensor: "torch.Tensor") -> str:
    return str(tuple(tensor.shape))


def check_pair(queries: "torch.Tensor", targets: "torch.Tensor") -> None:
    """Check that two sets of embeddings can be scored row against row.

    Args:
        queries: (batch, dim).
        targets: (batch, dim); row i of `queries` belongs to row i of `targets`.

    Raises:
        ValueError: if one is not 2-D, or if the rows or the dimensions differ.

    Example:
        >>> import torch
        >>> check_pair(torch.zeros(3, 8), torch.zeros(3, 4))
        Traceback (most recent call last):
        ...
        ValueError: queries and targets must have the same dim; got queries (3, 8) and targets (3, 4). Use one ...
    """
    if queries.ndim == 2 and queries.shape == targets.shape:
        return
    got = f"got queries {_shape(queries)} and targets {_shape(targets)}"
    if queries.ndim != 2 or targets.ndim != 2:
        raise ValueError(f"queries and targets must be 2-D, (batch, dim); {got}")
    if queries.shape[0] != targets.shape[0]:
        raise ValueError(
            f"queries and targets must have the same number of rows, one pair a row; {got}. "
            "Select the rows that have both before this call"
        )
    if queries.shape[1] != targets.shape[1]:
        raise ValueError(
            f"queries and targets must have the same dim; {got}. Use one `dim` for every projection and fusion network"
        )


def check_rows(n: int, at_least: int, what: str) -> None:
    """Check that there are enough rows, e.g. that a contrastive loss has a negative.

    Args:
        n: how many rows came.
        at_least: how many are needed.
        what: who needs them, for the message, e.g. `"InfoNCE of image ~ text"`.

    Raises:
        ValueError: if `n < at_least`.

    Example:
        >>> check_rows(1, 2, "InfoNCE")
        Traceback (most recent call last):
        ...
        ValueError: InfoNCE needs at least 2 rows; got 1. Use a larger batch, drop the last one if it is smaller, ...
    """
    if n < at_least:
        raise ValueError(
            f"{what} needs at least {at_least} rows; got {n}. Use a larger batch, drop the last one if it is smaller, "
            "or check that the rows are not missing a modality"
        )


def check_finite(name: str, tensor: "torch.Tensor") -> None:
    """Check that a tensor holds no NaN and no infinity.

    Args:
        name: the argument, for the message.
        tensor: (rows, ...) any shape; integer tensors always pass.

    Raises:
        ValueError: naming the first bad row and how many numbers are bad.

    Example:
        >>> import torch
        >>> check_finite("audio", torch.tensor([[0.0], [float("nan")]]))
        Traceback (most recent call last):
        ...
        ValueError: audio must be finite; 1 of 2 numbers are NaN or infinite (1 NaN), the first in row 1. Check ...
    """
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    if bool(tensor.sum().isfinite()):  # a tenth of the time, and right: a sum of what is not finite is not finite
        return
    finite = tensor.isfinite()
    if bool(finite.all()):
        return
    bad = ~finite
    where = "" if tensor.ndim == 0 else f", the first in row {int(bad.nonzero()[0, 0])}"
    raise ValueError(
        f"{name} must be finite; {int(bad.sum())} of {tensor.numel()} numbers are NaN or infinite "
        f"({int(tensor.isnan().sum())} NaN){where}. Check that row's input file, or lower the learning rate if it came "
        "up in training"
    )


def check_fraction(name: str, value: float | int) -> None:
    """Check that a number lies in [0, 1].

    Args:
        name: the argument, for the message.
        value: e.g. the weight of the fused terms, a drop probability.

    Raises:
        ValueError: if it lies outside or is NaN.

    Example:
        >>> check_fraction("fused_weight", 1.5)
        Traceback (most recent call last):
        ...
        ValueError: fused_weight must lie in [0, 1]; got 1.5
    """
    if not 0.0 <= value <= 1.0:  # also True for NaN
        raise ValueError(f"{name} must lie in [0, 1]; got {value}")


def check_temperature(value: "float | torch.Tensor") -> None:
    """Check that a temperature is positive; a tensor is a learned one, and known to be.

    Raises:
        ValueError: if it is zero, negative or NaN.
    """
    if isinstance(value, float | int) and not value > 0:
        raise ValueError(f"temperature must be positive, got {value}")


def check_known(name: str, value: str, known: Iterable[str]) -> None:
    """Check that a name is one of those known.

    Args:
        name: the argument, for the message.
        value: what came.
        known: what could have come.

    Raises:
        ValueError: listing the known names, and the closest one if there is one.

    Example:
        >>> check_known("modality", "imgae", ["image", "audio"])
        Traceback (most recent call last):
        ...
        ValueError: modality 'imgae' is not known; did you mean 'image'? Known: 'image', 'audio'
    """
    names = [str(one) for one in known]
    if value in names:
        return
    close = get_close_matches(value, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"{name} {value!r} is not known{hint} Known: {', '.join(map(repr, names)) or '(none)'}")
