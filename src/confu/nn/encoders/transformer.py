"""Encoders trained from scratch of sequences of feature vectors and of token ids: transformers, and a bag of tokens.

Shapes: b rows, t time steps, w width of a step's vector. A mask is (b, t), True where a step is real.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from confu.checks import check_known
from confu.nn.encoders.build import settings_from
from confu.nn.layers import (
    StepMask,
    check_heads,
    check_ids,
    check_mask,
    check_positive,
    check_share,
    last_step,
    masked_mean,
    mlp,
    step_positions,
)

POOLINGS = {"mean": masked_mean, "last": last_step}


class SequenceEncoder(nn.Module):
    """A transformer over time steps, of MultiBench's size, that leaves padding out.

        x -> LayerNorm -> Linear (+ positions) -> [transformer layer] x 5 -> mean over real steps (-> Linear)

    For video or acoustic frames, word vectors, sensors. The released code has neither positions nor a mask, and reads
    the last step: padding, for any sequence shorter than the longest. Its reading is `pooling="last", positions=False`
    without a mask.

    >>> encoder = SequenceEncoder(in_dim=20, width=8, heads=2, layers=1, hidden_dim=16)
    >>> encoder(torch.zeros(3, 50, 20), mask=torch.ones(3, 50, dtype=torch.bool)).shape
    torch.Size([3, 8])

    Args:
        in_dim: features of one step.
        width: size of a step inside the transformer.
        heads: attention heads; divides `width`.
        layers: transformer layers.
        hidden_dim: hidden size of each layer.
        dropout: share dropped in training.
        pooling: "mean" over the real steps, or the "last" real one.
        positions: whether to add sinusoidal positions, counted from the first real step.
        norm_first: whether LayerNorm stands before each part of a layer (easier to train) or after it (MultiBench).
        out_dim: size of the features through one more Linear; None leaves it out, so that it is `width`.
        input_norm: whether LayerNorm stands before the first Linear. It removes the mean and the spread of the features
            of each step, so leave it out where the reader standardises them. A single feature never has it, as it
            would be constant.

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
        input_norm: bool = True,
    ):
        super().__init__()
        self.settings = settings_from("sequence", locals())
        self.out_dim = width if out_dim is None else out_dim
        check_positive(in_dim=in_dim, width=width, out_dim=self.out_dim)
        check_known("pooling", pooling, POOLINGS)
        self.in_dim, self.width, self.positions = in_dim, width, positions
        self.pool = POOLINGS[pooling]
        self.stack = TransformerStack(width, heads, layers, hidden_dim, dropout, norm_first)
        self.input = nn.Sequential(
            nn.LayerNorm(in_dim) if input_norm and in_dim > 1 else nn.Identity(), nn.Linear(in_dim, width)
        )
        self.output = nn.Identity() if out_dim is None else nn.Linear(width, out_dim)

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


class TokenEncoder(nn.Module):
    """Learned tokens and positions, transformer layers, and the mean over the real tokens: text without pretraining.

        ids -> token + position -> [transformer layer] x layers -> LayerNorm -> mean over real tokens (-> Linear)

    It has no dropout by default: then a caption that stands in many rows may be encoded once, with the same result.

    >>> encoder = TokenEncoder(vocab_size=100, width=8, heads=2, layers=1)
    >>> encoder(torch.tensor([[5, 7, 0]]), attention_mask=torch.tensor([[1, 1, 0]])).shape
    torch.Size([1, 8])

    Args:
        vocab_size: number of tokens; ids are 0 to vocab_size - 1.
        width: size of a token's vector.
        layers: transformer layers.
        heads: attention heads; divides `width`.
        max_length: longest text, in tokens.
        out_dim: size of the features through one more Linear; None leaves it out, so that it is `width`.
        hidden_dim: hidden size of each layer; None is four times the width.
        dropout: share dropped in training.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        max_length: int = 64,
        out_dim: int | None = None,
        hidden_dim: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.settings = settings_from("tokens", locals())
        self.out_dim = width if out_dim is None else out_dim
        check_positive(vocab_size=vocab_size, max_length=max_length, width=width, out_dim=self.out_dim)
        self.vocab_size, self.max_length = vocab_size, max_length
        hidden_dim = 4 * width if hidden_dim is None else hidden_dim
        self.stack = TransformerStack(width, heads, layers, hidden_dim, dropout, norm_first=True, activation="gelu")
        self.tokens = nn.Embedding(vocab_size, width)
        self.places = nn.Embedding(max_length, width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.5**0.5)  # their sum has unit variance
        self.output = nn.Identity() if out_dim is None else nn.Linear(width, out_dim)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each text; `attention_mask` is 0 or False at padding, None if there is none."""
        check_ids(input_ids, self.vocab_size, self.max_length)
        if not len(input_ids):  # attention fails on no rows
            return self.output(self.tokens.weight.new_zeros(0, self.tokens.embedding_dim))
        mask = None if attention_mask is None else check_mask(attention_mask, input_ids.shape, "attention_mask")
        real = input_ids.new_ones(input_ids.shape).bool() if mask is None else mask
        steps = self.tokens(input_ids) + self.places(step_positions(real))
        return self.output(masked_mean(self.stack(steps, mask), mask))


