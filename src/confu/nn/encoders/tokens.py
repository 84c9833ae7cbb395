"""A small transformer over token ids, for text with no pretrained model."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from confu.nn.sizes import check_positive
from confu.nn.transformer import (
    TransformerStack,
    check_ids,
    check_mask,
    masked_mean,
    step_positions,
)


class TokenEncoder(nn.Module):
    """Learned tokens and places, transformer layers, and the mean over the real tokens.

        ids -> token + place -> [transformer layer] x layers -> LayerNorm -> mean over real tokens (-> Linear)

    It has no dropout by default: then a caption that stands in many rows may be encoded once, with the same result.

    >>> import torch
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

    Raises:
        ValueError: if `heads` does not divide `width`, or for a size below one.
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
        check_positive(vocab_size=vocab_size, max_length=max_length)
        self.settings: dict[str, Any] = {
            "kind": "tokens",
            "vocab_size": vocab_size,
            "width": width,
            "layers": layers,
            "heads": heads,
            "max_length": max_length,
            "out_dim": out_dim,
            "hidden_dim": hidden_dim,
            "dropout": dropout,
        }
        self.vocab_size, self.max_length = vocab_size, max_length
        hidden_dim = 4 * width if hidden_dim is None else hidden_dim
        self.stack = TransformerStack(width, heads, layers, hidden_dim, dropout, norm_first=True, activation="gelu")
        self.tokens = nn.Embedding(vocab_size, width)
        self.places = nn.Embedding(max_length, width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.5**0.5)  # their sum has unit variance
        self.out_dim = width if out_dim is None else out_dim
        check_positive(out_dim=self.out_dim)
        self.output = nn.Identity() if out_dim is None else nn.Linear(width, out_dim)

    @staticmethod
    def input_sizes(settings: Mapping[str, Any], values: Tensor, vocabulary_size: int | None) -> dict[str, Any]:
        """The settings that the inputs decide."""
        return {"vocab_size": vocabulary_size}

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
