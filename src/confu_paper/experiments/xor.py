"""XOR (Section 3.4, Fig 3 and Fig 6): three variables of which any two say nothing of each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from confu.checks import check_known
from confu.data import Splits
from confu.evaluation import summarise
from confu.evaluation.plots import lines
from confu.methods import METHODS, Tweaks, build_objective
from confu.nn.encoders import MLPEncoder
from confu.plan import Plan, Subset
from confu.training import ContrastiveObjective, TrainSettings
from confu_paper.datasets import xor, xor_candidates, xor_ceiling
from confu_paper.experiments.benchmark import Benchmark, Recipe, Request, asking_classes
from confu_paper.experiments.published import XOR_SMALLEST_DIMENSION
from confu_paper.experiments.run import Outcome, Run, Size
from confu_paper.experiments.tables import Cell, ResultTable, bands, percent, without_gaps

NAMES = ("x1", "x2", "x3")
QUERY, TARGET = Subset("x1", "x3"), Subset("x2")
QUERIES = (Subset("x1"), Subset("x3"), QUERY)


@dataclass(frozen=True)
class Scale:
    """How large an experiment is."""

    rows: tuple[int, int, int]  # to train, validate and test on
    epochs: int
    batch_size: int
    lr_at_least: float
    ps: tuple[float, ...]
    dims: tuple[int, ...]


SCALES: dict[str, Scale] = {
    # Seconds: does everything run? The numbers mean little.
    "smoke": Scale((1_024, 256, 256), epochs=4, batch_size=256, lr_at_least=1e-3, ps=(0.0, 1.0), dims=(4, 16)),
    # Minutes: the paper's data, a fifth of its epochs at ten times its learning rate.
    "small": Scale((10_000, 2_000, 5_000), 10, batch_size=512, lr_at_least=1e-3, ps=(0, 0.5, 1), dims=(4, 8, 64)),
    # Appendix A.4.
    "paper": Scale(
        (10_000, 2_000, 5_000),
        epochs=50,
        batch_size=512,
        lr_at_least=0.0,
        ps=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        dims=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    ),
}

# Two models of one pair each would never see x1 and x3 together: CLIP has one model of the pairs with the target.
PLANS: dict[str, Plan] = {"clip": Plan.parse(["x1 ~ x2", "x3 ~ x2"], modalities=NAMES)}
LR: dict[str, float] = {"confu-bilinear": 1e-3}  # 1e-4 for all others, Appendix A.4


def xor_run(
    method: str, p: float = 1.0, dim: int = 128, seed: int = 0, size: Size = "paper", tweaks: Tweaks | None = None
) -> Run:
    """The run that trains a method on XOR and predicts x2 from x1 and x3 among all 32 candidates.

    Encoders are two-layer MLPs, 5 -> 128 -> 128 (Appendix A.4; the hidden width and the temperature 0.07 are not in
    the paper and are those of its released code elsewhere). The best of 50 epochs is chosen by the loss on a
    validation draw of its own.

    Args:
        p: the probability that a row is an XOR (Eq. 14).
        dim: size of the common space.
        seed: of the data, the weights and the order of the rows.
        size: of the data and the training.
    """
    check_known("method", method, METHODS)
    scale, tweaks = SCALES[size], dict(tweaks or {})
    dim = int(tweaks.pop("dim", dim))
    lr = max(LR.get(method, 1e-4), scale.lr_at_least)
    train = TrainSettings(epochs=scale.epochs, batch_size=scale.batch_size, lr=lr, seed=seed, log_every=20)
    description: dict[str, Any] = {"recipe": "xor", "size": size, "method": method, "p": p, "dim": dim}
    ask = asking_classes(xor_candidates, TARGET, QUERIES)
    recipe = Recipe(method, seed, train, tweaks, ask, threads=1)  # more only slow these small products down
    return recipe.run(
        f"xor/{size}/{method}-p{p:g}-d{dim}",
        description | {"fusion": METHODS[method].fusion},
        partial(xor, p, *scale.rows, seed=seed),
        partial(_objective, method, dim, tweaks),
    )


def _objective(method: str, dim: int, tweaks: Tweaks) -> ContrastiveObjective:
    encoders = {name: MLPEncoder(5, [128], 128) for name in NAMES}
    return build_objective(method, NAMES, encoders, dim, tweaks=tweaks, plan=PLANS.get(method))


def xor_benchmark(name: str, request: Request, frames: str = "eight") -> Benchmark:
    """XOR as a benchmark, at the first p of the request: x2 is read from x1, from x3, and from both."""
    size, p = request.size, 1.0 if request.ps is None else request.ps[0]

    def runs(method: str, seed: int, tweaks: Tweaks) -> list[Run]:
        return [xor_run(method, p, seed=seed, size=size, tweaks=tweaks)]

    def splits(modalities: Sequence[str], seed: int) -> Splits:
        return xor(p, *SCALES[size].rows, seed=seed)

    return Benchmark(
        name="xor",
        size=size,
        modalities=NAMES,
        target=TARGET,
        queries=QUERIES,
        runs=runs,
        splits=splits,
        prompts=xor_candidates,
        notes=(f"XOR at p = {p:g}, {SCALES[size].rows[2]:,} test rows",),
    )


def fused_query(method: str) -> str:
    """The name of the 2 -> 1 query that a method answers: its own, or for CLIP the mean of two embeddings."""
    spec = METHODS[method]
    return str(QUERY) if spec.fused or spec.score != "cosine" else "mean(x1, x3)"


def reproduce_xor(request: Request, dim: int = 128) -> Outcome:
    """Fig 3: accuracy of predicting x2 from x1 and x3 as the share of XOR rows grows, beside the Bayes ceiling."""
    scale, outcome = SCALES[request.size], Outcome(request.size)
    ps = scale.ps if request.ps is None else request.ps
    methods = request.chosen(but=())
    rows = {"ceiling": {f"p = {p:g}": Cell(100 * xor_ceiling(p)) for p in ps}}
    rows |= _accuracies(
        outcome, request, methods, {f"p = {p:g}": partial(xor_run, p=p, dim=dim, size=request.size) for p in ps}
    )
    notes = (
        f"dimension {dim}, {request.seeds_note}, {scale.rows[2]:,} test rows, 32 candidates, chance 3.1 %",
        "ceiling: (1 + 31 p) / 32, what the best predictor reaches; a finite test set moves it by about 0.7",
        "the paper shows Fig 3 as a plot only: ConFu and Symile rise to 100 at p = 1, GRAM and TRIANGLE stay below 15, "
        "Tri-CLIP at chance (about 3)",
        "clip and tri-clip answer with the mean of the embeddings of x1 and x3",
    )
    title = "XOR: accuracy of x1 + x3 -> x2 (%)"
    table = ResultTable(title, tuple(rows["ceiling"]), rows, notes, references=("ceiling",))
    ceiling = {"ceiling": [cell.mean for cell in rows["ceiling"].values()]}
    curves = bands({method: rows[method] for method in methods}, table.columns)
    outcome.add("xor", table, lines(ps, curves, ceiling, x_label="share of XOR rows p"))
    return outcome


def reproduce_xor_dimension(request: Request) -> Outcome:
    """Fig 6: accuracy at p = 1 as the embedding dimension grows."""
    scale, outcome = SCALES[request.size], Outcome(request.size)
    dims = scale.dims if request.dims is None else request.dims
    # CLIP is at chance at any size.
    methods = request.chosen(but=("clip", "tri-clip") if request.methods is None else ())
    rows = _accuracies(
        outcome, request, methods, {f"dim {dim}": partial(xor_run, dim=dim, size=request.size) for dim in dims}
    )
    notes = (
        f"p = 1, {request.seeds_note}, {scale.epochs} epochs, encoders 5 -> 128 -> 128 at every dimension",
        f"the paper's Fig 6: Symile reaches 100 from dimension {XOR_SMALLEST_DIMENSION['symile']}, ConFu from "
        f"{XOR_SMALLEST_DIMENSION['confu']}, GRAM and TRIANGLE not even at 1024",
        *(f"{method}: {METHODS[method].about}" for method in methods if "-" in method),
    )
    table = ResultTable("XOR at p = 1: accuracy by dimension (%)", tuple(f"dim {dim}" for dim in dims), rows, notes)
    figure = lines(dims, bands(rows, table.columns), x_label="embedding dimension", log_x=True)
    outcome.add("xor-dimension", table, figure)
    return outcome


def _accuracies(
    outcome: Outcome, request: Request, methods: Sequence[str], columns: dict[str, Callable[..., Run]]
) -> dict[str, dict[str, Cell]]:
    """The accuracy of each method's fused query by column, each of which makes the run of a method and a seed."""
    rows = {}
    for method in methods:
        cells = {}
        for column, make in columns.items():
            runs = [make(method, seed=seed) for seed in request.seeds]
            summaries = summarise(outcome.execute(runs, request.runs, request.progress))
            cells[column] = percent(summaries, method, fused_query(method))
        rows[method] = without_gaps(cells)
    return rows
