"""What transformer encoders share: a stack of layers, positions that ignore padding, and pooling over real steps.

Shapes: b rows, t time steps, w width of a step's vector. `mask` is (b, t) bool, True where a step is real.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from confu.nn.sizes import check_heads, check_positive, check_share

StepMask = Bool[Tensor, "b t"]


class TransformerStack(nn.Module):
    """Transformer encoder layers, each with weights drawn on its own.

    `torch.nn.TransformerEncoder` copies one layer, so that all begin with the same weights.

    >>> TransformerStack(width=8, heads=2, layers=2, hidden_dim=16)(torch.zeros(3, 4, 8), None).shape
    torch.Size([3, 4, 8])

    Args:
        width: size of a step's vector.
        heads: number of attention heads; divides `width`.
        layers: number of layers.
        hidden_dim: size of each layer's hidden layer.
        dropout: share dropped in training, in attention and after each part.
        norm_first: whether LayerNorm stands before each part (with one more at the end) or after it.
        activation: "relu" or "gelu".

    Raises:
        ValueError: if `heads` does not divide `width`, a size is below one or dropout outside [0, 1).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        hidden_dim: int,
        dropout: float = 0.0,
        norm_first: bool = False,
        activation: str = "relu",
    ):
        super().__init__()
        check_heads(width, heads)
        check_positive(layers=layers, hidden_dim=hidden_dim)
        check_share(dropout=dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, hidden_dim, dropout, activation, batch_first=True, norm_first=norm_first
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()

    def forward(self, steps: Float[Tensor, "b t w"], mask: StepMask | None) -> Float[Tensor, "b t w"]:
        """Let the real steps attend to each other; what comes out at padding means nothing."""
        padding = None if mask is None else ~mask
        for layer in self.layers:
            steps = layer(steps, src_key_padding_mask=padding)
        return self.norm(steps)


def check_mask(mask: Tensor, shape: Sequence[int], name: str = "mask") -> StepMask:
    """A mask as bool, of the right shape and with a real step in every row.

    >>> check_mask(torch.tensor([[1, 1, 0]]), shape=(1, 3))
    tensor([[ True,  True, False]])

    Args:
        mask: (rows, steps) bool, or integer with 0 for padding.
        shape: (rows, steps) of what it belongs to.
        name: of the argument, for the error.

    Returns:
        (rows, steps) bool.

    Raises:
        ValueError: for another shape, or a row without a real step.
    """
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


def check_ids(input_ids: Tensor, vocab_size: int, max_length: int) -> None:
    """Refuse token ids that an encoder has no vector for.

    >>> check_ids(torch.tensor([[5, 7]]), vocab_size=8, max_length=2)

    Args:
        input_ids: (batch, length).
        vocab_size: ids are 0 to vocab_size - 1.
        max_length: longest text, in tokens.

    Raises:
        ValueError: for another shape, a longer text, or an id out of range.
    """
    if input_ids.ndim != 2 or input_ids.shape[1] > max_length:
        raise ValueError(
            f"input_ids must be (batch, length) with a length of at most {max_length}; got shape "
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
    """The place of each step, counted from the row's first real one; padding before it counts as 0.

    So a sequence has the same places whether its padding stands before or after it.

    >>> step_positions(torch.tensor([[False, True, True], [True, True, False]]))
    tensor([[0, 0, 1],
            [0, 1, 2]])

    Args:
        mask: (b, t), True where a step is real.

    Returns:
        (b, t) places, 0 or more.
    """
    places = torch.arange(mask.shape[1], device=mask.device)
    first = mask.int().argmax(dim=1, keepdim=True)
    return (places - first).clamp(min=0)


def sinusoids(places: Int[Tensor, "b t"], width: int) -> Float[Tensor, "b t {width}"]:
    """Sines and cosines of a place at falling frequencies.

        [sin(p f_0), ..., sin(p f_k), cos(p f_0), ..., cos(p f_k)],   f_j = 10000^(-2j / width)

    >>> sinusoids(torch.tensor([[0, 1]]), 2).shape
    torch.Size([1, 2, 2])

    Args:
        places: (b, t) whole numbers.
        width: size of the result; an odd one lacks the last cosine.

    Returns:
        (b, t, width) float32.

    Reference: Vaswani et al. 2017, section 3.5.
    """
    half = (width + 1) // 2
    steps = torch.arange(half, device=places.device, dtype=torch.float32)
    angles = places.unsqueeze(2) * torch.exp(steps * (-2 * math.log(10000.0) / width))
    return torch.cat([angles.sin(), angles.cos()], dim=2)[:, :, :width]


def masked_mean(steps: Float[Tensor, "b t w"], mask: StepMask | None) -> Float[Tensor, "b w"]:
    """The mean over a row's real steps.

    >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[2.]])

    Args:
        steps: (b, t, w).
        mask: (b, t) with a real step in every row, or None if all are real.

    Returns:
        (b, w).
    """
    if mask is None:
        return steps.mean(dim=1)
    # Filled, not multiplied by zero: whatever stands at padding, an infinity included, must not reach the sum.
    return steps.masked_fill(~mask.unsqueeze(2), 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def last_step(steps: Float[Tensor, "b t w"], mask: StepMask | None) -> Float[Tensor, "b w"]:
    """A row's last real step.

    >>> last_step(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[3.]])

    Args:
        steps: (b, t, w).
        mask: (b, t) with a real step in every row, or None if all are real.

    Returns:
        (b, w).
    """
    if mask is None:
        return steps[:, -1]
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)
    return steps[torch.arange(len(steps), device=steps.device), last]
