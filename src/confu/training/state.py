"""The state of a run on disk: everything that decides how it goes on, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from confu.distributed import every_rank, rank
from confu.files import write_json, written_whole
from confu.training.settings import TrainSettings
from confu.training.whole import parted_like, whole

STATE, SETTINGS = "state.pt", "settings.json"


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make a run folder, or make sure that the run in it has these settings.

    Raises:
        ValueError: if it holds a run of other settings, naming each that differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SETTINGS
    wanted = json.loads(json.dumps(settings))
    if not file.exists():
        if (folder / STATE).exists():
            raise ValueError(f"{folder} holds {STATE} but no {SETTINGS}: not a whole run folder. Choose another one.")
        write_json(file, wanted)
        return
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not valid JSON ({error}); delete the folder to start the run again") from error
    if differ := list(_differences(_with_defaults(found, wanted), wanted)):
        raise ValueError(
            f"{folder} holds a run with other settings: {'; '.join(differ)}. "
            "Choose another folder, or delete this one to start again."
        )


def _with_defaults(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A setting that confu did not have when the run began had what is its default now."""
    if "train" not in found:
        return found
    defaults = {
        name: value
        for name, value in TrainSettings().model_dump(mode="json").items()
        if name in wanted.get("train", {})
    }
    return {**found, "train": {**defaults, **found["train"]}}


def _differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = list(dict.fromkeys([*found, *wanted]))
        return [
            text
            for key in keys
            for text in _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if found == wanted else [f"{name} is {found!r} there and {wanted!r} here"]


def save_state(
    folder: Path, objective: nn.Module, optimizer: Optimizer, schedule: LRScheduler, progress: dict[str, Any]
) -> None:
    """Write weights, optimizer, schedule, random state and position; the last file stays until this one is whole.

    To be called by every process, for each has a random state; the first one writes.
    """
    random = every_rank(torch.get_rng_state())
    weights, moments = whole(objective.state_dict()), whole(optimizer.state_dict())  # by all: each may hold a part
    if rank() > 0:
        return
    content = {
        "objective": weights,
        "optimizer": moments,
        "schedule": schedule.state_dict(),
        "random": random,
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "progress": progress,
    }
    with written_whole(folder / STATE) as temporary:
        torch.save(content, temporary)


def _moments(saved: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimizer, with its tensors parted as its weights are."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state = {
        number: {name: parted_like(value, weights[number]) for name, value in found.items()}
        for number, found in saved["state"].items()
    }
    return {**saved, "state": state}


def load_state(
    folder: Path, objective: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> dict[str, Any] | None:
    """Put a run back to where `save_state` left it, and return its position; None if there is nothing to go on from.

    Raises:
        ValueError: if the file is damaged or of another model.
    """
    file = folder / STATE
    if not file.exists():
        return None
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch's reader raise nearly anything, KeyError and OSError too
        # Of torch's text only the first sentence: the rest of it advises to load without weights_only.
        raise ValueError(
            f"{file}: damaged, or not a checkpoint of confu ({str(error).split('. ')[0]}). "
            "Delete the folder to start the run again."
        ) from error
    try:
        own = objective.state_dict()
        objective.load_state_dict({name: parted_like(one, own.get(name)) for name, one in content["objective"].items()})
        optimizer.load_state_dict(_moments(content["optimizer"], optimizer))
        schedule.load_state_dict(content["schedule"])
        random, random_cuda, progress = content["random"], content["random_cuda"], content["progress"]
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: this checkpoint does not fit the run ({error}). Delete the folder to start the run again."
        ) from error
    # Of one process only, or of as many as there are now; with another number dropout goes another way.
    states = random if isinstance(random, list) else [random]
    torch.set_rng_state(states[rank() % len(states)])
    if random_cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(random_cuda)
    return progress
