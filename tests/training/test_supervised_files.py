"""A classifier's weights on disk: bitwise back, or refused with the file's name."""

import pytest
import torch

from confu.models import LateFusionClassifier
from confu.nn.encoders import MLPEncoder
from confu.training import SupervisedObjective


def objective(width: int = 4) -> SupervisedObjective:
    return SupervisedObjective(LateFusionClassifier({"x": MLPEncoder(3, [], width)}, num_classes=2, hidden_dim=5))


def test_weights_come_back_bitwise(tmp_path):
    saved, other = objective(), objective()
    saved.save(tmp_path)
    other.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), other.parameters()))


def test_missing_cut_and_other_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"classifier\.safetensors: not whole weights"):
        objective().load(tmp_path)
    objective(width=6).save(tmp_path)
    with pytest.raises(ValueError, match=r"classifier\.safetensors: not whole weights of this classifier"):
        objective().load(tmp_path)
    file = tmp_path / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"classifier\.safetensors: not whole weights"):
        objective(width=6).load(tmp_path)
