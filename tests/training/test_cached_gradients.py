"""A batch in chunks gives the loss and the gradient of the whole: every method, gaps, dropout, batch norm, autocast."""

import weakref
from functools import partial
from itertools import count

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from confu.plan import Subset
from confu.training import fit
from confu.training.cached_gradients import RunningBuffers, cached_backward, join_embeddings, slice_batch, spans
from confu.training.log import read_log
from confu.types import Batch, Embeddings, Inputs
from training.cached_parts import (
    METHODS,
    NAMES,
    ROWS,
    assert_close,
    batch,
    gradients,
    in_float64,
    incomplete,
    objective,
    plain,
)
from training.parts import Scripted, rows, settings

pytestmark = pytest.mark.usefixtures("without_tensorboard")


def cached(module, given, chunk, **more):
    module.zero_grad(set_to_none=True)
    out = cached_backward(module, given, chunk, **more)
    assert not out.total.requires_grad
    return out.total, gradients(module)


def seeded(function, *given, **more):
    torch.manual_seed(5)
    return function(*given, **more)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_give_the_loss_and_gradient_of_the_whole(method):
    module, given = objective(method).double(), in_float64(batch())
    expected = seeded(plain, module, given)
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for gradient in expected[1].values())
    for chunk in (1, 5, 9):
        assert_close(seeded(cached, module, given, chunk), expected, 1e-12)  # nothing but rounding


@pytest.mark.parametrize("more", [{"gaps": False}, {"repeats": True}, {"repeats": True, "gaps": False}])
def test_chunks_with_repeated_or_complete_inputs(more):
    module, given = objective(), batch(**more)
    assert_close(cached(module, given, 8), plain(module, given), 1e-5)


@pytest.mark.parametrize("method", ["confu", "symile", "triangle"])
def test_dropout_is_drawn_again_exactly(method):
    module, given = objective(method, dropout=0.4), batch()
    expected, after = seeded(plain, module, given, 6), torch.rand(3)
    assert_close(seeded(cached, module, given, 6), expected, 1e-5)
    assert torch.equal(torch.rand(3), after)  # later draws do not depend on the replay
    other = cached(module, given, 6)
    assert not torch.allclose(other[0], expected[0])  # nor are the masks the same at each step


def test_batch_norm_moves_once_by_the_mean_of_the_chunks():
    module, given = objective(norm=True), batch(gaps=False, rows=24)
    expected = plain(objective(norm=True), given, 8)
    before = {name: value.clone() for name, value in module.model.named_buffers()}
    assert_close(cached(module, given, 8), expected, 1e-5)
    buffers = dict(module.model.named_buffers())
    for name in NAMES:
        where = f"encoders.{name}.layers.1."
        hidden = module.model.encoders[name].layers[0](given.inputs[name].values).split(8)
        mean, var = (sum(part) / 3 for part in zip(*((part.mean(0), part.var(0)) for part in hidden)))
        torch.testing.assert_close(buffers[where + "running_mean"], 0.1 * mean)
        torch.testing.assert_close(buffers[where + "running_var"], 0.9 * before[where + "running_var"] + 0.1 * var)
        assert buffers[where + "num_batches_tracked"] == 1


def test_a_chunk_without_a_modality_leaves_its_running_mean():
    module, given = objective(norm=True), batch(gaps=False, rows=16)
    given.inputs["audio"].rows[:8] = -1
    cached(module, given, 8)
    hidden = module.model.encoders["audio"].layers[0](given.inputs["audio"].values[8:])
    mean = dict(module.model.named_buffers())["encoders.audio.layers.1.running_mean"]
    torch.testing.assert_close(mean, 0.1 * hidden.mean(0))


def test_weights_that_follow_a_buffer_are_the_same_in_all_passes():
    module, twin = objective(), objective()
    for each in (module, twin):  # each pass in training improves its estimate of the largest singular value
        torch.manual_seed(0)
        spectral_norm(each.model.encoders["image"].layers[0])
    given = batch()
    assert_close(cached(module, given, 6), plain(twin, given), 1e-5)
    for buffer, expected in zip(module.buffers(), twin.buffers()):
        torch.testing.assert_close(buffer, expected)


@pytest.mark.parametrize("chunk", [ROWS, 10 * ROWS])
def test_one_chunk_is_bitwise_a_plain_step(chunk):
    module, twin = (objective(dropout=0.4, norm=True) for _ in range(2))
    given = batch()
    expected, after = seeded(plain, twin, given), torch.rand(3)
    result = seeded(cached, module, given, chunk)
    assert torch.equal(torch.rand(3), after)
    assert torch.equal(result[0], expected[0])
    assert all(torch.equal(result[1][name], gradient) for name, gradient in expected[1].items())
    assert all(torch.equal(buffer, other) for buffer, other in zip(module.buffers(), twin.buffers()))
    assert module.model.encoders["image"].seen == [(ROWS, True)]


