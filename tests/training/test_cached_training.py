"""Trainings in parts: they end where plain ones do, go on after a crash, and say what helps a full device."""

from itertools import count

import pytest
import torch

from confu.training import fit
from confu.training.log import read_log
from confu.training.memory import memory_needed
from training.cached_parts import incomplete, objective
from training.parts import Scripted, rows, settings

pytestmark = pytest.mark.usefixtures("without_tensorboard")


def test_a_training_in_parts_ends_where_a_plain_one_does(tmp_path):
    train, validation = incomplete(48, 1), incomplete(32, 2)
    modules = {}
    for name, chunk in (("plain", None), ("parts", 5), ("whole", 16)):
        modules[name] = objective(small=True)
        chosen = settings(epochs=2, batch_size=16, sampling="balanced", chunk=chunk)
        fit(modules[name], train, validation, chosen, tmp_path / name, progress=False)
    logs = {name: [record["total"] for record in read_log(tmp_path / name)] for name in modules}
    assert len(set(logs["plain"])) == len(logs["plain"]) == 8
    assert logs["parts"] == pytest.approx(logs["plain"], abs=1e-5)
    assert logs["whole"] == pytest.approx(logs["plain"], abs=1e-6)
    weights = {name: dict(module.named_parameters()) for name, module in modules.items()}
    for name, weight in weights["plain"].items():
        torch.testing.assert_close(weights["parts"][name], weight, atol=1e-4, rtol=0)
        assert torch.equal(weights["whole"][name], weight)


def test_a_training_says_so_if_its_objective_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match=r"Scripted has not both\. Leave chunk at None"):
        fit(Scripted(), rows(8), rows(8), settings(chunk=2), tmp_path, progress=False)


class Full(Scripted):
    def forward(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has 1 GiB. See the docs.")


def test_a_device_that_is_full_says_which_setting_helps(tmp_path):
    with pytest.raises(
        ValueError, match=r"batch_size 8 with all its rows .* \(CUDA out of .* 2 GiB\)\. Set chunk, e\.g\. to 2: .*"
    ):
        fit(Full(), rows(8), rows(8), settings(batch_size=8), tmp_path, progress=False)


def test_a_part_that_is_too_large_says_so():
    with (
        pytest.raises(ValueError, match=r"64 rows encoded at once .* Lower chunk, e\.g\. to 32"),
        memory_needed(256, 64),
    ):
        raise torch.OutOfMemoryError("out of memory")


def test_so_does_a_cpu_without_memory():
    with (
        pytest.raises(ValueError, match=r"batch_size 256 .* does not fit .* Set chunk, e\.g\. to 64"),
        memory_needed(256, None),
    ):
        torch.empty(2**58)
    with pytest.raises(RuntimeError, match="cannot be multiplied"), memory_needed(256, None):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_a_training_in_parts_that_breaks_off_goes_on_bitwise(tmp_path):
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
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), unbroken.parameters()))
