"""Two processes that encode their rows in parts train what one does that encodes them all at once."""

from pathlib import Path

import pytest

from confu.training.log import read_log
from together import Started
from training import cached_processes
from training.two_processes import difference


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What one process trained, what two did, and whether those ended alike."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    whole = Started(1, cached_processes.train_whole, one)
    alike = Started(2, cached_processes.train_in_parts, two).results()
    whole.results()
    return one, two, alike


@pytest.mark.parametrize("name", [*cached_processes.METHODS, "uneven", "ring"])
def test_two_processes_in_parts_end_with_the_weights_of_one_that_is_whole(trained, name):
    folders = trained[:2]
    one, two = ([record["total"] for record in read_log(folder / name)] for folder in folders)
    assert one == pytest.approx(two, abs=2e-5)
    assert len({round(loss, 6) for loss in one}) > 5
    for which in ("best", "last"):
        file = Path(name) / which / "model.safetensors"
        assert difference(*(folder / file for folder in folders)) < 5e-5


def test_weights_and_running_statistics_are_the_same_on_both(trained):
    _, two, alike = trained
    assert alike == [True, True]
    assert (two / "norm" / "last" / "model.safetensors").exists()
