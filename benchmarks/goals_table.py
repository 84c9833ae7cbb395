"""The table of goals, and which of them are met."""

from typing import Any

from rich.table import Table

Found = dict[tuple[str, int], dict[str, Any]]


def missing_peers(found: Found) -> list[str]:
    """Peers that are not installed, each once, as the parts say it."""
    return sorted({line for one in found.values() for line in one.get("missing", [])})


def goals_table(rows: list[dict[str, Any]]) -> Table:
    """What, goals, ours with one thread and two, whether the goals are met, the peer's time, and where it is from."""
    found = Table(title="Goals, as ratios in one run: one thread by CPU time, two by wall time; median (quartiles)")
    for column in ("what", "first", "ambitious", "limit", "1 thread", "2 threads", "goal", "peer, 1t; 2t", "where"):
        left = column in ("what", "where", "peer, 1t; 2t")
        found.add_column(column, justify="left" if left else "right", no_wrap=column in ("what", "where"))
    for row in rows:
        ours = [row["ours"].get("GPU") or row["ours"]["1"], row["ours"]["2"]]  # a GPU's number in the first column
        peers = "; ".join(one["peer"] for one in ours if one)
        found.add_row(row["what"], _number(row["first"]), _number(row["ambitious"]), row["limit"],
                      *(_measured(one, row["unit"]) for one in ours), standing(row), peers, row["part"])  # fmt: skip
    return found


def standing(row: dict[str, Any]) -> str:
    """Which goal the worse of the measured numbers of threads meets."""
    measured = [one["ratio"] for one in row["ours"].values() if one]
    if not measured:
        return "not measured"
    worst = max(measured)
    return "ambitious" if worst <= row["ambitious"] else "first" if worst <= row["first"] else "missed"


def _measured(one: dict[str, Any] | None, unit: str) -> str:
    if one is None:
        return "-"
    spread = f" ({one['low']:.2f}-{one['high']:.2f})" if "low" in one else ""
    return f"{one['ratio']:.0f}{unit}" if unit else f"{one['ratio']:.2f}{spread}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
