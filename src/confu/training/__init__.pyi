from .loop import FitResult, fit
from .objective import ContrastiveObjective, SupervisedObjective
from .settings import TrainSettings

__all__ = [
    "ContrastiveObjective",
    "FitResult",
    "SupervisedObjective",
    "TrainSettings",
    "fit",
]
