"""Doctests become code blocks on the API page, wherever in a docstring they stand (a griffe extension)."""

from typing import Any

import griffe


def fence_doctests(docstring: str) -> str:
    """Put a fence around each run of lines that starts with `>>>` and ends at an empty line."""
    lines, inside, indent = [], False, ""
    for line in docstring.splitlines():
        if not inside and line.lstrip().startswith(">>>"):
            inside, indent = True, line[: len(line) - len(line.lstrip())]
            lines += ["", f"{indent}```pycon"]
        elif inside and not line.strip():
            inside = False
            lines.append(f"{indent}```")
        lines.append(line)
    return "\n".join([*lines, f"{indent}```"] if inside else lines)


class FencedDoctests(griffe.Extension):
    """Rewrites docstrings when they are read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fence_doctests(obj.docstring.value)
