"""Run folders: one run each, with one set of settings; what is damaged is refused and named."""

import json
import os
import pickle
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from confu.training import fit
from confu.training.log import RunLog, read_log
from confu.training.state import HOLDER, claim_folder, exclusive
from together import Started
from training.parts import Scripted, rows, settings, stopped

pytestmark = pytest.mark.usefixtures("without_tensorboard")


def run(folder, objective=None, description=None, **changes):
    objective = Scripted() if objective is None else objective
    return fit(objective, rows(16), rows(8), settings(**changes), folder, description, progress=False)


@pytest.fixture
def half_done(tmp_path):
    stopped(lambda: run(tmp_path), at=8)
    return tmp_path


def test_other_settings_are_refused_and_each_named(half_done):
    with pytest.raises(
        ValueError, match=r"holds a run with other settings: train.lr is 0.01 there and 0.02 here\. Cho"
    ):
        run(half_done, lr=0.02)
    with pytest.raises(ValueError, match=r"train.epochs is 4 there and 3 here; train.seed is 0 there and 1 here"):
        run(half_done, epochs=3, seed=1)
    with pytest.raises(ValueError, match=r"data is None there and {'p': 0.5} here"):
        run(half_done, description={"data": {"p": 0.5}})
    before = (half_done / "state.pt").read_bytes()
    idle = Scripted()
    with pytest.raises(ValueError, match="Choose another folder, or delete this one"):
        run(half_done, idle, batch_size=8)
    assert idle.batches == []
    assert (half_done / "state.pt").read_bytes() == before


def test_a_folder_of_something_else_is_refused_for_training(tmp_path):
    claim_folder(tmp_path, {"space": {"lr": [1, 2]}})
    with pytest.raises(ValueError, match=r"space is {'lr': \[1, 2\]} there and None here; train is None there"):
        run(tmp_path)


def test_nested_differences_are_named_with_their_path(tmp_path):
    claim_folder(tmp_path, {"train": {"lr": 1}, "data": {"name": "xor", "p": 0.5}})
    claim_folder(tmp_path, {"data": {"p": 0.5, "name": "xor"}, "train": {"lr": 1}})
    with pytest.raises(
        ValueError, match=r"other settings: data.p is 0.5 there and 1.0 here; data.bits is None there and 5"
    ):
        claim_folder(tmp_path, {"train": {"lr": 1}, "data": {"name": "xor", "p": 1.0, "bits": 5}})


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def foreign(content):
    return lambda file: torch.save(content, file)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


DAMAGES = {
    "truncated": truncate,
    "empty": lambda file: file.write_bytes(b""),
    "no archive": lambda file: file.write_bytes(b"\x93NUMPY" + bytes(range(200))),
    "text": lambda file: file.write_text("hello there, this is not a checkpoint"),
    "of something else": foreign({"weights": torch.zeros(2)}),
    "a list": foreign([1, 2]),
    "without a position": lambda file: torch.save(
        {k: v for k, v in torch.load(file, weights_only=True).items() if k != "progress"}, file
    ),
    "a pickle": lambda file: file.write_bytes(pickle.dumps(Bomb())),
    "a pickle in an archive": foreign({"objective": Bomb()}),
}
UNREADABLE, UNFIT = (
    r"state\.pt: damaged, or not a checkpoint of confu",
    r"state\.pt: this checkpoint does not fit the run",
)
MESSAGES = {
    **dict.fromkeys(DAMAGES, UNREADABLE),
    **dict.fromkeys(["of something else", "a list", "without a position"], UNFIT),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_not_executed(damage, half_done, monkeypatch):
    monkeypatch.chdir(half_done)
    file = half_done / "state.pt"
    DAMAGES[damage](file)
    before, idle = file.read_bytes(), Scripted()
    with pytest.raises(ValueError, match=MESSAGES[damage] + r".*Delete the folder") as raised:
        run(half_done, idle)
    assert "set to `False`" not in str(raised.value)  # torch's advice, which would execute the file
    assert not Path("executed").exists()
    assert idle.batches == []
    assert file.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(half_done):
    class Other(Scripted):
        def __init__(self):
            super().__init__()
            self.more = nn.Parameter(torch.ones(2))

    with pytest.raises(ValueError, match=r"(?s)does not fit the run.*more"):
        run(half_done, Other())
    wider = Scripted()
    wider.weight = nn.Parameter(torch.ones(4))
    with pytest.raises(ValueError, match=r"(?s)does not fit the run.*size mismatch"):
        run(half_done, wider)


def test_a_folder_that_is_not_whole_is_refused(half_done):
    settings_file = half_done / "settings.json"
    whole = settings_file.read_text()
    settings_file.write_text(whole[:20])
    with pytest.raises(ValueError, match=r"settings\.json: not valid JSON"):
        run(half_done)
    settings_file.unlink()
    with pytest.raises(ValueError, match=r"holds state\.pt but no settings\.json: not a whole run folder"):
        run(half_done)
    settings_file.write_text(whole)
    log = half_done / "log.jsonl"
    size = log.stat().st_size
    log.write_bytes(log.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"log\.jsonl holds 50 bytes, but \d+ when the checkpoint was written"):
        run(half_done)
    assert log.stat().st_size == 50 < size
    log.unlink()
    with pytest.raises(ValueError, match=r"log\.jsonl holds 0 bytes"):
        run(half_done)


def test_the_log_keeps_what_stands_before_the_position(tmp_path):
    with RunLog(tmp_path) as log:
        log.write("train", 1, total=0.5, terms={"a ~ b": 1.0})
        position = log.position()
        log.write("train", 2, total=0.4)
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2]
    with RunLog(tmp_path, position, step=1) as log:
        log.write("validation", 2, total=0.3, note="text is not a number")
    assert read_log(tmp_path) == [
        {"kind": "train", "step": 1, "total": 0.5, "terms": {"a ~ b": 1.0}},
        {"kind": "validation", "step": 2, "total": 0.3, "note": "text is not a number"},
    ]
    assert [record["step"] for record in read_log(tmp_path, "validation")] == [2]
    assert all(json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())


def test_a_folder_is_trained_by_one_process_at_a_time(tmp_path):
    holder = Started(1, hold, tmp_path)
    try:
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        with pytest.raises(ValueError, match=r"is being trained by process \d+ on \S+, since 20\d\d-.*out=") as error:
            fit(Scripted(), rows(18), rows(10), settings(), tmp_path, progress=False)
        assert str((tmp_path / "held").read_text()) in str(error.value)
    finally:
        holder.end()  # killed: nothing is cleaned up
    fit(Scripted(), rows(18), rows(10), settings(), tmp_path, progress=False)
    assert not (tmp_path / HOLDER).exists()


def hold(folder):
    with exclusive(folder), exclusive(folder):  # `train` and, inside of it, `fit`
        written = folder / "pid"
        written.write_text(f"process {os.getpid()} ")
        written.rename(folder / "held")
        time.sleep(600)
