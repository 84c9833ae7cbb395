"""What the loop minimises: a model and a loss as one module, so that one loop serves every method."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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
    """

    def __init__(self, model: MultimodalModel, loss: nn.Module, negatives: Negatives = "gather") -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.negatives: Negatives = negatives

    def forward(self, batch: Batch) -> LossOutput:
        """The loss of a batch."""
        embeddings = self.model(batch)
        if world_size() == 1 or not torch.is_grad_enabled():
            return self.loss_of(embeddings)
        # The gradient of the embeddings is computed here and not in the backward pass, where the processes' messages
        # for it could cross those of DistributedDataParallel, whose order is another on each process.
        leaves = {subset: vectors.detach().requires_grad_() for subset, vectors in embeddings.vectors.items()}
        out = self.loss_of(replace(embeddings, vectors=leaves))
        weights = [weight for weight in self.loss.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(out.total, [*leaves.values(), *weights], allow_unused=True)
        sources = [*embeddings.vectors.values(), *weights]
        used = [(source, grad) for source, grad in zip(sources, gradients) if grad is not None and source.requires_grad]
        total = _Known.apply(out.total.detach(), [grad for _, grad in used], *(source for source, _ in used))
        assert isinstance(total, Tensor)
        return replace(out, total=total)

    def loss_of(self, embeddings: Embeddings) -> LossOutput:
        """The loss of the whole batch, of which these are the embeddings of this process's rows.

        Several processes call it together, and go through its backward pass together, before any other exchange.

        Raises:
            ValueError: if the processes do not have the same loss, plan, or kind of embeddings; for negatives "ring"
                with a loss that compares all modalities at once.
        """
        some = next(iter(embeddings.vectors.values()))
        if world_size() > 1:
            self._check(embeddings)
            shared = isinstance(self.loss, SHARED)
            embeddings = (
                PartEmbeddings(embeddings.vectors, embeddings.present, embeddings.groups, self.negatives)
                if shared
                else gather_embeddings(embeddings)
            )
        # bfloat16 autocast is for the encoders; in it a score of 14 would be off by up to 0.03.
        with torch.autocast(some.device.type, enabled=False):
            return self.loss(embeddings)

    def _check(self, embeddings: Embeddings) -> None:
        if self.negatives == "ring" and not isinstance(self.loss, SHARED):
            raise ValueError(
                f'negatives "ring" can do {" and ".join(one.__name__ for one in SHARED)}, whose terms compare two '
                f"embeddings at a time; {type(self.loss).__name__} compares all modalities at once. "
                'Use negatives "gather"'
            )
        plan = getattr(self.loss, "plan", self.model.plan)
        check_agreed(
            {
                "loss": type(self.loss).__name__,
                "plan": plan.to_dict(),
                "options of the loss": {name: value for name, value in vars(self.loss).items() if _is_option(value)},
                "negatives": self.negatives,
                "embeddings": {str(one): (vectors.dtype, vectors.shape[1]) for one, vectors in embeddings.items()},
                "groups (given or not)": embeddings.groups is not None,
                "mode (training or not)": (self.training, torch.is_grad_enabled()),
            }
        )

    def save(self, folder: Path) -> None:
        """Write the model, as `confu.load` reads it."""
        save_model(self.model, folder)


def _is_option(value: Any) -> bool:
    return isinstance(value, str | int | float | tuple)


class _Known(torch.autograd.Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *sources: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grads[0] * gradient for gradient in ctx.saved_tensors)


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
        """Read weights that `save` wrote.

        Raises:
            ValueError: if the file is missing, cut short, or of another classifier.
        """
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
