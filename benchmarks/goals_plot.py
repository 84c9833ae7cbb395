"""The goals and what was measured, and the loss by batch size, as pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from confu.files import written_whole

COLOURS = {"1": "#4c72b0", "2": "#dd8452", "GPU": "#55a868"}


def draw(rows: list[dict[str, Any]], found: Mapping[tuple[str, int], dict[str, Any]], folder: Path) -> list[Path]:
    """Write `goals.svg`, and `loss.svg` if the loss was measured; their files."""
    files = [folder / "goals.svg"]
    _save(_goals([row for row in rows if any(row["ours"].values()) and not row["unit"]]), files[0])
    if ("loss", 1) in found:
        files.append(folder / "loss.svg")
        large = found.get(("loss-large", 1), {"rows": []})
        _save(_loss(found["loss", 1]["rows"] + large["rows"]), files[1])
    return files


def _goals(rows: list[dict[str, Any]]) -> Figure:
    """A line a goal: how much of its first goal is used; the bar from quartile to quartile."""
    figure = Figure(figsize=(9, 1 + 0.3 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        for number, (threads, one) in enumerate(row["ours"].items()):
            if one:
                height = place + 0.15 - 0.3 * number
                axis.plot([one["low"] / row["first"], one["high"] / row["first"]], [height] * 2,
                          color=COLOURS[threads], linewidth=1.5)  # fmt: skip
                axis.plot(one["ratio"] / row["first"], height, "o", color=COLOURS[threads], markersize=4)
        axis.plot(row["ambitious"] / row["first"], place, "|", color="#555555", markersize=9)
    axis.axvline(1.0, color="#555555", linewidth=1)
    axis.set_yticks(range(len(rows)), [row["what"] for row in reversed(rows)], fontsize=7)
    axis.set_xlabel("share of the first goal (line; tick: the ambitious one)")
    axis.grid(axis="x", alpha=0.3)
    handles = [axis.plot([], [], "o", color=colour)[0] for colour in COLOURS.values()]
    axis.legend(handles, ["1 thread", "2 threads", "GPU"], fontsize=8)
    return figure


def _loss(rows: list[dict[str, Any]]) -> Figure:
    """A line a way: its time as a ratio to the released code's, by batch size."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    sized = [row for row in rows if row["what"].startswith("N = ") and "ratio" in row]
    for way in dict.fromkeys(row["way"] for row in sized):
        points = sorted((row["n"], row["ratio"]) for row in sized if row["way"] == way)
        line = "--" if way.startswith("floor") else "-"
        axis.plot(*zip(*points), line, marker="o", markersize=4, label=way, linewidth=2.5 if way == "confu" else 1)
    axis.set(xscale="log", yscale="log", xlabel="rows N", ylabel="CPU time / released code's way")
    sizes = sorted({row["n"] for row in sized})
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axis.minorticks_off()
    axis.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 20, 100, 500], ["0.1", "0.2", "0.5", "1", "2", "5", "20", "100", "500"])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def _save(figure: Figure, file: Path) -> None:
    with written_whole(file) as temporary:
        figure.savefig(temporary, format="svg")
