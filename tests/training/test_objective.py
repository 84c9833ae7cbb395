"""Whole trainings of small models: contrastive in both precisions, and supervised."""

import math

import pytest
import torch
from safetensors.torch import load_file

from confu.data import ArrayDataset, TensorColumn
from confu.models import LateFusionClassifier, load_model
from confu.nn.encoders import MLPEncoder
from confu.training import SupervisedObjective, TrainSettings, fit
from confu.training.log import read_log
from training.kill_target import NAMES, data, objective

pytestmark = pytest.mark.usefixtures("without_tensorboard")
SETTINGS = TrainSettings(epochs=6, batch_size=64, lr=5e-3, log_every=1)


def views(rows, seed=0):
    """Three noisy views of one thing: easy to align."""
    generator = torch.Generator().manual_seed(seed)
    thing = torch.randn(rows, 5, generator=generator)
    return ArrayDataset({name: TensorColumn(thing + 0.2 * torch.randn(rows, 5, generator=generator)) for name in NAMES})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_contrastive_training_learns_in_both_precisions(precision, tmp_path):
    module, held_out = objective(), views(128, seed=1)
    settings = SETTINGS.model_copy(update={"precision": precision})
    result = fit(module, views(640), held_out, settings, tmp_path, progress=False)
    validation = read_log(tmp_path, "validation")
    assert validation[-1]["total"] < 0.75 * 3 * math.log(64)  # six terms at a half, each log 64 at chance
    assert result.best_loss == min(record["total"] for record in validation)
    assert result.steps == 60
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in module.parameters())
    assert len(validation[0]["terms"]) == 6
    bounds = [record["metrics"]["total_correlation_bound"] for record in validation]
    assert bounds[0] < bounds[-1] < 2 * math.log(64)
    temperatures = [record["metrics"]["temperature"] for record in read_log(tmp_path, "train")]
    assert len(set(temperatures)) > 50
    assert all(0.01 <= value <= 1 for value in temperatures)
    batch, last = held_out.batch(torch.arange(64)), load_model(tmp_path / "last")
    for subset, vectors in module.eval().model(batch).vectors.items():
        assert torch.equal(vectors, last(batch)[subset])


def test_bfloat16_is_used_and_is_not_float32(tmp_path):
    seen = {}
    for precision in ("float32", "bfloat16"):
        splits, module = data(64), objective()

        def look(encoder, _inputs, output, precision=precision):
            seen[precision, encoder.training] = output.dtype

        module.model.encoders["x1"].register_forward_hook(look)
        settings = SETTINGS.model_copy(update={"precision": precision, "epochs": 1})
        fit(module, splits.train, splits.validation, settings, tmp_path / precision, progress=False)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    assert seen == {(name, training): dtype for name, dtype in dtypes.items() for training in (True, False)}


def test_under_bfloat16_the_loss_itself_is_computed_in_float32():
    module, batch = objective().eval(), views(64).batch(torch.arange(64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = module(batch).total
        embeddings = module.model(batch)
    assert total.dtype == torch.float32
    assert torch.equal(total, module.loss(embeddings).total)


def test_a_learned_temperature_never_leaves_its_range(tmp_path):
    module = objective()
    settings = SETTINGS.model_copy(update={"epochs": 1, "temperature_lr": 4.0})
    fit(module, views(640), views(64, seed=1), settings, tmp_path, progress=False)
    temperatures = [record["metrics"]["temperature"] for record in read_log(tmp_path, "train")]
    assert max(temperatures) == 1.0  # the first step went far past the bound
    low, high = -math.log(1.0), -math.log(0.01)
    assert low <= module.loss.temperature.log_inverse.item() <= high + 1e-6
    assert module.loss.temperature.log_inverse.grad is not None


def separable(rows, labels=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, rows, 4, generator=generator)
    classes = (x[:, 0] > 0).long() + 2 * (y[:, 0] > 0).long()  # needs both
    return ArrayDataset({"x": TensorColumn(x), "y": TensorColumn(y)}, classes if labels else None)


def classifier():
    torch.manual_seed(0)
    encoders = {name: MLPEncoder(4, [16], 8) for name in ("x", "y")}
    return SupervisedObjective(LateFusionClassifier(encoders, num_classes=4, hidden_dim=16))


def test_a_supervised_training_learns_and_its_weights_come_back(tmp_path):
    module = classifier()
    settings = TrainSettings(epochs=12, batch_size=64, lr=1e-2, min_lr=0)
    fit(module, separable(640), separable(256, seed=1), settings, tmp_path, progress=False)
    validation = read_log(tmp_path, "validation")
    assert validation[0]["terms"].keys() == {"x+y -> label"}
    assert validation[-1]["metrics"]["accuracy"] > 0.95
    other = classifier()
    other.load(tmp_path / "last")
    batch = separable(50, seed=2).batch(torch.arange(50))
    assert torch.equal(other.model(batch), module.model(batch))
    assert load_file(tmp_path / "best" / "classifier.safetensors").keys() == module.model.state_dict().keys()


def test_supervised_loss_and_accuracy_are_those_of_the_logits():
    module, data_set = classifier(), separable(10)
    batch = data_set.batch(torch.arange(10))
    out = module(batch)
    logits = module.model(batch)
    by_hand = -sum(logits[i].log_softmax(0)[data_set.labels[i]] for i in range(10)) / 10
    torch.testing.assert_close(out.total, by_hand)
    assert out.rows == {"x+y -> label": 10}
    correct = sum(int(logits[i].argmax()) == int(data_set.labels[i]) for i in range(10))
    assert out.metrics["accuracy"].item() == pytest.approx(correct / 10)


def test_supervised_training_without_labels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="supervised training needs labels, but this data set has none"):
        fit(classifier(), separable(64, labels=False), separable(64), SETTINGS, tmp_path, progress=False)


def test_the_contrastive_objective_is_the_loss_of_the_models_embeddings():
    module = objective().eval()
    batch = data().train.batch(torch.arange(32))
    out = module(batch)
    assert torch.equal(out.total, module.loss(module.model(batch)).total)
    assert set(out.terms) == {str(term) for term in module.model.plan.terms}
    assert set(NAMES) == set(module.model.encoders)
