"""Reports: rows of measured numbers with the settings and versions behind them, and their summary over seeds."""

import json
import math
import platform
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from confu.files import written_whole

FORMAT = "confu.report"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ReportRow:
    """One measured number.

    Attributes:
        metric: e.g. `"accuracy"`, `"recall@1"`, `"median rank"`.
        query: the subset that asks, as text, e.g. `"image+audio"`, or `"mean(image, audio)"`.
        value: a fraction in [0, 1] for accuracy and recall, a rank from 1 for ranks.
        count: how many rows it is measured on.
        method: what was trained, e.g. `"confu"`.
        seed: the seed of the training run.
        note: what a reader must know to compare it.
        low: the lower end of a confidence interval, None if none was computed.
        high: its upper end.
        confidence: its level, e.g. 0.95.

    Raises:
        ValueError: if a number is not finite, or the interval is not whole or upside down.
    """

    metric: str
    query: str
    target: str
    value: float
    count: int
    method: str = ""
    seed: int = 0
    note: str = ""
    low: float | None = None
    high: float | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        where = f"{self.metric} ({self.query} -> {self.target})"
        if not math.isfinite(self.value):
            raise ValueError(f"value of {where} must be finite; got {self.value}")
        interval = (self.low, self.high, self.confidence)
        if interval == (None, None, None):
            return
        if self.low is None or self.high is None or self.confidence is None:
            raise ValueError(f"low, high and confidence of {where} come together or not at all; got {interval}")
        if not -math.inf < self.low <= self.high < math.inf or not 0 < self.confidence < 1:
            raise ValueError(
                f"the interval of {where} needs finite low <= high and a confidence between 0 and 1; got {interval}"
            )


def versions() -> dict[str, str]:
    """What the numbers were made with: confu, torch, Python, platform, and the git commit of a checkout.

    Returns:
        by name; `commit` is there only if the package runs from a git checkout that tracks it, and ends in
        `" (dirty)"` if files differ from the commit.

    Example:
        >>> sorted(set(versions()) - {"commit"})
        ['confu', 'platform', 'python', 'torch']
    """
    try:
        confu = version("contrastive-fusion")
    except PackageNotFoundError:
        confu = "not installed"
    result = {
        "confu": confu,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    here = Path(__file__)
    # A package installed under somebody else's checkout is not tracked by it, and must not report its commit.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name):
        commit = _git(here.parent, "rev-parse", "HEAD")
        dirty = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
        if commit:
            result["commit"] = commit + (" (dirty)" if dirty else "")
    return result


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # without git there is no commit to report
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


@dataclass(frozen=True)
class Report:
    """The rows of one evaluation.

    Attributes:
        rows: the numbers.
        settings: JSON-able; the resolved settings of the run.
        versions: see `versions()`.

    Example:
        >>> report = Report([ReportRow("recall@1", "image", "text", 0.5, count=8)], settings={"dim": 4})
        >>> Report.from_dict(report.to_dict()) == report
        True
    """

    rows: list[ReportRow]
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON holds; `from_dict` reads it back."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "settings": self.settings,
            "versions": self.versions,
            "rows": [{name: value for name, value in asdict(row).items() if value is not None} for row in self.rows],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Report":
        """The report that `to_dict` wrote."""
        if data.get("format") != FORMAT:
            raise ValueError(f"expected a report of confu with format {FORMAT!r}; got {data.get('format')!r}")
        if data.get("version") != FORMAT_VERSION:
            raise ValueError(f"the report has version {data.get('version')}, this confu reads {FORMAT_VERSION}")
        try:
            rows = [ReportRow(**row) for row in data["rows"]]
            return cls(rows, data["settings"], data["versions"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"the report does not have the fields of a report: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with written_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """Read what `save` wrote.

        Raises:
            ValueError: naming the file, if it is missing, cut short or not a report.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"there is no report at {path}")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not whole JSON ({error}); evaluate again") from error
        if not isinstance(data, dict):
            raise ValueError(f"{path} is not a report of confu: it holds a {type(data).__name__}")
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Summary:
    """One number over seeds.

    Attributes:
        method, metric, query, target: as in `ReportRow`.
        mean: over the seeds.
        std: the sample standard deviation (divisor seeds - 1); None for one seed.
        seeds: the seeds, ascending.
    """

    method: str
    metric: str
    query: str
    target: str
    mean: float
    std: float | None
    seeds: tuple[int, ...]


def summarise(reports: Iterable[Report]) -> list[Summary]:
    """Mean and sample standard deviation over seeds, by (method, metric, query, target).

    Args:
        reports: of any number of seeds and methods.

    Returns:
        one summary a group, in the order in which the groups first appear.

    Raises:
        ValueError: if a group has one seed twice: the same run counted twice makes the deviation too small.

    Example:
        >>> values = enumerate((0.5, 0.7))
        >>> rows = [ReportRow("accuracy", "image", "text", value, 10, "confu", seed) for seed, value in values]
        >>> (summary,) = summarise([Report(rows)])
        >>> round(summary.mean, 6), round(summary.std, 6), summary.seeds
        (0.6, 0.141421, (0, 1))
    """
    groups: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for report in reports:
        for row in report.rows:
            key = (row.method, row.metric, row.query, row.target)
            values = groups.setdefault(key, {})
            if row.seed in values:
                raise ValueError(f"seed {row.seed} appears twice for {' / '.join(key)}; give each run once")
            values[row.seed] = row.value
    return [
        Summary(
            *key,
            mean=statistics.fmean(values.values()),
            std=statistics.stdev(values.values()) if len(values) > 1 else None,
            seeds=tuple(sorted(values)),
        )
        for key, values in groups.items()
    ]
