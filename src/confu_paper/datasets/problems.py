"""Files that cannot be used, summed up for whoever waits at the terminal."""

from collections.abc import Sequence

from rich.console import Console

SHOWN = 5


def show_problems(what: str, problems: Sequence[str]) -> None:
    """Print how many problems there are and the first of them, on standard error.

    Args:
        what: has them, e.g. "SSW60's videos".
        problems: one line each.
    """
    if not problems:
        return
    lines = [f"{what}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    Console(stderr=True).print("\n".join(lines), style="yellow", highlight=False, markup=False, soft_wrap=True)
