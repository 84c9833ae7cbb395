"""Folders that appear whole or not at all."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

_LOCK = ".lock"


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name when the block ends, and vanishes if the block fails.

    A process that is killed cannot clean up, so what it left is removed the next time. A folder that is still being
    written is told from one that was left by a lock, which the system drops with its process.

    Args:
        out: must not exist, or be an empty folder.

    Raises:
        ValueError: `out` exists and is not an empty folder.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     with whole_folder(Path(place) / "data") as folder:
    ...         _ = (folder / "a.txt").write_text("whole")
    ...     [str(path.relative_to(place)) for path in Path(place).rglob("*")]
    ['data', 'data/a.txt']
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out}: exists already; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.unfinished-"
    for left in out.parent.glob(f"{prefix}*"):
        if not _in_use(left):
            shutil.rmtree(left)
    folder = Path(mkdtemp(prefix=prefix, dir=out.parent))
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
            (folder / _LOCK).unlink()
            folder.chmod(0o755)  # mkdtemp's is readable by its owner only
            folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    lock_file = folder / _LOCK
    if not lock_file.exists():
        return False
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
