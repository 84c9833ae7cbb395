"""Why a trained run finds little: causes that its log, its rows and one pass of embeddings give evidence of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.data import Dataset
from confu.data.coverage import coverage
from confu.data.dataset import DatasetView, RowsOf, row_contents
from confu.inference import embed
from confu.inference.embedding import embed_batch
from confu.models import MultimodalModel
from confu.plan import Plan, Subset
from confu.runs.measures import listed, rank_queries
from confu.runs.prepare import OpenedRun, open_run
from confu.runs.rows import run_contents, sampled
from confu.runs.summary import chance_sentences, summarise
from confu.training.log import best_record, read_log
from confu.types import Batch, Inputs

ROWS = 20_000
"""Training rows whose contents are compared, at most; of validation and test rows a tenth of it."""
_MEASURED = 2000  # training rows whose inputs are measured, and validation rows that are embedded
_BATCH = 256
_FEW_ROWS = 500
_CLOSE = 0.9  # mean cosine of different rows' embeddings in a collapsed space
_FLAT = 3.0  # effective rank of a collapsed space
_IGNORED = 0.05  # of the change by other inputs altogether


@dataclass(frozen=True)
class Finding:
    """A cause that there is evidence of.

    Attributes:
        cause: one of "at chance", "overfit", "unfinished", "collapse", "duplicates", "leak", "false negatives",
            "ignored", "scale", "constant", "sparse", "classes", "few rows".
        evidence: what was measured.
        advice: what to do.
        numbers: the evidence as numbers.
    """

    cause: str
    evidence: str
    advice: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def diagnose(
    folder: str | Path, manifest: str | Path | None = None, allow_custom: bool = False, progress: bool = False
) -> list[Finding]:
    """Look for causes why a trained run finds little, the weightiest first; nothing is changed.

    Args:
        folder: of the run.
        manifest: where the data are now, if they have moved.
        allow_custom: build the encoders that are functions of the user's own, as the run names them.
        progress: show progress bars, where files have to be decoded again.

    Raises:
        ValueError: if the folder is no trained run, or the manifest is not that of the run any more.
    """
    opened = open_run(folder, manifest=manifest, progress=progress, allow_custom=allow_custom)
    splits, run = opened.splits, opened.run
    parts: dict[str, Dataset] = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    sizes = {name: ROWS if name == "training" else ROWS // 10 for name in parts}
    keys = {name: row_contents(RowsOf(data, sampled(len(data), sizes[name]))) for name, data in parts.items()}
    grouped = run.loss.equal_inputs != "negatives" or (
        run.data.group is not None and run.loss.same_group != "negatives"
    )
    model = opened.model.to("cuda" if torch.cuda.is_available() else "cpu")
    rows = RowsOf(splits.validation, sampled(len(splits.validation), _MEASURED))
    table = embed(model, rows)
    contents = run_contents(run, rows)
    lines = summarise(table, rank_queries(table, contents=contents)[0], contents)
    return [
        *(
            Finding("at chance", sentence.rstrip("."), "see the causes below, and docs/training.md, on what to try", {})
            for sentence in chance_sentences([line for line in lines if not line.learned])
        ),
        *check_contents(keys, grouped),
        *check_scale(splits.train),
        *check_training(read_log(opened.folder, "train"), read_log(opened.folder, "validation")),
        *check_spread({subset: table[subset][table.rows_with(subset)] for subset in table.subsets}),
        *check_parts(model, rows),
        *check_rows(splits.train, opened.model.plan, run.train.sampling),
        *_check_classes(opened),
    ]


def check_contents(keys: Mapping[str, Mapping[str, Int[Tensor, " _"]]], grouped: bool = False) -> list[Finding]:
    """Leaks across splits, duplicates, inputs that repeat or are all the same.

    Args:
        keys: "training", "validation" and "test" -> modality -> of `confu.data.row_contents`.
        grouped: whether rows with equal inputs, or of one group, are no negatives of one another.
    """
    findings, training = [], keys["training"]
    rows = _rows(training)
    seen, counts = set(rows), {name: len(values[values != -1].unique()) for name, values in training.items()}
    for part, others in keys.items():
        if part == "training" or not rows:
            continue
        others_rows = _rows(others)
        again = sum(row in seen for row in others_rows)
        if again:
            findings.append(
                Finding(
                    "leak",
                    f"{again:,} of {len(others_rows):,} {part} rows are copies of a training row, in all modalities",
                    "remove them, or give rows of one origin one value in a column `group`: no group is in two parts",
                    {"part": part, "rows": again, "of": len(others_rows)},
                )
            )
            continue
        for name, values in others.items():
            present, known = values[values != -1], training[name][training[name] != -1]
            repeated = int(torch.isin(present, known).sum())
            if counts[name] > 0.9 * len(known) and repeated > 0.01 * len(present):  # contents that hardly ever repeat
                findings.append(
                    Finding(
                        "leak",
                        f"{repeated:,} of {len(present):,} {part} rows have the same {name} as a training row, "
                        "although within the training rows it hardly repeats",
                        "give rows with the same content one value in a column `group`: no group is in two parts",
                        {"part": part, "modality": name, "rows": repeated, "of": len(present)},
                    )
                )
    copies = len(rows) - len(seen)
    if copies > 0.02 * len(rows):
        findings.append(
            Finding(
                "duplicates",
                f"{copies:,} of {len(rows):,} training rows are copies of another, in all modalities",
                "remove the copies: in a batch they are negatives of one another",
                {"rows": copies, "of": len(rows)},
            )
        )
    for name, values in training.items():
        present = int((values != -1).sum())
        if present > 1 and counts[name] == 1:
            findings.append(
                Finding(
                    "constant",
                    f"{name} is the same in all {present:,} training rows that have it",
                    "leave this modality out, or look at its column and its reader",
                    {"modality": name, "rows": present},
                )
            )
        elif not grouped and present > 1 and counts[name] < 0.5 * present:
            findings.append(
                Finding(
                    "false negatives",
                    f"{name} has {counts[name]:,} different contents in {present:,} training rows: rows that mean the "
                    "same are negatives of one another",
                    "`loss.equal_inputs: positives`, or a column `group` with `loss.same_group: excluded`",
                    {"modality": name, "distinct": counts[name], "rows": present},
                )
            )
    return findings


def _rows(keys: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    return list(zip(*(values.tolist() for values in keys.values())))


def check_scale(data: Dataset) -> list[Finding]:
    """Numbers that enter a network far from mean 0 and spread 1, or of which few are far larger than the others."""
    findings = []
    inputs = data.batch(sampled(len(data), _MEASURED)).inputs if len(data) else {}
    for name, one in inputs.items():
        values = one.values
        if isinstance(values, dict):
            mask = values.get("mask")
            values = values.get("values")
            if values is None:
                continue
            values = values if mask is None else values[mask]
        if not values.is_floating_point() or len(values) < 2:
            continue
        mean, spread = float(values.double().mean()), float(values.double().std())
        advice = "add `scale: standard` to its `reader`, or standardise the column"
        if spread and (spread > 10 or spread < 0.05 or abs(mean) > 5 * spread):
            evidence = f"the numbers of {name} have mean {mean:.3g} and spread {spread:.3g}; networks expect 0 and 1"
            findings.append(Finding("scale", evidence, advice, {"modality": name, "mean": mean, "spread": spread}))
            continue
        if values.ndim != 2 or values.shape[1] < 2:
            continue
        spreads = values.double().std(dim=0)
        usual = float(spreads[spreads > 0].median()) if bool((spreads > 0).any()) else 0.0
        if usual and float(spreads.max()) > 100 * usual:
            evidence = (
                f"feature {int(spreads.argmax())} of {name} spreads {float(spreads.max()) / usual:.0f} times more"
            )
            more = {"modality": name, "feature": int(spreads.argmax()), "times": float(spreads.max()) / usual}
            findings.append(Finding("scale", f"{evidence} than the middle one, and hides the others", advice, more))
    return findings


def check_training(train: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]]) -> list[Finding]:
    """Overfitting, and a training that ended while it still improved, from the records of the log."""
    if not train or not validation:
        return []
    best, last = best_record(list(validation)), validation[-1]
    late = [record["total"] for record in train if record["epoch"] == train[-1]["epoch"]]
    loss, lowest = sum(late) / len(late), min(record["total"] for record in validation)
    numbers = {
        "train_loss": loss,
        "validation_loss": last["total"],
        "best_epoch": best["epoch"],
        "epochs": last["epoch"],
    }
    said = (
        f"at the end the training loss is {loss:.3f} and the validation loss {last['total']:.3f}; the model is that of "
        f"epoch {best['epoch']} of {last['epoch']}"
    )
    if last["total"] > 1.1 * lowest or loss < 0.5 * last["total"]:
        advice = (
            "the rows are learned by heart: smaller networks, dropout, augmentation, more `weight_decay`, more rows, "
            "or pretrained encoders (`confu init --pretrained`)"
        )
        return [Finding("overfit", said, advice, numbers)]
    before = best_record(list(validation[:-1])) if len(validation) > 1 else None
    key, sign = ("mrr", 1) if "mrr" in last else ("total", -1)
    if before is not None and best is last and sign * (last[key] - before[key]) > 0.01 * abs(before[key]):
        return [Finding("unfinished", f"{said}, and it still improved", "raise `train.epochs`", numbers)]
    return []


def check_spread(vectors: Mapping[Subset, Float[Tensor, "_ _"]]) -> list[Finding]:
    """Embeddings that are nearly the same for every row, or lie on few axes.

    The effective rank is exp(entropy) of the shares of variance along the principal axes (Roy and Vetterli 2007).
    """
    findings = []
    for subset, rows in vectors.items():
        n = len(rows)
        if n < 16 or rows.shape[1] < 8:
            continue
        rows = rows.double()
        cosine = float((rows.sum(0).square().sum() - n) / (n * (n - 1)))
        rank = effective_rank(rows)
        if cosine > _CLOSE or rank < _FLAT:
            evidence = (
                f"embeddings of {subset}: the mean cosine of different rows is {cosine:.2f} and the effective rank "
                f"{rank:.1f} of {min(n - 1, rows.shape[1])}"
            )
            advice = (
                "look at this modality's inputs (constant, unscaled?); then a smaller learning rate, another "
                "`loss.temperature`, `train.clip_grad: 1`"
            )
            numbers = {"subset": str(subset), "cosine": cosine, "effective_rank": rank}
            findings.append(Finding("collapse", evidence, advice, numbers))
    return findings


def effective_rank(rows: Float[Tensor, "n dim"]) -> float:
    """exp(entropy) of the shares of variance along the principal axes: 1 if rows differ along one axis, or not at all.

    >>> round(effective_rank(torch.eye(5).double()), 3), effective_rank(torch.ones(5, 3).double())
    (4.0, 1.0)
    """
    variances = torch.linalg.svdvals(rows - rows.mean(0)).square()
    if float(variances.sum()) < 1e-12 * len(rows):
        return 1.0
    shares = variances / variances.sum()
    return float(torch.special.entr(shares).sum().exp())


def check_parts(model: MultimodalModel, data: Dataset) -> list[Finding]:
    """Parts of a fused embedding that hardly change it: each is exchanged for that of another row."""
    findings, view = [], DatasetView(data)
    for subset in (subset for subset in model.subsets if subset.is_fused):
        present = torch.stack([view.present[name] for name in subset]).all(0).nonzero()[:, 0][:_BATCH]
        if len(present) < 8:
            continue
        batch = data.batch(present)
        plain = embed_batch(model, batch, [subset])[subset][0]
        apart = float(1 - (plain * plain.roll(1, 0)).sum(1).mean())
        for name in subset:
            changed = embed_batch(model, _exchanged(batch, name), [subset])[subset][0]
            share = float(1 - (plain * changed).sum(1).mean()) / apart if apart > 1e-6 else 1.0
            if share < _IGNORED:
                evidence = (
                    f"{subset} hardly depends on {name}: with the {name} of another row it changes by {share:.1%} of "
                    "what another row altogether changes"
                )
                advice = (
                    f"see whether {name} -> other modalities is above chance; `model.mask_ratio: 0.2` keeps fusion "
                    "from leaning on one part"
                )
                numbers = {"subset": str(subset), "modality": name, "share": share}
                findings.append(Finding("ignored", evidence, advice, numbers))
    return findings


def _exchanged(batch: Batch, name: str) -> Batch:
    """The batch, each row with the input of the row before it in one modality."""
    inputs = batch.inputs[name]
    return replace(batch, inputs={**batch.inputs, name: Inputs(inputs.values, inputs.rows.roll(1))})


def check_rows(data: Dataset, plan: Plan, sampling: str = "uniform") -> list[Finding]:
    """Too few training rows, and terms for which few rows have what they need."""
    findings = []
    if len(data) < _FEW_ROWS:
        evidence = f"there are {len(data):,} training rows"
        advice = "more rows, or pretrained encoders (`confu init --pretrained`), which need fewer"
        findings.append(Finding("few rows", evidence, advice, {"rows": len(data)}))
    present = coverage({name: DatasetView(data).present[name] for name in plan.modalities})
    sparse = {}
    for term in plan.terms:
        complete = present.complete(Subset(*term.left, *term.right))
        if complete < 0.1 * len(data):
            sparse[str(term)] = complete
    if sparse:
        evidence = f"few of {len(data):,} training rows are complete for {listed(list(sparse))}: " + listed(
            [f"{rows:,}" for rows in sparse.values()]
        )
        advice = "a plan without these terms; more complete rows"
        advice = advice if sampling == "balanced" else f"`train.sampling: balanced`; {advice}"
        findings.append(Finding("sparse", evidence, advice, {"rows": sparse, "sampling": sampling}))
    return findings


def _check_classes(opened: OpenedRun) -> list[Finding]:
    train, test = opened.splits.train.labels, opened.splits.test.labels
    return [] if train is None or test is None else check_classes(train, test, opened.splits.train.class_names)


def check_classes(
    train: Int[Tensor, " n"], test: Int[Tensor, " m"], names: Sequence[str] | None = None
) -> list[Finding]:
    """Classes of the test rows that no training row has, or one."""
    size = int(torch.cat([train, test]).max()) + 1 if len(train) + len(test) else 0
    counts, asked = torch.bincount(train[train >= 0], minlength=size), torch.bincount(test[test >= 0], minlength=size)
    rare = ((counts < 2) & (asked > 0)).nonzero()[:, 0].tolist()
    if not rare or len(rare) < 0.05 * int((asked > 0).sum()):
        return []
    shown = [str(number) if names is None else str(names[number]) for number in rare]
    rows = int(asked[rare].sum())
    evidence = f"{len(rare):,} classes of test rows have no training row or one ({listed(shown)}): {rows:,} test rows"
    advice = "more rows of these classes, or measure without them; retrieval does not depend on it"
    return [Finding("classes", evidence, advice, {"classes": len(rare), "rows": rows})]
