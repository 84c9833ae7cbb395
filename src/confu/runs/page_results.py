"""The page's sections of results: retrieval, fusion's gain, classes, who is right, and rows by what they have."""

from collections import Counter
from collections.abc import Sequence

from confu.evaluation.availability import EVERY_ROW
from confu.evaluation.classes import class_accuracy, confusion
from confu.evaluation.html import Figure, Group, Part, Table, Text
from confu.evaluation.mutual_information import FusedInformation, InformationAccount
from confu.evaluation.overlap import OverlapResult
from confu.evaluation.plots import bars, heatmap, interval_bars, stacked_bars, to_svg
from confu.evaluation.ranking import chance_recall
from confu.evaluation.report import ReportRow
from confu.plan import Subset
from confu.runs.measures import GROUP, ZERO_SHOT, ClassMeasures, RetrievalMeasures, has_class, listed
from confu.runs.robustness import Robustness, line_cells

_FOLDED = 12  # longer tables stand behind a click
_MAX_TARGETS = 12  # across a heat map
_MAX_CLASSES = 20  # of a figure
_MAX_CLASS_ROWS = 500  # of a table
_MAX_SETS = 8  # of queries in a figure


def percent(share: float) -> str:
    """A share in percent, with the digits that it needs.

    >>> percent(0.4567), percent(0.002), percent(1.0)
    ('45.7', '0.20', '100.0')
    """
    digits = 1 if share == 0 or share >= 0.01 else 2 if share >= 0.001 else 4
    return f"{100 * share:.{digits}f}"


def _interval(row: ReportRow) -> str:
    return "–" if row.low is None or row.high is None else f"{100 * row.low:.1f} to {100 * row.high:.1f}"


def _value(row: ReportRow | None, scale: float) -> str:
    return "–" if row is None else f"{scale * row.value:.1f}"


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
    parts: list[Part] = [_recall_matrix(measures, "", "")]
    if group_words:
        parts.append(_recall_matrix(measures, GROUP, f", where any of the {group_words} counts as right"))
    parts.append(_query_table(measures, group_words))
    if measures.refused:
        parts.append(Text("What was not asked", "\n\n".join(measures.refused)))
    return Group("Retrieval", parts, "\n\n".join([text, *notes]))


def _recall_matrix(measures: RetrievalMeasures, suffix: str, words: str) -> Part:
    k = measures.k
    recall = {(row.query, row.target): 100 * row.value for row in measures.rows if row.metric == f"recall@{k}{suffix}"}
    queries = list(dict.fromkeys(query for query, _ in measures.ranked))
    targets = list(dict.fromkeys(target for _, target in measures.ranked))
    singles = [target for target in targets if "+" not in target]
    left_out = ""
    if len(targets) > _MAX_TARGETS and singles:
        targets, left_out = singles, " Fused targets are in the table only."
        queries = [query for query in queries if any((query, target) in recall for target in targets)]
    matrix = [[recall.get((query, target), float("nan")) for target in targets] for query in queries]
    chances = []
    for outcome in measures.ranked.values():
        by_group = chance_recall(outcome.gallery, k, outcome.groups.members) if suffix and outcome.groups else None
        chances.append(outcome.chance(k) if by_group is None else by_group)
    low, high = percent(min(chances)), percent(max(chances))
    chance = f"{low} %" if low == high else f"{low} to {high} %, by the size of the gallery"
    return Figure(
        f"Recall at {k}" + (", by group" if suffix else ""),
        to_svg(heatmap(matrix, queries, targets, f"recall@{k} (%)")),
        f"Recall at {k} in percent for {len(queries)} queries and {len(targets)} targets; the numbers are below.",
        f"Share of rows (%) whose target is among the first {k}{words}. Chance is {chance}. Empty where "
        f"query and target share a modality or the method has no answer.{left_out}",
    )


