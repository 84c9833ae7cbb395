"""The page's sections on how the model came about: training curves, plan, settings, times."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confu.evaluation.html import Figure, Group, Part, PlanText, Table, Text
from confu.evaluation.plots import to_svg, training_curves
from confu.plan import Plan
from confu.runs.words import count
from confu.training.log import read_log

MOST_CURVES = 12
Series = tuple[list[float], list[float]]


def training_section(folder: Path) -> tuple[Group, dict[str, Any]]:
    """Loss curves from the log, and how training went: steps, epochs, the best one, seconds."""
    if not (folder / "log.jsonl").exists():
        return Group("Training", [], "There is no log.jsonl in the run folder, so that the curves cannot be drawn."), {}
    train, validation = _curves(read_log(folder, "train")), _curves(read_log(folder, "validation"))
    trained = training_facts(folder)
    if not train and not validation:
        return Group("Training", [], "The log holds no step yet."), trained
    shown = ["total", *[name for name in dict.fromkeys((*train, *validation)) if name != "total"]]
    left = shown[MOST_CURVES:]
    shown = shown[:MOST_CURVES]
    figure = training_curves(
        {name: train[name] for name in shown if name in train},
        {name: validation[name] for name in shown if name in validation}, x_label="step", y_label="loss",
    )  # fmt: skip
    words = "The loss of each term in nats, on batches of the training rows and on the validation rows."
    if left:
        words += f" {len(left)} further terms are not drawn; log.jsonl has them."
    best = f" The model is that of epoch {trained['best_epoch']}, whose validation loss is lowest." if trained else ""
    parts: list[Part] = [Figure("", to_svg(figure), f"Curves of {len(shown)} losses over training.", words)]
    return Group("Training", parts, _sentence(trained) + best), trained


def training_facts(folder: Path) -> dict[str, Any]:
    """Steps, epochs, the epoch with the lowest validation loss, and seconds; empty before the first validation."""
    records = read_log(folder, "validation")
    if not records:
        return {}
    best = min(records, key=lambda record: record["total"])
    return {
        "steps": records[-1]["step"],
        "epochs": records[-1]["epoch"],
        "best_epoch": best["epoch"],
        "best_validation_loss": best["total"],
        "train_seconds": round(records[-1].get("seconds", 0.0), 1),
    }


def _sentence(trained: Mapping[str, Any]) -> str:
    if not trained:
        return ""
    return f"{count(trained['steps'])} steps, {trained['epochs']} epochs, {trained['train_seconds']:.0f} s."


def _curves(records: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """By term; one without complete rows in a batch has no point there."""
    found: dict[str, Series] = {}
    for record in records:
        for name, value in {"total": record["total"], **record["terms"]}.items():
            x, y = found.setdefault(name, ([], []))
            x.append(record["step"])
            y.append(value)
    return found


def settings_section(plan: Plan, settings_text: str, seconds: Mapping[str, float], notes: Sequence[str] = ()) -> Group:
    """The plan, the run file, and what took how long."""
    parts: list[Part] = [PlanText("The plan", str(plan), "Which subsets are aligned with which, with what weight.")]
    if settings_text:
        parts.append(PlanText("Settings", settings_text, folded="The resolved run file"))
    parts.append(Table("Times", ["", "seconds"], [[name, f"{value:.1f}"] for name, value in seconds.items()]))
    if notes:
        parts.append(Text("Notes", "\n\n".join(notes)))
    return Group("Settings", parts)
