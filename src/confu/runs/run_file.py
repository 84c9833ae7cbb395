"""What a run file says: columns, encoders, plan, method and training, and which settings do not go together."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from confu.checks import check_known
from confu.data.augment import augment_problems
from confu.data.manifest.cells import joined_name
from confu.methods import METHODS, Method
from confu.plan import Plan, Subset, confu_plan, disjoint_plan, pairwise_plan, target_plan
from confu.training.settings import TrainSettings

Kind = Literal["image", "audio", "video", "text", "vector", "sequence", "number", "table"]
SameGroup = Literal["negatives", "positives", "excluded"]
_Size = Annotated[int, Field(ge=1)]
Conflicts = Iterator[tuple[str, str]]

# The public attributes of torch's ModuleDict, which no modality can have as its name; written out so that a run file is
# checked without torch.
_TAKEN_NAMES = """
T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches
eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys
load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop
register_backward_hook register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
set_submodule share_memory state_dict to to_empty train training type update values xpu zero_grad
"""


def is_taken(name: str) -> bool:
    """Whether torch's ModuleDict has an attribute of this name, so that no modality can have it.

    >>> is_taken("type"), is_taken("image")
    (True, False)
    """
    if not name.startswith("_"):
        return name in _TAKEN_NAMES.split()
    from torch import nn

    return hasattr(nn.ModuleDict(), name)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalitySettings(_Section):
    """Where a modality comes from and what encodes it."""

    column: str = Field(min_length=1, description="the column of the manifest")
    kind: Kind = Field(description="what its cells hold")
    encoder: str | dict[str, Any] = Field(
        description="a name, a hub id, a folder, package.module:function, or settings"
    )
    reader: dict[str, Any] | None = Field(
        default=None, description="how a cell becomes numbers; by the encoder if null"
    )
    augment: dict[str, float] | None = Field(
        default=None, description="random changes of what is encoded in training, by name; null: none"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_column(cls, data: Any) -> Any:
        """Several columns, of the kind table, are one whose name joins theirs."""
        if not isinstance(data, dict) or "columns" not in data:
            return data
        columns, rest = data["columns"], {key: value for key, value in data.items() if key != "columns"}
        if "column" in rest:
            raise ValueError("columns: give column, or columns (with kind: table), not both")
        if rest.get("kind") != "table":
            raise ValueError(f"columns: several columns are read by kind: table; got {rest.get('kind')!r}")
        return {**rest, "column": joined_name(columns)}

    @field_validator("encoder", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        text = value
        if isinstance(value, dict) and ("kind" in value) != ("name" in value):
            text = value.get("kind", value.get("name"))
        if isinstance(text, str) and text.strip():
            return value
        raise ValueError(
            f"expected a name (conv, minilm, org/model), or settings with a 'kind' or 'name'; got {value!r}"
        )


class PlanSettings(_Section):
    """Which subsets are aligned with which."""

    kind: Literal["confu", "pairwise", "disjoint", "target"] | None = Field(
        default=None, description="null: confu for three modalities, disjoint for more, pairwise without fusion"
    )
    fused_weight: float | None = Field(default=None, ge=0, le=1, description="λ of Eq. 7")
    max_order: _Size | None = Field(default=None, description="most modalities in a subset, for disjoint")
    target: str | None = Field(default=None, description="the modality to reach, for target")
    terms: dict[str, float] | None = Field(default=None, description="hand-picked terms and weights, instead of a kind")


class ModelSettings(_Section):
    """The common space and the fusion networks."""

    dim: _Size = Field(default=128, description="size of an embedding")
    fusion: Literal["mlp", "released", "bilinear", "shared", "weighted"] | None = Field(
        default=None, description="null: the method's"
    )
    fusion_dim: _Size = Field(default=256, description="width of the fusion networks")
    fusion_depth: _Size = Field(default=1, description="their hidden layers")
    mask_ratio: float = Field(
        default=0.0, ge=0, lt=1, description="share of features dropped before fusion in training"
    )
    fusion_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of their hidden layers dropped in training"
    )
    feature_norm: bool = Field(default=False, description="normalise each encoder's features over the batch")
    stacking: bool = Field(
        default=False,
        description="after training, weigh each fused embedding with those of its modalities by the validation rows",
    )


class LossSettings(_Section):
    """The loss. A null is the method's own choice."""

    temperature: float | None = Field(default=None, gt=0, description="where a learned one begins")
    learned: bool | None = Field(default=None, description="whether the temperature is trained")
    same_group: SameGroup = Field(default="negatives", description="what rows of one group are to one another")
    equal_inputs: SameGroup = Field(
        default="negatives", description="what rows with the same content on one side of a term are to one another"
    )


