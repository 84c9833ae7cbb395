"""Training: one explicit loop for every method, on Accelerate, that survives being killed."""

from confu.training.loop import FitResult, fit
from confu.training.objective import ContrastiveObjective, SupervisedObjective
from confu.training.settings import TrainSettings

__all__ = ["ContrastiveObjective", "FitResult", "SupervisedObjective", "TrainSettings", "fit"]
