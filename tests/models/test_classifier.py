"""The supervised classifier with late fusion."""

import pytest
import torch

from confu.models import LateFusionClassifier
from models.parts import Counted, complete_rows, dataset, encoders


def classifier(names=("image", "audio", "text")):
    torch.manual_seed(0)
    return LateFusionClassifier({name: encoders()[name] for name in names}, num_classes=3, hidden_dim=16)


def test_logits_of_every_row_depend_on_every_modality():
    net, data = classifier().eval(), dataset(missing=False)
    batch = data.batch(torch.arange(12))
    logits = net(batch)
    assert logits.shape == (12, 3)
    other = data.batch(torch.arange(12).roll(1))
    for name in batch.inputs:
        changed = net(type(batch)({**batch.inputs, name: other.inputs[name]}, batch.ids))
        assert (changed - logits).abs().amax(dim=1).min() > 1e-4


def test_repeated_captions_are_encoded_once():
    net = classifier()
    counted = net.encoders["text"] = Counted(net.encoders["text"])
    net.eval()
    logits = net(dataset(missing=False).batch(torch.arange(12)))
    assert len(counted.seen[0]) == 3
    each = net(dataset(missing=False, deduplicate=False).batch(torch.arange(12)))
    torch.testing.assert_close(logits, each, atol=1e-5, rtol=1e-5)


def test_rows_that_lack_a_used_modality_are_refused():
    data = dataset()
    with pytest.raises(ValueError, match="but 3 of 12 rows lack 'audio'; select the complete rows first"):
        classifier()(data.batch(torch.arange(12)))
    assert classifier(["image"])(data.batch(torch.arange(12))).shape == (12, 3)
    rows = torch.tensor(complete_rows("audio", "text"))
    assert classifier()(data.batch(rows)).shape == (len(rows), 3)


def test_an_encoder_without_a_size_is_refused():
    with pytest.raises(ValueError, match="must say the size of its features"):
        LateFusionClassifier({"image": torch.nn.Linear(6, 5)}, num_classes=3)
