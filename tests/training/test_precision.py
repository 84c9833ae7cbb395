"""The precision follows the machine: what is chosen, what is said, what is refused, and what a resumed run keeps."""

import json
import warnings

import pytest
import torch
from torch import nn

from confu.data import ArrayDataset, TensorColumn
from confu.data.gaps import IncompleteDataset
from confu.losses import CLIPLoss
from confu.models import MultimodalModel
from confu.plan import pairwise_plan
from confu.training import ContrastiveObjective, TrainSettings, fit, precision
from confu.training.log import read_log
from confu.training.precision import bfloat16_factor, choose_precision, legacy_precision
from training.parts import Scripted, rows, settings, stopped

pytestmark = pytest.mark.usefixtures("without_tensorboard")
CPU = torch.device("cpu")


class NoBfloat16(nn.Module):
    """An encoder that fails in bfloat16, as an LSTM does on a CPU without AVX-512."""

    out_dim = 4

    def __init__(self):
        super().__init__()
        self.linear, self.dropout = nn.Linear(3, 4), nn.Dropout(0.5)

    def forward(self, values):
        hidden = self.dropout(self.linear(values))
        if hidden.dtype == torch.bfloat16:
            raise RuntimeError("could not create a primitive descriptor for the forward. Run with more words")
        return hidden


class Plain(nn.Linear):
    out_dim = 4


def objective(encoder):
    plan = pairwise_plan(("image", "text"))
    return ContrastiveObjective(
        MultimodalModel(plan, {"image": Plain(3, 4), "text": encoder}, dim=4), CLIPLoss(plan.modalities)
    )


def data(count=8):
    values = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    whole = ArrayDataset({name: TensorColumn(values) for name in ("image", "text")})
    return IncompleteDataset(whole, {"image": torch.arange(count) >= 0, "text": torch.arange(count) >= 2})


def train(folder, precision="auto", count=16, **more):
    return fit(Scripted(), rows(count), rows(8), settings(precision=precision), folder, **{"progress": False, **more})


@pytest.fixture
def factor(monkeypatch):
    """Sets how many times as long a bfloat16 product takes."""
    return lambda value: monkeypatch.setattr(precision, "bfloat16_factor", lambda: value)


@pytest.mark.parametrize(("times", "name"), [(69.0, "float32"), (1.0, "float32"), (0.4, "bfloat16")])
def test_auto_takes_what_is_faster(times, name, factor):
    factor(times)
    choice = choose_precision("auto", Scripted(), rows(4), CPU)
    assert (choice.name, choice.reason) == (name, f"a bfloat16 product takes {times:.2g} times as long on this CPU")
    assert choose_precision("float32", Scripted(), rows(4), CPU).name == "float32"


def test_auto_takes_float32_where_an_encoder_needs_it(factor):
    factor(0.4)
    module = objective(NoBfloat16())
    random = torch.get_rng_state()
    choice = choose_precision("auto", module, data(), CPU)
    assert choice.name == "float32"
    assert choice.reason == (
        "the encoder of 'text' (NoBfloat16) cannot run in bfloat16 here "
        "(could not create a primitive descriptor for the forward)"
    )
    assert module.training
    assert torch.equal(torch.get_rng_state(), random)
    assert choose_precision("auto", objective(Plain(3, 4)), data(), CPU).name == "bfloat16"


def test_bfloat16_that_an_encoder_cannot_is_refused(factor, tmp_path):
    factor(0.4)
    with pytest.raises(ValueError, match=r"encoder of 'text' \(NoBfloat16\) cannot run in .* Set precision to float32"):
        fit(objective(NoBfloat16()), data(), data(), settings(precision="bfloat16"), tmp_path, progress=False)
    assert not (tmp_path / "state.pt").exists()


def test_slow_bfloat16_is_warned_of_and_trains(factor, tmp_path):
    factor(69.0)
    with pytest.warns(UserWarning, match="bfloat16 is slower than float32 here: .* takes 69 times as long on this CPU"):
        result = train(tmp_path, "bfloat16", 8)
    assert result.precision == "bfloat16"
    factor(1.1)
    with warnings.catch_warnings(action="error"):  # nearly as fast
        choose_precision("bfloat16", Scripted(), rows(4), CPU)


def test_the_log_and_the_terminal_name_the_precision(factor, tmp_path, capsys):
    factor(69.0)
    result = train(tmp_path, count=8, progress=True)
    assert result.precision == "float32"
    reason = "a bfloat16 product takes 69 times as long on this CPU"
    assert read_log(tmp_path)[0] == {"kind": "precision", "step": 0, "precision": "float32", "reason": reason}
    assert f"precision: float32 ({reason})" in capsys.readouterr().err


@pytest.mark.parametrize(("begun", "resumed", "name"), [(0.4, 69.0, "bfloat16"), (69.0, 0.4, "float32")])
@pytest.mark.filterwarnings("ignore:precision bfloat16 is slower")
def test_a_resumed_run_keeps_its_precision(begun, resumed, name, factor, tmp_path):
    factor(begun)
    stopped(lambda: train(tmp_path))
    factor(resumed)
    assert train(tmp_path).precision == name
    assert [record["precision"] for record in read_log(tmp_path, "precision")] == [name]
    assert train(tmp_path).precision == name  # a finished run says so too


def test_auto_goes_on_with_a_run_of_any_precision(factor, tmp_path):
    factor(0.4)
    stopped(lambda: train(tmp_path, "float32"))
    assert train(tmp_path).precision == "float32"
    assert json.loads((tmp_path / "settings.json").read_text())["train"]["precision"] == "float32"
    with pytest.raises(ValueError, match=r"train\.precision is 'float32' there and 'bfloat16' here"):
        train(tmp_path, "bfloat16")


def test_a_checkpoint_without_a_precision_keeps_the_old_rule(factor, tmp_path):
    factor(69.0)
    stopped(lambda: train(tmp_path))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["progress"]["precision"]
    torch.save(state, tmp_path / "state.pt")
    factor(0.4)
    assert train(tmp_path).precision == "float32"
    assert legacy_precision("bfloat16", CPU) == "bfloat16"


def test_the_factor_is_a_ratio_of_two_times():
    assert 0 < bfloat16_factor(size=16, rounds=1) < float("inf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CONFU_TRITON", "CONFU_TRITON must be '0', '1' or 'auto'; got 'maybe'"),
        ("CONFU_MATMUL", "CONFU_MATMUL must be 'default' or 'onednn'; got 'maybe'"),
    ],
)
def test_an_unknown_environment_value_stops_before_training(name, message, monkeypatch, tmp_path):
    monkeypatch.setenv(name, "maybe")
    with pytest.raises(ValueError, match=message):
        fit(Scripted(), rows(8), rows(8), TrainSettings(batch_size=4), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
