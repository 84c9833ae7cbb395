"""Model folders: read the parts of a model from a run folder or a flat one, and write them flat."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from confu.checks import check_known
from confu.data.readers import build_reader
from confu.files import write_json, written_whole
from confu.inference.card import model_card
from confu.inference.facts import Facts, facts_of_run
from confu.inference.parts import ModelParts
from confu.models import load_model, save_model

FORMAT = 1
INPUTS, CARD = "inputs.json", "README.md"
MODEL_FILES = ("model.safetensors", "model.json", INPUTS, CARD)


def read_parts(
    folder: Path | str,
    modalities: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    encoders: Mapping[str, nn.Module] | None = None,
    allow_custom: bool = False,
) -> ModelParts:
    """Read a model, its readers and what is known of its training. Nothing in the files is unpickled.

    Args:
        folder: of a run (`best/` and `inputs.json`), its `best` or `last`, or a flat model folder.
        modalities: load the towers of these only; None for all.
        device: where to put the model.
        encoders: modules for the modalities whose encoders are not confu's own.
        allow_custom: whether an encoder may be built by the function that the files name; see `load_model`.

    Raises:
        ValueError: if a file is missing or damaged, or a modality is unknown.
    """
    model_folder, inputs_folder = _places(Path(folder))
    inputs = _read_inputs(inputs_folder / INPUTS)
    settings = inputs["readers"]
    for name in modalities or ():
        check_known("modality", name, settings)
    model = load_model(model_folder, encoders, device, modalities, allow_custom)
    names = [name for name in model.plan.modalities if name in model.encoders]
    if lacking := [name for name in names if name not in settings]:
        raise ValueError(f"{inputs_folder / INPUTS}: has no reader for {', '.join(lacking)}, which the model embeds")
    facts = Facts.from_dict(inputs["facts"]) if "facts" in inputs else facts_of_run(inputs_folder, model.plan.subsets)
    classes = inputs.get("class_names")
    readers = {name: build_reader(settings[name]) for name in names}
    return ModelParts(model, readers, None if classes is None else tuple(classes), facts)


def write_parts(parts: ModelParts, folder: Path | str, licence: str | None = None, name: str | None = None) -> None:
    """Write a flat model folder: `model.safetensors`, `model.json`, `inputs.json` and the card `README.md`.

    All files are written beside it first. A new folder then appears at once; in one that is there already the files
    are replaced one after the other, and others in it stay.

    Args:
        parts: with all towers.
        folder: where.
        licence: of the weights, for the card, e.g. `"apache-2.0"`.
        name: of the model, for the card.

    Raises:
        ValueError: if only some of the towers are loaded, or `folder` is a file.
    """
    folder = Path(folder)
    if missing := [one for one in parts.model.plan.modalities if one not in parts.modalities]:
        raise ValueError(f"only {', '.join(parts.modalities)} of this model are loaded, without {', '.join(missing)}; "
                         "load all of it to save it")  # fmt: skip
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder to write")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(parts, temporary, licence, name)
        temporary.chmod(0o777 & ~_umask())  # mkdtemp's are for the owner alone
        if folder.exists():
            for one in MODEL_FILES:
                os.replace(temporary / one, folder / one)  # noqa: PTH105
        else:
            os.replace(temporary, folder)  # noqa: PTH105
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(parts: ModelParts, folder: Path, licence: str | None, name: str | None) -> None:
    save_model(parts.model, folder)
    inputs = {
        "format": FORMAT,
        "readers": {one: reader.settings for one, reader in parts.readers.items()},
        "kinds": {one: reader.modality_kind for one, reader in parts.readers.items()},
        "class_names": None if parts.class_names is None else list(parts.class_names),
        "facts": parts.facts.to_dict(),
    }
    write_json(folder / INPUTS, inputs)
    with written_whole(folder / CARD) as temporary:
        temporary.write_text(model_card(parts, licence, name), encoding="utf-8")


def _places(folder: Path) -> tuple[Path, Path]:
    """Where the model lies, and where its `inputs.json`."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected a run folder, or one that save_pretrained wrote")
    model = folder if (folder / "model.json").exists() else folder / "best"
    if not (model / "model.json").exists():
        raise ValueError(f"{folder}: holds no model (neither model.json nor best/model.json); is the training done?")
    for place in (folder, model, model.parent):
        if (place / INPUTS).exists():
            return model, place
    raise ValueError(
        f"{folder}: has no {INPUTS}, which says how files become the inputs of the encoders; it was not trained from a "
        "run file. Use confu.load_model and confu.embed with a data set, or confu.Embedder(model, readers)"
    )


def _read_inputs(file: Path) -> dict[str, Any]:
    try:
        inputs = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not whole JSON ({error}); copy it again or train again") from error
    found = inputs.get("format") if isinstance(inputs, dict) else None
    if found != FORMAT:
        raise ValueError(f"{file}: format {found!r}, but this version of confu reads format {FORMAT}")
    if not isinstance(inputs.get("readers"), dict):
        raise ValueError(f"{file}: lacks the readers of the modalities; copy it again or train again")
    return inputs


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found
