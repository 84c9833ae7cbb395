"""From the name of a method to the model and the loss that are trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from confu.checks import check_known
from confu.losses.infonce import SAME_GROUP
from confu.methods.registry import METHODS
from confu.methods.tweaks import MODEL_TWEAKS, Tweaks, check_method_tweaks
from confu.models import MultimodalModel
from confu.nn import Temperature
from confu.plan import Plan, confu_plan, pairwise_plan
from confu.training import ContrastiveObjective


def build_objective(
    method: str,
    modalities: Sequence[str],
    encoders: Mapping[str, nn.Module],
    dim: int,
    learned_temperature: bool = False,
    tweaks: Tweaks | None = None,
    plan: Plan | None = None,
    same_group: str = "negatives",
    equal_inputs: str = "negatives",
) -> ContrastiveObjective:
    """The model and the loss of a method, with the plan and the fusion that the method has.

    Args:
        method: one of `METHODS`.
        modalities: of the plan, three for ConFu and TRIANGLE.
        encoders: by modality, newly initialised.
        dim: size of the common space.
        learned_temperature: of a method that leaves it to the experiment.
        tweaks: changed settings, by the names in `DOMAINS`.
        plan: instead of the method's own for these modalities.
        same_group: what rows of one group are to one another, for ConFu and CLIP (see `ConFuLoss`).
        equal_inputs: what rows with equal inputs are to one another, likewise.

    Raises:
        ValueError: for an unknown method or tweak, or one that the method does not have.
    """
    check_known("method", method, METHODS)
    spec, tweaks = METHODS[method], dict(tweaks or {})
    check_method_tweaks(method, tweaks)
    if plan is None:
        plan = (
            confu_plan(modalities, float(tweaks.get("fused_weight", 0.5))) if spec.fused else pairwise_plan(modalities)
        )
    model = {"dim": dim, **{name: tweaks[name] for name in MODEL_TWEAKS if name in tweaks}}
    learned = learned_temperature if spec.learned is None else spec.learned
    temperature = float(tweaks["temperature"]) if "temperature" in tweaks else None
    return make_objective(method, plan, encoders, model, temperature, learned, same_group, equal_inputs)


def make_objective(
    method: str,
    plan: Plan,
    encoders: Mapping[str, nn.Module],
    model: Mapping[str, Any],
    temperature: float | None = None,
    learned: bool | None = None,
    same_group: str = "negatives",
    equal_inputs: str = "negatives",
) -> ContrastiveObjective:
    """The model and the loss of a method for a plan.

    Args:
        method: one of `METHODS`.
        plan: of the model and the loss.
        encoders: by modality, newly initialised.
        model: settings of `confu.models.MultimodalModel`; a `fusion` of None or none at all is the method's.
        temperature: where a learned one begins; None is the method's.
        learned: whether the temperature is; None is the method's.
        same_group: what rows of one group are to one another (see `ConFuLoss`).
        equal_inputs: what rows with equal inputs are to one another, likewise.

    Raises:
        ValueError: for an unknown method, or a same_group or equal_inputs that its loss does not have.
    """
    check_known("method", method, METHODS)
    spec = METHODS[method]
    settings = {**model, "fusion": model.get("fusion") or spec.fusion}
    built = MultimodalModel(plan, encoders, score=spec.score, **settings)
    if not spec.train_projections:
        built.projections.requires_grad_(False)
    initial = spec.temperature if temperature is None else temperature
    bounds = {"minimum": min(spec.lowest, initial), "maximum": max(1.0, initial)}
    loss = spec.loss(plan, Temperature(initial, bool(spec.learned) if learned is None else learned, **bounds))
    for name, value in (("same_group", same_group), ("equal_inputs", equal_inputs)):
        if value == "negatives":
            continue
        if not hasattr(loss, name):
            raise ValueError(f"{method} compares all modalities at once and takes no {name}; got {value!r}")
        check_known(name, value, SAME_GROUP)
        setattr(loss, name, value)
    return ContrastiveObjective(built, loss)
