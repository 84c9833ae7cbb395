"""Files and API answers, each fetched once and noted in a step's log with its source, licence and author."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confu_paper.collecting.client import FileLimits, Refused, Unavailable, file_facts
from confu_paper.collecting.collection import Collection, Taxon, expected_shape
from confu_paper.collecting.step_log import StepLog, progress_bar

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

    def __init__(self, job: Collection, log: StepLog, limits: FileLimits) -> None:
        self._job, self._log, self._limits = job, log, limits
        self._failed: list[tuple[FileRequest, str]] = []
        self._any_kept = False

    def keep(self, request: FileRequest) -> bool:
        """Whether this file is there now; `Unavailable` if this and four before it could not be had."""
        stem = self._job.out / request.stem
        try:
            # A process that was killed between the file and its note left the file: it is not fetched again.
            left = sorted(stem.parent.glob(f"{stem.name}.*"))
            file = left[0] if left else self._job.http.download(request.url, stem, self._limits)
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
        self._note(request, "kept", file_facts(file, self._job.out))
        return True

    def finish(self) -> None:
        """Note the files that failed although others came; `Unavailable` if none came in this run."""
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


def fetch_files(
    job: Collection,
    log: StepLog,
    limits: FileLimits,
    candidates: Callable[[Taxon], Iterable[FileRequest]],
    worth: Callable[[Mapping[str, Any]], int] = lambda record: 1,
) -> StepLog:
    """Fetch files of each species until those that are there are worth `per_species`, or none is left.

    Args:
        log: of the files; its name is that of their folder.
        limits: what a file has to be.
        candidates: the files of a species that may be fetched, in the order in which they are.
        worth: what a file counts, by its record.

    Raises:
        Unavailable: the host does not answer; what was finished stays.
    """
    clear_partial(job.out / log.file.stem)
    downloads, kept = Downloads(job, log, limits), Counter()
    for record in log:
        kept[record["taxon_id"]] += worth(record) if record["outcome"] == "kept" else 0
    with progress_bar(log.file.stem, job.progress) as bar:
        task = bar.add_task(log.file.stem, total=job.per_species * len(job.taxa))
        for place, (number, taxon) in enumerate(job.taxa.items()):
            for request in candidates(taxon) if kept[number] < job.per_species else ():
                if log.done(request.key):
                    continue
                kept[number] += worth(request.record) if downloads.keep(request) else 0
                bar.update(task, completed=place * job.per_species + min(kept[number], job.per_species))
                if kept[number] >= job.per_species:
                    break
        downloads.finish()
    return log


def clear_partial(folder: Path) -> None:
    """Remove what a killed process had half written under a folder."""
    for file in list(folder.rglob(".*.partial")) if folder.is_dir() else ():
        file.unlink()


def logged_answer(log: StepLog, key: str, ask: Callable[[], Mapping[str, Any]], taxon: str) -> dict[str, Any]:
    """What a source answered to one request on a species, from the log if it was sent before.

    Args:
        log: of the answers.
        key: of the request.
        ask: sends it, and returns what is to be kept of the answer, with an `outcome`.
        taxon: number of the species.

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
        log.add(key, {"taxon_id": taxon, **record})
    return log.get(key)
