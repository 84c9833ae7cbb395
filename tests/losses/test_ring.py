"""InfoNCE of rows that are spread over processes is that of one process that has them all: values and gradients."""

import pytest
import torch

from confu.losses.spread import spread_info_nce_terms
from confu.losses.terms import info_nce_terms
from losses import spread_cases
from losses.spread_cases import CASES, SIDES, TERMS, drawn
from together import run_together

NEGATIVES = ("gather", "ring")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    run_together(len(spread_cases.SIZES), spread_cases.answers, folder)
    return torch.load(folder / "results")


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("number", range(len(CASES)), ids=["-".join(map(str, one.values())) for one in CASES])
def test_values_and_gradients_are_those_of_one_process(results, number, negatives):
    case = dict(CASES[number])
    vectors, present, groups = drawn(case.pop("gaps"))
    case.pop("path")
    whole = {side: one.requires_grad_() for side, one in vectors.items()}
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    expected = torch.stack(info_nce_terms(whole, TERMS, tau, present=present, groups=groups, **case))
    (expected * torch.arange(1.0, 6.0, dtype=torch.float64)).sum().backward()
    losses, gradients, of_tau = results["found"][negatives][number]
    torch.testing.assert_close(losses, expected.detach(), atol=1e-12, rtol=0)
    for side in SIDES:
        torch.testing.assert_close(gradients[side], whole[side].grad, atol=1e-12, rtol=0)
    torch.testing.assert_close(of_tau, tau.grad, atol=1e-10, rtol=0)


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_what_is_bad_on_one_process_is_an_error_on_all(results, negatives):
    told = results["errors"][negatives]
    assert len(told) == 4
    assert told == [told[0]] * 4
    assert "process 2: the embeddings of b must be finite" in told[0]["nan"]
    assert "first in row 1" in told[0]["nan"]
    assert "needs at least 2 rows; got 1" in told[0]["few"]
    assert told[0]["differ"] == (
        "all processes must have the same size; got 3 on process 0, 4 on process 1, 3 on process 2, 3 on process 3. "
        "Start all with the same settings"
    )


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_one_process_needs_no_others(negatives):
    vectors, present, groups = drawn(True, torch.float32)
    ours = {side: one.clone().requires_grad_() for side, one in vectors.items()}
    theirs = {side: one.clone().requires_grad_() for side, one in vectors.items()}
    options = {"present": present, "groups": groups, "same_group": "excluded"}
    found = spread_info_nce_terms(ours, TERMS, negatives=negatives, **options)
    expected = info_nce_terms(theirs, TERMS, **options)
    torch.testing.assert_close(found, expected)
    torch.stack(found).sum().backward()
    torch.stack(expected).sum().backward()
    for side in SIDES:
        torch.testing.assert_close(ours[side].grad, theirs[side].grad)


def test_bad_options_are_refused():
    vectors, _, _ = drawn(False)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        spread_info_nce_terms(vectors, TERMS, 0.0)
    with pytest.raises(ValueError, match="negatives 'rign' is not known; did you mean 'ring'"):
        spread_info_nce_terms(vectors, TERMS, negatives="rign")
