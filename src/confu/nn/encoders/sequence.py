"""An encoder for sequences of feature vectors: video frames, acoustic frames, word vectors, sensors."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from confu.checks import check_known
from confu.nn.sizes import check_positive
from confu.nn.transformer import TransformerStack, check_mask, last_step, masked_mean, sinusoids, step_positions

POOLINGS = {"mean": masked_mean, "last": last_step}


class SequenceEncoder(nn.Module):
    """A transformer over time steps, of MultiBench's size, that leaves padding out.

        x -> LayerNorm -> Linear (+ places) -> [transformer layer] x 5 -> mean over real steps (-> Linear)

    The released code has neither places nor a mask, and reads the last step: padding, for any sequence shorter than
    the longest. Its reading is `pooling="last", positions=False` without a mask.

    >>> import torch
    >>> encoder = SequenceEncoder(in_dim=20, width=8, heads=2, layers=1, hidden_dim=16)
    >>> encoder(torch.zeros(3, 50, 20), mask=torch.ones(3, 50, dtype=torch.bool)).shape
    torch.Size([3, 8])

    Args:
        in_dim: features of one step; two or more, as LayerNorm makes a single one constant.
        width: size of a step inside the transformer.
        heads: attention heads; divides `width`.
        layers: transformer layers.
        hidden_dim: hidden size of each layer.
        dropout: share dropped in training.
        pooling: "mean" over the real steps, or the "last" real one.
        positions: whether to add sinusoidal places, counted from the first real step.
        norm_first: whether LayerNorm stands before each part of a layer (easier to train) or after it (MultiBench).
        out_dim: size of the features through one more Linear; None leaves it out, so that it is `width`.

    Raises:
        ValueError: if `heads` does not divide `width`, for a size below one, or an unknown pooling.

    Reference: A.2 of the ConFu paper; Liang et al. 2021 (MultiBench).
    """

    def __init__(
        self,
        in_dim: int,
        width: int = 300,
        heads: int = 5,
        layers: int = 5,
        hidden_dim: int = 2048,
        dropout: float = 0.1,
        pooling: str = "mean",
        positions: bool = True,
        norm_first: bool = False,
        out_dim: int | None = None,
    ):
        super().__init__()
        check_positive(in_dim=in_dim)
        if in_dim == 1:
            raise ValueError("in_dim must be at least 2: LayerNorm makes a single feature constant; got 1")
        check_known("pooling", pooling, POOLINGS)
        self.settings: dict[str, Any] = {
            "kind": "sequence",
            "in_dim": in_dim,
            "width": width,
            "heads": heads,
            "layers": layers,
            "hidden_dim": hidden_dim,
            "dropout": dropout,
            "pooling": pooling,
            "positions": positions,
            "norm_first": norm_first,
            "out_dim": out_dim,
        }
        self.in_dim, self.width, self.positions = in_dim, width, positions
        self.pool = POOLINGS[pooling]
        self.stack = TransformerStack(width, heads, layers, hidden_dim, dropout, norm_first)
        self.input = nn.Sequential(nn.LayerNorm(in_dim), nn.Linear(in_dim, width))
        self.out_dim = width if out_dim is None else out_dim
        check_positive(out_dim=self.out_dim)
        self.output = nn.Identity() if out_dim is None else nn.Linear(width, out_dim)

    @staticmethod
    def input_sizes(settings: Mapping[str, Any], values: Tensor, vocabulary_size: int | None) -> dict[str, Any]:
        """The settings that the inputs decide."""
        return {"in_dim": values.shape[-1]}

    def forward(
        self, values: Float[Tensor, "batch time in_dim"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each sequence; `mask` is True at real steps, None if all are."""
        if values.ndim != 3 or values.shape[2] != self.in_dim:
            raise ValueError(f"values must be (batch, time, in_dim = {self.in_dim}); got shape {tuple(values.shape)}")
        if not len(values):  # attention fails on no rows
            return self.output(values.new_zeros(0, self.width))
        if mask is None:
            real = values.new_ones(values.shape[:2]).bool()
        else:
            real = mask = check_mask(mask, values.shape[:2])
            # A NaN at padding would pass through attention, where it is multiplied by a weight of zero.
            values = values.masked_fill(~mask.unsqueeze(2), 0)
        steps = self.input(values)
        if self.positions:
            steps = steps + sinusoids(step_positions(real), self.width).to(steps.dtype)
        return self.output(self.pool(self.stack(steps, mask), mask))