def _query_table(measures: RetrievalMeasures, group_words: str) -> Table:
    by_name = {(row.metric, row.query, row.target): row for row in measures.rows}
    recalls = [f"recall@{k}{suffix}" for suffix in ("", GROUP) if not suffix or group_words for k in measures.ks]
    names = [f"{metric.removesuffix(GROUP)} (%)" + (" group" if GROUP in metric else "") for metric in recalls]
    columns = ["", "rows", *names, "median rank", "MRR", f"chance of recall@{measures.k} (%)"]
    rows, marked = [], []
    for query, target in measures.ranked:
        gallery = measures.ranked[query, target].gallery
        if measures.main is not None and (query, target) == tuple(map(str, measures.main)):
            marked.append(len(rows))
        cells = [_value(by_name.get((metric, query, target)), 100) for metric in recalls]
        median = _value(by_name.get(("median rank", query, target)), 1)
        reciprocal = f"{by_name['mean reciprocal rank', query, target].value:.3f}"
        chance = percent(measures.ranked[query, target].chance(measures.k))
        rows.append([f"{query} → {target}", f"{gallery:,}", *cells, median, reciprocal, chance])
    caption = (
        "rows: how many are complete for query and target; they ask, and their targets are the gallery. MRR: the mean "
        "of 1 / rank. mean(...): the mean of the single embeddings, without a fusion network. A target with the same "
        "content as the row's own is right as well."
    )
    if group_words:
        caption += f" group: the first of the {group_words} counts as found."
    return Table("Every query", columns, rows, caption, marked, _folded(rows, "queries"))


def _folded(rows: Sequence[object], what: str) -> str:
    return f"All {len(rows)} {what}" if len(rows) > _FOLDED else ""


def gain_section(measures: RetrievalMeasures) -> Group | None:
    """Fusion against the mean of the single embeddings, on the same rows."""
    gains = [row for row in measures.rows if row.metric == f"recall@{measures.k} gain"]
    shown = [row for row in gains if "+" not in row.target] or gains
    if not shown:
        return None
    labels = [f"{row.query} → {row.target}" for row in shown]
    values, lows, highs = ([100 * (getattr(row, end) or 0.0) for row in shown] for end in ("value", "low", "high"))
    better = sum(row.low is not None and row.low > 0 for row in shown)
    worse = sum(row.high is not None and row.high < 0 for row in shown)
    caption = (
        f"Better in {better} of {len(shown)} queries and worse in {worse}; in the others the interval holds zero. Each "
        "interval is a 95 % bootstrap over the rows: it does not tell what another training would give."
    )
    svg = to_svg(interval_bars(labels, values, lows, highs, f"gain in recall@{measures.k} (points)"))
    alt = "; ".join(f"{label}: {value:+.1f}" for label, value in zip(labels, values))
    text = (
        f"How much more often the fused embedding finds its target among the first {measures.k} than the mean of the "
        "single embeddings does, on the same rows."
    )
    return Group("What fusion adds", [Figure("", svg, alt, caption)], text)


def information_section(account: InformationAccount) -> Group | None:
    """What each modality tells of each other, and what several together tell of another one, in nats."""
    shown = [(f"{one.query} ~ {one.target}", one) for one in account.pairs]
    shown += [(f"{one.together.query} → {one.together.target}", one.together) for one in account.fused]
    if not shown:
        return None
    labels, told = [label for label, _ in shown], [one for _, one in shown]
    values, lows, highs = ([getattr(one, end) for one in told] for end in ("nats", "low", "high"))
    half = min(one.cap for one in told) / 2
    figure = interval_bars(labels, values, lows, highs, "information (nats)", "{:.2f}", {"half of ln N": half})
    caption = (
        f"InfoNCE bounds on mutual information among N = {min(one.gallery for one in told):,} rows or more, "
        "extrapolated to a gallery without end, with 95 % bootstrap intervals over rows. A gallery of N rows cannot "
        f"show more than ln N; above half of that (dashed, {half:.2f}) numbers are too low. They are what this model "
        "tells: the data may hold more."
    )
    alt = "; ".join(f"{label}: {one.nats:.2f} nats" for label, one in shown)
    parts: list[Part] = [Figure("", to_svg(figure), alt, caption)]
    if account.fused:
        columns = ["", "together", "mean", "best alone", "gain", "alike", "only together"]
        rows = [_information_row(one) for one in account.fused]
        caption = (
            "In nats. gain: together minus the best alone. alike: what both tell in the same way (redundancy). only "
            "together: what neither tells alone (synergy). Both are given from the least to the most that the three "
            "numbers allow: they say the difference of the two, not how much of each there is."
        )
        parts.append(Table("What several tell together", columns, rows, caption, (), _folded(rows, "queries")))
    return Group("What each tells of the others", parts, "\n\n".join(account.sentences()))


