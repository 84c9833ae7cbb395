"""A training that is killed at any moment goes on with the same command and ends with bitwise the same weights."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from confu.training import fit
from confu.training.log import read_log
from training import kill_target
from training.kill_target import SETTINGS, STEPS, STEPS_PER_EPOCH, data, objective, train

TARGET = Path(kill_target.__file__)


def weights(folder):
    return {name: load_file(folder / name / "model.safetensors") for name in ("best", "last")}


def records(folder):
    """The log without wall times."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in read_log(folder)]


def same_run(one, other):
    ours, theirs = weights(one), weights(other)
    for name in ours:
        assert ours[name].keys() == theirs[name].keys()
        for weight, value in ours[name].items():
            assert torch.equal(value, theirs[name][weight]), f"{name}: {weight}"
    assert records(one) == records(other)


def checkpoint_step(folder):
    if not (folder / "state.pt").exists():
        return 0
    at = torch.load(folder / "state.pt", weights_only=True)["progress"]
    return at["epoch"] * STEPS_PER_EPOCH + at["step"]


def start(folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(TARGET), str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    )


def kill_at(folder, step, delay):
    """Run the training until it fetches the rows of this step, wait, and kill it; the last step that it began."""
    begun = checkpoint_step(folder)
    process = start(folder)
    assert process.stdout is not None
    for line in process.stdout:
        begun += line == "step\n"
        if begun == step:
            time.sleep(delay)
            process.kill()
            break
    begun += process.stdout.read().count("step\n")
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    return begun


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_at_three_random_steps_it_ends_with_bitwise_the_same_weights(tmp_path):
    chance = random.Random(20)
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    train(unbroken)
    print(f"\n{STEPS} steps, a checkpoint every {SETTINGS.checkpoint_every} and at the end of each epoch")
    for step in sorted(chance.sample(range(2, STEPS - 3), 3)):
        went_on_from = checkpoint_step(killed)
        begun = kill_at(killed, step, chance.uniform(0, 0.02))
        print(
            f"went on from step {went_on_from}, SIGKILL in step {begun}, checkpoint then at {checkpoint_step(killed)}"
        )
        assert went_on_from <= checkpoint_step(killed) <= begun < STEPS
        assert not (killed / "last").exists()
    went_on_from = checkpoint_step(killed)
    process = start(killed)
    taken = process.communicate()[0].count("step\n")
    assert (process.returncode, taken) == (0, STEPS - went_on_from)
    same_run(killed, unbroken)
    print(f"went on from step {went_on_from} to {STEPS}: best and last weights are bitwise those of the unbroken run")


class Crash(BaseException):
    """Not an Exception: like a KeyboardInterrupt, nothing may catch it."""


def crashing(rows, fetch):
    """Crash in place of the nth fetch."""
    take, left = rows.batch, iter(range(fetch))

    def batch(indices):
        if next(left, None) is None:
            raise Crash
        return take(indices)

    rows.batch = batch


SHORT = SETTINGS.model_copy(update={"epochs": 2})
SHORT_STEPS = 8  # 4 an epoch


def short(folder, crash_in=None, fetch=10**6):
    splits = data(4 * 32)
    rows = {name: getattr(splits, name) for name in ("train", "validation")}
    if crash_in is not None:
        crashing(rows[crash_in], fetch)
    return fit(objective(), **rows, settings=SHORT, folder=folder, progress=False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    short(folder)
    return folder


@pytest.mark.usefixtures("without_tensorboard")
@pytest.mark.parametrize(
    ("crash_in", "fetch"), [*(("train", k) for k in range(SHORT_STEPS)), *(("validation", k) for k in range(4))]
)
def test_interrupted_before_any_batch_it_goes_on(crash_in, fetch, unbroken, tmp_path):
    with pytest.raises(Crash):
        short(tmp_path, crash_in, fetch)
    short(tmp_path)
    same_run(tmp_path, unbroken)


@pytest.mark.usefixtures("without_tensorboard")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_interrupted_at_any_file_it_goes_on(after, unbroken, tmp_path, monkeypatch):
    replace = os.replace

    def count(left):
        def broken(source, target):
            nonlocal left
            left -= 1
            if left < 0 and not after:
                raise Crash
            replace(source, target)
            if left < 0:
                raise Crash

        return broken

    for file in range(100):
        folder = tmp_path / str(file)
        monkeypatch.setattr(os, "replace", count(file))
        try:
            short(folder)
        except Crash:
            ended = False
        else:
            ended = True
        monkeypatch.setattr(os, "replace", replace)
        short(folder)
        same_run(folder, unbroken)
        assert not list(folder.rglob(".*")), "a half-written file stays"
        if ended:
            break
    assert file >= 10  # settings, versions, best and last with two files each, and four checkpoints


def test_interrupted_many_times_in_one_run(unbroken, tmp_path):
    for fetch in (1, 3, 0, 1, 2, 1):
        with pytest.raises(Crash):
            short(tmp_path, "train", fetch)
    short(tmp_path)
    same_run(tmp_path, unbroken)


def test_the_random_state_of_the_caller_does_not_matter(unbroken, tmp_path):
    splits, module = data(4 * 32), objective()
    torch.manual_seed(77)
    fit(module, splits.train, splits.validation, SHORT, tmp_path, progress=False)
    same_run(tmp_path, unbroken)


def test_neither_the_random_state_before_nor_the_weights_before_matter_when_it_goes_on(unbroken, tmp_path):
    with pytest.raises(Crash):
        short(tmp_path, "train", 5)
    splits = data(4 * 32)
    other = objective(seed=99)
    torch.manual_seed(77)
    fit(other, splits.train, splits.validation, SHORT, tmp_path, progress=False)
    same_run(tmp_path, unbroken)
    last = weights(unbroken)["last"]
    assert all(torch.equal(value, last[name]) for name, value in other.model.state_dict().items())