class BagEncoder(nn.Module):
    """The mean of learned token vectors, and an MLP: the order of the words is ignored. For short texts and few rows.

        ids -> token -> mean over real tokens -> LayerNorm -> [Linear -> ReLU] x layers -> Linear

    >>> encoder = BagEncoder(vocab_size=100, width=8, out_dim=16)
    >>> encoder(torch.tensor([[5, 7, 0]]), attention_mask=torch.tensor([[1, 1, 0]])).shape
    torch.Size([1, 16])

    Args:
        vocab_size: number of tokens; ids are 0 to vocab_size - 1.
        width: size of a token's vector, and of the hidden layers.
        layers: hidden layers; 0 leaves one linear map.
        out_dim: size of the features.
        dropout: share of tokens, and of each hidden layer, that is dropped in training. At least one token stays.
    """

    def __init__(self, vocab_size: int, width: int = 128, layers: int = 1, out_dim: int = 128, dropout: float = 0.0):
        super().__init__()
        self.settings = settings_from("bag", locals())
        check_positive(vocab_size=vocab_size)
        if layers < 0:
            raise ValueError(f"layers must be 0 or more hidden layers; got {layers}")
        self.vocab_size, self.out_dim, self.dropout = vocab_size, out_dim, dropout
        self.output = mlp(width, [width] * layers, out_dim, dropout)
        self.tokens = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.tokens.weight, std=0.1)  # small, so that a rare token moves far in the few steps it has
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each text; `attention_mask` is 0 or False at padding, None if there is none."""
        check_ids(input_ids, self.vocab_size)
        if attention_mask is None:
            mask = torch.ones_like(input_ids, dtype=torch.bool)
        else:
            mask = check_mask(attention_mask, input_ids.shape, "attention_mask")
        if self.training and self.dropout:
            kept = mask & (torch.rand(mask.shape, device=mask.device) >= self.dropout)
            mask = torch.where(kept.any(dim=1, keepdim=True), kept, mask)
        return self.output(self.norm(masked_mean(self.tokens(input_ids), mask)))


class TransformerStack(nn.Module):
    """Transformer encoder layers, each with weights drawn on its own (`nn.TransformerEncoder` copies one layer)."""

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
        """Let the real steps attend to each other; the output at padding means nothing."""
        padding = None if mask is None else ~mask
        for layer in self.layers:
            steps = layer(steps, src_key_padding_mask=padding)
        return self.norm(steps)


def sinusoids(positions: Int[Tensor, "b t"], width: int) -> Float[Tensor, "b t {width}"]:
    """Sines and cosines of a position at falling frequencies (Vaswani et al. 2017, section 3.5).

    [sin(p f_0), ..., sin(p f_k), cos(p f_0), ..., cos(p f_k)],   f_j = 10000^(-2j / width)
    """
    half = (width + 1) // 2
    steps = torch.arange(half, device=positions.device, dtype=torch.float32)
    angles = positions.unsqueeze(2) * torch.exp(steps * (-2 * math.log(10000.0) / width))
    return torch.cat([angles.sin(), angles.cos()], dim=2)[:, :, :width]
