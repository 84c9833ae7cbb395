"""Time and memory of functions that do one step, and what all benchmarks ask on the command line and write down."""

import argparse
import gc
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from confu import versions
from confu.files import write_json

Step = Callable[[], object]
Times = dict[str, dict[str, dict[str, Any]]]


def parser(doc: str | None, name: str, repeats: int | None = None) -> argparse.ArgumentParser:
    """What every benchmark can be asked: `--quick`, `--repeats`, `--threads` and `--json`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="only check that all ways give the same: seconds")
    made.add_argument("--repeats", type=int, default=repeats, help="rounds in which all are called in turn")
    made.add_argument("--threads", type=int, default=1, help="one: CPU time is compared; more: wall time")
    made.add_argument("--json", type=Path, default=Path(f"runs/benchmarks/{name}.json"), help="where to write")
    return made


def clock_of(threads: int) -> str:
    """CPU time of one thread, which other work on the machine disturbs least; of more it says nothing."""
    return "cpu_ms" if threads == 1 else "wall_ms"


def write_results(options: argparse.Namespace, settings: Mapping[str, Any], **results: Any) -> None:
    """Write what was asked, on what machine it was measured, and what came out."""
    asked = {key: value for key, value in vars(options).items() if key not in ("json", "quick")}
    where = {"load average at the end": os.getloadavg(), "cores": os.cpu_count()}
    content = {"settings": asked | where | dict(settings), "versions": versions(), **results}
    write_json(options.json, json.loads(json.dumps(content, default=str)))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; written to {options.json}", flush=True)


def interleaved(steps: Mapping[str, Step], repeats: int, warm_up: bool = True) -> Times:
    """CPU and wall milliseconds of each function, called in turn so that a busy machine slows all alike.

    Args:
        steps: by name.
        repeats: rounds.
        warm_up: call each once before, as the first call also loads libraries and grows buffers.

    Returns:
        name -> "cpu_ms" and "wall_ms" -> median, first and third quartile, least, and each round's.
    """
    if warm_up:
        for step in steps.values():
            step()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: {clock: _spread([1e3 * one[k] for one in found]) for k, clock in enumerate(("cpu_ms", "wall_ms"))}
        for name, found in times.items()
    }


def ratio(times: Times, name: str, to: str, clock: str = "cpu_ms") -> dict[str, float]:
    """Median and quartiles of the ratios of two functions in each round, as what disturbs a round disturbs both."""
    found = [own / peer for own, peer in zip(times[name][clock]["each"], times[to][clock]["each"])]
    spread = _spread(found)
    return {"ratio": spread["median"], "low": spread["low"], "high": spread["high"]}


def _spread(values: list[float]) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high, "least": min(values), "each": values}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a copy of this process, which must not have used autograd yet.

    Raises:
        RuntimeError: if it ended without an answer; what it printed says why.
    """
    context = get_context("fork")  # a new interpreter would spend seconds on imports, for each of many measurements
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=lambda: send.send(function(*arguments)))
    child.start()
    send.close()
    try:
        return receive.recv()
    except EOFError as error:
        raise RuntimeError(f"{function.__name__}{arguments} ended without an answer") from error
    finally:
        child.join()


def peak_above_base(step: Step, warm_up: Step) -> int:
    """Bytes by which two steps raise the resident memory of this process, which must have done nothing else before.

    `ru_maxrss` never falls, so what the imports needed for a moment would hide a small peak. On Linux the same mark is
    set back to what is resident now, and read where it can be set back.
    """
    warm_up()
    gc.collect()
    status = Path("/proc/self/status")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: what the import needed for a moment counts as base
        before = _max_rss()
        step(), step()
        return _max_rss() - before
    before = _field(status, "VmRSS")
    step(), step()
    return _field(status, "VmHWM") - before


def _field(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def _max_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
