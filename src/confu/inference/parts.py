"""A model with all that makes it usable, as it is loaded and saved."""

import hashlib
import json
from dataclasses import dataclass, field

import torch

from confu.data.readers import Reader
from confu.inference.facts import Facts
from confu.models import MultimodalModel


@dataclass(frozen=True)
class ModelParts:
    """What a model folder holds.

    Attributes:
        model: all its towers, or some of them.
        readers: modality -> what turns sources into the inputs of its encoder.
        class_names: the classes that the labels of its training data meant, if it had any.
        facts: what is known of its training.
    """

    model: MultimodalModel
    readers: dict[str, Reader]
    class_names: tuple[str, ...] | None = None
    facts: Facts = field(default_factory=Facts)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those whose towers are loaded, in the plan's order."""
        return tuple(self.model.encoders)

    def fingerprint(self) -> str:
        """SHA-256 of weights, plan and readers of what is loaded: parts that share it embed alike."""
        readers = {name: reader.settings for name, reader in self.readers.items()}
        encoders = {name: getattr(encoder, "settings", None) for name, encoder in self.model.encoders.items()}
        settings = [self.model.plan.to_dict(), self.model.settings, encoders, readers]
        found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, weight in sorted(self.model.state_dict().items()):
            found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            found.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return found.hexdigest()
