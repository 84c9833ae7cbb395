"""What a training with several processes needs before it begins."""

import os

from torch import nn

from confu.data import Dataset
from confu.distributed import check_agreed, world_size
from confu.training.objective import ContrastiveObjective
from confu.training.settings import TrainSettings


def begin_together(objective: nn.Module, settings: TrainSettings, train: Dataset, validation: Dataset) -> None:
    """Make sure that all processes train the same thing, and tell the objective how their rows meet.

    To be called by all processes, before anything else is exchanged: where two have different batches or models, later
    messages would not fit one another, and the processes wait for ever or learn from the wrong numbers.

    Raises:
        ValueError: on every process, if their settings, plans, weights' shapes or numbers of rows differ, if they do
            not know of one another, or if each is to hold a part of the weights only.
    """
    _check_start()
    if isinstance(objective, ContrastiveObjective):
        objective.negatives = settings.negatives
    plan = getattr(getattr(objective, "model", None), "plan", None)
    check_agreed(
        {
            **{f"setting {name}": value for name, value in settings.model_dump().items()},
            "plan": None if plan is None else plan.to_dict(),
            "number of training rows": len(train),
            "number of validation rows": len(validation),
            **{f"shape of {name}": tuple(weight.shape) for name, weight in objective.named_parameters()},
        }
    )


def _check_start() -> None:
    sharded = [name for name in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{name}", "") in ("true", "1")]
    if sharded:
        raise ValueError(
            f"ACCELERATE_USE_{sharded[0]} is set, but a run's checkpoints need the whole model in each process. "
            "Start without it (DistributedDataParallel), or shard the objective in a loop of your own"
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if "LOCAL_RANK" in os.environ and started != world_size():  # each would train alone, in the same folder
        raise ValueError(
            f"{started} processes were started, but this one knows of {world_size()}: WORLD_SIZE and what Accelerate "
            "found do not agree. On a CPU set ACCELERATE_USE_CPU=true"
        )
