"""A training that is killed at any moment goes on with the same call and ends with bitwise the same weights."""

import os
import signal
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file

from confu.training.log import read_log
from together import Started
from training import random_training
from training.parts import raise_at
from training.random_training import SETTINGS, STEPS, STEPS_PER_EPOCH, data, objective, train

pytestmark = pytest.mark.usefixtures("without_tensorboard")
FILES = 10  # settings, versions, best and last with two files each (best perhaps twice), and four checkpoints


def weights(folder):
    return {name: load_file(folder / name / "model.safetensors") for name in ("best", "last")}


def records(folder):
    """The log without wall times."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in read_log(folder)]


def assert_same_run(folder, expected):
    result, reference = weights(folder), weights(expected)
    for name in reference:
        assert result[name].keys() == reference[name].keys()
        for weight, value in reference[name].items():
            assert torch.equal(result[name][weight], value), f"{name}: {weight}"
    assert records(folder) == records(expected)
    assert not list(folder.rglob(".*")), "a half-written file stays"


def checkpoint_step(folder):
    if not (folder / "state.pt").exists():
        return 0
    at = torch.load(folder / "state.pt", weights_only=True)["progress"]
    return at["epoch"] * STEPS_PER_EPOCH + at["step"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    train(folder)
    return folder


def kill(folder, moment, number):
    with pytest.raises(AssertionError, match="ended without a word"):
        Started(1, random_training.train_and_be_killed, folder, moment, number).results()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_three_times_it_ends_with_the_same_weights(unbroken, tmp_path):
    # Within step 2; with the second checkpoint half written; right after the fifth file of the rest is whole, of which
    # the first says which process trains.
    for moment, number, kept in (("step", 2, 0), ("writing", 2, 3), ("written", 5, 4)):
        kill(tmp_path, moment, number)
        assert checkpoint_step(tmp_path) == kept
        assert not (tmp_path / "last").exists()
    train(tmp_path)
    assert_same_run(tmp_path, unbroken)


@pytest.mark.heavy
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_twenty_times_it_ends_with_the_same_weights(unbroken, tmp_path):
    moments = [*(("step", number) for number in range(1, STEPS + 1)), *(("writing", number) for number in range(1, 4))]
    for number, moment in enumerate([*moments, *(("written", file) for file in range(1, FILES))]):
        kill(tmp_path / str(number), *moment)
        train(tmp_path / str(number))
        assert_same_run(tmp_path / str(number), unbroken)


class Crash(BaseException):
    """Not an Exception: like a KeyboardInterrupt, nothing may catch it."""


def train_until(folder, part, fetch):
    splits = data()
    raise_at(Crash, getattr(splits, part), fetch)
    with pytest.raises(Crash):
        train(folder, splits=splits)


@pytest.mark.parametrize(
    ("part", "fetch"),
    [*(("train", fetch) for fetch in (0, 2, 3, 4, STEPS - 1)), *(("validation", fetch) for fetch in (0, 3))],
)
def test_interrupted_before_a_batch_it_resumes_bitwise(part, fetch, unbroken, tmp_path):
    train_until(tmp_path, part, fetch)
    train(tmp_path)
    assert_same_run(tmp_path, unbroken)


def interrupt_at_file(folder, file, after, monkeypatch):
    """Train until a file is about to be whole, or just is; returns whether the training reached that file."""
    replace, remaining = os.replace, iter(range(file))

    def broken(source, target):
        is_it = next(remaining, None) is None
        if is_it and not after:
            raise Crash
        replace(source, target)
        if is_it:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", broken)
        with suppress(Crash):
            train(folder)
            return False
    return True


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_interrupted_at_some_files_it_resumes_bitwise(after, unbroken, tmp_path, monkeypatch):
    for file in (0, 2, FILES - 1) if after else (1, 3, FILES - 2):
        assert interrupt_at_file(tmp_path / str(file), file, after, monkeypatch)
        train(tmp_path / str(file))
        assert_same_run(tmp_path / str(file), unbroken)


@pytest.mark.heavy
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_interrupted_at_any_file_it_resumes_bitwise(after, unbroken, tmp_path, monkeypatch):
    file = 0
    while interrupt_at_file(tmp_path / str(file), file, after, monkeypatch):
        train(tmp_path / str(file))
        assert_same_run(tmp_path / str(file), unbroken)
        file += 1
    assert file >= FILES


def test_interrupted_many_times_it_resumes_bitwise(unbroken, tmp_path):
    for fetch in (1, 3, 0, 1, 2, 1):
        train_until(tmp_path, "train", fetch)
    train(tmp_path)
    assert_same_run(tmp_path, unbroken)


def test_the_callers_random_state_and_weights_do_not_matter(unbroken, tmp_path):
    module = objective()
    torch.manual_seed(77)
    train(tmp_path / "whole", module)
    assert_same_run(tmp_path / "whole", unbroken)
    train_until(tmp_path / "cut", "train", 5)
    other = objective(seed=99)
    torch.manual_seed(77)
    train(tmp_path / "cut", other)
    assert_same_run(tmp_path / "cut", unbroken)
    last = weights(unbroken)["last"]
    assert all(torch.equal(value, last[name]) for name, value in other.model.state_dict().items())
    assert SETTINGS.checkpoint_every < 5  # it had a checkpoint to go on from
