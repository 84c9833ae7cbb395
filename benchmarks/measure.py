"""Time and memory of functions that do one step."""

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Step = Callable[[], object]


def interleaved(steps: Mapping[str, Step], repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """CPU and wall milliseconds of each function, called in turn so that a busy machine slows all alike.

    Returns:
        name -> "cpu_ms" and "wall_ms" -> median, first and third quartile, least.
    """
    for step in steps.values():
        step()  # the first call also loads libraries and grows buffers
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


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high, "least": min(values)}


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