def _information_row(one: FusedInformation) -> list[str]:
    best, (gain, low, high) = one.parts[one.best], one.gain
    ranges = [
        "–" if ends is None else " to ".join(dict.fromkeys(f"{end:.2f}" for end in ends))
        for ends in (one.alike, one.only_together)
    ]
    return [
        f"{one.together.query} → {one.together.target}",
        f"{one.together.nats:.2f}",
        "–" if one.mean is None else f"{one.mean.nats:.2f}",
        f"{one.best} {best.nats:.2f}",
        f"{gain:+.2f} ({low:+.2f} to {high:+.2f})",
        *ranges,
    ]


def class_section(measures: ClassMeasures) -> Group:
    """Accuracy by query, by class, and what is taken for what."""
    zero_shot = measures.how == ZERO_SHOT
    if zero_shot:
        prompts = listed([f"“{text}”" for text in measures.prompts])
        text = (
            f"Zero-shot: no label was used. Each class is the mean of the {measures.result.rows[0].target} embeddings "
            f"of its prompts, for “{measures.names[0]}” {prompts}; a row belongs to the class whose mean is nearest."
        )
    else:
        text = (
            "Nearest class centroid: each class is the mean of its training rows' embeddings of the same subset, and a "
            "row belongs to the class whose mean is nearest. This is not zero-shot: the centroids know the labels, the "
            "embeddings were trained without them."
        )
    rows, chance = measures.result.rows, 1 / len(measures.names)
    cells = [[row.query, f"{100 * row.value:.1f}", _interval(row), f"{row.count:,}"] for row in rows]
    caption = (
        f"{len(measures.names)} classes: guessing gives {percent(chance)} %. Intervals are a bootstrap over the rows."
    )
    marked = [i for i, row in enumerate(rows) if row.query == measures.main]
    accuracies = {"accuracy": [100 * row.value for row in rows]}
    svg = to_svg(bars([row.query for row in rows], accuracies, references={"guessing": 100 * chance}))
    parts: list[Part] = [
        Table("Accuracy", ["asked with", "accuracy (%)", "95 % interval", "rows"], cells, caption, marked),
        Figure("Accuracy by query", svg, "; ".join(f"{row.query}: {100 * row.value:.1f} %" for row in rows)),
        *_class_parts(measures),
    ]
    heading = "Zero-shot classification" if zero_shot else "Nearest class centroid"
    return Group(heading, parts, "\n\n".join([text, *measures.notes]))


