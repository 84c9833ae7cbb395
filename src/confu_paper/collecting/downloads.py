"""Files and API answers, each fetched once and noted in a step's log with its source, licence and author."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confu_paper.collecting.body import FileLimits, Refused, Unavailable, find_download
from confu_paper.collecting.client import Client
from confu_paper.collecting.step_log import StepLog

_FAILURES_IN_A_ROW = 5  # after which it is the host that is down and not this file


@dataclass(frozen=True)
class FileRequest:
    """A file to fetch.

    Attributes:
        key: in the log.
        url: of the file.
        stem: its path under the collection's folder, without the suffix.
        record: what is noted of it, besides `file`, `bytes`, `sha256`, `source_url` and `outcome`.
    """

    key: str
    url: str
    stem: str
    record: Mapping[str, Any] = field(default_factory=dict)


class Downloads:
    """Fetches files into a collection's folder and notes how each ended.

    A file that failed after every try is noted as lost once others come through again; as long as none does, the host
    is down: nothing is noted, and the next run requests it again.
    """

    def __init__(self, client: Client, log: StepLog, out: Path, limits: FileLimits) -> None:
        self._client, self._log, self._out, self._limits = client, log, out, limits
        self._failed: list[tuple[FileRequest, str]] = []
        self._any_kept = False

    def keep(self, request: FileRequest) -> bool:
        """Whether this file is there now, from this run or an earlier one.

        Raises:
            Unavailable: this and four before it could not be had.
        """
        if self._log.done(request.key):
            return self._log.get(request.key)["outcome"] == "kept"
        stem = self._out / request.stem
        try:
            # A process that was killed between the file and its note left the file: it is not fetched again.
            download = find_download(stem) or self._client.download(request.url, stem, self._limits)
        except Refused as refused:
            self._note(request, refused.reason)
            return False
        except Unavailable as error:
            self._failed.append((request, error.reason))
            if len(self._failed) >= _FAILURES_IN_A_ROW:
                raise
            return False
        self._any_kept = True
        self._note_failed()
        self._note(request, "kept", download.facts(self._out))
        return True

    def finish(self) -> None:
        """Note the files that failed although others came.

        Raises:
            Unavailable: none came in this run: the host is down.
        """
        if self._failed and not self._any_kept:
            request, reason = self._failed[0]
            keys = ", ".join(failed.key for failed, _ in self._failed)
            raise Unavailable(f"{reason}; nothing could be had, not {keys}", request.url)
        self._note_failed()

    def _note_failed(self) -> None:
        for request, reason in self._failed:
            self._note(request, f"lost: {reason}")
        self._failed.clear()

    def _note(self, request: FileRequest, outcome: str, facts: Mapping[str, Any] | None = None) -> None:
        record = {"outcome": outcome, **request.record, "source_url": request.url, **(facts or {})}
        self._log.add(request.key, record)


def clear_partial(folder: Path) -> None:
    """Remove what a killed process had half written under a folder."""
    for file in list(folder.rglob(".*.partial")) if folder.is_dir() else ():
        file.unlink()


def logged_answer(
    log: StepLog, key: str, ask: Callable[[], Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """What a source answered to one request, from the log if it was sent before.

    Args:
        log: of the answers.
        key: of the request.
        ask: sends it, and returns what is to be kept of the answer, with an `outcome`.
        about: is noted beside it.

    Returns:
        the record; a final refusal is its `outcome`.

    Raises:
        Unavailable: no answer for now; nothing is noted.
        ValueError: an answer of another shape; nothing is noted.
    """
    if not log.done(key):
        try:
            with expected_shape(f"{log.file.name}, {key}"):
                record = ask()
        except Refused as refused:
            record = {"outcome": refused.reason}
        log.add(key, {**about, **record})
    return log.get(key)


@contextmanager
def expected_shape(where: str) -> Iterator[None]:
    """Turn the error of a JSON answer that lacks what its API promises into one that says where and what."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where}: the answer is not what the API's documentation promises ({type(error).__name__}: {error}); "
            "the API may have changed"
        ) from error