def test_no_graph_holds_more_than_a_chunk():
    module = objective()
    cached(module, batch(gaps=False, rows=20), 8)
    for name in NAMES:  # the last chunk's graph is made once
        seen = module.model.encoders[name].seen
        assert seen == [(7, False), (7, False), (6, True), (7, True), (7, True)]


def test_a_graph_is_freed_before_the_next_is_made():
    module, given = objective(dropout=0.4, norm=True), batch()
    made, alive = [], []

    def look(_encoder, _inputs, output):
        alive.append(sum(reference() is not None for reference in made))
        if output.requires_grad:
            made.append(weakref.ref(output))

    module.model.encoders["image"].layers[2].register_forward_hook(look)
    cached(module, given, 6)
    assert len(made) == 4
    assert alive == [0] * 7


def test_weights_without_a_gradient_in_a_plain_step_have_none():
    module, given = objective(), batch(gaps=False)
    given.inputs["audio"].rows[1:] = -1  # one row is too few for a term
    for weight in module.model.encoders["image"].parameters():
        weight.requires_grad_(False)
    expected = plain(module, given)
    assert expected[1]["model.encoders.image.layers.0.weight"] is None
    assert expected[1]["model.fusers.image+audio.layers.0.weight"] is None
    assert_close(cached(module, given, 7), expected, 1e-5)


def test_chunks_whose_rows_all_lack_a_modality():
    module, given = objective(), batch(gaps=False)
    given.inputs["text"].rows[:8] = -1
    given.inputs["image"].rows[8:16] = -1
    assert_close(cached(module, given, 4), plain(module, given), 1e-5)


def test_autocast_casts_the_weights_anew_for_each_chunk():
    module, given = objective(), batch()
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    with autocast():
        expected = plain(module, given, 6)
    assert_close(cached(module, given, 6, autocast=autocast), expected, 0.05)
    assert all(gradient is not None for gradient in gradients(module).values())
    exact = cached(module, given, 6)
    assert not torch.equal(exact[0], expected[0])


def test_gradients_are_added_to_those_that_are_there():
    module, given = objective(), batch()
    _, once = cached(module, given, 6)
    cached_backward(module, given, 6)
    for name, weight in module.named_parameters():
        torch.testing.assert_close(weight.grad, 2 * once[name])


def test_the_loss_alone_makes_no_graph():
    module, given = objective(dropout=0.4, norm=True).eval(), batch()
    with torch.no_grad():
        out = cached_backward(module, given, 6)
    torch.testing.assert_close(out.total, module(given).total.detach(), rtol=1e-5, atol=0)
    assert not out.total.requires_grad
    assert [has_graph for _, has_graph in module.model.encoders["text"].seen] == [False] * 4 + [True]


def test_an_objective_without_model_and_loss_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has a `model` and can tell the loss .*; Linear has not both"):
        cached_backward(nn.Linear(2, 2), batch(), 4)
    with pytest.raises(ValueError, match=r"Scripted has not both\. Leave chunk at None"):
        fit(Scripted(), rows(8), rows(8), settings(chunk=2), tmp_path, progress=False)


def test_a_batch_without_negatives_is_refused():
    with pytest.raises(ValueError, match="no term of the plan has two complete rows"):
        cached_backward(objective(), batch(rows=1), 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_dropout_is_drawn_again_exactly():
    module, given = objective(dropout=0.4).cuda(), batch()
    expected = seeded(plain, module, given.to("cuda"), 6)
    assert_close(seeded(cached, module, given, 6), expected, 1e-5)


def test_a_training_in_chunks_ends_where_a_plain_one_does(tmp_path):
    train, validation = incomplete(48, 1), incomplete(32, 2)
    modules = {}
    for name, chunk in (("plain", None), ("chunks", 5), ("whole", 16)):
        modules[name] = objective(small=True)
        chosen = settings(epochs=2, batch_size=16, sampling="balanced", chunk=chunk)
        fit(modules[name], train, validation, chosen, tmp_path / name, progress=False)
    logs = {name: [record["total"] for record in read_log(tmp_path / name)] for name in modules}
    assert len(set(logs["plain"])) == len(logs["plain"]) == 8
    assert logs["chunks"] == pytest.approx(logs["plain"], abs=1e-4)
    assert logs["whole"] == pytest.approx(logs["plain"], abs=1e-6)
    weights = {name: dict(module.named_parameters()) for name, module in modules.items()}
    for name, weight in weights["plain"].items():
        torch.testing.assert_close(weights["chunks"][name], weight, atol=1e-3, rtol=0)
        assert torch.equal(weights["whole"][name], weight)


def test_a_training_stopped_in_a_replay_resumes_bitwise(tmp_path):
    train, validation, chosen = incomplete(48, 1), incomplete(32, 2), settings(epochs=2, batch_size=16, chunk=5)
    unbroken, broken, again = (objective("symile", dropout=0.3) for _ in range(3))
    fit(unbroken, train, validation, chosen, tmp_path / "unbroken", progress=False)
    calls = count()

    def stop(_encoder, _inputs):
        if next(calls) == 33:  # within the replay of a step of the second epoch
            raise KeyboardInterrupt

    broken.model.encoders["image"].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, train, validation, chosen, tmp_path / "broken", progress=False)
    fit(again, train, validation, chosen, tmp_path / "broken", progress=False)
    assert next(calls) > 33
    assert all(torch.equal(weight, expected) for weight, expected in zip(again.parameters(), unbroken.parameters()))


