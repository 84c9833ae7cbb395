"""What can be set about a training run."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainSettings(BaseModel):
    """Settings of `fit`; unknown names are refused. The defaults are those of the paper's AV-MNIST (Appendix A.3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=30, ge=1, description="passes over the training set, each followed by a validation")
    steps_per_epoch: int | None = Field(
        default=None, ge=1, description="validate after so many steps instead; epochs then counts these stretches"
    )
    batch_size: int = Field(default=256, ge=2, description="rows a step; a last, smaller batch is left out")
    chunk: int | None = Field(
        default=None, ge=1, description="rows a process encodes at once where a batch does not fit; a third slower"
    )
    lr: float = Field(default=1e-4, gt=0, description="peak learning rate of AdamW")
    temperature_lr: float | None = Field(default=None, gt=0, description="of a learned temperature, if not lr")
    min_lr: float = Field(default=1e-6, ge=0, description="learning rate at the end of the cosine")
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear rise before the cosine")
    weight_decay: float = Field(default=1e-4, ge=0, description="of AdamW, on every weight but the temperature")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32",
        description="bfloat16 is autocast, weights stay float32; auto takes it where this machine is faster with it",
    )
    fused_adamw: bool = Field(default=True, description="AdamW as one kernel; false for a device that has none")
    channels_last: bool = Field(
        default=False, description="channels_last memory format of convolutions; results but for rounding"
    )
    resident: bool = Field(default=False, description="copy data that is in memory to the GPU once, not by batch")
    compile: bool = Field(
        default=False, description="torch.compile the encoders; results but for rounding, and the first steps are slow"
    )
    sampling: Literal["uniform", "balanced", "unique"] = Field(
        default="uniform",
        description="balanced: batches with enough complete rows for each term; unique: no group twice in a batch",
    )
    least_complete: float = Field(
        default=0.25, ge=0, le=1, description="share of a balanced batch that is complete for each term"
    )
    select: Literal["loss", "retrieval"] = Field(
        default="loss",
        description="what chooses the epoch: the least validation loss, or the highest mean reciprocal rank of "
        "validation queries",
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many epochs in which what chooses has not improved"
    )
    clip_grad: float | None = Field(
        default=None, gt=0, description="gradients whose norm over all weights is larger are scaled down to it"
    )
    seed: int = Field(default=0, ge=0, description="of the rows' order and dropout; the caller seeds the weights")
    checkpoint_every: int = Field(default=200, ge=1, description="steps between checkpoints: what a crash can cost")
    log_every: int = Field(default=10, ge=1, description="steps between two lines of the training log")
    negatives: Literal["gather", "ring"] = Field(
        default="gather",
        description="how the rows of several processes meet: each holds all embeddings, or they travel in a ring",
    )

    @model_validator(mode="after")
    def _falls(self) -> "TrainSettings":
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}: the learning rate would rise; lower min_lr")
        return self
