"""The command that prints a plan."""

from enum import Enum
from typing import Annotated

import typer

from confu.cli.show import console


class Kind(str, Enum):
    """Which terms a plan has."""

    confu = "confu"
    pairwise = "pairwise"
    disjoint = "disjoint"
    target = "target"


def plan(
    modalities: Annotated[list[str], typer.Argument(help="Two or more names, e.g. image audio text.")],
    kind: Annotated[
        Kind, typer.Option(help="confu (Eq. 7), pairwise (Eq. 3), disjoint (Eq. 15) or target (Eq. 16).")
    ] = Kind.confu,
    fused_weight: Annotated[
        float | None,
        typer.Option(help="λ of Eq. 7, for confu (0.5 by default) and disjoint (all weights 1 by default)."),
    ] = None,
    max_order: Annotated[int | None, typer.Option(help="Most modalities in a subset, for disjoint.")] = None,
    target: Annotated[
        str | None, typer.Option(help="The modality to reach, for target; the last one by default.")
    ] = None,
) -> None:
    """Print the terms that a plan has, and what they cost, before anything is trained."""
    from confu.plan import confu_plan, disjoint_plan, pairwise_plan, target_plan

    builders = {
        "confu": lambda: confu_plan(modalities, 0.5 if fused_weight is None else fused_weight),
        "pairwise": lambda: pairwise_plan(modalities),
        "disjoint": lambda: disjoint_plan(modalities, max_order=max_order, fused_weight=fused_weight),
        "target": lambda: target_plan(modalities, target or modalities[-1]),
    }
    console.print(str(builders[kind.value]()), highlight=False, soft_wrap=True)
