"""What no method can learn from is a clear error, or leaves the right number; never a NaN that nobody sees."""

import pytest
import torch

from confu.losses import CLIPLoss, ConFuLoss, GRAMLoss, SymileLoss, TRIANGLELoss
from confu.nn import Temperature
from confu.plan import confu_plan
from confu.types import Batch, Inputs
from training.several_processes import METHODS, NAMES, objective

PAIRWISE = ("confu", "confu-positives", "confu-excluded", "tri-clip")
JOINT = ("symile-n2", "gram", "triangle")


def batch(rows=6, lacks=None, **changes):
    """A batch whose rows have everything, but for the rows that lack a modality, and some inputs."""
    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for name in NAMES:
        values = changes.get(name, torch.randn(rows, 6, generator=generator))
        places = torch.arange(rows)
        places[list((lacks or {}).get(name, ()))] = -1
        inputs[name] = Inputs(values, places)
    return Batch(inputs, [str(row) for row in range(rows)], groups=torch.arange(rows))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_one_is_refused(method):
    with pytest.raises(ValueError, match=r"(the most is 1|at least 2 rows; got 1)"):
        objective(method)(batch(1))


@pytest.mark.parametrize("method", PAIRWISE)
def test_a_term_that_no_row_has_is_left_out(method):
    module = objective(method)
    out = module(batch(lacks={"audio": range(6)}))
    assert list(out.terms) == ["image ~ text"]
    some = module(batch(lacks={"audio": range(5)}))  # the term reads no audio
    assert float(out.terms["image ~ text"]) == pytest.approx(float(some.terms["image ~ text"]), rel=1e-6)
    assert out.total.isfinite()
    out.total.backward()
    assert all(one.grad is None or one.grad.isfinite().all() for one in module.parameters())


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("method", JOINT)
def test_a_joint_loss_without_complete_rows_is_refused(method):
    with pytest.raises(ValueError, match=r"rows that have all of image, audio, text.* at least 2 rows; got 0"):
        objective(method)(batch(lacks={"audio": range(6)}))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("method", METHODS)
def test_a_nan_embedding_is_named(method):
    values = torch.randn(6, 6)
    values[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"audio must be finite.*first in row 2"):
        objective(method)(batch(audio=values))


@pytest.mark.parametrize("method", METHODS)
def test_embeddings_of_zeros_are_finite_numbers(method):
    module = objective(method)
    for part in (module.model.encoders["audio"], module.model.projections["audio"]):
        for weight in part.parameters():
            torch.nn.init.zeros_(weight)
    out = module(batch())
    out.total.backward()
    assert out.total.isfinite()
    assert all(one.grad is None or one.grad.isfinite().all() for one in module.parameters())


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_a_temperature_out_of_range_is_refused(value):
    for make in (
        CLIPLoss,
        SymileLoss,
        GRAMLoss,
        TRIANGLELoss,
        lambda names, **rest: ConFuLoss(confu_plan(names), **rest),
    ):
        with pytest.raises(ValueError, match=r"(initial must be in|temperature must be positive)"):
            make(NAMES, temperature=Temperature(value))
