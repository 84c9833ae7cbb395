"""The card of a model: a README with what it is, what it was trained on, how good it is, and how to use it."""

from collections.abc import Iterable, Sequence

import yaml

from confu.inference.facts import Facts
from confu.inference.parts import ModelParts

_EXAMPLES = {
    "image": '"photo.jpg"',
    "audio": '"sound.wav"',
    "video": '"clip.mp4"',
    "text": '"a sentence"',
    "vector": "[0.1, 0.2, ...]",
    "sequence": '"steps.npy"',
    "number": "1.5",
}
_UNSTATED = "unknown"  # what the hub's list of licences calls it
_SHOWN = 60  # rows of the table of numbers


def model_card(parts: ModelParts, licence: str | None = None, name: str | None = None) -> str:
    """The README of a model folder, in Markdown with the header that the Hugging Face hub reads.

    Args:
        parts: the model and what is known of it.
        licence: of the weights, as the hub names it, e.g. `"apache-2.0"`; None says that it is not stated.
        name: of the model, or its repository on the hub.

    Returns:
        the text. A section of which nothing is known is left out.
    """
    facts = parts.facts
    sections = [
        _header(parts, licence),
        f"# {_line(name or 'A multimodal embedding model')}\n\n{_about(parts)}",
        "## Use\n\n" + _usage(parts, name),
        "## Plan\n\nWhat was aligned with what:\n\n```text\n" + str(parts.model.plan) + "\n```",
        "## Modalities\n\n" + _modalities(parts),
        _data(facts),
        _numbers(facts),
        "## Licence\n\n"
        + (_line(licence or "") or "The author has not stated under which licence these weights may be used."),
        _versions(facts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(parts: ModelParts, licence: str | None) -> str:
    kinds = sorted({reader.modality_kind for reader in parts.readers.values()})
    fields = {
        "library_name": "confu",
        "license": _UNSTATED if licence is None else _line(licence),
        "pipeline_tag": "feature-extraction",
        "tags": ["confu", "contrastive-learning", "multimodal", *kinds],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---"


def _about(parts: ModelParts) -> str:
    plan, settings = parts.model.plan, parts.model.settings
    fused = ", ".join(map(str, plan.fused_subsets)) or "none"
    method = f" with the method `{parts.facts.method}`" if parts.facts.method else ""
    return (
        f"It embeds {', '.join(plan.modalities)} in one space of {parts.model.dim} dimensions. It was trained{method} "
        f"by [confu](https://arxiv.org/abs/2511.21331). Combinations that have an embedding of their own: {fused}"
        f"{'.' if not plan.fused_subsets else ' (fusion network: ' + str(settings['fusion']) + ').'}"
    )


def _usage(parts: ModelParts, name: str | None) -> str:
    shown = parts.model.subsets[-1]
    sources = ", ".join(f'"{one}": [{_EXAMPLES.get(parts.readers[one].modality_kind, "...")}]' for one in shown)
    lines = [
        "import confu",
        "",
        f"embedder = confu.load({(name if name and '/' in name else 'path/to/this/folder')!r})",
        f"items = embedder.encode({{{sources}}})",
        f"print(items.vectors.shape, items.subsets)  # (1, {parts.model.dim}), one subset an item",
    ]
    if parts.model.score == "cosine":
        lines.append("print(embedder.similarity(items, items))")
    note = "" if parts.model.score == "cosine" else (
        f"\n\nThe method compares the embeddings of all modalities at once, by {parts.model.score}: "
        "see `confu.evaluation.pair_scores`."
    )  # fmt: skip
    return "```python\n" + "\n".join(lines) + "\n```" + note


def _modalities(parts: ModelParts) -> str:
    rows = []
    for name in parts.modalities:
        encoder = parts.model.encoders[name]
        settings = getattr(encoder, "settings", None) or {}
        what = settings.get("name") or settings.get("model") or settings.get("kind") or type(encoder).__name__
        weights = sum(weight.numel() for weight in encoder.parameters())
        reader = parts.readers[name]
        rows.append((name, reader.modality_kind, reader.settings.get("kind", ""), what, f"{weights:,}"))
    return _table(("modality", "kind", "reader", "encoder", "weights of the encoder"), rows)


def _data(facts: Facts) -> str:
    if facts.rows is None:
        return ""
    told = [f"{count:,} {split}" for split, count in facts.splits.items()]
    text = f"{facts.rows:,} rows ({', '.join(told)})" + (f" of `{_line(facts.manifest)}`" if facts.manifest else "")
    if facts.skipped:
        was, them = ("was", "it") if facts.skipped == 1 else ("were", "them")
        text += f"; {facts.skipped:,} more {was} set aside because something in {them} was broken"
    rows = [(subset, f"{count:,}", f"{count / max(facts.rows, 1):.1%}") for subset, count in facts.complete.items()]
    return f"## Data\n\n{text}.\n\n" + _table(("has all of", "rows", "share"), rows)


def _numbers(facts: Facts) -> str:
    if not facts.numbers:
        return ""
    rows = []
    for one in facts.numbers[:_SHOWN]:
        between = f" ({one['low']:.3f} to {one['high']:.3f})" if "low" in one and "high" in one else ""
        rows.append((one["metric"], one["query"], one["target"], f"{one['value']:.3f}{between}", f"{one['count']:,}"))
    more = len(facts.numbers) - _SHOWN
    rest = f"\n\n{more} more are in `inputs.json`." if more > 0 else ""
    return "## Numbers\n\n" + _table(("metric", "query", "target", "value", "rows"), rows) + rest


def _versions(facts: Facts) -> str:
    if not facts.versions:
        return ""
    return "## Versions\n\n" + _table(("trained with", "version"), sorted(facts.versions.items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_line(str(cell)).replace("|", r"\|") for cell in line) + " |" for line in lines)


def _line(text: str) -> str:
    """One line, so that a name cannot break out of its place in the page."""
    return " ".join(text.split())
