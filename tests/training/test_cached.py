"""A batch in parts gives the loss and the gradient of the whole: every method, gaps, dropout, batch norm, autocast."""

import weakref
from functools import partial
from unittest.mock import create_autospec

import pytest
import torch
from accelerate import Accelerator, DistributedType
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from confu.training.cached import cached_backward, cached_loss, cached_step
from training.cached_parts import (
    METHODS,
    NAMES,
    ROWS,
    assert_close,
    batch,
    gradients,
    in_float64,
    objective,
    plain,
)
from training.parts import Scripted


def cached(module, given, chunk, **more):
    module.zero_grad(set_to_none=True)
    out = cached_backward(module, given, chunk, **more)
    assert not out.total.requires_grad
    return out.total, gradients(module)


def seeded(function, *given, **more):
    torch.manual_seed(5)
    return function(*given, **more)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1, 9])
def test_parts_give_the_loss_and_gradient_of_the_whole(method, chunk):
    module, given = objective(method), batch()
    expected = seeded(plain, module, given)
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for gradient in expected[1].values())
    assert_close(seeded(cached, module, given, chunk), expected)


@pytest.mark.parametrize("more", [{"gaps": False}, {"repeats": True}, {"repeats": True, "gaps": False}])
def test_inputs_that_repeat_over_parts_or_are_all_there(more):
    module, given = objective(), batch(**more)
    assert_close(cached(module, given, 8), plain(module, given))


@pytest.mark.parametrize("method", METHODS)
def test_in_double_precision_nothing_but_rounding_differs(method):
    module, given = objective(method).double(), in_float64(batch())
    assert_close(seeded(cached, module, given, 5), seeded(plain, module, given), 1e-13)


@pytest.mark.parametrize("method", ["confu", "symile", "triangle"])
def test_dropout_is_drawn_again_exactly(method):
    module, given = objective(method, dropout=0.4), batch()
    expected, after = seeded(plain, module, given, 6), torch.rand(3)
    assert_close(seeded(cached, module, given, 6), expected)
    assert torch.equal(torch.rand(3), after)  # later draws do not depend on the replay
    other = cached(module, given, 6)
    assert not torch.allclose(other[0], expected[0])  # nor are the masks the same at each step


def test_batch_norm_moves_once_by_the_mean_of_the_parts():
    module, given = objective(norm=True), batch(gaps=False, rows=24)
    expected = plain(objective(norm=True), given, 8)
    before = {name: value.clone() for name, value in module.model.named_buffers()}
    assert_close(cached(module, given, 8), expected, 2e-6)
    buffers = dict(module.model.named_buffers())
    for name in NAMES:
        where = f"encoders.{name}.layers.1."
        hidden = module.model.encoders[name].layers[0](given.inputs[name].values).split(8)
        mean, var = (sum(part) / 3 for part in zip(*((one.mean(0), one.var(0)) for one in hidden)))
        torch.testing.assert_close(buffers[where + "running_mean"], 0.1 * mean)
        torch.testing.assert_close(buffers[where + "running_var"], 0.9 * before[where + "running_var"] + 0.1 * var)
        assert buffers[where + "num_batches_tracked"] == 1


def test_a_part_without_a_modality_does_not_count_for_its_running_mean():
    module, given = objective(norm=True), batch(gaps=False, rows=16)
    given.inputs["audio"].rows[:8] = -1
    cached(module, given, 8)
    hidden = module.model.encoders["audio"].layers[0](given.inputs["audio"].values[8:])
    found = dict(module.model.named_buffers())["encoders.audio.layers.1.running_mean"]
    torch.testing.assert_close(found, 0.1 * hidden.mean(0))


def test_weights_that_follow_a_buffer_are_the_same_in_all_parts_and_both_passes():
    module, twin = objective(), objective()
    for one in (module, twin):  # each pass in training improves its estimate of the largest singular value
        torch.manual_seed(0)
        spectral_norm(one.model.encoders["image"].layers[0])
    given = batch()
    assert_close(cached(module, given, 6), plain(twin, given))
    for one, other in zip(module.buffers(), twin.buffers()):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("chunk", [ROWS, 10 * ROWS])
