"""What the loop minimises: a model and a loss as one module, so that one loop serves every method."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from confu._typing import Batch
from confu.distributed import gather_embeddings
from confu.files import written_whole
from confu.losses import LossOutput
from confu.models import LateFusionClassifier, MultimodalModel, save_model
from confu.nn import Temperature


class ContrastiveObjective(nn.Module):
    """A multimodal model and the contrastive loss of its embeddings.

    With several processes each holds a part of the batch; the loss is that of the whole batch on each of them.
    """

    def __init__(self, model: MultimodalModel, loss: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Batch) -> LossOutput:
        """The loss of a batch."""
        embeddings = gather_embeddings(self.model(batch))
        # bfloat16 autocast is for the encoders; in it a score of 14 would be off by up to 0.03.
        with torch.autocast(next(iter(embeddings.vectors.values())).device.type, enabled=False):
            return self.loss(embeddings)

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
