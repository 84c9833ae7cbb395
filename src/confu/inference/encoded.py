"""What encoding gives, and how it is compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from confu.plan import Subset


@dataclass(frozen=True, eq=False)
class Encoded:
    """Embeddings of some items, each by the modalities that it has.

    Attributes:
        vectors: (n, dim) float32 on the CPU, of length one.
        subsets: one an item: which modalities made its vector.
    """

    vectors: Float[Tensor, "n dim"]
    subsets: list[Subset]

    def __len__(self) -> int:
        return len(self.vectors)


def cosines(a: Encoded | Tensor, b: Encoded | Tensor, score: str = "cosine") -> Float[Tensor, "n m"]:
    """The cosine of every embedding of `a` with every one of `b`.

    Args:
        a: n items, or (n, dim) unit vectors.
        b: m items.
        score: how the model that made them compares; see `EmbeddingTable.score`.

    Raises:
        ValueError: if the model's method does not compare two embeddings.

    >>> cosines(torch.eye(2), torch.eye(2)[:1]).tolist()
    [[1.0], [0.0]]
    """
    if score != "cosine":
        raise ValueError(
            f"this model's method compares the embeddings of all modalities at once, by {score}, so that two of them "
            "have no similarity. Encode each modality by itself, and compare with "
            f"confu.evaluation.pair_scores({score!r}, [vectors of each modality that asks], [vectors of the target])"
        )
    left, right = (one.vectors if isinstance(one, Encoded) else one for one in (a, b))
    return left @ right.T


def class_means(prompts: Encoded, sizes: Sequence[int]) -> Float[Tensor, "classes dim"]:
    """One unit vector a class, the re-normalised mean of its prompts.

    Args:
        prompts: of the first class, then of the second, and so on.
        sizes: how many prompts each class has.

    >>> class_means(Encoded(torch.eye(2), [Subset("text")] * 2), [1, 1]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    parts = prompts.vectors.split(list(sizes))
    return normalize(torch.stack([part.mean(dim=0) for part in parts]), dim=-1)