def _class_parts(measures: ClassMeasures) -> list[Part]:
    """Each class in a table, and the confusions of few classes."""
    names, labels, query = measures.names, measures.labels, measures.main
    predictions, credit = measures.result.predictions[query], measures.result.credit[query]
    asked, several = has_class(labels), labels.ndim == 2
    accuracy, counts = class_accuracy(credit[asked], labels[asked], len(names))
    taken_for: dict[int, str] = {}
    pairs: Counter[tuple[int, int]] = Counter()
    if not several:
        mistaken = asked & (predictions >= 0) & (predictions != labels)
        pairs.update(zip(labels[mistaken].tolist(), predictions[mistaken].tolist()))
    for (own, other), times in pairs.most_common():
        taken_for.setdefault(own, f"{names[other]} ({times})")
    rows = [
        [names[i], f"{100 * float(accuracy[i]):.1f}", f"{int(counts[i]):,}", taken_for.get(i, "–")]
        for i in sorted((i for i in range(len(names)) if counts[i]), key=lambda i: float(accuracy[i]))
    ]
    more = f" The first {_MAX_CLASS_ROWS} of {len(rows)}." if len(rows) > _MAX_CLASS_ROWS else ""
    columns = ["class", "accuracy (%)", "rows", "most often taken for"]
    heading, caption = f"Each class, asked with {query}", f"The worst class first.{more}"
    parts: list[Part] = [
        Table(heading, columns, rows[:_MAX_CLASS_ROWS], caption, (), _folded(rows, "classes")),
    ]
    if 1 < len(names) <= _MAX_CLASSES and not several:
        confused = confusion(predictions[asked], labels[asked], len(names))
        shares = (100 * confused / confused.sum(1, keepdim=True)).tolist()
        svg = to_svg(heatmap(shares, names, names, "share of the class's rows (%)", "taken for", "class"))
        alt = f"Confusions of {len(names)} classes in percent."
        caption = f"Each line is a class, asked with {query}; its numbers add up to 100 %."
        parts.append(Figure("What is taken for what", svg, alt, caption))
    return parts


def overlap_section(retrieval: RetrievalMeasures, classes: ClassMeasures | None) -> Group | None:
    """Which queries are right about which rows: the classes' where there are labels, else the retrieval's."""
    if classes is not None and classes.overlap is not None:
        overlap = classes.overlap
        parts = _overlap_parts(overlap, "name the class right")
        if len(overlap.shares) <= _MAX_SETS and 1 < len(overlap.by_class) <= _MAX_CLASSES:
            label = "share of the class's rows (%)"
            svg = to_svg(
                heatmap(overlap.matrix(), list(overlap.by_class), list(overlap.shares), label, "right by", "class")
            )
            parts.append(Figure("By class", svg, "The same shares for each class."))
        return Group("Who is right", parts)
    if retrieval.overlap is None or retrieval.main is None:
        return None
    what = f"find their {retrieval.main[1]} among the first {retrieval.k}"
    return Group("Who is right", _overlap_parts(retrieval.overlap, what))


def _overlap_parts(overlap: OverlapResult, what: str) -> list[Part]:
    caption = f"Share of {overlap.count:,} rows that {what} by these queries and by no other."
    if overlap.left_out:
        caption += f" {overlap.left_out:,} rows are not complete for every query, and are left out."
    fused = next((name for name in overlap.queries if name.startswith("mean(") or Subset.parse(name).is_fused), None)
    if fused is not None:
        alone = overlap.shares.get(f"{fused} only", 0.0)
        single = sum(v for name, v in overlap.shares.items() if fused not in name and name not in ("all", "none"))
        caption += f" Only {fused}: {percent(alone)} %. Only single ones, and not {fused}: {percent(single)} %."
    largest = sorted(overlap.shares, key=lambda name: -overlap.shares[name])[:_MAX_SETS]
    shares = {name: value for name, value in overlap.shares.items() if name in largest and value > 0}
    if (rest := 1 - sum(shares.values())) > 1e-6:
        shares["other sets"] = rest
    figure = stacked_bars(["rows"], {name: [100 * value] for name, value in shares.items()}, "share of rows (%)")
    alt = "; ".join(f"{name}: {percent(value)} %" for name, value in shares.items())
    rows = [[name, percent(value)] for name, value in overlap.shares.items()]
    return [Figure("", to_svg(figure), alt, caption), Table("The shares", ["right by", "rows (%)"], rows)]


