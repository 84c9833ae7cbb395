"""InfoNCE of rows that are spread over processes is that of one process that has them all: values and gradients."""

import pytest
import torch

from confu.losses import infonce, tiled
from losses import spread_cases
from losses.parts import SIDES
from losses.spread_cases import CASES, contrast
from together import run_together

NEGATIVES = ("gather", "ring")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    run_together(len(spread_cases.SIZES), spread_cases.answers, folder)
    return torch.load(folder / "results")


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    """Of the reference: it is plain torch. `contrast` changes those of tiles."""
    monkeypatch.setattr(infonce, "SMALL", 100)
    for name in ("TILE", "KEPT_BYTES", "_exp_fits"):
        monkeypatch.setattr(tiled, name, getattr(tiled, name))


def assert_same(result, expected):
    for one, other in zip(result[:2], expected[:2]):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)
    for side in SIDES:
        torch.testing.assert_close(result[2][side], expected[2][side], atol=1e-11, rtol=0)
    torch.testing.assert_close(result[3], expected[3], atol=1e-10, rtol=0)


@pytest.mark.parametrize("number", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_several_processes_are_one(results, number):
    for negatives in NEGATIVES:
        assert_same(results["contrasts"][negatives][number], contrast(CASES[number]))


def test_one_process_needs_no_others():
    for negatives in NEGATIVES:
        case = (True, "excluded", 0.3, True, "usual")
        spread_cases_sizes, spread_cases.SIZES = spread_cases.SIZES, (8,)
        try:
            assert_same(contrast(case, negatives), contrast(case))
        finally:
            spread_cases.SIZES = spread_cases_sizes


def test_what_is_bad_on_one_process_is_an_error_on_all(results):
    for negatives in NEGATIVES:
        told = results["errors"][negatives]
        assert told == [told[0]] * 3
        assert "process 2: the embeddings of b must be finite" in told[0]["nan"]
        assert "first in row 1" in told[0]["nan"]
        assert "needs at least 2 rows; got 1" in told[0]["few"]
        assert told[0]["differ"] == (
            "all processes must have the same size; got 3 on process 0, 4 on process 1, 3 on process 2. "
            "Start all with the same settings"
        )
