"""Layers and input checks that several networks share: MLPs, feature norm, masks of padding, pooling of steps, sounds.

Shapes: b rows, t time steps, w width of a step's vector. A mask is (b, t), True where a step is real.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import batch_norm, normalize

StepMask = Bool[Tensor, "b t"]
Waveforms = Float[Tensor, "batch time"] | Float[Tensor, "batch one time"]


def check_positive(**sizes: int) -> None:
    """Refuse a size, given by the name of its argument, that is not a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {size!r}")


def check_share(**shares: float) -> None:
    """Refuse a share of what is dropped, given by the name of its argument, outside [0, 1)."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} is the share that is dropped and must be in [0, 1); got {share!r}")


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that attention heads cannot share equally."""
    check_positive(width=width, heads=heads)
    if width % heads:
        near = max(width // heads, 1) * heads
        raise ValueError(
            f"width must be a multiple of heads; got width {width} with {heads} heads: take width {near} or "
            f"{near + heads}, or another number of heads"
        )


def mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU between them and a linear output.

    x -> [Linear -> ReLU -> Dropout] for each hidden size -> Linear
    """
    check_positive(in_dim=in_dim, out_dim=out_dim, **{f"hidden_dims[{i}]": dim for i, dim in enumerate(hidden_dims)})
    check_share(dropout=dropout)
    layers: list[nn.Module] = []
    for hidden_dim in hidden_dims:
        layers += [nn.Linear(in_dim, hidden_dim), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        in_dim = hidden_dim
    return nn.Sequential(*layers, nn.Linear(in_dim, out_dim))


def unit(vectors: Tensor) -> Tensor:
    """Vectors divided by their lengths, in float32 or better."""
    # Lengths are taken in float32 also under bfloat16 autocast: 8 bits of mantissa would leave 0.4 % of error.
    return normalize(vectors.float() if vectors.dtype in (torch.bfloat16, torch.float16) else vectors, dim=-1)


class FeatureNorm(nn.BatchNorm1d):
    """Batch normalisation that takes its running statistics where a training batch has a single row, without a spread.

    A rare modality may have one row in a batch, and a process or a chunk one row of it.
    """

    def forward(self, input: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """The normalised features."""
        if self.training and len(input) == 1:
            return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def check_mask(mask: Tensor, shape: Sequence[int], name: str = "mask") -> StepMask:
    """A mask, bool or integer, as bool; `name` is that of the argument, for the error."""
    if mask.shape != tuple(shape):
        raise ValueError(f"{name} must have the shape {tuple(shape)} of its steps; got {tuple(mask.shape)}")
    mask = mask.bool()
    empty = ~mask.any(dim=1)
    if empty.any():
        raise ValueError(
            f"{name} must leave at least one real step in every row; row {int(empty.nonzero()[0])} has none: "
            "mark that row's modality as missing instead"
        )
    return mask


def check_ids(input_ids: Tensor, vocab_size: int, max_length: int | None = None) -> None:
    """Refuse token ids (batch, length) that an encoder has no vector for, and texts that are too long."""
    if input_ids.ndim != 2 or (max_length is not None and input_ids.shape[1] > max_length):
        length = "" if max_length is None else f" with a length of at most {max_length}"
        raise ValueError(
            f"input_ids must be (batch, length){length}; got shape "
            f"{tuple(input_ids.shape)}: cut the texts in the tokenizer, or build the encoder for longer ones"
        )
    # On an accelerator this would wait for it at every step, and there an id out of range stops the run by itself.
    if input_ids.device.type == "cpu" and input_ids.numel():
        low, high = int(input_ids.min()), int(input_ids.max())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"input_ids must be 0 to {vocab_size - 1}; got {low} to {high}: was the tokenizer built with another "
                "vocabulary?"
            )


def step_positions(mask: StepMask) -> Int[Tensor, "b t"]:
    """The position of each step, counted from the row's first real one; padding before it counts as 0."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    first = mask.int().argmax(dim=1, keepdim=True)
    return (positions - first).clamp(min=0)


def masked_mean(steps: Float[Tensor, "b t w"], mask: StepMask | None) -> Float[Tensor, "b w"]:
    """The mean over a row's real steps; all are real if there is no mask."""
    if mask is None:
        return steps.mean(dim=1)
    # Filled, not multiplied by zero: whatever stands at padding, an infinity included, must not reach the sum.
    return steps.masked_fill(~mask.unsqueeze(2), 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def last_step(steps: Float[Tensor, "b t w"], mask: StepMask | None) -> Float[Tensor, "b w"]:
    """A row's last real step."""
    if mask is None:
        return steps[:, -1]
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)
    return steps[torch.arange(len(steps), device=steps.device), last]


def as_waveforms(
    values: Waveforms, mask: Bool[Tensor, "batch time"] | Int[Tensor, "batch time"] | None
) -> tuple[Float[Tensor, "batch time"], Int[Tensor, " batch"]]:
    """Waveforms with zeros at their padding, and how many real samples each has."""
    if values.ndim == 3 and 1 in values.shape[1:]:
        values = values.flatten(1)
    if values.ndim != 2:
        raise ValueError(f"values must be (batch, time), waveforms of one channel; got shape {tuple(values.shape)}")
    if mask is None:
        return values, torch.full((len(values),), values.shape[1], device=values.device)
    mask = check_mask(mask, values.shape)
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("mask must be True at the first samples of each row and False after; pad waveforms at the end")
    # Filled, not multiplied by zero: whatever stands at padding, an infinity included, must not reach the sum.
    return values.masked_fill(~mask, 0), mask.sum(dim=1)
