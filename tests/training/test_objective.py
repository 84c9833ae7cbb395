"""Whole trainings of small models: contrastive in both precisions, supervised, channels_last, compiled, resident."""

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import confu
from confu.data import ArrayDataset, TensorColumn
from confu.losses import ConFuLoss
from confu.models import LateFusionClassifier, MultimodalModel, load_model
from confu.nn.encoders import ConvEncoder, MLPEncoder
from confu.plan import confu_plan
from confu.training import ContrastiveObjective, SupervisedObjective, TrainSettings, fit
from confu.training import loop as training_loop
from confu.training.log import read_log
from confu.training.objective import compile_encoders, use_channels_last
from confu.types import Batch, Inputs
from training import several_processes
from training.parts import stopped
from training.random_training import NAMES, data, objective, views
from training.several_processes import METHODS

pytestmark = pytest.mark.usefixtures("without_tensorboard")
SETTINGS = TrainSettings(epochs=6, batch_size=64, lr=5e-3, log_every=1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.filterwarnings("ignore:precision bfloat16 is slower")
def test_a_contrastive_training_learns_in_both_precisions(precision, tmp_path):
    module, held_out, dtypes = objective(), views(128, seed=1), set()
    module.model.encoders["x1"].register_forward_hook(lambda _module, _inputs, output: dtypes.add(output.dtype))
    settings = SETTINGS.model_copy(update={"precision": precision})
    result = fit(module, views(640), held_out, settings, tmp_path, progress=False)
    assert dtypes == {getattr(torch, precision)}
    validation = read_log(tmp_path, "validation")
    assert validation[-1]["total"] < 0.85 * 3 * math.log(64)  # six terms at a half, each log 64 at chance
    assert result.best_loss == min(record["total"] for record in validation)
    assert (result.steps, result.precision) == (60, precision)
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in module.parameters())
    assert len(validation[0]["terms"]) == 6
    bounds = [record["metrics"]["total_correlation_bound"] for record in validation]
    assert bounds[0] < bounds[-1] < 2 * math.log(64)
    temperatures = [record["metrics"]["temperature"] for record in read_log(tmp_path, "train")]
    assert len(set(temperatures)) > 30
    assert all(0.01 <= value <= 1 for value in temperatures)
    batch, last = held_out.batch(torch.arange(64)), load_model(tmp_path / "last")
    for subset, vectors in module.eval().model(batch).vectors.items():
        assert torch.equal(vectors, last(batch)[subset])