class RoleSettings(_Section):
    """The columns that are no modality; a null: there is none."""

    id: str | None = Field(default=None, description="names of the rows, each once")
    label: str | None = Field(default=None, description="classes, for the report")
    split: str | None = Field(default=None, description="train, validation or test")
    group: str | None = Field(default=None, description="rows that belong together, in one split")


class DataSettings(_Section):
    """Which column is what, gaps, groups, broken rows, and how the files are read."""

    roles: RoleSettings | None = Field(
        default=None, description="columns that are no modality; null: those named id, label, split and group"
    )
    label_separator: str | None = Field(default=None, min_length=1, description="between several labels of one cell")
    missing: Literal["pandas"] | list[str] | None = Field(
        default=None, description="texts that mean a missing cell; pandas: nan, NA, None, null, ... as pandas has it"
    )
    dedupe: bool | None = Field(default=None, description="true: of rows equal in every modality the first is kept")

    gaps: Literal["mask", "drop", "zeros"] = Field(default="mask", description="what a missing modality means")
    group: str | None = Field(default=None, description="'group' (the column of that role), or a text modality's name")
    on_error: Literal["stop", "skip"] = Field(default="stop", description="what broken rows do")
    cache: str | Literal[False] | None = Field(
        default=None, description="folder of decoded files; false: decode each time"
    )
    workers: int = Field(default=0, ge=0, description="threads that decode")
    allow_outside: bool = Field(default=False, description="follow paths that leave the manifest's folder")
    shares: list[float] = Field(default=[0.8, 0.1, 0.1], description="train, validation, test without a split column")

    @field_validator("cache", mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        if value is None or value is False or (isinstance(value, str) and value):
            return value
        raise ValueError(f"expected a folder, false (decode each time) or null (beside the run folder); got {value!r}")

    @field_validator("shares")
    @classmethod
    def _whole(cls, value: list[float]) -> list[float]:
        if (
            len(value) != 3
            or min(value) < 0
            or not math.isclose(sum(value), 1, abs_tol=1e-6)
            or not value[0] * value[1]
        ):
            raise ValueError(
                "expected three shares that add up to 1, train and validation above 0, e.g. [0.8, 0.1, 0.1]"
            )
        return value


class RunFile(_Section):
    """A training run on one's own data. Whether its parts go together is checked by `check_run`.

    Attributes:
        manifest: the table of samples; an address or a path. `read_run_file` resolves it from the file's folder.
        out: the run folder.
        start_from: a run or model folder whose weights training starts from, in place of new ones.
        seed: of the weights, the split and, unless `train.seed` is given, the order of the rows.
        modalities: by name.
        plan, method, model, loss, data, train: see their classes.
    """

    manifest: str = Field(min_length=1, description="the table of samples")
    out: str = Field(min_length=1, description="the run folder")
    start_from: str | None = Field(default=None, min_length=1, description="a run or model folder: its weights")
    seed: int = Field(default=0, ge=0)
    modalities: dict[str, ModalitySettings]
    plan: PlanSettings = PlanSettings()
    method: str = "confu"
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()

    @model_validator(mode="before")
    @classmethod
    def _one_seed(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("train", {}), dict | None):
            return {**data, "train": {"seed": data.get("seed", 0), **(data.get("train") or {})}}
        return data


def run_plan(run: RunFile) -> Plan:
    """The plan of a run.

    Without a kind it is ConFu's for three modalities, all disjoint subsets of at most two for more, and the pairs for
    two and for methods without fusion.

    Raises:
        ValueError: for terms or a kind that do not fit the modalities.
    """
    names, plan = list(run.modalities), run.plan
    if plan.terms is not None:
        return Plan.parse(plan.terms, modalities=names)
    fused = METHODS[run.method].fused and len(names) > 2
    kind = plan.kind or ("pairwise" if not fused else "confu" if len(names) == 3 else "disjoint")
    if kind == "confu":
        return confu_plan(names, 0.5 if plan.fused_weight is None else plan.fused_weight)
    if kind == "disjoint":
        order = plan.max_order or (2 if plan.kind is None else None)
        return disjoint_plan(names, max_order=order, fused_weight=plan.fused_weight)
    return pairwise_plan(names) if kind == "pairwise" else target_plan(names, plan.target or names[-1])


def check_run(run: RunFile) -> None:
    """Check that the parts of a run file go together.

    Raises:
        ValueError: with everything that does not.
    """
    if conflicts := find_conflicts(run):
        raise ValueError("this run cannot be:\n" + "\n".join(f"  {path}: {what}" for path, what in conflicts))


def find_conflicts(run: RunFile) -> list[tuple[str, str]]:
    """Everything that does not go together in a run file: (path of the setting, what is wrong)."""
    method = METHODS.get(run.method)
    return [*_modality_conflicts(run), *_plan_conflicts(run, method), *_data_conflicts(run, method)]


def _modality_conflicts(run: RunFile) -> Conflicts:
    if len(run.modalities) < 2:
        yield "modalities", f"at least two are aligned; got {', '.join(run.modalities) or 'none'}"
    for name in run.modalities:
        try:
            Subset(name)
        except ValueError as error:
            yield f"modalities.{name}", str(error)
        if is_taken(name):
            yield f"modalities.{name}", f"torch uses this name itself; rename it, e.g. '{name}_input'"
    for name, modality in run.modalities.items():
        for key, what in augment_problems(modality.kind, modality.augment or {}).items():
            yield f"modalities.{name}.augment.{key}", what
    try:
        check_known("method", run.method, METHODS)
    except ValueError as error:
        yield "method", str(error)


def _plan_conflicts(run: RunFile, method: Method | None) -> Conflicts:
    plan = run.plan
    kinds_of = {"fused_weight": ("confu", "disjoint"), "max_order": ("disjoint",), "target": ("target",)}
    for name, kinds in kinds_of.items():
        if getattr(plan, name) is None:
            continue
        if plan.terms is not None:
            yield f"plan.{name}", "hand-picked terms have their own weights and subsets; remove it, or remove terms"
        elif plan.kind is not None and plan.kind not in kinds:
            yield f"plan.{name}", f"goes with kind {' or '.join(kinds)}, not with {plan.kind}; remove it"
    if plan.terms is not None and plan.kind is not None:
        yield "plan.kind", "give a kind or hand-picked terms, not both"
    if method is None:
        return
    if len(run.modalities) > 1:
        try:
            fused = run_plan(run).fused_subsets
        except ValueError as error:
            yield "plan", str(error)
        else:
            if fused and not method.fused:
                what = f"{run.method} compares single modalities, but the plan has {fused[0]}"
                yield "plan", f"{what}; use kind: pairwise, or method: confu"
    if run.model.fusion and not method.fused:
        yield "model.fusion", f"{run.method} has no fusion networks; remove it"
    fusion = run.model.fusion or method.fusion
    if run.model.fusion_dropout and method.fused and fusion not in ("mlp", "shared", "weighted"):
        yield "model.fusion_dropout", f"goes with fusion mlp, shared or weighted, not with {fusion}; remove it"


def _data_conflicts(run: RunFile, method: Method | None) -> Conflicts:
    group, same_group = run.data.group, run.loss.same_group
    texts = [name for name, modality in run.modalities.items() if modality.kind == "text"]
    if group is not None and group != "group" and group not in texts:
        names = ", ".join(texts) or "there is none"
        yield "data.group", f"expected 'group' (the column of that name) or a text modality ({names}); got {group!r}"
    if group is None:
        needs_group = "needs data.group: say which rows belong together"
        if same_group != "negatives":
            yield "loss.same_group", needs_group
        if run.train.sampling == "unique":
            yield "train.sampling", needs_group
    for name, value in (("same_group", same_group), ("equal_inputs", run.loss.equal_inputs)):
        if value != "negatives" and method is not None and method.score != "cosine":
            what = f"{run.method} takes all other rows as negatives; only clip and confu can do otherwise"
            yield f"loss.{name}", f"{what}. Set it to negatives"
    if run.data.gaps != "mask" and run.train.sampling == "balanced":
        yield "train.sampling", f"data.gaps: {run.data.gaps} leaves no gaps to balance; use uniform"
