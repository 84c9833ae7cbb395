"""The tables of `many_modalities.py`."""

from typing import Any

from rich.table import Table


def quality_table(rows: list[dict[str, Any]], kinds: list[str]) -> Table:
    """Recall and accuracy in percent, a row for each number of views, plan and kind of fusion."""
    found = Table(title="Quality on views of digits: test rows, mean of the seeds (least to most)")
    for column in ("views", "plan", "fusion", "recall@1", "accuracy", "alone", "loss", "parameters", "ms a step"):
        found.add_column(column, justify="left" if column in ("plan", "fusion") else "right")
    for row in rows:
        cells = [str(row["modalities"]), row["plan"], row["fusion"]]
        for name in ("recall", "accuracy"):
            least, most = min(row[name]["all"]), max(row[name]["all"])
            cells.append(f"{100 * row[name]['mean']:.1f} ({100 * least:.1f} to {100 * most:.1f})")
        cells += [f"{100 * row['accuracy alone']['mean']:.1f}", f"{row['loss']['mean']:.2f}"]
        cells += [f"{row['parameters']['mean']:,.0f}", f"{row['cpu_ms']['mean']:.0f}"]
        found.add_row(*cells, end_section=row["fusion"] == kinds[-1])
    return found


def cost_table(rows: list[dict[str, Any]], kinds: list[str], count: int, clock: str) -> Table:
    """Time of the model as a ratio to that with a network for each subset."""
    found = Table(title=f"Cost of a step of {count} rows, forward and backward: time, parameters of fusion")
    for column in ("M", "plan", "terms", "fused", *kinds, "million", "million shared", "the loss"):
        found.add_column(column, justify="left" if column == "plan" else "right")
    cells: dict[tuple[int, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["modalities"], row["plan"]), {})[row["part"]] = row
    for (modalities, planned), parts in cells.items():
        first, *others = (parts[kind][clock]["median"] for kind in kinds)
        own, shared = (f"{parts[kind]['parameters'] / 1e6:.2f}" for kind in kinds[:2])
        loss = f"{parts['loss'][clock]['median']:.0f} ms" if "loss" in parts else "not run"
        one = parts["shared"]
        found.add_row(str(modalities), planned, str(one["terms"]), str(one["fused"]), f"{first:.0f} ms",
                      *(f"{other / first:.2f}" for other in others), own, shared, loss)  # fmt: skip
    return found
