"""The model that a run starts from: its readers, the sizes of its encoders, its weights; and what must be alike."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from confu.data.readers import Reader, build_reader
from confu.inference.model_folder import find_model, load_inputs
from confu.models import MultimodalModel, load_weights
from confu.models.checkpoint import DESCRIPTION, WEIGHTS, read_description, read_weights
from confu.nn.encoders import settings_of
from confu.runs.run_file import RunFile


@dataclass(frozen=True)
class Start:
    """The model that a run starts from.

    Attributes:
        folder: that the run file names.
        place: of its weights.
        readers: by modality.
        encoders: the settings of its encoders, by modality; None for one that is not confu's own.
        model: the settings of the model.
    """

    folder: Path
    place: Path
    readers: Mapping[str, Reader]
    encoders: Mapping[str, dict[str, Any] | None]
    model: Mapping[str, Any]

    @classmethod
    def of(cls, run: RunFile) -> "Start | None":
        """That of a run; None if it starts anew.

        Raises:
            ValueError: if the folder holds no model, or one of other modalities or readers.
        """
        if run.start_from is None:
            return None
        place, inputs = find_model(run.start_from)
        description = read_description(place / DESCRIPTION)
        settings = load_inputs(inputs)["readers"]
        if list(settings) != list(run.modalities):
            raise ValueError(
                f"start_from: {run.start_from} has the modalities {', '.join(settings)}, and this run has "
                f"{', '.join(run.modalities)}; name them alike, in one order"
            )
        for name, modality in run.modalities.items():
            for key, value in (modality.reader or {}).items():
                there = settings[name].get(key, value)
                if there != value and not (value == "standard" and isinstance(there, Mapping)):  # fitted
                    raise ValueError(
                        f"start_from: modalities.{name}.reader.{key} is {value!r} here and {there!r} in "
                        f"{run.start_from}, whose weights were trained with it; leave the reader out"
                    )
        readers = {name: build_reader(one) for name, one in settings.items()}
        return cls(Path(run.start_from), place, readers, description["encoders"], description["model"])

    def digest(self) -> str:
        """SHA-256 of the weights and of what rebuilds the model."""
        digest = hashlib.sha256()
        for name in (DESCRIPTION, WEIGHTS):
            with (self.place / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def load_encoders(self, encoders: Mapping[str, nn.Module]) -> None:
        """Give new encoders the weights, before anything is computed with them.

        Raises:
            ValueError: naming what differs.
        """
        differ = []
        for name, encoder in encoders.items():
            differ += _differences(f"the encoder of {name}", self.encoders[name] or {}, settings_of(encoder) or {})
        self._check(differ)
        weights, _ = read_weights(self.place / WEIGHTS)
        for name, encoder in encoders.items():
            prefix = f"encoders.{name}."
            own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            try:
                encoder.load_state_dict(own)
            except RuntimeError as error:
                raise ValueError(f"start_from: {self.folder} has another encoder of {name!r}: {error}") from error

    def load_into(self, model: MultimodalModel) -> None:
        """Give a new model the weights.

        Raises:
            ValueError: naming what differs: the plan, a size, a setting of an encoder or of the fusion networks.
        """
        self._check(_differences("the model", self.model, model.settings))
        load_weights(model, self.place / WEIGHTS)

    def _check(self, differ: list[str]) -> None:
        if differ:
            raise ValueError(f"start_from: {self.folder} holds another model: {'; '.join(differ)}. Set them alike")


# What changes how a model is trained, and not what its weights mean.
_OF_TRAINING = {"dropout", "mask_ratio", "fusion_dropout", "score", "tune", "stacking"}


def _differences(what: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys([*there, *here]) if name not in _OF_TRAINING]
    return [
        f"{name} of {what} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in names
        if there.get(name) != here.get(name)
    ]
