"""The page's sections about retrieval: the matrix of queries and targets, fusion's gain, and what is available."""

from collections.abc import Sequence

from confu.evaluation.hits import chance_recall
from confu.evaluation.html import Figure, Group, Part, Table, Text
from confu.evaluation.map_plots import interval_bars
from confu.evaluation.plots import bars, heatmap, to_svg
from confu.evaluation.report import ReportRow
from confu.plan import Subset
from confu.runs.evaluating.retrieval_measures import GROUP, RetrievalMeasures
from confu.runs.words import count, percent, points

_FEW_ROWS = 12
MOST_TARGETS = 12  # across a heat map
NAN = float("nan")


def retrieval_section(measures: RetrievalMeasures, group_words: str, notes: Sequence[str] = ()) -> Group:
    """Recall as a heat map, and every number in a table.

    Args:
        measures: of the page's rows.
        group_words: what rows of one group are, e.g. "rows with the same caption"; empty without groups.
        notes: what a reader must know.
    """
    if not measures.ranked:
        refused = " ".join(measures.refused) or "No two modalities are present in two rows."
        return Group("Retrieval", [], f"Nothing could be ranked. {refused}")
    text = (
        "Each row asks with one subset of its modalities, and seeks its own other one among those of all rows. Targets "
        "that score the same share their place, so that a collapsed model gets what chance gets."
    )
    parts: list[Part] = [_matrix(measures, measures.k, "")]
    if group_words:
        parts.append(_matrix(measures, measures.k, GROUP, f", where any of the {group_words} counts as right"))
    parts.append(_numbers(measures, group_words))
    if measures.refused:
        parts.append(Text("What was not asked", "\n\n".join(measures.refused)))
    return Group("Retrieval", parts, "\n\n".join([text, *notes]))


def _matrix(measures: RetrievalMeasures, k: int, kind: str, words: str = "") -> Part:
    metric = f"recall@{k}{kind}"
    found = {(row.query, row.target): 100 * row.value for row in measures.rows if row.metric == metric}
    queries = list(dict.fromkeys(query for query, _ in measures.ranked))
    targets = list(dict.fromkeys(target for _, target in measures.ranked))
    singles = [target for target in targets if "+" not in target]
    if few := len(targets) > MOST_TARGETS and len(singles) > 0:
        targets = singles
        queries = [query for query in queries if any((query, target) in found for target in targets)]
    matrix = [[found.get((query, target), NAN) for target in targets] for query in queries]
    chances = [
        chance_recall(one.gallery, k, one.groups.members if kind and one.groups is not None else None)
        for one in measures.ranked.values()
    ]
    left = " Fused targets are in the table only." if few else ""
    low, high = percent(min(chances)), percent(max(chances))
    chance = f"{low} %" if low == high else f"{low} to {high} %, by the size of the gallery"
    svg = to_svg(heatmap(matrix, queries, targets, f"recall@{k} (%)"))
    return Figure(
        f"Recall at {k}" + (", by group" if kind else ""), svg,
        f"Recall at {k} in percent for {len(queries)} queries and {len(targets)} targets; the numbers are below.",
        f"Share of rows (%) whose target is among the first {k}{words}. Chance is {chance}. Empty where "
        f"query and target share a modality or the method has no answer.{left}",
    )  # fmt: skip


