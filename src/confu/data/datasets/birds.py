"""What the bird data sets have in common: rows with a class and the files of each modality."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class BirdRows:
    """The rows of a data set as its files list them; nothing is decoded yet.

    Attributes:
        ids: one a row.
        labels: (n,) index into `class_names`, contiguous from 0 whatever numbers the files use.
        class_names: the common names, as prompts say them.
        splits: one a row, "train" or "test"; "" where the files do not say.
        sources: by modality ("video", "image", "audio", "text") one a row: a path, or for text the text itself; None
            where a row lacks the modality. A video's path under "audio" means the video's own sound.
        problems: what is wrong with the files, one line each, naming file and row; rows of which nothing is left are
            not among the rows.
    """

    ids: list[str]
    labels: Int[Tensor, " n"]
    class_names: tuple[str, ...]
    splits: list[str]
    sources: dict[str, list[str | None]]
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int] | Int[Tensor, " rows"]) -> "BirdRows":
        """These rows, in this order; classes and problems stay.

        >>> rows = BirdRows(["a", "b"], torch.tensor([0, 1]), ("Mallard", "Brant"), ["", ""], {"image": ["a.jpg", None]})
        >>> rows.select([1]).ids
        ['b']
        """
        chosen = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        return BirdRows(
            [self.ids[row] for row in chosen],
            self.labels[torch.tensor(chosen, dtype=torch.long)],
            self.class_names,
            [self.splits[row] for row in chosen],
            {name: [values[row] for row in chosen] for name, values in self.sources.items()},
            self.problems,
        )
