"""The page's sections about classes and about who is right: accuracy, each class, confusions, overlap."""

from collections import Counter

from torch import Tensor

from confu.evaluation.availability import EVERY_ROW
from confu.evaluation.classes import class_accuracy, confusion
from confu.evaluation.html import Figure, Group, Part, Table
from confu.evaluation.overlap import OverlapResult
from confu.evaluation.plots import bars, heatmap, stacked_bars, to_svg
from confu.plan import Subset
from confu.runs.evaluating.class_measures import ZERO_SHOT, ClassMeasures
from confu.runs.evaluating.retrieval_measures import RetrievalMeasures
from confu.runs.words import count, interval, listed, percent

MOST_CLASSES = 20
MOST_LISTED = 500  # classes in a table
MOST_SETS = 8  # of queries in a figure
_FEW = 12


def class_section(measures: ClassMeasures) -> Group:
    """Accuracy by query, by class, and what is taken for what."""
    if measures.how == ZERO_SHOT:
        target = measures.result.rows[0].target
        prompts = listed([f"“{text}”" for text in measures.prompts])
        words = (
            f"Zero-shot: no label was used. Each class is the mean of the {target} embeddings of its prompts, for "
            f"“{measures.names[0]}” {prompts}; a row belongs to the class whose mean is nearest."
        )
    else:
        words = (
            "Nearest class centroid: each class is the mean of its training rows' embeddings of the same subset, and a "
            "row belongs to the class whose mean is nearest. This is not zero-shot: the centroids know the labels, the "
            "embeddings were trained without them."
        )
    parts: list[Part] = [_accuracies(measures), _bars(measures), *_by_class(measures)]
    heading = "Zero-shot classification" if measures.how == ZERO_SHOT else "Nearest class centroid"
    return Group(heading, parts, "\n\n".join([words, *measures.notes]))


def _accuracies(measures: ClassMeasures) -> Table:
    rows, marked = [], []
    for row in measures.result.rows:
        if row.query == measures.main:
            marked.append(len(rows))
        rows.append([row.query, f"{100 * row.value:.1f}", interval(row), count(row.count)])
    chance = percent(1 / len(measures.names))
    return Table("Accuracy", ["asked with", "accuracy (%)", "95 % interval", "rows"], rows,
                 f"{len(measures.names)} classes: guessing gives {chance} %. Intervals are a bootstrap over the rows.",
                 marked)  # fmt: skip


def _bars(measures: ClassMeasures) -> Figure:
    rows = measures.result.rows
    figure = bars([row.query for row in rows], {"accuracy": [100 * row.value for row in rows]},
                  references={"guessing": 100 / len(measures.names)})  # fmt: skip
    alt = "; ".join(f"{row.query}: {100 * row.value:.1f} %" for row in rows)
    return Figure("Accuracy by query", to_svg(figure), alt)


def _by_class(measures: ClassMeasures) -> list[Part]:
    names, labels, query = measures.names, measures.labels, measures.main
    predictions, credit = measures.result.predictions[query], measures.result.credit[query]
    asked = labels >= 0
    accuracy, counts = class_accuracy(credit[asked], labels[asked], len(names))
    wrong = _taken_for(predictions, labels)
    rows = []
    for i in sorted((i for i in range(len(names)) if counts[i]), key=lambda i: float(accuracy[i])):
        most = wrong.get(i)
        taken = "–" if most is None else f"{names[most[0]]} ({most[1]})"
        rows.append([names[i], f"{100 * float(accuracy[i]):.1f}", count(int(counts[i])), taken])
    more = f" The first {MOST_LISTED} of {len(rows)}." if len(rows) > MOST_LISTED else ""
    folded = f"All {len(rows)} classes" if len(rows) > _FEW else ""
    columns = ["class", "accuracy (%)", "rows", "most often taken for"]
    caption = f"The worst class first.{more}"
    parts: list[Part] = [Table(f"Each class, asked with {query}", columns, rows[:MOST_LISTED], caption, (), folded)]
    if 1 < len(names) <= MOST_CLASSES:
        counted = confusion(predictions[asked], labels[asked], len(names))
        shares = 100 * counted / counted.sum(1, keepdim=True)
        figure = heatmap(shares.tolist(), names, names, "share of the class's rows (%)", "taken for", "class")
        parts.append(Figure("What is taken for what", to_svg(figure), f"Confusions of {len(names)} classes in percent.",
                            f"Each line is a class, asked with {query}; its numbers add up to 100 %."))  # fmt: skip
    return parts


