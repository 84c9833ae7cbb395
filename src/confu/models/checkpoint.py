"""Models on disk: `model.safetensors` and, beside it, `model.json` with the plan and the settings that rebuild it."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from confu.checks import check_known
from confu.files import write_json, written_whole
from confu.models.multimodal import MultimodalModel
from confu.nn.encoders import CustomEncoder, build_encoder, custom_functions, settings_of
from confu.plan import Plan

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def save_model(model: MultimodalModel, folder: Path | str) -> None:
    """Write a model so that `load_model` makes one that gives bitwise the same embeddings.

    Each file is written whole or not at all. Encoders of confu's own kinds are rebuilt from their settings; any other
    must be given to `load_model`.

    Args:
        model: to save.
        folder: made if it is not there; a model in it is replaced.
    """
    folder = Path(folder)
    plan = model.plan.to_dict()
    description = {
        "format": FORMAT,
        "plan": plan,
        "model": model.settings,
        "encoders": {name: settings_of(encoder) for name, encoder in model.encoders.items()},
    }
    # The weights carry all that stands beside them, so that files of two models that were mixed up are noticed.
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    with written_whole(folder / WEIGHTS) as temporary:
        save_file(weights, str(temporary), metadata={"description": json.dumps(description)})
    write_json(folder / DESCRIPTION, description)


def load_model(
    folder: Path | str,
    encoders: Mapping[str, nn.Module] | None = None,
    device: str | torch.device = "cpu",
    modalities: Sequence[str] | None = None,
    allow_custom: bool = False,
) -> MultimodalModel:
    """Read a model that `save_model` wrote, in evaluation mode.

    Nothing in the files is executed, and no hub is asked: pretrained encoders are rebuilt from their settings.

    Args:
        folder: with `model.safetensors` and `model.json`, or a run folder, whose best model is taken.
        encoders: modules for the modalities whose encoders are not confu's own; their weights are overwritten.
        device: where to put it.
        modalities: load the towers of these only, their encoders and projections and the fusion networks among them;
            of the weights' file no more is read. None for all.
        allow_custom: whether an encoder may be built by the function that `model.json` names ("custom"), which
            imports and runs it. A file that comes from elsewhere could name any function that is installed here.

    Raises:
        ValueError: if a file is missing, cut short, or of another plan, or if an encoder has to be given or allowed.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).exists() and (folder / "best" / DESCRIPTION).exists():
        folder = folder / "best"
    description = read_description(folder / DESCRIPTION)
    plan = Plan.from_dict(description["plan"])
    for name in encoders or {}:
        check_known("encoder of modality", name, plan.modalities)
    saved: dict[str, Any] = description["encoders"]
    for name in modalities or ():
        check_known("modality", name, saved)
    built = {
        name: _encoder(name, settings, encoders or {}, allow_custom, folder / DESCRIPTION)
        for name, settings in saved.items()
        if modalities is None or name in modalities
    }
    model = MultimodalModel(plan, built, **description["model"], modalities=list(built))
    stored = load_weights(model, folder / WEIGHTS)
    if stored not in (None, description):
        raise ValueError(
            f"{folder}: {WEIGHTS} was not saved together with this {DESCRIPTION}; copy both again from one model"
        )
    return model.to(device).eval()


def load_weights(model: MultimodalModel, file: Path | str) -> dict[str, Any] | None:
    """Load a weights file into a model of the same plan and sizes; the model is untouched if that fails.

    Into a model that lacks some of its plan's modalities only the weights of what it has are read.

    Returns:
        What `model.json` held when the file was saved; None if the file is not from `save_model`.

    Raises:
        ValueError: if the file is missing, damaged, or of another plan or other sizes.
    """
    own = model.state_dict()
    whole = len(model.encoders) == len(model.plan.modalities)
    weights, description = read_weights(Path(file), None if whole else own.keys())
    stored = None if description is None else Plan.from_dict(description["plan"])
    if stored is not None and stored != model.plan:
        raise ValueError(
            f"{file}: these weights are of another plan.\nIn the file:\n{stored}\nOf the model:\n{model.plan}\n"
            "Build the model with the plan of the file, or load it with load_model."
        )
    differ = [
        f"{name}: {_shape(weights.get(name))} in the file, {_shape(own.get(name))} in the model"
        for name in sorted(own.keys() | weights.keys())
        if _shape(weights.get(name)) != _shape(own.get(name))
    ]
    if differ:
        shown = "\n  ".join(differ[:8] + ([f"and {len(differ) - 8} more"] if len(differ) > 8 else []))
        raise ValueError(
            f"{file}: these weights are of a model with other sizes or parts:\n  {shown}\n"
            "Build the model with the same encoders, dim and fusion, or load it with load_model."
        )
    model.load_state_dict(weights)
    return description


def _encoder(
    name: str, settings: dict[str, Any] | None, given: Mapping[str, nn.Module], allow_custom: bool, file: Path
) -> nn.Module:
    """The encoder of a modality, from its settings or as given; its weights come later."""
    custom = custom_functions(settings)
    if name in given:
        if settings is None or settings.get("kind") != "custom" or isinstance(given[name], CustomEncoder):
            return given[name]
        # It was saved inside a CustomEncoder, so that its weights have that name before theirs.
        return CustomEncoder(settings["function"], settings.get("arguments"), given[name])
    if settings is None:
        raise ValueError(
            f"{file}: the encoder of {name!r} is not one of confu's own; give it as "
            f"load_model(folder, encoders={{{name!r}: ...}})"
        )
    if custom and not allow_custom:
        raise ValueError(
            f"{file}: the encoder of {name!r} is built by {', '.join(custom)}, a function that the file names and that "
            f"is not run unasked; if you trust the file use load_model(folder, allow_custom=True), or give "
            f"encoders={{{name!r}: ...}}"
        )
    return build_encoder(settings)


def read_weights(
    file: Path, names: Collection[str] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """The tensors of a safetensors file, all or those of these names, and the description beside them."""
    if not file.is_file():
        raise ValueError(f"{file}: no such weights file; expected the {WEIGHTS} that save_model wrote")
    try:
        with safe_open(str(file), framework="pt") as opened:
            description = (opened.metadata() or {}).get("description")
            found = opened.keys() if names is None else [name for name in opened.keys() if name in names]  # noqa: SIM118
            weights = {name: opened.get_tensor(name) for name in found}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a whole safetensors file ({error}); copy it again or train again") from error
    return weights, None if description is None else json.loads(description)


def _shape(tensor: torch.Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))


def read_description(file: Path) -> dict[str, Any]:
    """The plan and the settings of the model and of its encoders in `model.json`; a ValueError if it is damaged."""
    if not file.is_file():
        raise ValueError(f"{file}: not found; expected a folder written by save_model, or the `best` of a run folder")
    try:
        description = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}); copy it again or train again") from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{file}: format {found!r}, but this version of confu reads format {FORMAT}; "
            "load it with the version that wrote it"
        )
    if missing := [name for name in ("plan", "model", "encoders") if name not in description]:
        raise ValueError(f"{file}: lacks {', '.join(missing)}; copy it again or train again")
    return description
