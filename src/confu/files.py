"""Files that are written whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on an error nothing stays behind.

    The temporary file lies in the same folder because a rename is atomic only within one file system.

    Args:
        path: where the file shall be; its folder is made if there is none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same name: what a killed process left is overwritten by the next one.
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)
    temporary.touch()
    mode = temporary.stat().st_mode
    temporary.unlink()
    try:
        yield temporary
        temporary.chmod(mode)  # safetensors makes files that only their owner may read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 (says what it does)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
