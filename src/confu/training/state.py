"""The state of a run on disk: everything that decides how it goes on, written whole or not at all.

Files hold whole tensors, also where each process holds a shard of them (`DTensor`). Shards are known by what they can
do: importing their class costs a second, which a run without them need not spend.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from confu.distributed import every_rank, rank
from confu.files import write_json, written_whole
from confu.training.settings import TrainSettings

STATE, SETTINGS = "state.pt", "settings.json"
LOCK, HOLDER = "training.lock", "training.lock.json"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep all other processes from training into a folder; the system lets go when this process ends, however it does.

    Raises:
        ValueError: if another process has it, saying which.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)  # `fit` may be called by what holds it
    try:
        lock.acquire()
    except Timeout as error:
        holder = ""
        with suppress(OSError, ValueError, KeyError):
            holder = "process {pid} on {host}, since {since}".format(**json.loads((folder / HOLDER).read_text()))
        raise ValueError(
            f"{folder} is being trained by {holder or 'another process'}. Wait for it or stop it; or train into "
            "another folder (out=...)"
        ) from error
    try:
        if lock.lock_counter == 1:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            write_json(folder / HOLDER, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        if lock.lock_counter == 1:
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def claim_folder(folder: Path, settings: dict[str, Any], grow: bool = False) -> dict[str, Any]:
    """Make a run folder, or make sure that the run in it has these settings.

    Precision `auto` goes on with whatever precision the run was started with.

    Args:
        folder: of the run.
        settings: that make the run what it is.
        grow: whether the run may have more epochs, or another patience, than it was started with; they are written.

    Returns:
        the settings in the folder.

    Raises:
        ValueError: if it holds a run of other settings, naming each that differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SETTINGS
    requested = json.loads(json.dumps(settings))
    if not file.exists():
        if (folder / STATE).exists():
            raise ValueError(f"{folder} holds {STATE} but no {SETTINGS}: not a whole run folder. Choose another one.")
        write_json(file, requested)
        return requested
    try:
        stored = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not valid JSON ({error}); delete the folder to start the run again") from error
    train = requested.get("train", {})
    if "train" in stored:  # a setting that confu did not have when the run began had what is its default now
        defaults = TrainSettings().model_dump(mode="json")
        stored["train"] = {name: defaults[name] for name in train if name in defaults} | stored["train"]
        if train.get("precision") == "auto":
            train["precision"] = stored["train"]["precision"]
    own, before = stored.get("train", {}), json.dumps(stored)
    if grow and own:
        own["epochs"] = max(own["epochs"], train["epochs"])
        own["patience"] = train["patience"]
    if differ := _differences(stored, requested):
        raise ValueError(
            f"{folder} holds a run with other settings: {'; '.join(differ)}. "
            "Choose another folder, or delete this one to start again."
        )
    if json.dumps(stored) != before:
        write_json(file, stored)
    return stored


def _differences(stored: Any, requested: Any, name: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(requested, dict):
        keys = dict.fromkeys([*stored, *requested])
        each = [_differences(stored.get(key), requested.get(key), f"{name}.{key}" if name else key) for key in keys]
        return [text for texts in each for text in texts]
    return [] if stored == requested else [f"{name} is {stored!r} there and {requested!r} here"]


def save_state(
    folder: Path, objective: nn.Module, optimizer: Optimizer, schedule: LRScheduler, progress: dict[str, Any]
) -> None:
    """Write weights, optimizer, schedule, random state and position; the last file stays until this one is whole.

    To be called by every process, for each has a random state; the first one writes.
    """
    random = every_rank(torch.get_rng_state())
    weights, moments = unsharded(objective.state_dict()), unsharded(optimizer.state_dict())
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
        objective.load_state_dict(
            {name: shard_like(value, own.get(name)) for name, value in content["objective"].items()}
        )
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        moments = {
            number: {name: shard_like(value, weights[number]) for name, value in state.items()}
            for number, state in content["optimizer"]["state"].items()
        }
        optimizer.load_state_dict({**content["optimizer"], "state": moments})
        schedule.load_state_dict(content["schedule"])
        _set_rates(optimizer, schedule)
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


def _set_rates(optimizer: Optimizer, schedule: LRScheduler) -> None:
    """The learning rates of the schedule as it is now, which may be longer than when the state was written."""
    if isinstance(schedule, LambdaLR):
        functions, step = schedule.lr_lambdas, schedule.last_epoch
        schedule._last_lr = [base * function(step) for base, function in zip(schedule.base_lrs, functions)]
        for group, rate in zip(optimizer.param_groups, schedule._last_lr):
            group["lr"] = rate


def unsharded(state: Any) -> Any:
    """Nested dicts and lists with every shard made whole, on the first process's CPU; on the others it is None.

    To be called by all processes.

    >>> unsharded({"a": [1, 2]})
    {'a': [1, 2]}
    """
    if hasattr(state, "full_tensor"):
        full = state.full_tensor()  # by all
        return full.detach().cpu() if rank() == 0 else None
    if isinstance(state, dict):
        return {key: unsharded(value) for key, value in state.items()}
    return [unsharded(value) for value in state] if isinstance(state, list) else state


def local_shard(weight: Tensor) -> Tensor:
    """What this process holds of it."""
    return weight.to_local() if hasattr(weight, "to_local") else weight  # pyright: ignore[reportAttributeAccessIssue]


def shard_like(value: Any, weight: Any) -> Any:
    """This process's shard of a whole tensor, sharded as a weight of its shape is; anything else as it is."""
    if not hasattr(weight, "full_tensor") or getattr(value, "shape", None) != weight.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)
