"""Forks writers to be killed: `python -m index.kill_index FOLDER`, then for each writer a line with its seconds.

Write w replaces ten items of the one before and adds ten; between two writes some are deleted, and now and then
the store is merged.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from confu.index import Index
from index.made import ABOUT, items


def added(write: int) -> range:
    """The numbers of the items of a write."""
    return range(10 * write, 10 * write + 20)


def deleted(write: int) -> list[str]:
    """The ids that are deleted after a write."""
    return [f"id{10 * write + 3}", f"id{10 * write + 14}"]


def state(write: int, after: bool) -> dict[str, str]:
    """id -> text of what the index holds after a write, and perhaps after the deletion that follows it."""
    texts: dict[str, str] = {}
    for one in range(1, write + 1):
        texts |= {f"id{number}": f"bird {number} of {one}" for number in added(one)}
        if one < write or after:
            for id in deleted(one):
                texts.pop(id, None)
    return texts


def write_forever(folder: Path, seconds: float) -> None:
    """Write, and be killed by the system after so many seconds of processor time, at whatever is done then."""
    with Index.open(folder, writable=True) as index:
        write = index.about.source.get("write", 0)
        if write:
            index.delete(deleted(write))
        first = write
        while True:
            write += 1
            new = items(20, seed=write, start=10 * write)
            texts = [f"bird {number} of {write}" for number in added(write)]
            new = type(new)(new.table, new.metadata, {**new.media, "text": texts})
            index.add_parts([new], replace=True, source={"write": write})
            if write == first + 1:
                signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-4))
            index.delete(deleted(write))
            if write % 4 == 0:
                index.compact()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    Index.create(folder, ABOUT).close()
    print("ready", flush=True)
    for line in sys.stdin:
        if not (child := os.fork()):
            try:
                write_forever(folder, float(line))
            finally:
                os._exit(1)
        print("ended by signal", -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
