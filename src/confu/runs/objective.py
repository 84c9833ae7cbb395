"""From a run file to the model and the loss that are trained."""

from collections.abc import Mapping

from torch import nn

from confu.methods import METHODS
from confu.models import MultimodalModel
from confu.nn import Temperature
from confu.runs.run_files.rules import run_plan
from confu.runs.run_files.run_file import RunFile
from confu.training import ContrastiveObjective, TrainSettings


def run_objective(run: RunFile, encoders: Mapping[str, nn.Module]) -> ContrastiveObjective:
    """The model and the loss of a run; what the run file leaves open is the method's own choice.

    Args:
        run: checked.
        encoders: by modality, newly made; the caller has set the seed before it made them.
    """
    spec, plan, loss = METHODS[run.method], run_plan(run), run.loss
    settings = {**run.model.model_dump(), "fusion": run.model.fusion or spec.fusion}
    model = MultimodalModel(plan, encoders, score=spec.score, **settings)
    if not spec.train_projections:
        model.projections.requires_grad_(False)
    initial = spec.temperature if loss.temperature is None else loss.temperature
    learned = bool(spec.learned) if loss.learned is None else loss.learned
    built = spec.loss(plan, Temperature(initial, learned, minimum=min(spec.lowest, initial), maximum=max(1.0, initial)))
    if loss.same_group != "negatives":
        setattr(built, "same_group", loss.same_group)  # noqa: B010 (for torch every attribute is a module)
    return ContrastiveObjective(model, built)


def run_train_settings(run: RunFile) -> TrainSettings:
    """How to train, with the method's learning rate of the temperature unless the run file has one."""
    own = METHODS[run.method].temperature_lr
    if own is None or run.train.temperature_lr is not None:
        return run.train
    return run.train.model_copy(update={"temperature_lr": own})
