"""What the loop minimises: a model and a loss as one module, so that one loop serves every method."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from confu.data.augmented import Augment
from confu.distributed import Negatives, PartEmbeddings, check_agreed, gather_embeddings, world_size
from confu.files import written_whole
from confu.losses import CLIPLoss, ConFuLoss, LossOutput
from confu.models import LateFusionClassifier, MultimodalModel, save_model
from confu.nn import Temperature
from confu.types import Batch, Embeddings

SHARED = (ConFuLoss, CLIPLoss)
"""The losses of which each process computes a share; of the others each computes the whole, of gathered embeddings."""


class ContrastiveObjective(nn.Module):
    """A multimodal model and the contrastive loss of its embeddings.

    With several processes each holds a part of the batch; the loss is that of the whole batch on each of them.

    Args:
        model: what is trained.
        loss: of its embeddings.
        negatives: how the rows of several processes meet. `"gather"`: each holds all embeddings. `"ring"`: none does,
            they travel from one process to the next; of ConFu and CLIP only.
        augment: changes the inputs of each training batch before it is encoded; `fit` calls it, validation does not.
    """

    def __init__(
        self,
        model: MultimodalModel,
        loss: nn.Module,
        negatives: Negatives = "gather",
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.negatives: Negatives = negatives
        self.augment = augment

    def forward(self, batch: Batch) -> LossOutput:
        """The loss of a batch."""
        return self.loss_of(self.model(self.with_contents(batch)))

    def loss_of(self, embeddings: Embeddings) -> LossOutput:
        """The loss of the whole batch, of which these are the embeddings of this process's rows.

        Several processes call it together. Its backward pass sends no message, which could cross those of
        DistributedDataParallel: the gradient was computed with the loss, and that of gathered rows needs none.

        Raises:
            ValueError: if the processes do not have the same loss, plan, or kind of embeddings; for negatives "ring"
                with a loss that compares all modalities at once.
        """
        device = next(iter(embeddings.vectors.values())).device
        if world_size() > 1:
            self._check(embeddings)
            if isinstance(self.loss, SHARED):
                parts = embeddings.vectors, embeddings.present, embeddings.groups, embeddings.contents
                embeddings = PartEmbeddings(*parts, self.negatives)
            else:
                embeddings = gather_embeddings(embeddings)
        # bfloat16 autocast is for the encoders; in it a score of 14 would be off by up to 0.03.
        with torch.autocast(device.type, enabled=False):
            return self.loss(embeddings)

    def with_contents(self, batch: Batch) -> Batch:
        """The batch as the loss needs it: with the contents of all inputs, if it asks which are equal."""
        return batch if getattr(self.loss, "equal_inputs", "negatives") == "negatives" else batch.with_contents()

    def _check(self, embeddings: Embeddings) -> None:
        if self.negatives == "ring" and not isinstance(self.loss, SHARED):
            raise ValueError(
                f'negatives "ring" can do {" and ".join(loss.__name__ for loss in SHARED)}, whose terms compare two '
                f"embeddings at a time; {type(self.loss).__name__} compares all modalities at once. "
                'Use negatives "gather"'
            )
        plan = getattr(self.loss, "plan", self.model.plan)
        check_agreed(
            {
                "loss": type(self.loss).__name__,
                "plan": plan.to_dict(),
                "options of the loss": {
                    name: value
                    for name, value in vars(self.loss).items()
                    if isinstance(value, str | int | float | tuple)
                },
                "negatives": self.negatives,
                "embeddings": {str(key): (vectors.dtype, vectors.shape[1]) for key, vectors in embeddings.items()},
                "groups (given or not)": embeddings.groups is not None,
                "contents": sorted(embeddings.contents),
                "mode (training or not)": (self.training, torch.is_grad_enabled()),
            }
        )

    def save(self, folder: Path) -> None:
        """Write the model, as `confu.load` reads it."""
        save_model(self.model, folder)


class SupervisedObjective(nn.Module):
    """A classifier and the cross-entropy of the batch's labels."""

    def __init__(self, model: LateFusionClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> LossOutput:
        """The cross-entropy of a batch in nats, and its accuracy as a logged quantity."""
        if batch.labels is None:
            raise ValueError("supervised training needs labels, but this data set has none")
        logits = self.model(batch).float()
        loss = F.cross_entropy(logits, batch.labels)
        accuracy = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        name = "+".join(self.model.encoders) + " -> label"
        return LossOutput(loss, {name: loss.detach()}, {name: len(batch)}, {"accuracy": accuracy})

    def save(self, folder: Path) -> None:
        """Write the weights."""
        weights = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        with written_whole(folder / "classifier.safetensors") as temporary:
            save_file(weights, str(temporary))

    def load(self, folder: Path) -> None:
        """Read weights that `save` wrote; a ValueError if they are missing, cut short, or of another classifier."""
        file = folder / "classifier.safetensors"
        try:
            self.model.load_state_dict(load_file(str(file)))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise ValueError(f"{file}: not whole weights of this classifier ({error}); train it again") from error


def clamp_temperatures(module: nn.Module) -> None:
    """Bring every learned temperature back into its range after an optimizer step."""
    for part in module.modules():
        if isinstance(part, Temperature):
            part.clamp_()


def use_channels_last(objective: nn.Module) -> None:
    """Give the weights of all two-dimensional convolutions the channels_last memory format, in place.

    The maps that come out of them have it then too; values, shapes, names and files stay. Sums are taken in another
    order, so that results differ by rounding.

    Raises:
        ValueError: if it has no such convolution.
    """
    convolutions = [part for part in objective.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    if not convolutions:
        raise ValueError(
            "channels_last is about the weights of two-dimensional convolutions, and this model has none; leave it out"
        )
    for part in convolutions:
        part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)


def compile_encoders(objective: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Let torch compile every encoder of the objective's model at its first call, and for other shapes once more.

    In place: modules, the names of their weights and what is saved stay as they are, so that a run may go on with or
    without. Only encoders: a loss branches on numbers, and its large products gain nothing.

    Raises:
        ValueError: if it has no `model.encoders`.
    """
    encoders = getattr(getattr(objective, "model", None), "encoders", None)
    if not isinstance(encoders, nn.ModuleDict) or not len(encoders):
        raise ValueError(
            f"compile is about the encoders of a model, and {type(objective).__name__} has no `model.encoders`; "
            "leave it out"
        )
    for encoder in encoders.values():
        encoder.compile(backend=backend)
