"""What the commands import, and how other packages add data sets."""

import subprocess
import sys

import pytest

from confu_paper.datasets import registry
from confu_paper.datasets.registry import DataSet, data_set, data_sets

HEAVY = ("torch", "transformers", "accelerate", "scipy", "sklearn", "matplotlib")
SCRIPT = f"""
import sys
from typer.testing import CliRunner
from confu.cli import app
for arguments in (["data", "list"], ["reproduce", "--help"], ["reproduce", "list"]):
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_listing_imports_nothing_heavy(tmp_path):
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.strip() == "[]"


class Point:
    """An entry point of another package."""

    def load(self):
        return DataSet(
            "cats", "Cats", "photos of cats", "at home", benchmark=lambda name, request, frames: (name, frames)
        )


def test_other_packages_add_data_sets(monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or [Point()])
    assert data_set("xor").title == "XOR of bits" and not asked, "read only for a name that is not built in"
    assert data_set("cats").load_benchmark()("cats", None, "eight") == ("cats", "eight")
    assert asked == ["confu_paper.datasets"] and set(data_sets()) > {"cats", "xor"}
    with pytest.raises(ValueError, match="data set 'cast' is not known; did you mean 'cats'"):
        data_set("cast")


def test_a_data_set_without_a_benchmark_names_those_that_are():
    with pytest.raises(ValueError, match="'bird-mml' is no benchmark of its own; those are: xor, av-mnist, mosi"):
        data_set("bird-mml").load_benchmark()
