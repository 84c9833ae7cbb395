"""What a run file says: which columns, encoders, plan, method and training. Unknown names are refused."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from confu.training import TrainSettings

Kind = Literal["image", "audio", "video", "text", "vector", "sequence", "number"]
SameGroup = Literal["negatives", "positives", "excluded"]
_Size = Annotated[int, Field(ge=1)]


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
    fusion: Literal["mlp", "released", "bilinear", "shared"] | None = Field(
        default=None, description="null: the method's"
    )
    fusion_dim: _Size = Field(default=256, description="width of the fusion networks")
    fusion_depth: _Size = Field(default=1, description="their hidden layers")
    mask_ratio: float = Field(
        default=0.0, ge=0, lt=1, description="share of features dropped before fusion in training"
    )


class LossSettings(_Section):
    """The loss. A null is the method's own choice."""

    temperature: float | None = Field(default=None, gt=0, description="where a learned one begins")
    learned: bool | None = Field(default=None, description="whether the temperature is trained")
    same_group: SameGroup = Field(default="negatives", description="what rows of one group are to one another")


class DataSettings(_Section):
    """Gaps, groups, broken rows, and how the files are read."""

    gaps: Literal["mask", "drop", "zeros"] = Field(default="mask", description="what a missing modality means")
    group: str | None = Field(default=None, description="'group' (that column), or a text modality's name")
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
        seed: of the weights, the split and, unless `train.seed` is given, the order of the rows.
        modalities: by name.
        plan, method, model, loss, data, train: see their classes.
    """

    manifest: str = Field(min_length=1, description="the table of samples")
    out: str = Field(min_length=1, description="the run folder")
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