def _taken_for(predictions: Tensor, labels: Tensor) -> dict[int, tuple[int, int]]:
    """For each class that is mistaken, the class that it is most often taken for, and how often."""
    mistaken = (labels >= 0) & (predictions >= 0) & (predictions != labels)
    pairs = Counter(zip(labels[mistaken].tolist(), predictions[mistaken].tolist()))
    found: dict[int, tuple[int, int]] = {}
    for (own, other), times in pairs.most_common():
        found.setdefault(own, (other, times))
    return found


def overlap_section(retrieval: RetrievalMeasures, classes: ClassMeasures | None) -> Group | None:
    """Which queries are right about which rows: the classes' where there are labels, else the retrieval's."""
    if classes is not None and classes.overlap is not None:
        parts = _overlap(classes.overlap, "name the class right")
        few = len(classes.overlap.shares) <= MOST_SETS
        if few and 1 < len(classes.overlap.by_class) <= MOST_CLASSES:
            shares = classes.overlap.by_class
            names = list(classes.overlap.shares)
            figure = heatmap(classes.overlap.matrix(), list(shares), names, "share of the class's rows (%)",
                             "right by", "class")  # fmt: skip
            parts.append(Figure("By class", to_svg(figure), "The same shares for each class."))
    elif retrieval.overlap is not None and retrieval.main is not None:
        parts = _overlap(retrieval.overlap, f"find their {retrieval.main[1]} among the first {retrieval.k}")
    else:
        return None
    return Group("Who is right", parts)


def _overlap(found: OverlapResult, what: str) -> list[Part]:
    words = f"Share of {count(found.count)} rows that {what} by these queries and by no other."
    if found.left_out:
        words += f" {count(found.left_out)} rows are not complete for every query, and are left out."
    fused = next((name for name in found.queries if Subset.parse(name).is_fused or name.startswith("mean(")), None)
    if fused is not None:
        alone = found.shares.get(f"{fused} only", 0.0)
        single = sum(value for name, value in found.shares.items() if fused not in name and name not in ("all", "none"))
        words += f" Only {fused}: {percent(alone)} %. Only single ones, and not {fused}: {percent(single)} %."
    shares = sorted(found.shares.items(), key=lambda share: -share[1])[:MOST_SETS]
    shares = [share for share in found.shares.items() if share in shares and share[1] > 0]
    if (rest := 1 - sum(value for _, value in shares)) > 1e-6:
        shares.append(("other sets", rest))
    figure = stacked_bars(["rows"], {name: [100 * value] for name, value in shares}, "share of rows (%)")
    alt = "; ".join(f"{name}: {percent(value)} %" for name, value in shares)
    table = [[name, percent(value)] for name, value in found.shares.items()]
    return [Figure("", to_svg(figure), alt, words), Table("The shares", ["right by", "rows (%)"], table)]


def available_table(measures: ClassMeasures) -> Table | None:
    """Accuracy by what rows have."""
    found = [row for row in measures.rows if row.metric == "accuracy"]
    rows = [row for row in found if row.query == EVERY_ROW or row.query.startswith("rows with ")]
    if not rows:
        return None
    cells = [[row.query, f"{100 * row.value:.1f}", interval(row), count(row.count)] for row in rows]
    words = "Each row answers with the largest subset that it has." + (
        f" Its {measures.result.rows[0].target} is not asked." if measures.how == ZERO_SHOT else ""
    )
    return Table("Accuracy, by what a row has", ["", "accuracy (%)", "95 % interval", "rows"], cells, words)
