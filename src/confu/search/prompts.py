"""Vectors of labels by their prompts, kept for the next question."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

from confu.inference import Embedder
from confu.inference.encoded import class_means
from confu.search.question import BadQuestion

_KEPT = 4096


class PromptVectors:
    """Unit vectors of labels, embedded when they are first asked for.

    Args:
        embedder: a model with one text modality, or more, of which `modality` names one.
        modality: of the prompts; by default the only text.
    """

    def __init__(self, embedder: Embedder, modality: str | None = None) -> None:
        self.embedder = embedder
        texts = [name for name, reader in embedder.readers.items() if reader.modality_kind == "text"]
        self.modality = modality or (texts[0] if len(texts) == 1 else None)
        self._texts = texts
        self._kept: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self._lock = Lock()  # several threads of a server ask

    def of(self, labels: Sequence[tuple[str, ...]]) -> Float[Tensor, "labels dim"]:
        """One vector a label, the re-normalised mean of its prompts.

        Raises:
            BadQuestion: if the model embeds no text alone, or a prompt cannot be read.
        """
        if self.modality is None or not self.embedder.supports(self.modality):
            raise BadQuestion(
                f"labels need a model with one text modality that it embeds alone; this one has {self._texts} and "
                f"embeds {', '.join(map(str, self.embedder.subsets))}",
                "labels", "no_text_modality",
            )  # fmt: skip
        with self._lock:
            found = {label: self._kept[label] for label in labels if label in self._kept}
        if new := [label for label in dict.fromkeys(labels) if label not in found]:
            try:
                encoded = self.embedder.encode({self.modality: [prompt for label in new for prompt in label]})
            except ValueError as error:
                raise BadQuestion(f"labels: {error}", "labels", "bad_labels") from error
            found.update(zip(new, class_means(encoded, [len(label) for label in new])))
        with self._lock:
            for label in labels:
                self._kept[label] = found[label]
                self._kept.move_to_end(label)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return torch.stack([found[label] for label in labels])
