"""A supervised classifier with late fusion: what the labels themselves would give, with the same encoders."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from confu.models.multimodal import check_encoders
from confu.types import Batch


class LateFusionClassifier(nn.Module):
    """Encoders, concatenation of their features, and a two-layer MLP to the classes.

    With one encoder it is an ordinary classifier. Rows must have every modality.

    Args:
        encoders: by modality name, each with an `out_dim`.
        num_classes: how many classes.
        hidden_dim: width of the hidden layer.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], num_classes: int, hidden_dim: int = 512) -> None:
        super().__init__()
        widths = check_encoders(encoders, encoders)
        self.settings: dict[str, Any] = {"num_classes": num_classes, "hidden_dim": hidden_dim}
        self.encoders = nn.ModuleDict(dict(encoders))
        self.head = nn.Sequential(
            nn.Linear(sum(widths.values()), hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, num_classes)
        )

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """Logits of the classes, (batch, num_classes).

        Raises:
            ValueError: if a row lacks one of the modalities.
        """
        features = []
        for name, encoder in self.encoders.items():
            inputs = batch.inputs[name]
            if not bool(inputs.present.all()):
                raise ValueError(
                    f"late fusion needs every modality in every row, but {int((~inputs.present).sum())} of "
                    f"{len(batch)} rows lack {name!r}; select the complete rows first"
                )
            encoded = encoder(**inputs.values) if isinstance(inputs.values, dict) else encoder(inputs.values)
            features.append(encoded[inputs.rows])
        return self.head(torch.cat(features, dim=1))
