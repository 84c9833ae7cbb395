"""Which batches a training set is learned in, from its settings and from what is missing in its rows."""

from torch import Tensor

from confu.data import Dataset
from confu.data.sampling import BalancedBatches, Batches, Stretches, UniformBatches, UniqueBatches
from confu.plan import Plan, Subset
from confu.training.settings import TrainSettings


def choose_batches(train: Dataset, settings: TrainSettings, plan: Plan | None) -> Batches:
    """The batches that the settings ask for.

    Args:
        train: says `present` (modality -> mask) for balanced batches, and `groups` for unique ones.
        settings: `sampling`, `batch_size`, `least_complete`, `steps_per_epoch`.
        plan: whose terms are balanced.

    Raises:
        ValueError: if there are fewer rows than a batch holds, or the data set does not know what is needed.
    """
    batches = _whole_passes(train, settings, plan)
    return batches if settings.steps_per_epoch is None else Stretches(batches, settings.steps_per_epoch)


def _whole_passes(
    train: Dataset, settings: TrainSettings, plan: Plan | None
) -> UniformBatches | BalancedBatches | UniqueBatches:
    rows, size = len(train), settings.batch_size
    if rows < size:
        raise ValueError(f"the training set has {rows} rows, fewer than batch_size {size}; lower batch_size")
    if settings.sampling == "uniform":
        return UniformBatches(rows, size)
    if settings.sampling == "unique":
        groups = getattr(train, "groups", None)
        if groups is None:
            raise ValueError("sampling 'unique' keeps rows of one group apart, but the training set has no groups")
        return UniqueBatches(groups, size)
    present = getattr(train, "present", None)
    if present is None or plan is None:
        what = "does not say which rows have what (`present`)" if present is None else "is not trained by a plan"
        raise ValueError(f"sampling 'balanced' needs to know what is missing, but this training set {what}")
    terms = [Subset(*plan.subset(term.left), *plan.subset(term.right)) for term in plan.terms]
    return BalancedBatches(present, terms, size, settings.least_complete)


def validation_order(validation: Dataset, batch_size: int) -> Tensor:
    """The batches of a validation set, (steps, batch_size): fixed, and mixed, as its rows may be sorted by class.

    Where rows lack modalities, each batch has the same share of every availability pattern, so that none is left
    without a term.
    """
    size = min(batch_size, len(validation))
    present = getattr(validation, "present", {})
    if all(bool(mask.all()) for mask in present.values()):
        return UniformBatches(len(validation), size).epoch(0, 0)
    return BalancedBatches(present, (), size).epoch(0, 0)
