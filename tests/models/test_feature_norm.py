"""Features normalised over the batch, before projections and fusion read them."""

import torch

from confu.models import MultimodalModel, load_model, save_model
from confu.nn.encoders import build_encoder
from confu.plan import confu_plan
from confu.types import Batch, Inputs

NAMES = ("a", "b", "c")


def model():
    torch.manual_seed(0)
    encoders = {name: build_encoder({"kind": "mlp", "in_dim": 5, "out_dim": 6}) for name in NAMES}
    return MultimodalModel(confu_plan(NAMES), encoders, dim=4, fusion_dim=8, feature_norm=True)


def batch(rows):
    inputs = {name: Inputs(torch.randn(rows, 5) + 9, torch.arange(rows)) for name in NAMES}
    return Batch(inputs, [str(i) for i in range(rows)])


def test_features_of_a_training_batch_have_mean_zero_and_spread_one():
    net, rows = model(), batch(64)
    features = net.encode("a", rows.inputs["a"])
    torch.testing.assert_close(features.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(6), atol=1e-3, rtol=0)


def test_a_single_distinct_input_trains_by_the_running_statistics():
    net = model()
    for _ in range(50):
        net(batch(32))
    one = batch(1)
    trained = net(one)["a"].detach()
    torch.testing.assert_close(trained, net.eval()(one)["a"])


def test_a_saved_model_normalises_by_what_training_saw(tmp_path):
    net, rows = model(), batch(8)
    net(batch(64))
    save_model(net, tmp_path)
    again = load_model(tmp_path)
    net.eval()
    for subset, vectors in net(rows).items():
        torch.testing.assert_close(again(rows)[subset], vectors)
    assert "norms.a.running_mean" in again.state_dict()