def robustness_section(result: Robustness) -> Group | None:
    """What queries find when a part of them is disturbed: fused, by the mean of embeddings, by the best part."""
    if not result.lines:
        return None
    k, columns = result.lines[0].k, ["", "disturbed", "fused", "mean", "best part"]
    averages, parts = result.averages(), []
    if averages:
        ways = {"fused": "fused", "mean": "mean", "best part": "single"}
        values = {name: [100 * getattr(line, way) for line in averages] for name, way in ways.items()}
        labels = [line.disturbance for line in averages]
        figure = to_svg(bars(labels, values, x_label=f"recall@{k} (%)"))
        alt = "; ".join(", ".join(line_cells(line)[1:]) for line in averages)
        caption = "The mean over all queries and over the part of each that is disturbed."
        parts.append(Figure(f"Recall at {k} by disturbance", figure, alt, caption))
    rows = [line_cells(line) for line in result.lines]
    caption = (
        f"Recall at {k} in percent among {result.lines[0].count:,} rows. best part: the single modality that finds "
        "most under this disturbance."
    )
    parts.append(Table("Every query", columns, rows, caption, (), _folded(rows, "lines")))
    text = (
        "One part of each query is disturbed at a time; the targets stay as they are. missing: what is left of the "
        "query asks. exchanged: the part is that of another row. noise: normal noise at a signal-to-noise ratio. "
        "adversarial: each number is moved by a tenth of the spread of all of them at most, by five steps along the "
        "gradient that makes the query less like its own target; each of the three ways of asking is attacked by "
        "itself."
    )
    return Group("When a part is disturbed", parts, "\n\n".join([text, *result.sentences()]))


def availability_parts(retrieval: RetrievalMeasures, classes: ClassMeasures | None) -> list[Part]:
    """Retrieval of the main target and accuracy, by what rows have."""
    parts: list[Part] = []
    if retrieval.main is not None:
        target, name_of = retrieval.main[1], "rows with {}".format
        found = retrieval.available[target]
        rows = []
        for query in [*map(name_of, found.ranked), EVERY_ROW]:
            row = retrieval.find("median rank", query, str(target))
            if row is not None:
                cells = [_value(retrieval.find(f"recall@{k}", query, str(target)), 100) for k in retrieval.ks]
                rows.append([query, row.note.removeprefix("asked with "), f"{row.count:,}", *cells, f"{row.value:.1f}"])
        for available, count in found.unasked.items():
            dashes = ["–"] * (len(retrieval.ks) + 1)
            rows.append([name_of(available or "nothing else"), "cannot ask", f"{count:,}", *dashes])
        without = found.without_target
        lacking = f" {without:,} rows have no {target}, and cannot be right." if without else ""
        columns = ["", "asks with", "rows", *(f"recall@{k} (%)" for k in retrieval.ks), "median rank"]
        caption = (
            f"Each row asks with the largest subset that it has, in one gallery: every row with {target}.{lacking}"
        )
        parts.append(Table(f"Finding {target}, by what a row has", columns, rows, caption))
        recalls = [retrieval.find(f"recall@{retrieval.k}", name_of(one), str(target)) for one in found.ranked]
        if len(known := [row for row in recalls if row is not None]) > 1:
            values = {"recall": [100 * row.value for row in known]}
            svg = to_svg(bars([row.query for row in known], values, x_label=f"recall@{retrieval.k} (%)"))
            alt = "; ".join(f"{row.query}: {percent(row.value)} %" for row in known)
            parts.append(Figure(f"Recall at {retrieval.k} by what a row has", svg, alt))
    accuracies = [] if classes is None else [row for row in classes.rows if row.metric == "accuracy"]
    by_rows = [row for row in accuracies if row.query == EVERY_ROW or row.query.startswith("rows with ")]
    if classes is not None and by_rows:
        cells = [[row.query, f"{100 * row.value:.1f}", _interval(row), f"{row.count:,}"] for row in by_rows]
        not_asked = f" Its {by_rows[0].target} is not asked." if classes.how == ZERO_SHOT else ""
        caption = f"Each row answers with the largest subset that it has.{not_asked}"
        columns = ["", "accuracy (%)", "95 % interval", "rows"]
        parts.append(Table("Accuracy, by what a row has", columns, cells, caption))
    return parts
