"""Model folders: read a model with its readers from a run folder or a flat one, and write it flat."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from confu.checks import check_known
from confu.data.readers import Reader, build_reader
from confu.files import write_json, written_whole
from confu.inference.card import Facts, facts_of_run, model_card
from confu.models import MultimodalModel, load_model, save_model

FORMAT = 1
INPUTS, CARD, WEIGHTS = "inputs.json", "README.md", "model.safetensors"
MODEL_FILES = (WEIGHTS, "model.json", INPUTS, CARD)


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
    _fingerprints: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those whose towers are loaded, in the plan's order."""
        return tuple(self.model.encoders)

    def fingerprint(self) -> str:
        """SHA-256 of weights, plan and readers of what is loaded: parts that share it embed alike.

        A model folder holds it; else it is computed when first asked for, and again when weights have changed.
        """
        if (known := self._fingerprints.get(self._version())) is not None:
            return known
        readers = {name: reader.settings for name, reader in self.readers.items()}
        encoders = {name: getattr(encoder, "settings", None) for name, encoder in self.model.encoders.items()}
        settings = [self.model.plan.to_dict(), self.model.settings, encoders, readers]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        self._fingerprints[self._version()] = digest.hexdigest()
        return digest.hexdigest()

    def _version(self) -> int:
        """How often weights were written to; each change in place counts."""
        return sum(weight._version for weight in self.model.state_dict().values())


def read_parts(
    folder: Path | str,
    modalities: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    encoders: Mapping[str, nn.Module] | None = None,
    allow_custom: bool = False,
) -> ModelParts:
    """Read a model, its readers and what is known of its training. Nothing in the files is unpickled."""
    place, inputs_folder = find_model(folder)
    inputs = load_inputs(inputs_folder)
    settings = inputs["readers"]
    for name in modalities or ():
        check_known("modality", name, settings)
    model = load_model(place, encoders, device, modalities, allow_custom)
    names = [name for name in model.plan.modalities if name in model.encoders]
    if missing := [name for name in names if name not in settings]:
        raise ValueError(f"{inputs_folder / INPUTS}: has no reader for {', '.join(missing)}, which the model embeds")
    facts = Facts.from_dict(inputs["facts"]) if "facts" in inputs else facts_of_run(inputs_folder, model.plan.subsets)
    classes = inputs.get("class_names")
    readers = {name: build_reader(settings[name]) for name in names}
    parts = ModelParts(model, readers, None if classes is None else tuple(classes), facts)
    whole = len(names) == len(model.plan.modalities) and not encoders
    if whole and "fingerprint" in inputs and inputs.get("checked") == _sample_digest(place / WEIGHTS, settings):
        parts._fingerprints[parts._version()] = inputs["fingerprint"]
    return parts


def find_model(folder: Path | str) -> tuple[Path, Path]:
    """Where the weights of a run folder or a model folder are, and where its `inputs.json` is."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected a run folder, or one that save_pretrained wrote")
    place = folder if (folder / "model.json").exists() else folder / "best"
    if not (place / "model.json").exists():
        raise ValueError(f"{folder}: holds no model (neither model.json nor best/model.json); is the training done?")
    inputs_folder = next((one for one in (folder, place, place.parent) if (one / INPUTS).exists()), None)
    if inputs_folder is None:
        raise ValueError(
            f"{folder}: has no {INPUTS}, which says how files become the inputs of the encoders; it was not trained "
            "from a run file. Use confu.load_model and confu.embed with a data set, or confu.Embedder(model, readers)"
        )
    return place, inputs_folder


def write_parts(parts: ModelParts, folder: Path | str, licence: str | None = None, name: str | None = None) -> None:
    """Write a flat model folder: `model.safetensors`, `model.json`, `inputs.json` and the card `README.md`.

    All files are written beside it first. A new folder then appears at once; in one that is there already the files
    are replaced one after the other, and others in it stay.
    """
    folder = Path(folder)
    if missing := [one for one in parts.model.plan.modalities if one not in parts.modalities]:
        raise ValueError(
            f"only {', '.join(parts.modalities)} of this model are loaded, without {', '.join(missing)}; "
            "load all of it to save it"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder to write")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        save_model(parts.model, temporary)
        readers = {one: reader.settings for one, reader in parts.readers.items()}
        more = {
            "facts": asdict(parts.facts),
            "fingerprint": parts.fingerprint(),
            "checked": _sample_digest(temporary / WEIGHTS, readers),
        }
        save_inputs(temporary, parts.readers, parts.class_names, more)
        with written_whole(temporary / CARD) as file:
            file.write_text(model_card(parts.model, parts.readers, parts.facts, licence, name), encoding="utf-8")
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp's are for the owner alone
        if folder.exists():
            for one in MODEL_FILES:
                os.replace(temporary / one, folder / one)  # noqa: PTH105
        else:
            os.replace(temporary, folder)  # noqa: PTH105
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def record_fingerprint(run: Path) -> None:
    """Write the fingerprint of a run's best weights into its `inputs.json`, so that a search need not hash them."""
    inputs = load_inputs(run)
    checked = _sample_digest(run / "best" / WEIGHTS, inputs["readers"])
    if inputs.get("checked") != checked:
        parts = read_parts(run, allow_custom=True)  # it was trained here with these functions
        write_json(run / INPUTS, {**inputs, "fingerprint": parts.fingerprint(), "checked": checked})


def save_inputs(
    folder: Path,
    readers: Mapping[str, Reader],
    class_names: Sequence[str] | None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `inputs.json`: what turns sources into the inputs of a model, and what its labels mean."""
    content = {
        "format": FORMAT,
        "readers": {name: reader.settings for name, reader in readers.items()},
        "kinds": {name: reader.modality_kind for name, reader in readers.items()},
        "class_names": None if class_names is None else list(class_names),
    }
    write_json(folder / INPUTS, {**content, **(more or {})})


def load_inputs(folder: Path) -> dict[str, Any]:
    """What `save_inputs` wrote: `readers` has the settings of each."""
    file = folder / INPUTS
    try:
        inputs = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: not whole JSON ({error}); copy it again or train again") from error
    number = inputs.get("format") if isinstance(inputs, dict) else None
    if number != FORMAT:
        raise ValueError(f"{file}: format {number!r}, but this version of confu reads format {FORMAT}")
    if not isinstance(inputs.get("readers"), dict):
        raise ValueError(f"{file}: lacks the readers of the modalities; copy it again or train again")
    return inputs


def _sample_digest(weights: Path, readers: Mapping[str, Any]) -> str:
    """Tells quickly whether these are the weights and readers that a stored fingerprint is of: some blocks are read."""
    size = weights.stat().st_size
    digest = hashlib.sha256(json.dumps([size, readers], sort_keys=True).encode())
    with weights.open("rb") as file:
        for block in range(64):
            file.seek(block * max(0, size - 4096) // 63)
            digest.update(file.read(4096))
    return digest.hexdigest()
