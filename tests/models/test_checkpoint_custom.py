"""A model's file may name a function that builds an encoder; it is not run unasked."""

import json
import sys

import pytest
import torch

from confu.models import MultimodalModel, load_model, save_model
from confu.nn.encoders import CustomEncoder, FramesEncoder, MLPEncoder, build_encoder
from confu.plan import Plan
from confu.types import Batch, Inputs
from own_encoders import Wing

SETTINGS = {"kind": "custom", "function": "own_encoders:wing", "arguments": {"width": 3}}
BATCH = Batch({name: Inputs(torch.randn(2, 4), torch.arange(2)) for name in "ab"}, ["0", "1"])


def model(encoder):
    return MultimodalModel(Plan.parse(["a ~ b"]), {"a": encoder, "b": MLPEncoder(4, [], 3)}, dim=5).eval()


def test_it_is_loaded_when_allowed_or_given(tmp_path):
    net = model(build_encoder(SETTINGS))
    save_model(net, tmp_path)
    with pytest.raises(
        ValueError, match=r"'a' is built by own_encoders:wing, .* not run unasked; .*allow_custom=True\), or give enc"
    ):
        load_model(tmp_path)
    loaded = [
        load_model(tmp_path, allow_custom=True),
        load_model(tmp_path, encoders={"a": Wing(3)}),  # the module itself, as the function gives it
        load_model(tmp_path, encoders={"a": CustomEncoder("own_encoders:wing", {"width": 3}, Wing(3))}),
    ]
    for other in loaded:
        assert torch.equal(other(BATCH)["a"], net(BATCH)["a"])
        assert other.encoders["a"].settings == SETTINGS
    save_model(loaded[1], tmp_path / "again")
    assert torch.equal(load_model(tmp_path / "again", allow_custom=True)(BATCH)["a"], net(BATCH)["a"])
    # A tower that is not asked for needs no leave.
    with pytest.raises(ValueError, match="not run unasked"):
        load_model(tmp_path, modalities=["a"])
    assert torch.equal(load_model(tmp_path, modalities=["b"])(BATCH)["b"], net(BATCH)["b"])


def test_a_file_that_names_a_function_does_not_import_it(tmp_path, monkeypatch):
    (tmp_path / "sly_module.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    save_model(model(build_encoder(SETTINGS)), tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    sly = {"kind": "custom", "function": "sly_module:run"}
    inside = {"kind": "frames", "encoder": sly}
    for settings in (sly, inside, {"kind": "frames", "encoder": inside}):
        description["encoders"]["a"] = settings
        (tmp_path / "model.json").write_text(json.dumps(description))
        with pytest.raises(ValueError, match=r"built by sly_module:run, a function that the file names"):
            load_model(tmp_path)
    assert "sly_module" not in sys.modules


def test_frames_of_a_stranger_have_to_be_given(tmp_path):
    net = model(FramesEncoder(Wing(3)))
    save_model(net, tmp_path)
    with pytest.raises(ValueError, match="the encoder of 'a' is not one of confu's own"):
        load_model(tmp_path)
    load_model(tmp_path, encoders={"a": FramesEncoder(Wing(3))})
