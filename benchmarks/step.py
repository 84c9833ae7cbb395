"""A training step of image, sound and caption encoders: what each setting of the model's side gives, alone and all.

python benchmarks/step.py            # 64 rows; about five minutes on one core
python benchmarks/step.py --quick    # only whether all give one loss and one gradient, with small encoders: seconds

The floor is the shape of the paper's released code: every row's caption is encoded, maps and weights lie with the
channels first, AdamW runs parameter by parameter, everything is float32. ResNet-18 on 28 x 28 and on 112 x 112, a BERT
of six layers of 384 on ten distinct captions, without dropout, so that captions encoded once are exact.
"""

import argparse
import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch
from measure import clock_of, interleaved, parser, ratio, write_results
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from confu import Batch, ConFuLoss, ContrastiveObjective, Inputs, MultimodalModel, build_encoder
from confu.plan import confu_plan
from confu.training import TrainSettings
from confu.training.objective import use_channels_last
from confu.training.optimizer import build_optimizer

CAPTIONS, LENGTH, WORDS = 10, 12, 1000
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "vocab_size": WORDS}
BERT = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, **NO_DROPOUT}
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, **NO_DROPOUT}
THIN = {"num_channels": 1, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
LARGE = {"image": {"kind": "resnet", "depth": 18}, "sound": {"kind": "resnet", "depth": 18},
         "text": {"kind": "bert", "config": BERT}}  # fmt: skip
TINY = {"image": {"kind": "resnet", "config": THIN}, "sound": {"kind": "resnet", "config": THIN},
        "text": {"kind": "bert", "config": SMALL}}  # fmt: skip
SIDES = {"image": 28, "sound": 112}
NAMES = ("image", "sound", "text")


@dataclass(frozen=True)
class Way:
    """How a step is computed.

    Attributes:
        once: each distinct caption is encoded once.
        maps: what the encoders are given lies with the channels last, as confu's do it.
        weights: the setting `channels_last`.
        fused: the setting `fused_adamw`.
        bfloat16: the setting `precision`.
    """

    once: bool = False
    maps: bool = False
    weights: bool = False
    fused: bool = False
    bfloat16: bool = False


FLOOR, DEFAULT = "the released code's shape", "all exact ones: the defaults"
WAYS = {
    FLOOR: Way(),
    "captions encoded once": Way(once=True),
    "maps with the channels last": Way(maps=True),
    "weights with the channels last": Way(weights=True),
    "AdamW in one kernel": Way(fused=True),
    "bfloat16": Way(bfloat16=True),
    DEFAULT: Way(once=True, maps=True, fused=True),
    "defaults, channels_last": Way(once=True, maps=True, weights=True, fused=True),
    "defaults, bfloat16": Way(once=True, maps=True, fused=True, bfloat16=True),
    "defaults, both": Way(once=True, maps=True, weights=True, fused=True, bfloat16=True),
}


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    check_equal()
    if options.quick:
        return
    ways = {name: way for name, way in WAYS.items() if not options.ways or name in (FLOOR, *options.ways)}
    times = interleaved({name: step_of(way, LARGE, options.rows) for name, way in ways.items()}, options.repeats)
    clock = clock_of(options.threads)
    rows = [
        {"way": name, "settings": vars(way)} | ratio(times, name, FLOOR, clock) | times[name]
        for name, way in ways.items()
    ]
    Console(width=110).print(table(rows, options))
    write_results(options, {"ratios to": FLOOR, "captions": CAPTIONS}, rows=rows)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "step", repeats=5)
    asked.add_argument("--rows", type=int, default=64, help="of the batch")
    asked.add_argument("--ways", nargs="*", choices=list(WAYS), help="only these, beside the floor")
    return asked.parse_args()


class ChannelsFirst(nn.Module):
    """Our ResNet without its change of layout."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.out_dim = encoder, encoder.out_dim

    def forward(self, values: Tensor) -> Tensor:
        return self.encoder.output(self.encoder.model(values).pooler_output.flatten(1))


def step_of(way: Way, encoders: dict[str, dict[str, Any]], rows: int) -> Any:
    """A function that takes one training step and gives its loss."""
    torch.manual_seed(0)
    built = {name: build_encoder(settings) for name, settings in encoders.items()}
    plan = confu_plan(NAMES)
    given = built if way.maps else {name: built[name] if name == "text" else ChannelsFirst(built[name])
                                    for name in NAMES}  # fmt: skip
    objective = ContrastiveObjective(MultimodalModel(plan, given, 256), ConFuLoss(plan))
    if way.weights:
        use_channels_last(objective)
    optimizer = build_optimizer(objective, TrainSettings(fused_adamw=way.fused))
    if not way.fused:
        for group in optimizer.param_groups:
            group["foreach"] = False
    batch = batch_of(rows, way.once)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16) if way.bfloat16 else nullcontext():
            loss = objective(batch).total
        loss.backward()
        optimizer.step()
        return loss.detach()

    step.objective = objective
    return step


def batch_of(rows: int, once: bool) -> Batch:
    generator = torch.Generator().manual_seed(1)
    order = torch.arange(rows)
    inputs = {name: Inputs(torch.randn(rows, 1, side, side, generator=generator), order)
              for name, side in SIDES.items()}  # fmt: skip
    captions = torch.randint(1, WORDS, (CAPTIONS, LENGTH), generator=generator)
    said = order % CAPTIONS
    words = captions if once else captions[said]
    values = {"input_ids": words, "attention_mask": torch.ones_like(words)}
    return Batch(inputs | {"text": Inputs(values, said if once else order)}, [str(row) for row in range(rows)])


def check_equal() -> None:
    """Fail unless every exact way gives the loss and gradient of the floor; say how far bfloat16 is."""
    loss, gradient = loss_and_gradient(WAYS[FLOOR])
    for name, way in WAYS.items():
        found, own = loss_and_gradient(way)
        apart = max(float((found - loss).abs() / loss), float((own - gradient).norm() / gradient.norm()))
        if not way.bfloat16 and not apart <= 1e-4:
            raise RuntimeError(f"{name}: loss or gradient differ by {apart:.1e}, relative")
        print(f"{name}: loss and gradient within {apart:.0e} of {FLOOR}")


def loss_and_gradient(way: Way) -> tuple[Tensor, Tensor]:
    step = step_of(way, TINY, rows=16)
    loss = step()
    return loss, torch.cat([weight.grad.flatten() for weight in step.objective.parameters()])


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    found = Table(title=f"A step of {options.rows} rows: time / {FLOOR}, {options.threads} thread(s)")
    for column in ("", "ratio", "quartiles"):
        found.add_column(column, justify="right" if column else "left")
    for row in rows:
        own = row[clock_of(options.threads)]["median"]
        found.add_row(
            row["way"],
            f"{own:.0f} ms" if row["way"] == FLOOR else f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            end_section=row["way"] in (FLOOR, "bfloat16"),
        )
    return found


if __name__ == "__main__":
    main()