def test_spans_are_as_few_and_as_equal_as_can_be():
    for total in (1, 2, 7, 12, 100):
        for chunk in (1, 3, 4, 12, 1000):
            result = spans(total, chunk)
            assert [row for start, stop in result for row in range(start, stop)] == list(range(total))
            sizes = [stop - start for start, stop in result]
            assert len(sizes) == -(-total // chunk)
            assert max(sizes) <= chunk
            assert max(sizes) - min(sizes) <= 1
    assert spans(0, 4) == [(0, 0)]  # a process without rows
    for chunk in (0, -3):
        with pytest.raises(ValueError, match=rf"chunk is the number of rows .* at least 1; got {chunk}"):
            spans(5, chunk)


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("repeats", [True, False])
def test_a_slice_has_its_own_inputs_and_no_others(gaps, repeats):
    given = batch(gaps, repeats)
    audio = given.inputs["audio"]
    given.inputs["audio"] = Inputs({"tokens": audio.values, "mask": audio.values > 0}, audio.rows)
    for start, stop in spans(len(given), 5):
        part = slice_batch(given, start, stop)
        assert part.ids == given.ids[start:stop]
        assert torch.equal(part.groups, given.groups[start:stop])
        for name in NAMES:
            whole, own = given.inputs[name], part.inputs[name]
            for key in own.values if isinstance(own.values, dict) else [...]:
                values, source = own.values[key], whole.values[key]
                assert len(values) == len({int(row) for row in own.rows if row >= 0})
                for index, expected in zip(own.rows, whole.rows[start:stop]):
                    assert (int(index) < 0) == (int(expected) < 0)
                    assert int(index) < 0 or torch.equal(values[index], source[expected])


def test_a_slice_of_adjoining_inputs_copies_nothing():
    given = batch(gaps=False)
    part, whole = slice_batch(given, 5, 9).inputs["image"].values, given.inputs["image"].values
    assert part.data_ptr() == whole[5].data_ptr()
    assert slice_batch(given, 0, len(given)) is given
    assert slice_batch(given, 1, 3).labels is None
    labelled = slice_batch(Batch(given.inputs, given.ids, labels=torch.arange(len(given))), 1, 3)
    assert (labelled.labels.tolist(), labelled.groups) == ([1, 2], None)


def test_joined_embeddings_have_all_masks_and_no_history():
    a, b = Subset("a"), Subset("b")
    first = Embeddings({a: torch.ones(2, 3, requires_grad=True) * 2, b: torch.zeros(2, 3)})
    second = Embeddings({a: torch.ones(1, 3), b: torch.ones(1, 3)}, {"b": torch.tensor([False])})
    groups = torch.tensor([1, 2, 3])
    joined = join_embeddings([first, second], groups)
    assert joined[a][:, 0].tolist() == [2, 2, 1]
    assert joined[b][:, 0].tolist() == [0, 0, 1]
    assert joined[a].is_leaf
    assert not joined[a].requires_grad
    assert {name: mask.tolist() for name, mask in joined.present.items()} == {"b": [True, True, False]}
    assert joined.groups is groups


class Counting(nn.Module):
    """A running mean, a counter, and a constant."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([4.0]))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("constant", torch.tensor([float("nan"), 1 / 3]))

    def see(self, value):
        self.mean.mul_(0.75).add_(0.25 * value)
        self.count.add_(1)


def test_running_buffers_move_once_by_the_mean_over_rows():
    module = Counting()
    buffers = RunningBuffers(module)
    for size, value in ((3, 1.0), (3, 5.0), (2, 10.0)):
        buffers.rewind()
        assert (module.mean.item(), module.count.item()) == (4.0, 7)
        module.see(value)
        buffers.collect(size)
    buffers.finish()
    assert module.mean.item() == pytest.approx(0.75 * 4 + 0.25 * (3 * 1 + 3 * 5 + 2 * 10) / 8)
    assert module.count.item() == 8
    assert module.constant[1] == 1 / torch.tensor(3.0)


def test_a_chunk_that_moves_no_buffer_does_not_count():
    module = Counting()
    buffers = RunningBuffers(module)
    buffers.collect(100)
    module.see(8.0)
    buffers.collect(1)
    buffers.finish()
    assert (module.mean.item(), module.count.item()) == (5.0, 8)


def test_buffers_stay_as_they_are_in_evaluation():
    module = Counting().eval()
    buffers = RunningBuffers(module)
    module.see(8.0)
    buffers.collect(3)
    buffers.finish()
    assert module.count.item() == 8
