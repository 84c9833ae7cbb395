"""A trained model in use: embed the modalities that each item has, compare, and name classes by their prompts."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from confu.data.readers import Reader
from confu.data.readers.text import count_cut, limit_lengths, warn_of_cut
from confu.inference.card import Facts
from confu.inference.embedding import embed_batch
from confu.inference.hub import download, upload
from confu.inference.model_folder import ModelParts, read_parts, write_parts
from confu.inference.reading import Sources, choose_subsets, columns_of, is_mean, read_batches
from confu.models import MultimodalModel
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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.vectors, dtype, copy=copy)


class Embedder:
    """A model with the readers of its modalities.

    `confu.load` makes one of a trained run, of a model folder, or of a repository of the Hugging Face hub.

    Args:
        model: all its towers, or some of them.
        readers: modality -> what turns sources into the inputs of its encoder.
        class_names: the classes that the labels of its training data meant, if it had any.
        facts: what is known of its training, for the model card.

    Raises:
        ValueError: if a tower of the model has no reader.
    """

    def __init__(
        self,
        model: MultimodalModel,
        readers: Mapping[str, Reader],
        class_names: Sequence[str] | None = None,
        facts: Facts | None = None,
    ) -> None:
        if missing := [name for name in model.encoders if name not in readers]:
            raise ValueError(f"readers must name one for every modality of the model; it lacks {', '.join(missing)}")
        classes = None if class_names is None else tuple(class_names)
        self.model = model.eval()
        self.readers = {name: readers[name] for name in model.encoders}
        limit_lengths(self.readers, dict(model.encoders.items()))
        self.parts = ModelParts(self.model, self.readers, classes, facts or Facts())
        self.modalities = self.parts.modalities

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        modalities: Sequence[str] | None = None,
        device: str | torch.device = "cpu",
        encoders: Mapping[str, nn.Module] | None = None,
        allow_custom: bool = False,
        revision: str | None = None,
        token: str | None = None,
    ) -> "Embedder":
        """Load a trained model, ready for files, arrays and texts; `confu.load` is this.

        Args:
            name: a run folder, a folder that `save_pretrained` wrote, or `owner/name` on the Hugging Face hub.
            modalities: load the towers of these only; None for all.
            device: where to put it.
            encoders: modules for the modalities whose encoders are not confu's own.
            allow_custom: whether an encoder may be built by the function that the files name: only if you trust them.
            revision: on the hub, a branch, tag or commit.
            token: for a private repository of the hub.

        Raises:
            ValueError: if there is no such model, a file is damaged, a modality unknown, or an encoder has to be given.
        """
        parts = read_parts(download(name, revision, token), modalities, device, encoders, allow_custom)
        embedder = cls(parts.model, parts.readers, parts.class_names, parts.facts)
        embedder.parts = parts  # knows its fingerprint
        return embedder

    @property
    def dim(self) -> int:
        """The size of an embedding."""
        return self.model.dim

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Every set of modalities that can be embedded, single ones first."""
        return self.model.subsets

    def supports(self, subset: Subset | str) -> bool:
        """Whether an item with just these modalities can be embedded, e.g. `"image+audio"`."""
        return Subset.parse(subset) in self.subsets

    def encode(
        self,
        sources: Sources | Sequence[Mapping[str, Any]] | Any = None,
        *,
        use: Subset | str | Sequence[Subset | str] | None = None,
        batch_size: int = 64,
        workers: int = 1,
        **by_name: Iterable[Any],
    ) -> Encoded:
        """Embed items, each by exactly the modalities that it has.

        An item with an image and a sound gets the fused embedding of both, one with an image alone that of the image.
        Where no term trains what an item has, it gets the mean of the embeddings of its single modalities, and one
        warning names these subsets.
        Texts that are longer than the encoder takes are cut, with one warning that counts them.

        Args:
            sources: modality -> one source an item, None where it has none; all of one length. A source is a file's
                path, address, bytes or open file, an array, a PIL image, (samples, rate), the dicts of Hugging Face
                data sets; for a text modality the text. The modalities may also be given as keywords:
                `encode(image=[...], audio=[...])`. Or a table: a list of dicts, one an item, or a data frame, of which
                the columns named as modalities are read. One item is a list of one: of an array the first axis is
                the items.
            use: the subset to embed of every item although it may have more; or several, of which each item gets the
                first that it has in full.
            batch_size: items at once.
            workers: threads that read files.

        Returns:
            unit vectors in the order of the items, and the subset of each.

        Raises:
            ValueError: for an unknown modality, lists of differing lengths, an item with nothing, a set of modalities
                that the model cannot embed, or a source that cannot be read; it names the positions.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        columns = columns_of(sources, by_name, {name: one.modality_kind for name, one in self.readers.items()})
        subsets = choose_subsets(columns, self.modalities, self.subsets, use, self.model.score)
        by_subset: dict[Subset, list[int]] = {}
        for row, subset in enumerate(subsets):
            by_subset.setdefault(subset, []).append(row)
        groups = [
            (subset, rows[start : start + batch_size])
            for subset, rows in by_subset.items()
            for start in range(0, len(rows), batch_size)
        ]

        def refuse(row: int, modality: str, reason: str) -> None:
            raise ValueError(f"{modality}[{row}]: {reason}")

        vectors = torch.zeros(len(subsets), self.dim)
        batches = read_batches(self.readers, columns, groups, refuse, workers=workers)
        means = [subset for subset in by_subset if is_mean(subset, self.subsets, self.model.score)]
        for batch, (subset, rows) in zip(batches, groups):
            if subset in means:
                embedded = embed_batch(self.model, batch, [Subset(name) for name in subset])
                vectors[rows] = normalize(torch.stack([one for one, _ in embedded.values()]).sum(dim=0), dim=-1)
            else:
                vectors[rows] = embed_batch(self.model, batch, [subset])[subset][0]
        if means:
            names = ", ".join(map(str, means))
            warnings.warn(
                f"no term trains {names}: embedded as the mean of single embeddings. Choose another subset with use=, "
                "or train with a term of it",
                stacklevel=2,
            )
        warn_of_cut(self.readers, count_cut(self.readers, columns))
        return Encoded(vectors, subsets)

    def similarity(self, a: Encoded | Tensor | Any, b: Encoded | Tensor | Any) -> Float[Tensor, "n m"]:
        """The cosine of every item of `a` with every one of `b`, as `encode` gives them or as (n, dim) unit vectors.

        Raises:
            ValueError: if the model's method does not compare two embeddings (Symile, GRAM, TRIANGLE).
        """
        if (score := self.model.score) != "cosine":
            raise ValueError(
                f"this model's method compares the embeddings of all modalities at once, by {score}, so that two of "
                "them have no similarity. Encode each modality by itself, and compare with "
                f"confu.evaluation.pair_scores({score!r}, [vectors of each modality that asks], [vectors of the "
                "target])"
            )
        left, right = (
            one.vectors if isinstance(one, Encoded) else torch.as_tensor(one, dtype=torch.float32) for one in (a, b)
        )
        return left @ right.T

    def zero_shot(
        self,
        queries: Encoded | Tensor | Sources | Any,
        classes: Mapping[str, Sequence[Any]] | Sequence[str],
        target: str | None = None,
    ) -> tuple[list[str], Float[Tensor, "n classes"]]:
        """The class whose prompts are most like each item; a class is the re-normalised mean of its prompts.

        Args:
            queries: what `encode` gave, or the sources of the items.
            classes: name -> its prompts, at least one, where a text is one prompt; or names, prompts themselves.
            target: the modality of the prompts; by default the model's only text.

        Returns:
            the name of the best class of each item, and the (n, classes) cosines, in the order of `classes`.

        Raises:
            ValueError: if there is no class, one has no prompt, or the modality of the prompts is not clear.
        """
        texts = [name for name, reader in self.readers.items() if reader.modality_kind == "text"]
        if target is None and len(texts) != 1:
            raise ValueError(
                f"target must name the modality of the prompts: the model has {len(texts)} texts ({texts})"
            )
        named = classes.items() if isinstance(classes, Mapping) else [(str(name), [name]) for name in classes]
        prompts_of = {name: [one] if isinstance(one, str) else list(one) for name, one in named}
        if isinstance(classes, str) or not prompts_of or len(prompts_of) < len(classes) or not all(prompts_of.values()):
            raise ValueError(
                "classes must name at least one class, and give each a list of at least one prompt, each name once, "
                f"such as {{'dog': ['a photo of a dog']}}; got {classes!r}"
            )
        prompts = self.encode({target or texts[0]: [prompt for one in prompts_of.values() for prompt in one]})
        means = class_means(prompts, [len(one) for one in prompts_of.values()])
        encoded = queries if isinstance(queries, Encoded | Tensor | np.ndarray) else self.encode(queries)
        scores = self.similarity(encoded, means)
        names = list(prompts_of)
        return [names[best] for best in scores.argmax(dim=1).tolist()], scores

    def save_pretrained(self, folder: Path | str, licence: str | None = None, name: str | None = None) -> None:
        """Write a flat model folder: weights, settings, readers, and a card that is filled in; nothing is pickled.

        Args:
            folder: where; it appears whole or not at all.
            licence: of the weights, for the card, as the hub names it, e.g. `"apache-2.0"`.
            name: of the model, for the card.
        """
        write_parts(self.parts, folder, licence, name)

    def push_to_hub(self, repo_id: str, licence: str | None = None, **options: Any) -> str:
        """Upload the model folder to the Hugging Face hub and return the address of the commit.

        Args:
            repo_id: `owner/name`; made if it is not there.
            licence: as in `save_pretrained`.
            options: private, token, revision, message and api of `confu.inference.hub.upload`.
        """
        return upload(lambda folder: self.save_pretrained(folder, licence, repo_id), repo_id, **options)


def class_means(prompts: Encoded, sizes: Sequence[int]) -> Float[Tensor, "classes dim"]:
    """One unit vector a class, the re-normalised mean of its prompts; those of a class stand together.

    >>> class_means(Encoded(torch.eye(2), [Subset("text")] * 2), [1, 1]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return normalize(torch.stack([part.mean(dim=0) for part in prompts.vectors.split(list(sizes))]), dim=-1)


load = Embedder.from_pretrained
