"""The growth of cost and quality with the number of modalities, as one picture."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from confu.files import written_whole

COLOURS = {"a network each": "#4c72b0", "shared": "#dd8452", "shared, 4 x as wide": "#55a868", "loss": "#777777"}
LINES = {"all": "-", "order 2": "--", "by target": ":"}


def draw(quality: list[dict[str, Any]], cost: list[dict[str, Any]], file: Path) -> None:
    """Four panels: CPU time and weights of the fusion networks, recall and accuracy; a line a plan and kind."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    _lines(axes[0], cost, "part", lambda row: row["cpu_ms"]["median"], "CPU ms of a step: model, or loss")
    weights = [row for row in cost if row["part"] != "loss"]
    _lines(axes[1], weights, "part", lambda row: row["parameters"], "weights of the fusion networks")
    for one in axes[:2]:
        one.set_yscale("log")
    _lines(axes[2], quality, "fusion", lambda row: 100 * row["recall"]["mean"], "recall@1 of fused terms, %")
    _lines(axes[3], quality, "fusion", lambda row: 100 * row["accuracy"]["mean"], "accuracy of fused vectors, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    with written_whole(file) as temporary:
        figure.savefig(temporary, format="svg")


def _lines(axis: Any, rows: list[dict[str, Any]], key: str, value: Any, title: str) -> None:
    for name, colour in COLOURS.items():
        for plan, line in LINES.items():
            found = [(row["modalities"], value(row)) for row in rows if (row[key], row["plan"]) == (name, plan)]
            if found:
                axis.plot(*zip(*found), color=colour, linestyle=line, marker="o", markersize=3, label=f"{name}; {plan}")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("modalities")
    axis.set_xticks(sorted({row["modalities"] for row in rows}))
    axis.grid(alpha=0.3)
