"""Numbers and lists as they are read."""

from collections.abc import Iterable

from confu.evaluation.report import ReportRow


def count(number: int) -> str:
    """A number of things.

    >>> count(12345)
    '12,345'
    """
    return f"{number:,}"


def percent(share: float) -> str:
    """A share in percent, with the digits that it needs.

    >>> percent(0.4567), percent(0.002), percent(1.0)
    ('45.7', '0.20', '100.0')
    """
    digits = 1 if share == 0 or share >= 0.01 else 2 if share >= 0.001 else 4
    return f"{100 * share:.{digits}f}"


def points(share: float) -> str:
    """A share with its unit.

    >>> points(0.5)
    '50.0 %'
    """
    return f"{percent(share)} %"


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names in a sentence; the rest counted.

    >>> listed(["a", "b", "c"]), listed("abcd", most=2)
    ('a, b and c', 'a, b and 2 more')
    """
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def interval(row: ReportRow) -> str:
    """The confidence interval of a share, in percent; a dash without one.

    >>> interval(ReportRow("accuracy", "image", "text", 0.5, 9, low=0.2, high=0.75, confidence=0.95))
    '20.0 to 75.0'
    """
    return "–" if row.low is None or row.high is None else f"{100 * row.low:.1f} to {100 * row.high:.1f}"
