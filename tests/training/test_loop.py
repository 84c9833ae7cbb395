"""The loop: which rows in which order, which epoch is the best, what is written, and what it refuses."""

import json
import sys

import pytest
import torch

from confu.training import TrainSettings, fit
from confu.training.log import read_log
from confu.training.loop import memory_hint
from confu.training.optimizer import build_optimizer, build_schedule
from training.parts import Scripted, rows, settings, stopped

TRAIN, VALIDATION = rows(18), rows(10)  # four batches of four an epoch, two of validation
pytestmark = pytest.mark.usefixtures("without_tensorboard")


def run(folder, objective=None, train=TRAIN, validation=VALIDATION, changes=None, **more):
    objective = Scripted() if objective is None else objective
    return fit(objective, train, validation, settings(**(changes or {})), folder, progress=False, **more)


def test_the_first_lowest_validation_loss_chooses_the_epoch(tmp_path):
    objective = Scripted(validation=[3.0, 1.0, 2.0, 1.0])
    seen = []
    result = run(tmp_path, objective, monitor=lambda: seen.append(objective.weight.tolist()) or {"epochs": len(seen)})
    assert (result.best_epoch, result.best_loss, result.steps, result.folder) == (2, 1.0, 16, tmp_path)
    assert objective.saved == ["best", "best", "last"]
    assert json.loads((tmp_path / "best" / "weights.json").read_text()) == seen[1]
    assert json.loads((tmp_path / "last" / "weights.json").read_text()) == seen[3] == objective.weight.tolist()
    assert len({tuple(weights) for weights in seen}) == 4


def test_each_epoch_takes_every_row_once_in_its_own_order(tmp_path):
    objective = Scripted()
    run(tmp_path / "a", objective)
    epochs = [objective.fetched()[k : k + 4] for k in range(0, 16, 4)]
    for epoch in epochs:
        taken = [row for batch in epoch for row in batch]
        assert [len(batch) for batch in epoch] == [4] * 4
        assert len(set(taken)) == 16
        assert set(taken) <= set(TRAIN.ids)
    assert len({str(epoch) for epoch in epochs}) == 4
    assert {row for epoch in epochs for batch in epoch for row in batch} == set(TRAIN.ids)
    again, other = Scripted(), Scripted()
    run(tmp_path / "b", again)
    run(tmp_path / "c", other, changes={"seed": 1})
    assert again.fetched() == objective.fetched()
    assert other.fetched() != objective.fetched()


def test_validation_batches_are_fixed_and_of_training_size(tmp_path):
    objective = Scripted()
    run(tmp_path, objective, changes={"seed": 5})
    batches = objective.fetched(training=False)
    assert [len(batch) for batch in batches] == [4, 4] * 4
    assert batches[:2] == batches[2:4] == batches[6:]
    assert len(set(batches[0] + batches[1])) == 8
    assert batches[0] != sorted(batches[0])  # mixed: rows may be sorted by class
    small = Scripted()
    run(tmp_path / "small", small, validation=rows(3))
    assert {len(batch) for batch in small.fetched(training=False)} == {3}


def test_the_log_holds_every_loss_with_its_learning_rate(tmp_path):
    changes = {"log_every": 3, "checkpoint_every": 100, "warmup_steps": 3, "lr": 0.1, "min_lr": 0.01}
    objective = Scripted(validation=[3.0, 1.0, 2.0, 0.5], training={6: 7.5})
    in_evaluation = []
    run(tmp_path, objective, changes=changes, monitor=lambda: in_evaluation.append(objective.training) or {"r": 0.25})
    train = read_log(tmp_path, "train")
    assert [record["step"] for record in train] == [3, 4, 6, 8, 9, 12, 15, 16]
    assert [record["epoch"] for record in train] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert train[2]["total"] == train[2]["terms"]["x ~ y"] == 7.5
    assert train[0]["metrics"] == {"temperature": pytest.approx(0.07)}
    schedule = build_schedule(build_optimizer(Scripted(), settings(**changes)), settings(**changes), 16)
    used = [0.1 * schedule.lr_lambdas[0](step) for step in range(16)]
    assert [record["lr"] for record in train] == pytest.approx([used[record["step"] - 1] for record in train])
    validation = read_log(tmp_path, "validation")
    assert [record["total"] for record in validation] == [3.0, 1.0, 2.0, 0.5]
    assert [(record["step"], record["epoch"]) for record in validation] == [(4, 1), (8, 2), (12, 3), (16, 4)]
    assert all(record["metrics"]["r"] == 0.25 and record["seconds"] > 0 for record in validation)
    assert in_evaluation == [False] * 4
    assert [record["kind"] for record in read_log(tmp_path)].count("train") == 8


def test_the_run_folder_holds_its_settings_and_versions(tmp_path):
    run(tmp_path, description={"recipe": "mine", "plan": ("a", "b")})
    written = json.loads((tmp_path / "settings.json").read_text())
    assert TrainSettings(**written.pop("train")) == settings()
    assert written == {"recipe": "mine", "plan": ["a", "b"]}
    assert json.loads((tmp_path / "versions.json").read_text())["torch"] == torch.__version__
    files = {"training.lock", "settings.json", "versions.json", "log.jsonl", "state.pt", "best", "last"}
    assert {file.name for file in tmp_path.iterdir()} == files


