"""All benchmarks in one go, and one table: the goals, as ratios to named peers, and what was measured.

python benchmarks/run_all.py                          # one thread and two: some 25 minutes on two quiet cores, 15 GiB
python benchmarks/run_all.py --threads 1 --only loss step
python benchmarks/run_all.py --long                   # more repeats, rows and ways: two hours and more
python benchmarks/run_all.py --quick                  # only whether all peers compute what confu computes: seconds

Each part is a process of its own and writes a JSON file under `runs/benchmarks/`. A part that is there, of the same
arguments, is not run again, unless by `--fresh`: the run can be broken off at any time and goes on where it was.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import json
from pathlib import Path
from typing import Any

from goals import measured_goals
from goals_plot import draw
from goals_table import goals_table, missing_peers
from measure import in_own_process
from parts import PARTS, Part, checks
from rich.console import Console

from confu import versions
from confu.files import write_json

HERE = Path(__file__).parent
Found = dict[tuple[str, int], dict[str, Any]]


def main() -> None:
    options = parsed()
    if options.quick:
        for name, check in checks().items():
            print(f"== {name}", flush=True)
            in_own_process(check)
        return
    wanted = [(name, threads) for threads in options.threads for name in options.only if threads in PARTS[name].threads]
    failed = [] if options.table else run(wanted, options)
    found = read(options.folder)
    rows = measured_goals(found)
    console = Console(width=options.width)
    console.print(goals_table(rows))
    missing = missing_peers(found)
    for line in missing:
        console.print(f"peer missing: {line}")
    commits = {one["versions"].get("commit", "no checkout") for one in found.values()}
    if len(commits) > 1:
        console.print(f"the parts are of {len(commits)} commits; --fresh measures them at one: {', '.join(commits)}")
    pictures = draw(rows, found, options.folder) if found else []
    parts = [
        {"part": name, "threads": threads, "commit": one["versions"].get("commit"), **one["run"]}
        for (name, threads), one in found.items()
    ]
    content = {"machine": machine(), "versions": versions(), "goals": rows, "missing": missing, "parts": parts}
    write_json(options.folder / "bench.json", content)
    console.print(f"written to {options.folder}/bench.json, " + ", ".join(picture.name for picture in pictures))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; what they printed is above")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only check that all ways give the same: seconds")
    parser.add_argument("--threads", choices=["1", "2", "both"], default="both")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--long", action="store_true", help="more repeats, rows and ways")
    parser.add_argument("--table", action="store_true", help="run nothing; the table of what is there")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks"), help="where to write")
    parser.add_argument("--width", type=int, default=170, help="of the table, in characters")
    options = parser.parse_args()
    options.threads = [1, 2] if options.threads == "both" else [int(options.threads)]
    return options


def run(wanted: list[tuple[str, int]], options: argparse.Namespace) -> list[str]:
    """Run what is not there yet; the names of what failed."""
    due = [one for one in wanted if options.fresh or not is_done(*one, options)]
    for name, threads in wanted:
        if (name, threads) not in due:
            print(f"{name}, {threads} thread(s): done before", flush=True)
    failed = []
    for place, (name, threads) in enumerate(due):
        left = sum(_minutes(*one, options) for one in due[place:])
        print(f"[{place + 1}/{len(due)}] {name}, {threads} thread(s): about {_minutes(name, threads, options):.1f} "
              f"minutes; all that is left: {left:.0f}", flush=True)  # fmt: skip
        started, file = time.perf_counter(), file_of(name, threads, options.folder)
        command = [sys.executable, str(HERE / f"{PARTS[name].script}.py"), *arguments(PARTS[name], options),
                   "--threads", str(threads), "--json", str(file)]  # fmt: skip
        file.unlink(missing_ok=True)
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            failed.append(f"{name} with {threads} thread(s)")
            continue
        content = json.loads(file.read_text())
        content["run"] = {"arguments": arguments(PARTS[name], options), "seconds": round(seconds, 1)}
        write_json(file, content)
        print(f"  {name}: {seconds / 60:.1f} minutes", flush=True)
    return failed


def arguments(part: Part, options: argparse.Namespace) -> list[str]:
    return shlex.split(part.long if options.long and part.long is not None else part.short)


def _minutes(name: str, threads: int, options: argparse.Namespace) -> float:
    part = PARTS[name]
    minutes = part.long_minutes if options.long and part.long is not None else part.minutes
    return minutes / (1 if threads == 1 else 1.7)


def file_of(name: str, threads: int, folder: Path) -> Path:
    return folder / f"{name}-{threads}t.json"


def is_done(name: str, threads: int, options: argparse.Namespace) -> bool:
    file = file_of(name, threads, options.folder)
    return file.is_file() and json.loads(file.read_text()).get("run", {}).get("arguments") == arguments(
        PARTS[name], options
    )


def read(folder: Path) -> Found:
    """What was measured, by part and number of threads."""
    found = {}
    for name, part in PARTS.items():
        for threads in part.threads:
            file = file_of(name, threads, folder)
            content = json.loads(file.read_text()) if file.is_file() else {}
            if "run" in content:  # else it was broken off, or started by hand with other arguments
                found[name, threads] = content
    if (file := folder / "gpu-loss.json").is_file():  # of `gpu_loss.py`, which is started by hand where there is a GPU
        found["gpu-loss", 0] = {"run": {}, **json.loads(file.read_text())}
    return found


def machine() -> dict[str, Any]:
    """The processor, its cores, and memory."""
    model, memory = "unknown", None
    if (cpu := Path("/proc/cpuinfo")).is_file():
        lines = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return {"processor": model, "cores": os.cpu_count(), "memory GiB": memory, "load average": os.getloadavg()}


if __name__ == "__main__":
    main()