def _numbers(measures: RetrievalMeasures, group_words: str) -> Table:
    by_name = {(row.metric, row.query, row.target): row for row in measures.rows}
    recalls = [f"recall@{k}{kind}" for kind in ("", GROUP) if kind == "" or group_words for k in measures.ks]
    columns = ["", "rows", *(f"{one.removesuffix(GROUP)} (%)" + (" group" if GROUP in one else "") for one in recalls),
               "median rank", "MRR", f"chance of recall@{measures.k} (%)"]  # fmt: skip
    rows, marked = [], []
    for query, target in measures.ranked:
        one = measures.ranked[query, target]
        cells = [_value(by_name.get((metric, query, target)), 100) for metric in recalls]
        median = _value(by_name.get(("median rank", query, target)), 1)
        reciprocal = by_name["mean reciprocal rank", query, target]
        if measures.main is not None and (query, target) == tuple(map(str, measures.main)):
            marked.append(len(rows))
        rows.append([f"{query} → {target}", count(one.gallery), *cells, median, f"{reciprocal.value:.3f}",
                     percent(min(1.0, measures.k / one.gallery))])  # fmt: skip
    folded = f"All {len(rows)} queries" if len(rows) > _FEW_ROWS else ""
    caption = (
        "rows: how many are complete for query and target; they ask, and their targets are the gallery. MRR: the mean "
        "of 1 / rank. mean(...): the mean of the single embeddings, without a fusion network."
    )
    if group_words:
        caption += f" group: the first of the {group_words} counts as found."
    return Table("Every query", columns, rows, caption, marked, folded)


def _value(row: ReportRow | None, scale: float) -> str:
    return "–" if row is None else f"{scale * row.value:.1f}"


def gain_section(measures: RetrievalMeasures) -> Group | None:
    """Fusion against the mean of the single embeddings, on the same rows."""
    metric = f"recall@{measures.k} gain"
    found = [row for row in measures.rows if row.metric == metric]
    shown = [row for row in found if "+" not in row.target] or found
    if not shown:
        return None
    labels = [f"{row.query} → {row.target}" for row in shown]
    numbers = [[100 * (value or 0.0) for value in (row.value, row.low, row.high)] for row in shown]
    better = sum(row.low is not None and row.low > 0 for row in shown)
    worse = sum(row.high is not None and row.high < 0 for row in shown)
    words = (
        f"Better in {better} of {len(shown)} queries and worse in {worse}; in the others the interval holds zero. Each "
        "interval is a 95 % bootstrap over the rows: it does not tell what another training would give."
    )
    figure = interval_bars(labels, *zip(*numbers), f"gain in recall@{measures.k} (points)")  # type: ignore[arg-type]
    alt = "; ".join(f"{label}: {value:+.1f}" for label, (value, _, _) in zip(labels, numbers))
    return Group("What fusion adds", [Figure("", to_svg(figure), alt, words)],
                 f"How much more often the fused embedding finds its target among the first {measures.k} than the "
                 "mean of the single embeddings does, on the same rows.")  # fmt: skip


def available_parts(measures: RetrievalMeasures) -> list[Part]:
    """Retrieval by what rows have, for the main target."""
    if measures.main is None:
        return []
    target = measures.main[1]
    found = measures.available[target]
    rows = []
    for name in [*(f"rows with {has}" for has in found.ranked), "every row"]:
        one = measures.find("median rank", name, str(target))
        if one is None:
            continue
        cells = [_value(measures.find(f"recall@{k}", name, str(target)), 100) for k in measures.ks]
        rows.append([name, one.note.removeprefix("asked with "), count(one.count), *cells, f"{one.value:.1f}"])
    for has, left in found.unasked.items():
        rows.append([f"rows with {has or 'nothing else'}", "cannot ask", count(left), *("–" for _ in measures.ks), "–"])
    recall = [measures.find(f"recall@{measures.k}", f"rows with {has}", str(target)) for has in found.ranked]
    parts: list[Part] = [Table(
        f"Finding {target}, by what a row has", ["", "asks with", "rows", *(f"recall@{k} (%)" for k in measures.ks),
        "median rank"], rows, _available_words(found.without_target, target),
    )]  # fmt: skip
    if len(known := [row for row in recall if row is not None]) > 1:
        values = {"recall": [100 * row.value for row in known]}
        figure = bars([row.query for row in known], values, x_label=f"recall@{measures.k} (%)")
        alt = "; ".join(f"{row.query}: {points(row.value)}" for row in known)
        parts.append(Figure(f"Recall at {measures.k} by what a row has", to_svg(figure), alt))
    return parts


def _available_words(without: int, target: Subset) -> str:
    lacking = f" {count(without)} rows have no {target}, and cannot be right." if without else ""
    return f"Each row asks with the largest subset that it has, in one gallery: every row with {target}.{lacking}"
