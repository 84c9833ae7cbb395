"""The examples run as a reader runs them, and print what their text claims."""

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.usefixtures("as_users_run", "without_tensorboard")


@pytest.fixture
def run_example(tmp_path, monkeypatch):
    """Runs an example in an empty folder, and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return out.getvalue()

    return run


def number_after(text: str, pattern: str) -> float:
    found = re.search(pattern + r"\s+([\d.]+)", text)
    assert found is not None, f"nothing matches {pattern!r} in:\n{text}"
    return float(found[1])


def test_xor_is_solved_by_fusion_and_not_by_pairs(run_example):
    printed = run_example("xor.py")
    assert number_after(printed, r"ceiling +accuracy") == 1
    assert number_after(printed, r"ConFu +x1\+x3 +accuracy") > 0.9
    assert number_after(printed, r"pairwise +mean\(x1, x3\) +accuracy") < 0.2


def test_missing_modalities_leaves_rows_out_and_learns(run_example):
    printed = run_example("missing_modalities.py")
    assert number_after(printed, r"image ") == 400
    assert number_after(printed, r"text ") == 600
    assert number_after(printed, r"image\+audio ") == 200
    recall_part = printed.split("recall@1:")[1]
    image, audio = number_after(recall_part, r"image "), number_after(recall_part, r"audio ")
    assert min(image, audio) > 0.2  # chance is 0.002
    assert number_after(recall_part, r"image\+audio ") > max(image, audio)


def test_retrieval_is_better_from_two_modalities(tmp_path, run_example):
    printed = run_example("retrieval.py", str(tmp_path / "run"))
    assert (tmp_path / "run" / "test.parquet").is_file()
    sketch = number_after(printed, r"recall@1 +sketch +-> design")
    words = number_after(printed, r"recall@1 +words +-> design")
    assert number_after(printed, r"recall@1 +sketch\+words +-> design") > max(sketch, words) + 0.05


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_short_and_says_what_it_shows(path):
    text = path.read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) < 60
    assert f'run_example("{path.name}"' in Path(__file__).read_text()  # and is tested here