def test_a_finished_run_returns_at_once(tmp_path):
    first = run(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    idle = Scripted()
    again = run(tmp_path, idle)
    assert again == first
    assert idle.batches == idle.saved == []
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert json.loads((tmp_path / "last" / "weights.json").read_text()) == idle.weight.tolist()  # left with the last


def test_an_interrupt_costs_the_steps_since_the_checkpoint(tmp_path):
    stopped(lambda: run(tmp_path), at=8)
    assert [record["step"] for record in read_log(tmp_path, "train")] == list(range(1, 8))
    rest = Scripted(validation=[3.0, 2.0, 1.0])
    result = run(tmp_path, rest)
    whole = Scripted()
    run(tmp_path / "whole", whole)
    assert rest.fetched() == whole.fetched()[6:]  # the checkpoint of step 6
    assert [record["step"] for record in read_log(tmp_path, "train")] == list(range(1, 17))
    assert torch.equal(rest.weight, whole.weight)
    assert (result.best_epoch, result.best_loss) == (4, 1.0)
    assert [record["total"] for record in read_log(tmp_path, "validation")] == [4.0, 3.0, 2.0, 1.0]


def kept(folder):
    at = torch.load(folder / "state.pt", weights_only=True)
    assert at["objective"]["weight"].isfinite().all()
    return at["progress"]["epoch"] * 4 + at["progress"]["step"]


@pytest.mark.parametrize(("value", "log_every", "named"), [("nan", 1, 7), ("inf", 100, 8), ("-inf", 1, 7)])
def test_a_loss_that_is_not_finite_keeps_the_checkpoint(value, log_every, named, tmp_path):
    value = float(value)
    objective = Scripted(training={7: value, 8: value})
    with pytest.raises(ValueError, match=rf"the loss is {value} at step {named} \(x ~ y {value}\).*is kept in .*Lower"):
        run(tmp_path, objective, changes={"log_every": log_every})
    assert kept(tmp_path) == 6
    assert objective.saved == ["best"]  # of the first epoch


@pytest.mark.parametrize("step", [6, 8])
def test_bad_weights_never_replace_a_checkpoint(step, tmp_path):
    objective = Scripted(bad_gradient=step)  # the loss of this very step is finite, and it is one with a checkpoint
    with pytest.raises(ValueError, match=rf"1 weights are NaN or infinite after step {step}, the first 'weight'"):
        run(tmp_path, objective)
    assert kept(tmp_path) == {6: 4, 8: 6}[step]
    assert objective.saved == ["best"]


def test_a_bad_validation_loss_keeps_the_checkpoint(tmp_path):
    objective = Scripted(validation=[2.0, float("nan"), 1.0, 1.0])
    with pytest.raises(ValueError, match="the validation loss is nan at step 8"):
        run(tmp_path, objective)
    assert kept(tmp_path) == 6
    assert objective.saved == ["best"]


def test_too_few_rows_are_refused_before_writing(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="the training set has 3 rows, fewer than batch_size 4; lower batch_size"):
        run(folder, train=rows(3))
    with pytest.raises(ValueError, match="the validation set has 1 rows; at least 2 are needed"):
        run(folder, validation=rows(1))
    assert not folder.exists()


class Full(Scripted):
    def forward(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has 1 GiB. See the docs.")


def test_errors_of_a_step_say_which_setting_helps(tmp_path):
    with pytest.raises(
        ValueError, match=r"batch_size 8 with all its rows .* \(CUDA out of .* 2 GiB\)\. Set chunk, e\.g\. to 2: .*"
    ):
        run(tmp_path, Full(), changes={"batch_size": 8})
    with pytest.raises(ValueError, match=r"64 rows encoded at once .* Lower chunk, e\.g\. to 32"), memory_hint(256, 64):
        raise torch.OutOfMemoryError("out of memory")
    with (
        pytest.raises(ValueError, match=r"batch_size 256 .* does not fit .* Set chunk, e\.g\. to 64"),
        memory_hint(256, None),
    ):
        torch.empty(2**58)  # of a CPU torch says it in another way
    with pytest.raises(ValueError, match="batch norm got a single row"), memory_hint(2, None):
        torch.nn.BatchNorm1d(4)(torch.ones(1, 4))
    with pytest.raises(RuntimeError, match="cannot be multiplied"), memory_hint(256, None):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_the_display_prints_a_line_an_epoch(tmp_path, capsys):
    shown, hidden = Scripted(), Scripted()
    fit(shown, TRAIN, VALIDATION, settings(), tmp_path / "shown", monitor=lambda: {"accuracy": 0.5})
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 4
    assert "epoch 2/4  train 1.000  validation 3.000" in lines[1]
    assert "accuracy 0.500" in lines[1]
    run(tmp_path / "hidden", hidden)
    assert capsys.readouterr().err == ""
    assert torch.equal(shown.weight, hidden.weight)


def test_a_terminal_shows_a_table_of_losses(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    fit(Scripted(), TRAIN, VALIDATION, settings(), tmp_path)
    shown = capsys.readouterr().err
    assert "epoch 4/4" in shown
    assert "loss (nats)" in shown
    assert "x ~ y" in shown
    assert "temperature" in shown


def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard.writer", raising=False)
    with_board = Scripted()
    run(tmp_path, with_board)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("validation/total")] == [4, 8, 12, 16]
    assert [event.value for event in events.Scalars("validation/total")] == [4.0, 3.0, 2.0, 1.0]
    assert {"train/lr", "train/terms/x ~ y", "train/metrics/temperature"} <= set(events.Tags()["scalars"])
