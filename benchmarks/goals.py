"""The goals, as ratios to named peers in one run, and where they stand in what was measured.

Each goal says where its number is found; one that was not measured is shown as such, never left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]
Found = dict[tuple[str, int], Results]
FLOOR, CONFU = "released code's way", "confu"


@dataclass(frozen=True)
class Goal:
    """A ratio that shall be small.

    Attributes:
        what: of what to what.
        first: what was hoped for.
        ambitious: what would be better still.
        part: which results hold it, a key of `parts.PARTS`.
        value: reads it: ratio, low and high, and the peer's time in words.
        limit: below which it cannot be.
        unit: of the numbers, if they are no ratios.
    """

    what: str
    first: float | None
    ambitious: float | None
    part: str
    value: Callable[[Results], Results | None]
    limit: str = ""
    unit: str = ""


def _goals() -> Iterator[Goal]:
    limits = {256: ".36: three products", 16384: ".15: four products"}
    for n, first, ambitious in ((64, 0.95, 0.6), (256, 0.6, 0.5), (1024, 0.45, 0.32), (4096, 0.27, 0.22),
                                (16384, 0.22, 0.18)):  # fmt: skip
        yield Goal(f"loss / released code's way, N = {n}", first, ambitious, _loss_part(n), _loss(n, "", FLOOR),
                   limits.get(n, ""))  # fmt: skip
    for n, first, ambitious in ((256, 0.85, 0.7), (1024, 0.65, 0.52), (4096, 0.3, 0.25)):
        yield Goal(f"loss / the same on the chosen backend, N = {n}", first, ambitious, "loss",
                   _loss(n, "to chosen backend", "the same, chosen backend"))  # fmt: skip
    for n in (1024, 4096, 16384):
        value = _loss(n, "to four products", "floor of four products")
        yield Goal(f"loss / four products a term, N = {n}", 1.3, 1.1, _loss_part(n), value, "1.0")
    yield Goal("peak memory at N = 16384", 256, 200, "loss-memory", _memory, unit=" MiB")
    for m in (3, 4, 5, 6):
        yield Goal(f"loss of {m} modalities / released code's way", 0.47, 0.38, "loss", _many(m), ".25 to .31")
    for way, first, ambitious in (("all exact ones: the defaults", 0.67, 0.6), ("defaults, bfloat16", 0.38, 0.33),
                                  ("defaults, both", 0.38, 0.33)):  # fmt: skip
        yield Goal(f"step, {way} / released code's shape", first, ambitious, "step", _step(way))
    for kind in ("float32 in memory", "bytes in memory", "bytes memory-mapped"):
        for workers in (0, 2):
            yield Goal(f"batch supply, {kind} / DataLoader, {workers} workers", 0.15, 0.08, "supply",
                       _supply(kind, f"DataLoader, {workers} workers"))  # fmt: skip
    yield Goal("top-10 of 1 M x 256 / FAISS Flat", 0.8, 0.6, "search", _search, ".49")
    for share in (2, 4, 8):
        yield Goal(f"cached gradients, {share} parts / plain step", 1.4, 1.34, "cached-gradients", _cached(share),
                   "4/3")  # fmt: skip


def _loss_part(n: int) -> str:
    return "loss-large" if n > 4096 else "loss"


def _row(results: Results, **wanted: Any) -> Results | None:
    rows = results["rows"]
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), None)


def _loss(n: int, key: str, peer: str) -> Callable[[Results], Results | None]:
    def value(results: Results) -> Results | None:
        mine, theirs = _row(results, what=f"N = {n}", way=CONFU), _row(results, what=f"N = {n}", way=peer)
        found = mine and (mine.get(key) if key else mine)
        if not found or not theirs or "ratio" not in found:
            return None
        return {"ratio": found["ratio"], "low": found["low"], "high": found["high"], "peer": _ms(theirs["ms"])}

    return value


def _many(m: int) -> Callable[[Results], Results | None]:
    def value(results: Results) -> Results | None:
        rows = [row for row in results["rows"] if row["what"].startswith(f"M = {m} ")]
        found = {row["way"]: row for row in rows}
        return found and {key: found[CONFU][key] for key in ("ratio", "low", "high")} | {
            "peer": _ms(found[FLOOR]["ms"])
        }

    return value


def _memory(results: Results) -> Results | None:
    found = [one["mib"] for one in results["peak_memory_mib"] if (one["way"], one["n"]) == (CONFU, 16384)]
    return {"ratio": found[0], "peer": "released code's way: 14.3 GiB"} if found else None


def _step(way: str) -> Callable[[Results], Results | None]:
    return lambda results: _with_peer(results, _row(results, way=way), results["rows"][0])


def _cached(share: int) -> Callable[[Results], Results | None]:
    def value(results: Results) -> Results | None:
        rows = results["settings"]["rows"] // share
        return _with_peer(results, _row(results, way=f"in parts of {rows}"), results["rows"][0])

    return value


def _search(results: Results) -> Results | None:
    peer = _row(results, question="top-10", contender="FAISS Flat")
    return peer and _with_peer(results, _row(results, question="top-10", contender="confu, two levels"), peer)


def _supply(kind: str, peer: str) -> Callable[[Results], Results | None]:
    def value(results: Results) -> Results | None:
        row = _row(results, kind=kind, supply=peer)
        return row and row["confu's ratio"] | {"peer": f"{row['ms a batch']:.2f} ms a batch"}

    return value


def _with_peer(results: Results, row: Results | None, peer: Results) -> Results | None:
    clock = "cpu_ms" if results["settings"]["threads"] == 1 else "wall_ms"
    return row and {key: row[key] for key in ("ratio", "low", "high")} | {"peer": _ms(peer[clock]["median"])}


def _ms(value: float) -> str:
    return f"{value / 1e3:.1f} s" if value >= 1e3 else f"{value:.1f} ms"


def measured_goals(found: Found) -> list[dict[str, Any]]:
    """A row for each goal: what it asks, and by number of threads what was measured, or None."""
    rows = []
    for goal in GOALS:
        ours = {}
        for threads in (1, 2):
            results = found.get((goal.part, threads))
            ours[str(threads)] = (goal.value(results) if results is not None else None) or None
        rows.append({"what": goal.what, "first": goal.first, "ambitious": goal.ambitious, "limit": goal.limit,
                     "unit": goal.unit, "ours": ours, "part": goal.part})  # fmt: skip
    return rows + list(_on_gpu(found.get(("gpu-loss", 0))))


def _on_gpu(results: Results | None) -> Iterator[dict[str, Any]]:
    """The goals that need a GPU, at each batch size that `gpu_loss.py` measured."""
    mine = [row for row in results["loss"] if row["way"] == CONFU] if results else [{}]
    for row in mine:
        for what, peer, first, ambitious, limit in ON_GPU:
            size = f", N = {row['n']}" if row else ""
            measured = {"GPU": {**row[f"to {peer}"], "peer": results["settings"]["device"]}} if row and results else {}
            yield {"what": f"GPU loss / {what}{size}", "first": first, "ambitious": ambitious, "limit": limit,
                   "unit": "", "ours": {"1": None, "2": None} | measured, "part": "gpu_loss.py"}  # fmt: skip


GOALS = tuple(_goals())
ON_GPU = (
    ("cuBLAS bf16, four products", "floor of four products", 2.0, 1.4, "1.0"),
    ("Inf-CL's arithmetic", "Inf-CL's arithmetic", 0.6, 0.4, ".4 to .5"),
)
