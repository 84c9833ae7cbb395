"""Parts of a batch: which rows, with which inputs; and the state that travels between them."""

import pytest
import torch
from torch import nn

from confu.plan import Subset
from confu.training.chunks import joined, part_of, spans
from confu.training.replay_state import RandomState, RunningState
from confu.types import Batch, Embeddings, Inputs
from training.cached_parts import NAMES, batch


@pytest.mark.parametrize("rows", [1, 2, 7, 12, 100])
@pytest.mark.parametrize("chunk", [1, 3, 4, 12, 1000])
def test_spans_cover_all_rows_in_as_few_and_equal_parts_as_can_be(rows, chunk):
    found = spans(rows, chunk)
    assert [row for start, stop in found for row in range(start, stop)] == list(range(rows))
    sizes = [stop - start for start, stop in found]
    assert len(sizes) == -(-rows // chunk)
    assert max(sizes) <= chunk
    assert max(sizes) - min(sizes) <= 1


def test_a_process_without_rows_has_one_empty_part():
    assert spans(0, 4) == [(0, 0)]


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_part_of_no_rows_is_refused(chunk):
    with pytest.raises(ValueError, match=rf"chunk is the number of rows .* at least 1; got {chunk}"):
        spans(5, chunk)


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("repeats", [True, False])
def test_every_row_of_a_part_has_its_own_inputs_and_no_others(gaps, repeats):
    given = batch(gaps, repeats)
    given.inputs["audio"] = Inputs(
        {"tokens": given.inputs["audio"].values, "mask": given.inputs["audio"].values > 0}, given.inputs["audio"].rows
    )
    for start, stop in spans(len(given), 5):
        part = part_of(given, start, stop)
        assert part.ids == given.ids[start:stop]
        assert torch.equal(part.groups, given.groups[start:stop])
        for name in NAMES:
            whole, own = given.inputs[name], part.inputs[name]
            values = own.values if isinstance(own.values, dict) else {"": own.values}
            for key, value in values.items():
                source = whole.values[key] if key else whole.values
                assert len(value) == len({int(row) for row in own.rows if row >= 0})
                for row, (here, there) in enumerate(zip(own.rows, whole.rows[start:stop])):
                    assert (int(here) < 0) == (int(there) < 0), row
                    assert int(here) < 0 or torch.equal(value[here], source[there])


def test_inputs_that_lie_one_after_another_are_not_copied():
    given = batch(gaps=False)
    part, whole = part_of(given, 5, 9).inputs["image"].values, given.inputs["image"].values
    assert part.data_ptr() == whole[5].data_ptr()
    assert part_of(given, 0, len(given)) is given


def test_labels_follow_their_rows_and_may_be_missing():
    given = batch(rows=6)
    assert part_of(given, 1, 3).labels is None
    labelled = Batch(given.inputs, given.ids, labels=torch.arange(6))
    part = part_of(labelled, 1, 3)
    assert part.labels.tolist() == [1, 2]
    assert part.groups is None


def test_joined_parts_have_masks_of_what_any_of_them_lacks_and_no_history():
    a, b = Subset("a"), Subset("b")
    first = Embeddings({a: torch.ones(2, 3, requires_grad=True) * 2, b: torch.zeros(2, 3)})
    second = Embeddings({a: torch.ones(1, 3), b: torch.ones(1, 3)}, {"b": torch.tensor([False])})
    groups = torch.tensor([1, 2, 3])
    found = joined([first, second], groups)
    assert found[a][:, 0].tolist() == [2, 2, 1]
    assert found[b][:, 0].tolist() == [0, 0, 1]
    assert found[a].is_leaf
    assert not found[a].requires_grad
    assert {name: mask.tolist() for name, mask in found.present.items()} == {"b": [True, True, False]}
    assert found.groups is groups


def test_the_random_state_comes_back():
    torch.manual_seed(1)
    torch.rand(3)
    state = RandomState(torch.device("cpu"))
    first = torch.rand(5)
    torch.rand(9)
    state.restore()
    assert torch.equal(torch.rand(5), first)


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


def test_running_statistics_move_once_by_the_mean_over_rows():
    module = Counting()
    running = RunningState(module)
    for rows, value in ((3, 1.0), (3, 5.0), (2, 10.0)):
        running.rewind()
        assert (module.mean.item(), module.count.item()) == (4.0, 7)
        module.see(value)
        running.collect(rows)
    running.finish()
    assert module.mean.item() == pytest.approx(0.75 * 4 + 0.25 * (3 * 1 + 3 * 5 + 2 * 10) / 8)
    assert module.count.item() == 8
    assert module.constant[1] == 1 / torch.tensor(3.0)


def test_a_part_that_sees_nothing_does_not_move_them():
    module = Counting()
    running = RunningState(module)
    running.collect(100)
    module.see(8.0)
    running.collect(1)
    running.finish()
    assert (module.mean.item(), module.count.item()) == (5.0, 8)


def test_in_evaluation_nothing_is_kept():
    module = Counting().eval()
    running = RunningState(module)
    module.see(8.0)
    running.collect(3)
    running.finish()
    assert module.count.item() == 8  # it is not its business what moves in evaluation
