"""What a training with several processes needs before it begins."""

from torch import nn

from confu.data import Dataset
from confu.distributed import check_agreed
from confu.training.objective import ContrastiveObjective
from confu.training.settings import TrainSettings


def begin_together(objective: nn.Module, settings: TrainSettings, train: Dataset, validation: Dataset) -> None:
    """Make sure that all processes train the same thing, and tell the objective how their rows meet.

    To be called by all processes, before anything else is exchanged: where two have different batches or models, later
    messages would not fit one another, and the processes wait for ever or learn from the wrong numbers.

    Raises:
        ValueError: on every process, if their settings, plans, weights' shapes or numbers of rows differ.
    """
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