def test_one_part_is_the_plain_step_to_the_last_bit(chunk):
    module, twin = (objective(dropout=0.4, norm=True) for _ in range(2))
    given = batch()
    expected, after = seeded(plain, twin, given), torch.rand(3)
    found = seeded(cached, module, given, chunk)
    assert torch.equal(torch.rand(3), after)
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(found[1][name], gradient) for name, gradient in expected[1].items())
    assert all(torch.equal(one, other) for one, other in zip(module.buffers(), twin.buffers()))
    assert module.model.encoders["image"].seen == [(ROWS, True)]


def test_no_graph_holds_more_than_a_part_and_the_last_is_made_once():
    module = objective()
    cached(module, batch(gaps=False, rows=20), 8)
    for name in NAMES:
        seen = module.model.encoders[name].seen
        assert seen == [(7, False), (7, False), (6, True), (7, True), (7, True)]


def test_what_has_no_gradient_in_a_plain_step_has_none_here():
    module, given = objective(), batch(gaps=False)
    given.inputs["audio"].rows[1:] = -1  # one row is too few for a term
    for weight in module.model.encoders["image"].parameters():
        weight.requires_grad_(False)
    expected = plain(module, given)
    assert expected[1]["model.encoders.image.layers.0.weight"] is None
    assert expected[1]["model.fusers.image+audio.layers.0.weight"] is None
    assert_close(cached(module, given, 7), expected)


def test_parts_whose_rows_all_lack_a_modality():
    module, given = objective(), batch(gaps=False)
    given.inputs["text"].rows[:8] = -1
    given.inputs["image"].rows[8:16] = -1
    assert_close(cached(module, given, 4), plain(module, given))


def test_under_autocast_every_part_casts_the_weights_anew():
    module, given = objective(), batch()
    precision = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    with precision():
        expected = plain(module, given, 6)
    assert_close(cached(module, given, 6, precision=precision), expected, 1e-2)
    assert all(gradient is not None for gradient in gradients(module).values())
    exact = cached(module, given, 6)
    assert not torch.equal(exact[0], expected[0])


def test_gradients_are_added_to_those_that_are_there():
    module, given = objective(), batch()
    _, once = cached(module, given, 6)
    cached_backward(module, given, 6)
    for name, weight in module.named_parameters():
        torch.testing.assert_close(weight.grad, 2 * once[name])


def test_the_loss_alone_needs_no_graph():
    module, given = objective(dropout=0.4, norm=True).eval(), batch()
    found = cached_loss(module, given, 6)
    torch.testing.assert_close(found.total, module(given).total.detach(), rtol=1e-6, atol=0)
    assert not found.total.requires_grad
    assert [made for _, made in module.model.encoders["text"].seen] == [False] * 4 + [True]


@pytest.mark.parametrize("module", [Scripted(), nn.Linear(2, 2)], ids=["scripted", "linear"])
def test_an_objective_without_model_and_loss_is_refused(module):
    with pytest.raises(
        ValueError, match=rf"has a `model` and can tell the loss .*; {type(module).__name__} has not both"
    ):
        cached_backward(module, batch(), 4)


def test_weights_that_are_spread_over_processes_are_refused():
    accelerator = create_autospec(Accelerator, instance=True, distributed_type=DistributedType.FSDP)
    with pytest.raises(ValueError, match=r"whole model in each \(DDP\), not with .*FSDP"):
        cached_step(objective(), batch(), 4, accelerator)


def test_a_batch_without_negatives_is_refused_as_in_a_plain_step():
    with pytest.raises(ValueError, match="no term of the plan has two complete rows"):
        cached_backward(objective(), batch(rows=1), 4)


def test_one_graph_is_gone_before_the_next_is_made():
    module, given = objective(dropout=0.4, norm=True), batch()
    made, alive = [], []

    def look(_encoder, _inputs, output):
        alive.append(sum(one() is not None for one in made))
        if output.requires_grad:
            made.append(weakref.ref(output))

    module.model.encoders["image"].layers[2].register_forward_hook(look)
    cached(module, given, 6)
    assert len(made) == 4
    assert alive == [0] * 7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_dropout_is_drawn_again_exactly():
    module, given = objective(dropout=0.4).cuda(), batch()
    expected = seeded(plain, module, given.to("cuda"), 6)
    assert_close(seeded(cached, module, given, 6), expected, 1e-5)
