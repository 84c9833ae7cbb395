"""Towers in ONNX: the same vectors as torch's, for any number of items and any length."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from confu.inference.onnx import Tower, export_onnx
from confu.nn.encoders import MLPEncoder
from confu.plan import Plan

from .parts import NAMES, SPARSE, embedder, items


def run(folder, made, subset, sources):
    """Embed with onnxruntime and the readers alone."""
    session = onnxruntime.InferenceSession(folder / f"{subset}.onnx")
    given = {}
    for name in subset.split("+"):
        reader = made.readers[name]
        values = reader.collate([reader.read(source) for source in sources[name]])
        tensors = {f"{name}.{key}": one for key, one in values.items()} if isinstance(values, dict) else {name: values}
        given |= {key: one.numpy() for key, one in tensors.items()}
    return session.run(None, given)[0]


@pytest.mark.parametrize("fusion", ["shared", pytest.param("mlp", marks=pytest.mark.heavy)])
def test_towers_give_the_vectors_of_torch_at_other_sizes(fusion, tmp_path, as_users_run):  # a symbolic size is no int
    made, length = embedder(fusion=fusion), torch.Tensor.__len__
    made.model.settings["stacking"] = {"sensor+text": [0.5, 0.2, 0.3]}
    towers = export_onnx(made, tmp_path, subsets=["sensor", "text+sensor"])
    assert torch.Tensor.__len__ is length
    assert [str(one.subset) for one in towers] == ["sensor", "sensor+text"]
    assert all(one.difference < 1e-5 for one in towers)
    for number in (1, 7):
        sources = items(number)
        for subset in ("sensor", "sensor+text"):
            expected = made.encode({name: sources[name] for name in subset.split("+")}).vectors.numpy()
            np.testing.assert_allclose(run(tmp_path, made, subset, sources), expected, atol=1e-5)
    index = json.loads((tmp_path / "onnx.json").read_text())
    assert index["towers"][1]["inputs"]["text.input_ids"] == ["batch", "length"]
    assert index["towers"][0]["inputs"] == {"sensor": ["batch", 6]}
    assert index["readers"]["text"] == made.readers["text"].settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx.json", "sensor+text.onnx", "sensor.onnx"]


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch):
    forward = Tower.forward
    exporting = torch.compiler.is_exporting
    monkeypatch.setattr(Tower, "forward", lambda self, *x: forward(self, *x) + (0.1 if exporting() else 0))
    with pytest.raises(ValueError, match=r"sensor.onnx was not written: its vectors differ from torch's by 0.1"):
        export_onnx(embedder(), tmp_path, subsets=["sensor"])
    assert list(tmp_path.iterdir()) == []


class Numbered(MLPEncoder):
    """Adds to each row its number, by a way that fixes the number of rows."""

    def forward(self, values):
        return super().forward(values) + torch.arange(len(values))[:, None]


def test_an_encoder_that_fixes_a_size_is_told_of(tmp_path, as_users_run):
    made = embedder()
    made.model.encoders["sensor"] = Numbered(6, [8], 5).eval()
    with pytest.raises(ValueError, match=r"the tower of sensor cannot be exported .*specialized it to be a constant"):
        export_onnx(made, tmp_path, subsets=["sensor"])
    assert list(tmp_path.iterdir()) == []


def test_a_subset_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"this model embeds sensor, steps, text, steps\+text, not sensor\+text"):
        export_onnx(embedder(Plan.parse(SPARSE, NAMES)), tmp_path, subsets=["sensor+text"])