def test_the_loss_is_computed_in_float32_under_autocast():
    module, batch = objective().eval(), views(64).batch(torch.arange(64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = module(batch).total
        embeddings = module.model(batch)
    assert total.dtype == torch.float32
    assert torch.equal(total, module.loss(embeddings).total)


def test_equal_inputs_are_equal_before_augmentation(tmp_path, monkeypatch):
    """Rows of one vector are further positives, though each got noise of its own; in chunks too."""
    module, seen = objective(), []
    module.loss.equal_inputs = "positives"
    three = ArrayDataset({name: TensorColumn(torch.eye(3, 5)[torch.arange(12) % 3]) for name in NAMES})
    whole = module.loss_of
    monkeypatch.setattr(module, "loss_of", lambda embeddings: (seen.append(embeddings), whole(embeddings))[1])
    for number, chunk in enumerate((None, 5)):
        settings = TrainSettings(epochs=1, batch_size=12, chunk=chunk)
        fit(module, three, three, settings, tmp_path / str(number), progress=False)
    for embeddings in seen:  # of a step and a validation each
        assert [len(embeddings.contents[name].unique()) for name in NAMES] == [3, 3, 3]
    assert len(seen) == 4


def test_a_learned_temperature_never_leaves_its_range(tmp_path):
    module = objective()
    settings = SETTINGS.model_copy(update={"epochs": 1, "temperature_lr": 40.0})
    fit(module, views(640), views(64, seed=1), settings, tmp_path, progress=False)
    temperatures = [record["metrics"]["temperature"] for record in read_log(tmp_path, "train")]
    assert {0.01, 1.0} & {round(value, 6) for value in temperatures}  # the first step goes far past one of the bounds
    assert all(0.01 - 1e-6 <= value <= 1 + 1e-6 for value in temperatures)
    assert -1e-6 <= module.loss.temperature.log_inverse.item() <= -math.log(0.01) + 1e-6


def test_the_objective_is_the_loss_of_the_models_embeddings():
    module = objective().eval()
    batch = data().train.batch(torch.arange(32))
    out = module(batch)
    assert torch.equal(out.total, module.loss(module.model(batch)).total)
    assert set(out.terms) == {str(term) for term in module.model.plan.terms}
    assert set(NAMES) == set(module.model.encoders)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("method", METHODS)
def test_a_nan_embedding_is_named_by_every_method(method):
    values = torch.randn(6, 6)
    values[2, 3] = torch.nan
    inputs = {name: Inputs(torch.randn(6, 6), torch.arange(6)) for name in ("image", "text")}
    batch = Batch({**inputs, "audio": Inputs(values, torch.arange(6))}, list("abcdef"))
    with pytest.raises(ValueError, match=r"audio must be finite.*first in row 2"):
        several_processes.objective(method)(batch)


def separable(rows, labels=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, rows, 4, generator=generator)
    classes = (x[:, 0] > 0).long() + 2 * (y[:, 0] > 0).long()  # needs both
    return ArrayDataset({"x": TensorColumn(x), "y": TensorColumn(y)}, classes if labels else None)


def classifier(width=8):
    torch.manual_seed(0)
    encoders = {name: MLPEncoder(4, [16], width) for name in ("x", "y")}
    return SupervisedObjective(LateFusionClassifier(encoders, num_classes=4, hidden_dim=16))


def test_a_supervised_training_learns_and_is_loaded(tmp_path):
    module = classifier()
    settings = TrainSettings(epochs=12, batch_size=64, lr=1e-2, min_lr=0)
    fit(module, separable(640), separable(256, seed=1), settings, tmp_path, progress=False)
    validation = read_log(tmp_path, "validation")
    assert validation[0]["terms"].keys() == {"x+y -> label"}
    assert validation[-1]["metrics"]["accuracy"] > 0.85  # a quarter by chance
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


def test_supervised_training_without_labels_is_refused():
    with pytest.raises(ValueError, match="supervised training needs labels, but this data set has none"):
        classifier()(separable(8, labels=False).batch(torch.arange(8)))


def test_missing_cut_and_other_classifier_weights_are_refused(tmp_path):
    message = r"classifier\.safetensors: not whole weights of this classifier"
    with pytest.raises(ValueError, match=message):
        classifier().load(tmp_path)
    classifier(width=6).save(tmp_path)
    with pytest.raises(ValueError, match=message):
        classifier().load(tmp_path)
    file = tmp_path / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=message):
        classifier(width=6).load(tmp_path)


SHAPES = {"image": (3, 8, 8), "sound": (1, 6, 10), "number": (4,)}


def images(count):
    generator = torch.Generator().manual_seed(count)
    columns = {name: TensorColumn(torch.randn(count, *shape, generator=generator)) for name, shape in SHAPES.items()}
    return ArrayDataset(columns)


def convolutional():
    torch.manual_seed(0)
    image, sound = (ConvEncoder(SHAPES[name][0], (4, 6), 5, norm="group") for name in ("image", "sound"))
    plan = confu_plan(tuple(SHAPES))
    encoders = {"image": image, "sound": sound, "number": MLPEncoder(4, [], 5)}
    return ContrastiveObjective(MultimodalModel(plan, encoders, dim=4, fusion_dim=8), ConFuLoss(plan))


def train_images(folder, **changes):
    module = convolutional()
    settings = TrainSettings(epochs=2, batch_size=16, lr=1e-3, checkpoint_every=1, log_every=1, **changes)
    fit(module, images(48), images(17), settings, folder, progress=False)
    return module


def eager(graph, _inputs):
    """A backend of torch.compile that runs a graph as it is."""
    return graph.forward


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return train_images(folder), folder


@pytest.mark.parametrize("option", ["channels_last", "compile", "resident"])
def test_an_option_trains_the_same_and_resumes_bitwise(option, plain, tmp_path, monkeypatch, as_users_run):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return eager(graph, inputs)

    monkeypatch.setattr(training_loop, "compile_encoders", lambda module: compile_encoders(module, backend=backend))
    module, folder = train_images(tmp_path / "whole", **{option: True}), tmp_path / "whole" / "best"
    assert bool(graphs) == (option == "compile")
    if option == "channels_last":
        weight = module.model.encoders["image"].layers[3].weight
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert not weight.is_contiguous()
    expected, expected_folder = plain
    assert list(module.state_dict()) == list(expected.state_dict())
    for (name, value), other in zip(module.state_dict().items(), expected.state_dict().values()):
        torch.testing.assert_close(value, other, atol=1e-3, rtol=1e-2, msg=name)
    saved = [load_file(each / "model.safetensors") for each in (folder, expected_folder / "best")]
    assert saved[0].keys() == saved[1].keys()
    assert all(value.is_contiguous() for value in saved[0].values())
    assert confu.load_model(folder).dim == 4
    stopped(lambda: train_images(tmp_path / "cut", **{option: True}))
    resumed = train_images(tmp_path / "cut", **{option: True})
    for (name, value), other in zip(module.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(value, other), name


def test_channels_last_keeps_values_and_parameters():
    net = convolutional()
    before = {name: (id(weight), weight.detach().clone()) for name, weight in net.named_parameters()}
    use_channels_last(net)
    for name, weight in net.named_parameters():
        assert id(weight) == before[name][0]
        assert torch.equal(weight, before[name][1])


def test_models_without_convolutions_or_encoders_are_refused():
    with pytest.raises(ValueError, match=r"channels_last is about .* convolutions, and this model has none; leave it"):
        use_channels_last(MLPEncoder(4, [], 5))
    with pytest.raises(ValueError, match=r"compile is about the encoders .* and Linear has no `model.encoders`"):
        compile_encoders(nn.Linear(2, 2))
