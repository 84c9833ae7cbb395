"""What every fusion network asks of its sizes and inputs."""

from collections.abc import Sequence

from torch import Tensor

from confu.nn.sizes import check_positive


def check_features(features: Sequence[Tensor], in_dims: Sequence[int]) -> None:
    """Refuse features that do not match the sizes that a fusion network was built for.

    >>> import torch
    >>> check_features([torch.zeros(4, 2), torch.zeros(4, 3)], in_dims=[2, 3])

    Args:
        features: one tensor (batch, in_dim) for each modality.
        in_dims: the size expected of each.

    Raises:
        ValueError: for another number of tensors, another size, or batches of different sizes.
    """
    shapes = [tuple(h.shape) for h in features]
    if [shape[1:] for shape in shapes] != [(in_dim,) for in_dim in in_dims] or any(
        shape[0] != shapes[0][0] for shape in shapes
    ):
        raise ValueError(
            f"features must be {len(in_dims)} tensors (batch, in_dim) with in_dim {list(in_dims)} and one batch size; "
            f"got shapes {shapes}"
        )


def checked_dims(in_dims: Sequence[int]) -> tuple[int, ...]:
    """The sizes of the modalities' features, two or more, each of at least one.

    >>> checked_dims([2, 3])
    (2, 3)

    Raises:
        ValueError: for fewer than two, or a size below one.
    """
    if len(in_dims) < 2:
        raise ValueError(f"in_dims must hold the sizes of at least two modalities to fuse; got {list(in_dims)}")
    check_positive(**{f"in_dims[{i}]": in_dim for i, in_dim in enumerate(in_dims)})
    return tuple(in_dims)
